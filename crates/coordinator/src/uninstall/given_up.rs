//! Gates of what would be given up with Lockstep, and with the tables in DynamoDB: what only DynamoDB has,
//! and what other programs have put there.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use lockstep_core::Advice::{
    Doctor, DroppingTargetTables, GivingUpLost, Repair, RepairState, TakeTarget, Validate,
};
use lockstep_core::{Result as StoreResult, Side};
use lockstep_dynamo::{Backoff, TableStanding};

use crate::continuity;
use crate::error::Result;
use crate::gate::{Collector, GateResult, Observer};
use crate::options::MigrationContext;

/// Segments that a table is looked through in, each by requests of its own. The embedded DynamoDB reads its
/// whole table for each page of a segment, so an emulator has one.
const SEGMENTS: usize = 8;

/// Times that a table which does not answer is asked again, and the pause before each.
const LOOKS: u32 = 5;
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Items after which it is said how far it is.
const TELL_EVERY: u64 = 1_000_000;

/// Checks that PostgreSQL has everything that was acknowledged, or that an operator gives up what it lacks.
///
/// 1. In DualWrite PostgreSQL fails over to a replica that lagged: acknowledged writes are in DynamoDB only,
/// and everything that moves something refuses. 2. The operator takes Lockstep out, with the tables. 3. The
/// only copy is gone; and without the tables, every note that something is missing. The same of what a repair
/// has listed and no operator has decided about, and of what PostgreSQL refused and was accepted to stay in
/// DynamoDB. A target that lost something is none of this: PostgreSQL has it.
pub(super) async fn nothing_is_only_in_the_target(
    migration: &MigrationContext,
    (give_up_lost, drop_target_tables): (bool, bool),
    gates: &mut Collector<'_>,
) -> Result<()> {
    let looked = || continuity::look(&migration.source, &migration.target, &migration.tables);
    let mut found = looked().await?;
    // 1. PostgreSQL was set back, and nothing else has noticed. 2. The mark that tells of it was not read, for
    // a throttle. 3. The tables are deleted, with the only copy. Silence is no answer before that; where they
    // stay, it keeps nothing from its end.
    let mut looks = if drop_target_tables { LOOKS } else { 0 };
    while looks > 0 && found.untold().next().is_some() {
        tokio::time::sleep(LOOK_AGAIN).await;
        found = looked().await?;
        looks -= 1;
    }
    let untold = found.untold().filter(|_| drop_target_tables);
    let untold = untold.map(|(table, why)| format!("{table} does not tell whether it knows more: {why}"));
    let losses = found.losses();
    let lost = losses.iter().filter(|loss| loss.side() == Side::Source).map(ToString::to_string);
    let lost: Vec<String> = lost.chain(untold).collect();
    let is_undecided = migration.source.is_loss_undecided().await?;
    let passed = |is_kept: bool| is_kept || give_up_lost;
    let found = |is_kept: bool, what: String| match (is_kept, give_up_lost) {
        (true, _) => "nothing else is known".to_owned(),
        (false, true) => format!("given up: {what}"),
        (false, false) => what,
    };
    let is_kept = lost.is_empty();
    let next = format!(
        "run {Doctor}. {RepairState} makes the stores one again, and lists what only DynamoDB has; \
         {TakeTarget} brings it back. {GivingUpLost} gives it up"
    );
    let name = "PostgreSQL has kept its history";
    gates.add(GateResult::check(name, passed(is_kept), found(is_kept, lost.join("; ")), next));
    let what = "PostgreSQL lost history, or refused what was accepted to stay in DynamoDB, and no comparison \
                of everything has agreed since: what only DynamoDB has may be the only copy";
    let next = format!(
        "{Repair} lists it, {TakeTarget} brings it back, and {Validate} says that nothing is left. \
         {GivingUpLost} gives it up"
    );
    let name = "what only DynamoDB has was decided about";
    gates.add(GateResult::check(name, passed(!is_undecided), found(!is_undecided, what.to_owned()), next));
    Ok(())
}

/// Checks that nothing is deleted with a table that Lockstep did not put there. Each is read to its end, or
/// to the first item that is another's: 1. A job keeps a counter in a table of ours. 2. The first page has
/// none but ours. 3. The counter goes with the table.
pub(super) async fn holds_nothing_else(
    migration: &MigrationContext,
    gates: &mut Collector<'_>,
    observer: &dyn Observer,
) -> Result<()> {
    migration.source.require_contract(&migration.tables).await?;
    for binding in &migration.tables {
        let (name, schema) = (&binding.target_name, binding.table.target());
        let (foreign, looked_at) = match migration.target.describe(name, &schema).await? {
            TableStanding::Missing => (0, 0),
            TableStanding::There(_) => {
                observer.note(&format!(
                    "looking for items of others in {name}: the whole of it is read, which takes read units"
                ));
                of_others(migration, name, observer).await?
            }
        };
        let found = match foreign {
            0 => format!("none among {looked_at}"),
            _ => format!("{name} has items without a version: {foreign} of the first {looked_at}"),
        };
        let next = format!(
            "another program put these items there: move them first, or leave \
                {DroppingTargetTables} out"
        );
        gates.add(GateResult::check("no items of others", foreign == 0, found, next).of(binding.name()));
    }
    Ok(())
}

/// Counts of the reading of one table.
#[derive(Default)]
struct Looked {
    /// Items of others.
    foreign: AtomicU64,
    /// Items that were looked at.
    looked_at: AtomicU64,
}

/// Counts the items of others that were found in a table before the first page with some had ended; returns
/// how many were looked at as well.
async fn of_others(
    migration: &MigrationContext,
    table: &str,
    observer: &dyn Observer,
) -> StoreResult<(u64, u64)> {
    let segments = if migration.target.is_emulator() { 1 } else { SEGMENTS };
    let looked = Looked::default();
    let of_each = |segment| Box::pin(of_segment(migration, table, (segment, segments), &looked, observer));
    let all: Vec<_> = (0..segments).map(of_each).collect();
    stream::iter(all).buffer_unordered(segments).try_collect::<()>().await?;
    Ok((looked.foreign.load(Relaxed), looked.looked_at.load(Relaxed)))
}

async fn of_segment(
    migration: &MigrationContext,
    table: &str,
    segment: (usize, usize),
    looked: &Looked,
    observer: &dyn Observer,
) -> StoreResult<()> {
    let mut start = None;
    while looked.foreign.load(Relaxed) == 0 {
        let page = || migration.target.foreign_page(table, segment, start.clone());
        let page = Backoff::patient().retry(page).await?;
        looked.foreign.fetch_add(page.foreign, Relaxed);
        let before = looked.looked_at.fetch_add(page.looked_at, Relaxed);
        let now = before + page.looked_at;
        if before / TELL_EVERY < now / TELL_EVERY {
            observer.note(&format!("{table}: {now} items were looked at"));
        }
        start = page.next;
        if start.is_none() {
            break;
        }
    }
    Ok(())
}
