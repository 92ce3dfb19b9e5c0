//! The recheck: a mismatch is read again before it is reported, because lag is not drift.
//!
//! What proves a finding. A suspect is read three times in this order: its item, then in one snapshot of the
//! source its row and whether it is pending, then its item again, both times strongly consistent. Suppose
//! that both readings of the item show the same version v. Versions only grow (I2), so the target held v at
//! the moment of the snapshot. Suppose that the key was not pending in the snapshot. Then the target held the
//! state of that row, or a newer one, at that moment (I1). So v is that row's state or newer, and if the item
//! still differs from the row, it is drift.
//!
//! Two look-ups around one reading of the item would prove less. 1. The key is looked up: row x, not pending.
//! 2. The row becomes y, and y is delivered. 3. The item is read: y. 4. The row becomes x again, and x is
//! delivered. 5. The key is looked up: row x, not pending. The same row before and after, never pending,
//! another item, and no drift at all.
//!
//! "Or a newer one" has one source: a strict write puts its item before it commits. For as long as a
//! transaction may take from its put to its commit ([`WRITE_AHEAD`]), a mismatch with a captured version is
//! therefore not believed. An item that is absent, or of the initial load, was put by no such write.
//!
//! In DynamoOnly the source follows the target through the reverse feed, and no pending set tells what is on
//! its way. There a mismatch proves nothing; what does not agree within the settle time-out is unsettled.
//! A key that is written all the time agrees where its row is a state that its item had; see [`earlier`].

mod agreed;
pub(crate) mod earlier;
mod observe;
mod ruling;
mod waiting;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lockstep_core::{Error, Kind, Phase};
use lockstep_dynamo::Backoff;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::suspect::{Found, Suspect};
use crate::table_report::{FindingClass, RowFinding};
use crate::table_run::TableRun;
use crate::tally::Outcome;
use crate::tasks::{Stopped, ended, join};
use earlier::PAUSE_RESTLESS;
use observe::observe;
pub(crate) use ruling::{Policy, Ruling, Seen, WRITE_AHEAD, rule};
use waiting::{Waiting, are_restless};

/// Most suspects of a table being decided at once; with more, the passes wait. A suspect takes less than a
/// kilobyte.
const SUSPECTS_MAX: usize = 10_000;
/// Suspects of one batch: what one request to the target can ask for.
pub(crate) const BATCH: usize = 100;
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LONGEST: Duration = Duration::from_secs(1);

/// Decides every suspect that comes out of `queue`, until the passes have dropped their ends of it.
pub(crate) async fn recheck(run: &Arc<TableRun>, mut queue: mpsc::Receiver<Suspect>) -> Result<(), Stopped> {
    let room = Arc::new(Semaphore::new(SUSPECTS_MAX));
    let mut batches = JoinSet::new();
    let mut suspects = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut suspects, BATCH).await > 0 {
        let batch = std::mem::replace(&mut suspects, Vec::with_capacity(BATCH));
        run.progress().suspects.fetch_add(batch.len() as u64, Ordering::Relaxed);
        let held =
            Arc::clone(&room).acquire_many_owned(batch.len() as u32).await.expect("the room is never closed");
        let run = Arc::clone(run);
        batches.spawn(async move {
            let _held = held;
            decide_batch(&run, batch).await
        });
        while let Some(batch) = batches.try_join_next() {
            ended(batch)?;
        }
    }
    join(batches).await
}

async fn decide_batch(run: &TableRun, batch: Vec<Suspect>) -> Result<(), Stopped> {
    let policy = Policy {
        wait_for_pending: run.options.wait_for_pending,
        pending_tells: run.phase != Phase::DynamoOnly,
        writes_ahead: run.phase.writes_both() && !run.options.quiescent,
    };
    // A mismatch that a strict write might explain takes this long to be one, however short the time-out.
    let patience = if policy.writes_ahead {
        run.options.settings.settle_timeout.max(2 * WRITE_AHEAD)
    } else {
        run.options.settings.settle_timeout
    };
    let begun = Instant::now();
    let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_LONGEST, u32::MAX);
    let mut often = Backoff::new(PAUSE_FIRST, PAUSE_RESTLESS, u32::MAX);
    let mut waiting: Vec<Waiting> = batch.into_iter().map(Waiting::new).collect();
    while !waiting.is_empty() {
        let is_last = begun.elapsed() >= patience;
        let seen = {
            // Three readings of a batch may be megabytes; a suspect that waits is a few hundred bytes.
            let _turn = run.observing.acquire().await.expect("the turns are never closed");
            observe(run, &mut waiting).await?
        };
        let mut again = Vec::new();
        for (mut one, mut seen) in waiting.into_iter().zip(seen) {
            let disagreeing_for = one.disagreeing_for(&seen);
            let fields = std::mem::take(&mut seen.fields);
            let (class, columns, compared) = match rule(seen, disagreeing_for, policy) {
                Ruling::Decided(outcome) => {
                    run.record(outcome, one.suspect.of_row);
                    continue;
                }
                Ruling::Again if !is_last => {
                    again.push(one);
                    continue;
                }
                Ruling::Again => (FindingClass::Unsettled, Vec::new(), false),
                Ruling::Found { class, columns, compared } => (class, columns, compared),
            };
            let shares_place_with = one.suspect.shares_place_with.take().filter(|_| compared);
            let finding =
                RowFinding { fields, shares_place_with, ..one.suspect.subject.finding(class, columns) };
            run.record(Outcome::Found(Found { finding, compared }), one.suspect.of_row);
        }
        waiting = again;
        if !waiting.is_empty() {
            let message = format!("{} suspects are on their way", waiting.len());
            let pauses = if are_restless(run, &waiting) { &mut often } else { &mut backoff };
            pauses
                .pause(Error::source(
                    Kind::Busy,
                    format!("deciding suspects of {}", run.binding.name()),
                    message,
                ))
                .await?;
        }
    }
    Ok(())
}
