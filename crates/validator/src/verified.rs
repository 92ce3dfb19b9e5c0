//! Base from which a later pass goes on: the newest full pass of each table that found nothing (R24).
//!
//! A full pass takes its number first ([`begin`]); from then on the source notes each key that is delivered.
//! Why nothing falls between is written in `unverified.rs` of `lockstep-postgres`. An incremental pass also
//! needs that nothing else has changed that the full pass rested on: its *identity*, and the meaning of the
//! pending set.
//!
//! A step between phases changes the control record and the version sequence, and no row and no item. So a
//! full pass is as good after one step as before it, as long as both phases have their truth in the source:
//! there, what changes is captured. More than one epoch may have been in DynamoOnly and back, so it is not
//! believed.
//!
//! In DynamoOnly items change without being captured, but come back through the reverse feed, and the source
//! remembers which. Once every writer has stopped and the feed is through, it knows them all; while the
//! feed is behind it does not, and nothing is gone on from. The full pass must be of a phase before, with
//! just as many epochs between as there are steps.
//!
//! Changes of the target that were made past Lockstep are in no set. An incremental pass does not see them,
//! whatever is done; that is why its report keeps the `as_of` of the full pass, by which gates measure age.

use chrono::{DateTime, TimeDelta, Utc};
use lockstep_core::Advice::{Incremental, Validate};
use lockstep_core::{Control, Kind, Phase, Result};
use lockstep_dynamo::{TableStanding, Target};
use lockstep_postgres::{FullPass, Source, TableBinding, columns_of};
use xxhash_rust::xxh3::xxh3_128;

use crate::report::Report;
use crate::table_report::TableReport;

/// A full pass older than this is not gone on from: half of the time for which the source notes what is
/// delivered.
const FULL_PASS_AGE_MAX: TimeDelta = TimeDelta::hours(24);

/// Version of this build. 1. A build reads a kind of value wrongly, and both sides agree. 2. The next one
/// reads it rightly. 3. It must not go on from what the first one found equal.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Begins a pass, before anything of it is read; its number goes into
/// [`ValidateOptions::pass`](crate::ValidateOptions::pass). `None` where no later pass could go on from it,
/// as while a write transaction stays open for a minute.
///
/// # Errors
/// The source's.
#[crate::boxed]
pub async fn begin(source: &Source) -> Result<Option<i64>> {
    match source.begin_pass().await {
        Err(error) if error.kind == Kind::Busy => {
            // Comparing needs no number; only going on from it does.
            tracing::warn!("no later validation can go on from this one: {error}");
            Ok(None)
        }
        begun => begun,
    }
}

/// Returns the full pass that an incremental one of this table may go on from now, or why there is none, with
/// what to do.
///
/// # Errors
/// A store's.
#[crate::boxed]
pub async fn starting_point(
    source: &Source,
    target: &Target,
    binding: &TableBinding,
    control: &Control,
    fed_through: bool,
) -> Result<std::result::Result<FullPass, String>> {
    let Some(full) = source.full_pass(binding.name()).await? else {
        return Ok(Err(format!(
            "{}: no full pass has found it clean yet; {}",
            binding.name(),
            whole_first()
        )));
    };
    let schema = binding.table.target();
    let lately = target.describe_lately(&binding.target_name, &schema).await?;
    let identity = identity_of(source, lately, binding).await?;
    let now = source.clock().await?;
    let refused = refusal(&full, identity.as_deref(), (control.phase, control.epoch.0, fed_through), now);
    Ok(refused.map_or(Ok(full), |reason| Err(format!("{}: {reason}; {}", binding.name(), whole_first()))))
}

fn whole_first() -> String {
    format!("run {Validate} without {Incremental} first")
}

/// Returns why no pass can go on from a full pass. Pure.
fn refusal(
    full: &FullPass,
    identity: Option<&str>,
    (phase, epoch, fed_through): (Phase, i64, bool),
    now: DateTime<Utc>,
) -> Option<String> {
    let then = full.phase.parse::<Phase>().ok().filter(|then| *then != Phase::DynamoOnly);
    let Some(then) = then.filter(|_| phase != Phase::DynamoOnly || fed_through) else {
        return Some("in DynamoOnly items change without being captured in the source".to_owned());
    };
    let epochs = epoch - full.epoch;
    let is_near = match phase {
        // The only way there in that number of epochs.
        Phase::DynamoOnly => epochs == steps_to_dynamo_only(then),
        _ => (0..=1).contains(&epochs),
    };
    if !is_near {
        return Some(format!("its full pass was made in epoch {}, more than one step ago", full.epoch));
    }
    if identity != Some(full.identity.as_str()) {
        return Some(
            "capture, columns, layout, the target table or the history of the source are not those of its full pass".to_owned(),
        );
    }
    // A clock that went back says nothing of an age.
    let age = now - full.as_of;
    (age < TimeDelta::zero() || age > FULL_PASS_AGE_MAX).then(|| {
        format!(
            "its full pass is of {}, and none older than {} h is gone on from",
            full.as_of,
            FULL_PASS_AGE_MAX.num_hours()
        )
    })
}

fn steps_to_dynamo_only(from: Phase) -> i64 {
    std::iter::successors(from.next(), |phase| phase.next()).map(|_| 1).sum()
}

/// Returns what a full pass rests on besides rows and items; `None` where that cannot be said, as when the
/// target table is not the one that was adopted, or the source does not tell its timeline.
pub(crate) async fn identity(
    source: &Source,
    target: &Target,
    binding: &TableBinding,
) -> Result<Option<String>> {
    let there = target.describe_lately(&binding.target_name, &binding.table.target()).await?;
    identity_of(source, there, binding).await
}

async fn identity_of(
    source: &Source,
    there: TableStanding,
    binding: &TableBinding,
) -> Result<Option<String>> {
    let Some(state) = source.table_state(binding.name()).await? else { return Ok(None) };
    // A source that lost history has lost notes as well, and the target may hold what it forgot.
    let Some(history) = source.history().await? else { return Ok(None) };
    let TableStanding::There(there) = there else { return Ok(None) };
    // Made again under the same name it is empty, and no captured change says so.
    if state.target_id.is_some() && there.id != state.target_id {
        return Ok(None);
    }
    let columns: Vec<_> =
        binding.table.columns().iter().map(|column| (column.name, column.sql_type)).collect();
    let capture = (state.captured_at, columns_of(&state.fingerprint), history);
    let all = (
        binding.relation.sql(),
        columns,
        binding.table.layout(),
        capture,
        &binding.target_name,
        &there.id,
        VERSION,
    );
    Ok(Some(format!("{:032x}", xxh3_128(format!("{all:?}").as_bytes()))))
}

/// Records what a report means for passes after it: [`record_found`], then [`record_base`]. Called once, by
/// its maker, when it has come to its end.
///
/// # Errors
/// Those of both.
#[crate::boxed]
pub async fn record(
    source: &Source,
    target: &Target,
    tables: &[TableBinding],
    report: &Report,
) -> Result<()> {
    record_found(source, tables, report).await?;
    record_base(source, target, tables, report).await
}

/// Takes away, from each table in which something was found, the pass to go on from: an item that was changed
/// past Lockstep is in no set, and an incremental pass would bless it. An incremental pass notes what it
/// finds, and every later one looks at it; a key that has not come to rest is found by none.
///
/// Before the verdict is recorded, so that no incremental pass comes between that goes on as if nothing had
/// been found.
///
/// # Errors
/// The source's.
#[crate::boxed]
pub async fn record_found(source: &Source, tables: &[TableBinding], report: &Report) -> Result<()> {
    if report.phase.is_none() || report.epoch.is_none() {
        return Ok(());
    }
    for (binding, table) in tables.iter().zip(&report.tables) {
        let found = table.findings_total();
        if found > 0 && (!report.incremental || found > table.unsettled) {
            source.note_found(binding.name(), !report.incremental).await?;
        }
    }
    Ok(())
}

/// Records what later passes may go on from: a full pass that found nothing in a table. One that agreed, full
/// or incremental, lets the notes of before it be forgotten.
///
/// After the verdict was recorded. 1. A comparison finds that an item is missing. 2. DynamoDB does not say
/// what table there is of another one, which agreed. 3. The command ends, its verdict is recorded nowhere,
/// and a step goes by the one before.
///
/// # Errors
/// The stores'. Not having recorded costs the next pass more reading, and nothing else.
#[crate::boxed]
pub async fn record_base(
    source: &Source,
    target: &Target,
    tables: &[TableBinding],
    report: &Report,
) -> Result<()> {
    let (Some(phase), Some(epoch)) = (report.phase, report.epoch) else { return Ok(()) };
    if report.seed_given {
        return Ok(());
    }
    for (binding, table) in tables.iter().zip(&report.tables) {
        // What is accepted to differ in DynamoOnly differs in every phase that comes after it.
        if table.findings_total() + table.accepted > 0 {
            continue;
        }
        let TableReport {
            complete: true,
            pass: Some(pass),
            as_of: Some(as_of),
            verified_as_of: Some(verified_as_of),
            began: Some(began),
            ..
        } = *table
        else {
            continue;
        };
        // 1. A pass ends that began in a time that is lost. 2. Its number is above every pass of here. 3. The
        // pass rests on the same, and deliveries in that time are in no note.
        if !source.have_begun(&[began]).await? {
            continue;
        }
        if report.incremental {
            source.record_verified(binding.name(), as_of, verified_as_of).await?;
        } else if phase != Phase::DynamoOnly
            && let Some(identity) = identity(source, target, binding).await?
            // 1. One table is through, and others take hours. 2. Its capture is off, and installed again.
            // 3. All are through: what is recorded now would be taken for a pass after that.
            && table.rests_on.as_ref() == Some(&identity)
        {
            let phase = phase.name().to_owned();
            let full = FullPass { pass, as_of, phase, epoch, identity, verified_as_of };
            if !source.record_full_pass(binding.name(), &full).await? {
                continue;
            }
        } else {
            continue;
        }
        source.forget_notes(binding.name(), pass).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(as_of: DateTime<Utc>) -> FullPass {
        let phase = Phase::DualWrite.name().to_owned();
        FullPass { pass: 3, as_of, phase, epoch: 7, identity: "same".to_owned(), verified_as_of: as_of }
    }

    #[test]
    fn only_a_full_pass_that_still_means_the_same_is_gone_on_from() {
        let now = Utc::now();
        let refused = |full: &FullPass, identity, phase, epoch, now| {
            refusal(full, identity, (phase, epoch, false), now).unwrap_or_default()
        };
        let of = full(now - TimeDelta::hours(23));
        assert_eq!(refused(&of, Some("same"), Phase::DualWrite, 7, now), "");
        assert_eq!(refused(&of, Some("same"), Phase::HybridRead, 8, now), "");
        let cases = [
            (Some("other"), Phase::DualWrite, 7, now, "layout"),
            (None, Phase::DualWrite, 7, now, "layout"),
            (Some("same"), Phase::DynamoOnly, 8, now, "DynamoOnly"),
            (Some("same"), Phase::HybridRead, 9, now, "more than one step"),
            (Some("same"), Phase::DualWrite, 6, now, "more than one step"),
            (Some("same"), Phase::DualWrite, 7, now + TimeDelta::hours(2), "older than 24 h"),
            (Some("same"), Phase::DualWrite, 7, now - TimeDelta::hours(24), "gone on from"),
        ];
        for (identity, phase, epoch, now, reason) in cases {
            let said = refused(&of, identity, phase, epoch, now);
            assert!(said.contains(reason), "{said:?} for {reason}");
        }
        let fed =
            |epoch| refusal(&of, Some("same"), (Phase::DynamoOnly, epoch, true), now).unwrap_or_default();
        assert_eq!(fed(9), "", "through HybridRead");
        assert!(fed(8).contains("more than one step") && fed(10).contains("more than one step"));
        let from_dynamo_only = FullPass { phase: Phase::DynamoOnly.name().to_owned(), ..of };
        assert!(refused(&from_dynamo_only, Some("same"), Phase::HybridRead, 8, now).contains("DynamoOnly"));
    }
}
