//! The two flips, each a decision and its copy. They move the truth and nothing else: what must hold before
//! is the coordinator's to check.

use std::time::Duration;

use lockstep_core::Advice::{Doctor, RepairState};
use lockstep_core::{Doing, Epoch, Error, Kind, Phase, Result, Truth, truth};
use lockstep_dynamo::TargetControl;
use lockstep_postgres::reverse::{leave_accepted, ridden_left};
use lockstep_postgres::{
    Source, TableBinding, begin_late_requests, flip_phase_at_least, read_control, take_exclusive,
};
use sqlx::postgres::PgConnection;

use super::raise_source_sequences;

const DOING: &str = "moving the truth";

/// Decides inside `transaction`, which holds the barrier exclusive, that the truth moves to the target; with
/// its commit it is decided. Returns the epoch. Then [`copy_to_target`].
///
/// # Errors
/// [`Kind::Refused`] unless the phase is HybridRead and both records agree that the truth is in the source;
/// the drivers'.
#[crate::boxed]
pub async fn flip_to_target(transaction: &mut PgConnection, control: &TargetControl) -> Result<Epoch> {
    let (now, there) = (read_control(transaction).await?, control.record().await?);
    if now.phase != Phase::HybridRead || truth(&now, there.as_ref()) != Truth::InSource {
        let message =
            format!("the phase is {} in epoch {}, and the target says {there:?}", now.phase, now.epoch);
        return Err(Error::source(Kind::Refused, DOING, message));
    }
    // It may have counted further than the source's sequence.
    let least = there.map_or(Epoch::FIRST, |there| Epoch(there.epoch.0 + 1));
    flip_phase_at_least(transaction, Phase::DynamoOnly, least).await
}

/// Makes the target's record follow a decision of [`flip_to_target`]; writes wait from then on until
/// [`TargetControl::open_writes`]. Repeated, it changes nothing.
///
/// # Errors
/// [`Kind::Refused`] where nothing was decided; the drivers'.
///
/// # Cancel safety
/// Repeat it.
#[crate::boxed]
pub async fn copy_to_target(source: &Source, control: &TargetControl) -> Result<Epoch> {
    let decided = source.control_behind_barrier().await?;
    if decided.phase != Phase::DynamoOnly {
        let message =
            format!("the phase is {} in epoch {}: nothing was decided", decided.phase, decided.epoch);
        return Err(Error::source(Kind::Refused, DOING, message));
    }
    control.create().await?;
    control.enter(decided.epoch).await?;
    Ok(decided.epoch)
}

/// Decides that the truth moves back to the source, from the pause of `paused`, and makes the source follow.
/// `tables` are those whose ids go on in the source.
///
/// # Errors
/// [`Kind::Refused`] when the target's record has moved on; [`Kind::Busy`] when the barrier could not be
/// acquired. An error after the decision leaves the copy to be repeated.
///
/// # Cancel safety
/// Repeat it, or [`settle`].
#[crate::boxed]
pub async fn flip_to_source(
    source: &Source,
    control: &TargetControl,
    tables: &[TableBinding],
    paused: Epoch,
    lock_timeout: Duration,
) -> Result<Epoch> {
    let epoch = control.leave(paused, Phase::HybridRead).await?;
    copy_to_source(source, control, tables, lock_timeout).await?;
    Ok(epoch)
}

/// Makes the source's record follow a decision of [`flip_to_source`]: sequences of ids first, so that none is
/// repeated, then versions, then the phase. Repeated, it changes nothing.
///
/// 1. The truth is decided to move back. 2. A request of DynamoOnly lands that its sender has given up
/// long ago, and the feed, which goes by PostgreSQL's record, takes it. 3. A cascade changes another row
/// with it. 4. PostgreSQL is the truth, and what DynamoDB said of that row is lost. So what rode along is
/// brought back first.
///
/// # Errors
/// [`Kind::Busy`] when the barrier could not be acquired within `lock_timeout`, or while something is left
/// that rode along; the drivers'.
///
/// # Cancel safety
/// Repeat it.
#[crate::boxed]
pub async fn copy_to_source(
    source: &Source,
    control: &TargetControl,
    tables: &[TableBinding],
    lock_timeout: Duration,
) -> Result<()> {
    let mut transaction = source.begin(DOING).await?;
    take_exclusive(&mut transaction, lock_timeout).await?;
    // Behind the barrier, or a coordinator that is not quite dead might be copying as well.
    let (now, there) = (read_control(&mut transaction).await?, control.record().await?);
    if let Truth::ToSource(phase, epoch) = truth(&now, there.as_ref()) {
        let names: Vec<&str> = tables.iter().map(TableBinding::name).collect();
        let ridden = ridden_left(&mut transaction, &names).await?;
        if ridden > 0 {
            let message = format!(
                "{ridden} rows that a cascade or a trigger changed in PostgreSQL alone are read from DynamoDB \
                 again first"
            );
            return Err(Error::source(Kind::Busy, DOING, message));
        }
        raise_source_sequences(&mut transaction, control, tables).await?;
        let epoch = flip_phase_at_least(&mut transaction, phase, epoch).await?;
        // 1. PostgreSQL refuses an item, an operator accepts that, and the way back goes through. 2. A
        // trigger is off one day. 3. The comparison of a repair of the state would put a tombstone over the
        // only copy.
        leave_accepted(&mut transaction, &names, epoch).await?;
        begin_late_requests(&mut transaction, control.request_lifetime()).await?;
    }
    transaction.commit().await.doing(DOING)?;
    source.tell_of_change().await;
    Ok(())
}

/// Finishes a move that was decided and not copied; says what it did. After it the records agree, unless a
/// store has lost history. `written` says that the target may have been written as the truth since
/// PostgreSQL's record says so: then the truth is not on its way there, and a record that is missing was
/// lost.
///
/// # Errors
/// [`Kind::Misconfigured`] when the records contradict each other, or the target's was lost; the drivers'.
///
/// # Cancel safety
/// Repeat it.
#[crate::boxed]
pub async fn settle(
    source: &Source,
    control: &TargetControl,
    tables: &[TableBinding],
    lock_timeout: Duration,
    written: bool,
) -> Result<Option<&'static str>> {
    let (now, there) = (source.control_behind_barrier().await?, control.record().await?);
    match truth(&now, there.as_ref()) {
        Truth::InSource | Truth::InTarget => Ok(None),
        Truth::ToTarget(epoch) if written => {
            let message = format!(
                "DynamoDB's control table was lost: PostgreSQL says that DynamoDB is \
                    the truth since epoch {epoch}, and what was written there may be in \
                    it alone. Nothing was changed: run {Doctor}, then {RepairState}"
            );
            Err(Error::target(Kind::Misconfigured, DOING, message))
        }
        Truth::ToTarget(_) => {
            copy_to_target(source, control).await?;
            Ok(Some(
                "the truth had been moved to DynamoDB; its control record follows now, and writes wait to be opened",
            ))
        }
        Truth::ToSource(..) => {
            copy_to_source(source, control, tables, lock_timeout).await?;
            Ok(Some("the truth had been moved back to PostgreSQL, whose control record follows now"))
        }
        Truth::Lost => {
            let there = there.map_or_else(String::new, |r| format!("{} in epoch {}", r.phase, r.epoch));
            let message = format!(
                "PostgreSQL says {} in epoch {}, DynamoDB says {there}: a store has \
                    lost history; run {Doctor}",
                now.phase, now.epoch
            );
            Err(Error::source(Kind::Misconfigured, DOING, message))
        }
    }
}
