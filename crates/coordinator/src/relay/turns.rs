//! One look at all tables after the other, and a pass of each that has something to deliver.
//!
//! A look asks what protects every table: the contract, the phase, the shapes, both histories. Passes of a
//! look go on beside the next ones, so that a table with little to deliver does not wait for one with
//! much.

use std::time::{Duration, Instant};

use lockstep_core::{Error as StoreError, Kind, Phase, Side};
use lockstep_postgres::TableBinding;

use super::kept::Kept;
use super::pass::Passed;
use super::passes::Passes;
use super::quiet::Quiet;
use super::{RelaySummary, RelayUntil, Run, Table};
use crate::continuity;
use crate::error::{CoordinatorError, Result};
use crate::outage::Outage;
use crate::progress::Progress;
use crate::waves;

/// Time between two looks at the intents of strict writes.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Time for the rows of new partitions in one look.
const TAKEN_IN_AT_ONCE: Duration = Duration::from_secs(1);

/// Work that was found.
#[derive(Default)]
struct Look<'a> {
    due: Vec<(usize, Table<'a>)>,
    /// Tables that a cold load, or a partition that comes, holds: its end is worth waiting for.
    held: u64,
}

/// State that a run keeps from one turn to the next.
struct Course<'a> {
    summary: RelaySummary,
    passes: Passes<'a>,
    outage: Outage,
    /// Whether something has worked: a right that is missing ends a relay only before.
    began_well: bool,
    swept_at: Option<Instant>,
}

impl<'a> Run<'a> {
    /// Takes one turn after the other, until it is time to end.
    pub(super) async fn turns(
        self,
        tables: &'a [&'a TableBinding],
        kept: &'a [Kept],
    ) -> Result<RelaySummary> {
        let Run { migration, until, progress, cancel, shares, queue, .. } = self;
        let mut course = Course {
            summary: RelaySummary::default(),
            passes: Passes::new(tables.len(), queue),
            outage: Outage::new("the relay"),
            began_well: false,
            swept_at: None,
        };
        let mut quiet = Quiet::default();
        let idle_pause = migration.options.relay.idle_pause;
        loop {
            let free = course.passes.free();
            let look = self.look(tables, kept, &free, &mut course.swept_at);
            let look = course.passes.beside(look).await;
            if cancel.is_cancelled() {
                return Ok(course.end().await);
            }
            let held = match look {
                Ok(look) => {
                    course.passes.want(&free, look.due);
                    look.held
                }
                // A caller that needs the set to be empty now has to know why it is not.
                Err(error) if until == RelayUntil::Empty => return Err(error),
                Err(error) => {
                    let error = course.passing(error, progress)?;
                    shares.failed();
                    progress.tables.iter().for_each(|table| table.pause(Some(error.to_string())));
                    let Course { passes, outage, .. } = &mut course;
                    if !passes.beside(outage.wait(&error, cancel)).await {
                        return Ok(course.end().await);
                    }
                    continue;
                }
            };
            course.summary.passes += 1;
            let next_look = tokio::time::Instant::now() + idle_pause;
            let seen = held + self.until_next_look(&mut course, tables, next_look).await?;
            if seen == 0 && until == RelayUntil::Empty {
                return Ok(course.summary);
            }
            let passes = &mut course.passes;
            if seen > 0 {
                quiet.over();
                if seen == held {
                    passes.beside(cancel.run_until_cancelled(tokio::time::sleep(idle_pause))).await;
                }
            } else if passes.is_running() || passes.some_rest() {
                passes.beside(cancel.run_until_cancelled(tokio::time::sleep_until(next_look))).await;
            } else {
                quiet.rest(migration, shares, cancel).await;
            }
        }
    }

    /// Goes on with all passes until they are over; where the relay runs until told to stop, until the next
    /// look is due at the latest. Returns how many keys they met.
    ///
    /// # Errors
    /// What ends the relay.
    async fn until_next_look(
        self,
        course: &mut Course<'a>,
        tables: &[&TableBinding],
        next_look: tokio::time::Instant,
    ) -> Result<u64> {
        let (mut seen, mut failure, mut is_known) = (0, None, !course.passes.is_running());
        while course.passes.is_running() {
            let ended = match self.until {
                RelayUntil::Empty => course.passes.next().await,
                RelayUntil::Cancelled => {
                    let Ok(ended) = tokio::time::timeout_at(next_look, course.passes.next()).await else {
                        break;
                    };
                    ended
                }
            };
            let Some((at, passed)) = ended else { break };
            (is_known, seen) = (true, seen + passed.seen);
            match course.take(passed) {
                None => course.passes.went_well(at),
                Some(error) if self.until == RelayUntil::Empty => match error {
                    // A row that one table's target does not take holds up no other table.
                    CoordinatorError::Store(error) if error.side == Side::Target => {
                        failure = failure.or(Some(error));
                    }
                    error => return Err(error),
                },
                Some(error) => {
                    let error = course.passing(error, self.progress)?;
                    self.shares.failed();
                    self.progress.of(tables[at].name()).pause(Some(error.to_string()));
                    let pause = course.outage.met(&error);
                    course.passes.rest(at, pause);
                }
            }
        }
        if let Some(error) = failure {
            return Err(error.into());
        }
        if is_known && !course.passes.some_rest() {
            (course.began_well, _) = (true, course.outage.over());
            self.shares.succeeded();
        }
        Ok(seen)
    }

    /// Looks at all tables, and returns those with something to deliver that are `free`.
    async fn look(
        self,
        tables: &'a [&'a TableBinding],
        kept: &'a [Kept],
        free: &[bool],
        swept_at: &mut Option<Instant>,
    ) -> Result<Look<'a>> {
        let migration = self.migration;
        if !migration.target.has_owner() {
            // PostgreSQL was away when the command began, and whose schema `lockstep` is was not known.
            waves::claim(&migration.source, &migration.target).await?;
            waves::require_current(&migration.source, &migration.target)?;
        }
        continuity::turn(migration).await?;
        // 1. A relay with another target name delivers. 2. Its keys leave the pending set. 3. The
        //    right table stays old.
        migration.source.require_contract(&migration.tables).await?;
        if migration.source.control().await?.phase == Phase::DynamoOnly {
            // The truth is in the target, and nothing is pending: a mark that was made by hand would put
            // an old row over it.
            return Ok(Look::default());
        }
        // Keys that strict writes left half-done become pending first, so that no set is called empty over it
        // (I10).
        if self.until == RelayUntil::Empty || swept_at.is_none_or(|at| at.elapsed() >= SWEEP_EVERY) {
            migration.source.sweep_intents(Duration::ZERO).await?;
            *swept_at = Some(Instant::now());
        }
        let names: Vec<&str> = tables.iter().map(|binding| binding.name()).collect();
        // First: the rows of a partition that was attached become pending by it.
        let taking_in = self.record_shapes().await?;
        let due = migration.source.changes_due(&names).await?;
        // It joins the others, and follows the settings, also where nothing is pending.
        let share = self.shares.part().await;
        self.follow_settings().await;
        let mut look = Look::default();
        for (at, (&binding, due)) in tables.iter().zip(due).enumerate().filter(|(at, _)| free[*at]) {
            let progress = self.progress.of(binding.name());
            if self.pace.is_paused() {
                progress.pause(Some("an operator has paused the relay".to_owned()));
                look.held += 1;
                continue;
            }
            if let Some((_, why)) = taking_in.iter().find(|(name, _)| *name == binding.name()) {
                progress.pause(Some(why.clone()));
                look.held += 1;
                continue;
            }
            // Opened once: after that it is only looked at, so that an idle relay writes nothing.
            let opened = match due.is_open {
                true => Ok(()),
                false => migration.source.enable_relay(binding.name()).await,
            };
            match opened {
                Ok(()) => progress.pause(None),
                Err(e) if e.kind == Kind::Busy => {
                    progress.pause(Some(e.to_string()));
                    look.held += 1;
                    continue;
                }
                Err(e) => return Err(e.into()),
            }
            if !due.is_due {
                progress.nothing_pending();
                continue;
            }
            let (kept, began, read_at) = (&kept[at], Instant::now(), migration.target.reading());
            look.due.push((at, Table { run: self, binding, progress, kept, share, began, read_at }));
        }
        Ok(look)
    }

    /// Records the shapes of all tables, by one statement where all are as they are recorded: a partition
    /// that was made for rows of now is known before long, and one that goes again is missed. The pending
    /// rows are read by the record of that time.
    ///
    /// Returns the tables whose partitions are not taken in yet, and why: they hold up no other. 1. A
    /// partition of a hundred million rows is attached to one table. 2. Marking them takes hours, and
    /// meets rows that are locked. 3. The changes of every other table wait for it.
    async fn record_shapes(self) -> Result<Vec<(&'static str, String)>> {
        let (source, tables) = (&self.migration.source, &self.migration.tables);
        let mut taking_in = Vec::new();
        for at in source.shapes_to_record(tables).await? {
            match source.record_shape_within(&tables[at], TAKEN_IN_AT_ONCE).await {
                Err(error) if error.kind == Kind::Busy => {
                    taking_in.push((tables[at].name(), error.to_string()));
                }
                recorded => recorded.map(drop)?,
            }
        }
        Ok(taking_in)
    }
}

impl Course<'_> {
    /// Counts what a pass did, and returns why it ended before its time.
    fn take(&mut self, passed: Passed) -> Option<CoordinatorError> {
        self.summary.delivered += passed.delivered;
        self.summary.dead_letters += passed.dead_letters;
        passed.error
    }

    fn passing(&self, error: CoordinatorError, progress: &Progress) -> Result<StoreError> {
        // By a pass that is not over, too: its count comes with its end.
        let has_delivered = progress.tables.iter().any(|table| table.relayed() > 0);
        Outage::passing(error, self.began_well || has_delivered)
    }

    /// Waits until what is under way is sent and acknowledged: the relay was told to stop.
    async fn end(mut self) -> RelaySummary {
        while let Some((_, passed)) = self.passes.last().await {
            let _ = self.take(passed);
        }
        self.summary
    }
}
