//! Waiting for instances: a step is over when no instance serves by the phase before it any more (I6).
//!
//! An instance keeps its lease in the store that it takes for the truth. While the truth moves that may be
//! either, or for a moment both. What it has acknowledged in DynamoDB it has acknowledged; what a row of
//! PostgreSQL says counts for that row alone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lockstep_postgres::Source;

use lockstep_core::{Epoch, InstanceRow, InstanceState, Phase};
use lockstep_dynamo::{Backoff, TargetControl};
use serde::Serialize;

use crate::error::{CoordinatorError, Result};
use crate::gate::Observer;
use crate::options::MigrationContext;

/// Pause between two looks; an acknowledgement comes a few milliseconds after the notification.
const LOOK: Duration = Duration::from_millis(25);
/// A wait shorter than this is not worth a person's attention.
const NOTE_AFTER: Duration = Duration::from_millis(300);
/// Leases after which an instance that renews and still does not acknowledge is contradicting itself: it
/// reads the phase in the very statement that renews.
const LEASES_MAX: u32 = 3;

/// A live instance, and when its newest renewal was seen, by our clock. Seen is later than done, and the
/// first look comes after the flip: an instance that was told the old phase was told before that.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    row: InstanceRow,
    renewal_seen: Instant,
}

/// Whether a step may be called done, or the next one begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Proceed {
    /// Every instance has acknowledged, but for these, whose leases are over.
    Yes {
        /// Places of those whose leases are over.
        over: Vec<usize>,
    },
    /// These may still serve by an older phase, each for so much longer unless it acknowledges.
    Wait {
        /// Places, and what is left of their leases.
        behind: Vec<(usize, Duration)>,
        /// Places of those whose leases are over.
        over: Vec<usize>,
    },
}

/// Decides whether an instance may still serve by a phase older than `epoch`. Reads no clock.
pub(crate) fn may_proceed(instances: &[Watched], epoch: Epoch, now: Instant) -> Proceed {
    let (mut behind, mut over) = (Vec::new(), Vec::new());
    for (place, Watched { row, renewal_seen }) in instances.iter().enumerate() {
        if row.has_acknowledged(epoch) {
            continue;
        }
        match (*renewal_seen + row.lease() + margin(row.lease())).checked_duration_since(now) {
            Some(left) if !left.is_zero() => behind.push((place, left)),
            _ => over.push(place),
        }
    }
    if behind.is_empty() { Proceed::Yes { over } } else { Proceed::Wait { behind, over } }
}

/// Returns how far two monotonic clocks may differ over a lease, many times over.
fn margin(lease: Duration) -> Duration {
    lease / 20 + Duration::from_millis(50)
}

/// End of the wait for an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceEnd {
    /// The instance serves by this epoch.
    Acknowledged,
    /// The instance did not answer, and its lease is over: it serves nothing until it has registered again.
    LeaseOver,
    /// The instance shut down.
    Left,
}

/// An instance that a step waited for.
#[derive(Clone, Debug, Serialize)]
pub struct InstanceWait {
    /// Number of the instance.
    pub id: i64,
    /// Name of the instance.
    pub name: String,
    /// Host that it runs on.
    pub host: String,
    /// Number of its process.
    pub pid: i64,
    /// End of the wait for it.
    pub end: InstanceEnd,
    /// Time that it was waited for, in milliseconds.
    pub waited_ms: u64,
}

/// Store in which a lease is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Home {
    Source,
    Target,
}

/// The stores in which leases are kept.
pub(crate) struct Leases<'a> {
    source: &'a Source,
    target: Option<TargetControl>,
}

impl<'a> Leases<'a> {
    /// Returns the leases for a step between phases in which PostgreSQL is the truth: DynamoDB may be away
    /// then.
    pub(crate) fn of_source(migration: &'a MigrationContext) -> Self {
        Self { source: &migration.source, target: None }
    }

    /// Returns the leases for a step that moves the truth.
    pub(crate) fn of_both(migration: &'a MigrationContext) -> Self {
        Self { source: &migration.source, target: Some(migration.target.control()) }
    }

    /// Returns every live lease, each with the newest epoch that its instance is known to have acknowledged.
    async fn live(&self) -> Result<Vec<(Home, InstanceRow)>> {
        let mut rows: Vec<(Home, InstanceRow)> =
            self.source.instances().await?.into_iter().map(|row| (Home::Source, row)).collect();
        if let Some(target) = &self.target {
            // One answer that is lost must not undo a step that has come so far.
            let there = Backoff::brief().retry(|| target.instances()).await?;
            rows.extend(there.into_iter().map(|row| (Home::Target, row)));
        }
        rows.retain(|(_, row)| row.state == InstanceState::Live);
        if self.target.is_some() {
            // An instance that keeps its lease in the source alone, while the truth is in the target, goes by
            // what the source says: writes wait. It is told of no pause, and has none to acknowledge.
            let now = self.source.control().await?;
            let there: Vec<i64> =
                rows.iter().filter(|(home, _)| *home == Home::Target).map(|(_, row)| row.id).collect();
            let waits = |row: &InstanceRow| !there.contains(&row.id) && row.has_acknowledged(now.epoch);
            rows.retain(|(home, row)| *home == Home::Target || now.phase != Phase::DynamoOnly || !waits(row));
        }
        carry_over(&mut rows);
        Ok(rows)
    }

    async fn expire(&self, (home, row): &(Home, InstanceRow)) -> Result<bool> {
        Ok(match (home, &self.target) {
            (Home::Target, Some(target)) => target.expire_instance(row).await?,
            _ => self.source.expire_instance(row).await?,
        })
    }
}

/// Counts what an instance has acknowledged in DynamoDB for the lease that it has left in PostgreSQL: while
/// PostgreSQL is down that one cannot be taken back, and would be waited for though nothing is served by it.
///
/// Never the other way. 1. A role of PostgreSQL reads the number of another role's instance. 2. The truth
/// moves, that instance keeps its lease in DynamoDB, and the role registers one of its own under the number,
/// which is free now. 3. Were its epoch that of the lease in DynamoDB, a step would not wait for the other
/// instance, and a write of it that is under way would land after the step. An instance that comes back to
/// PostgreSQL takes its lease in DynamoDB away once it has acknowledged; if that fails, its lease is waited
/// out, once.
fn carry_over(rows: &mut [(Home, InstanceRow)]) {
    let there: BTreeMap<i64, Option<i64>> =
        rows.iter().filter(|(home, _)| *home == Home::Target).map(|(_, row)| (row.id, row.epoch)).collect();
    for (_, row) in rows.iter_mut().filter(|(home, _)| *home == Home::Source) {
        row.epoch = row.epoch.max(there.get(&row.id).copied().flatten());
    }
}

/// Returns how long a reader that is not registered may go by an epoch that is over: one lease, by clocks
/// that are not ours.
pub(crate) fn unregistered(phase_lease: Duration) -> Duration {
    phase_lease + margin(phase_lease)
}

/// Names the instances that have not acknowledged `epoch`, for people.
pub(crate) async fn behind(leases: &Leases<'_>, epoch: Epoch) -> String {
    let Ok(rows) = leases.live().await else { return "the instances could not be asked".to_owned() };
    let names: Vec<String> =
        rows.iter().filter(|(_, row)| !row.has_acknowledged(epoch)).map(|(_, row)| row.title()).collect();
    if names.is_empty() {
        return "the stores were slow".to_owned();
    }
    format!("{} did not acknowledge in time, and its lease is not over", names.join(", "))
}

/// Waits until no instance serves by a phase older than `epoch`, whose flip is committed. Also after a crash:
/// the clock starts at our first look, which is late rather than early.
///
/// # Errors
/// [`CoordinatorError::InstanceBehind`] for one that renews and does not acknowledge; the source's.
///
/// # Cancel safety
/// May be dropped and repeated.
pub(crate) async fn wait(
    leases: &Leases<'_>,
    epoch: Epoch,
    observer: &dyn Observer,
) -> Result<Vec<InstanceWait>> {
    let begun = Instant::now();
    let mut watched: BTreeMap<(Home, i64), Watched> = BTreeMap::new();
    let (mut ended, mut noted): (Vec<InstanceWait>, bool) = (Vec::new(), false);
    loop {
        let rows = leases.live().await?;
        let seen = Instant::now();
        let mut now_live = BTreeMap::new();
        for (home, row) in rows {
            let before = watched.remove(&(home, row.id)).filter(|before| before.row.renewals == row.renewals);
            let renewal_seen = before.map_or(seen, |before| before.renewal_seen);
            now_live.insert((home, row.id), Watched { row, renewal_seen });
        }
        // An instance that has only moved its lease to the other store has not left.
        let left = watched.iter().filter(|((_, id), _)| !now_live.keys().any(|(_, live)| live == id));
        ended.extend(left.map(|(_, gone)| gone.ended(InstanceEnd::Left, begun)));
        watched = now_live;
        let (homes, list): (Vec<Home>, Vec<Watched>) =
            watched.iter().map(|((home, _), watched)| (*home, watched.clone())).unzip();
        let (behind, over) = match may_proceed(&list, epoch, Instant::now()) {
            Proceed::Yes { over } => (Vec::new(), over),
            Proceed::Wait { behind, over } => (behind, over),
        };
        let mut given_up = 0;
        for (home, lost) in over.iter().map(|place| (homes[*place], &list[*place])) {
            // It may have renewed since we looked; then it is asked about again.
            if leases.expire(&(home, lost.row.clone())).await? {
                observer.note(&format!(
                    "{} did not answer, and its lease of {} ms is over: it serves nothing until it has registered again",
                    lost.row.title(),
                    lost.row.lease_ms
                ));
                ended.push(lost.ended(InstanceEnd::LeaseOver, begun));
                watched.remove(&(home, lost.row.id));
                given_up += 1;
            }
        }
        if behind.is_empty() && given_up == over.len() {
            ended.extend(watched.values().map(|live| live.ended(InstanceEnd::Acknowledged, begun)));
            // With a lease in each store it was looked at twice.
            let mut seen = std::collections::BTreeSet::new();
            ended.retain(|one| seen.insert((one.id, one.end)));
            return Ok(ended);
        }
        if !noted && begun.elapsed() >= NOTE_AFTER {
            noted = true;
            for (place, left) in &behind {
                let row = &list[*place].row;
                let known =
                    row.epoch.map_or_else(|| "no epoch yet".to_owned(), |known| format!("epoch {known}"));
                observer.note(&format!(
                    "waiting for {}: it has acknowledged {known} and not {epoch}; its lease is over in {:.1} s",
                    row.title(),
                    left.as_secs_f64()
                ));
            }
        }
        for (place, _) in behind {
            let row = &list[place].row;
            if begun.elapsed() > row.lease() * LEASES_MAX + margin(row.lease()) {
                return Err(CoordinatorError::InstanceBehind {
                    instance: row.title(),
                    acknowledged: row.epoch,
                    epoch,
                });
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Watched {
    fn ended(&self, end: InstanceEnd, begun: Instant) -> InstanceWait {
        let InstanceRow { id, name, host, pid, .. } = self.row.clone();
        InstanceWait {
            id,
            name,
            host,
            pid,
            end,
            waited_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    const LEASE: Duration = Duration::from_secs(10);
    const EPOCH: Epoch = Epoch(4);

    /// M22: its clock may run slower than ours.
    #[test]
    fn who_is_not_registered_is_given_more_than_its_lease() {
        for lease in [Duration::from_millis(5), Duration::from_millis(500), LEASE] {
            assert!(unregistered(lease) > lease, "{lease:?}");
        }
    }

    fn watched(acknowledged: Option<i64>, renewal_seen: Instant) -> Watched {
        let at = DateTime::UNIX_EPOCH;
        let row = InstanceRow {
            id: 1,
            name: "web".to_owned(),
            host: "10.0.0.1".to_owned(),
            pid: 7,
            started_at: at,
            epoch: acknowledged,
            lease_ms: 10_000,
            renewals: 1,
            renewed_at: at,
            lease_left_ms: 0,
            state: InstanceState::Live,
        };
        Watched { row, renewal_seen }
    }

    #[track_caller]
    fn check(instances: &[(Option<i64>, Duration)], expected: &Proceed) {
        let start = Instant::now();
        let now = start + Duration::from_secs(60);
        let instances: Vec<Watched> =
            instances.iter().map(|(epoch, ago)| watched(*epoch, now - *ago)).collect();
        assert_eq!(may_proceed(&instances, EPOCH, now), *expected);
    }

    #[test]
    fn an_instance_that_has_acknowledged_this_epoch_or_a_later_one_is_not_waited_for() {
        check(&[], &Proceed::Yes { over: vec![] });
        check(&[(Some(4), Duration::ZERO), (Some(5), LEASE * 3)], &Proceed::Yes { over: vec![] });
    }

    #[test]
    fn an_instance_that_has_not_is_waited_for_until_its_lease_and_the_margin_are_over() {
        let whole = LEASE + margin(LEASE);
        check(&[(Some(3), Duration::ZERO)], &Proceed::Wait { behind: vec![(0, whole)], over: vec![] });
        check(&[(None, LEASE)], &Proceed::Wait { behind: vec![(0, margin(LEASE))], over: vec![] });
        check(&[(Some(3), whole)], &Proceed::Yes { over: vec![0] });
        check(&[(None, whole * 2)], &Proceed::Yes { over: vec![0] });
    }

    #[test]
    fn a_lease_in_dynamodb_acknowledges_for_the_one_in_postgresql_and_never_the_other_way() {
        let of = |home, epoch| (home, watched(epoch, Instant::now()).row);
        for (source, target, expected) in [
            (Some(i64::MAX), Some(3), (Some(i64::MAX), Some(3))),
            (Some(4), None, (Some(4), None)),
            (Some(3), Some(4), (Some(4), Some(4))),
            (None, Some(4), (Some(4), Some(4))),
        ] {
            let mut rows = [of(Home::Source, source), of(Home::Target, target)];
            carry_over(&mut rows);
            assert_eq!((rows[0].1.epoch, rows[1].1.epoch), expected, "{source:?} {target:?}");
        }
    }

    #[test]
    fn one_that_is_behind_is_enough() {
        let left = margin(LEASE) + Duration::from_secs(9);
        check(
            &[(Some(4), Duration::ZERO), (Some(3), LEASE * 2), (Some(2), Duration::from_secs(1))],
            &Proceed::Wait { behind: vec![(2, left)], over: vec![1] },
        );
    }
}
