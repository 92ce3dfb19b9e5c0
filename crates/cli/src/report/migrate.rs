//! The report of a whole run.

use lockstep_coordinator::{BackfillSummary, StepOutcome, TableStatus, first_of, grouped};
use lockstep_core::{Epoch, Phase};
use lockstep_dynamo::LoadPath;
use lockstep_postgres::RangeRow;
use lockstep_validator::{Report, TableReport, Verdict};
use serde::Serialize;

use super::{SHOWN_MAX, not_counted, table, target_count, verdict_line};
use crate::stores::Kept;
use crate::ui::{count, seconds};

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct MigrateReport {
    /// `verdict` and `reasons`.
    #[serde(flatten)]
    pub(crate) verdict: Verdict,
    /// Whether a store kept the comparison from its end.
    #[serde(skip)]
    pub(crate) cut_short: bool,
    /// Whether the last validation looked at what changed since the one before, and not at everything.
    pub(crate) incremental: bool,
    /// Legs that it went, one after the other, and whether both stores agreed at the end of each.
    pub(crate) legs: Vec<Leg>,
    /// The phase at the end.
    pub(crate) phase: Phase,
    /// The epoch at the end.
    pub(crate) epoch: Epoch,
    /// Seconds that the whole run took, stores included.
    pub(crate) duration_s: f64,
    /// Stages of that, in order.
    pub(crate) stages: Vec<Stage>,
    /// One entry a table.
    pub(crate) tables: Vec<MigrateTable>,
    /// The steps taken, with their gates.
    pub(crate) steps: Vec<StepOutcome>,
    /// Steps that an earlier run had left and this one settled.
    pub(crate) recovered: Vec<String>,
    /// Writes that were made meanwhile; `None` where no writer of ours ran.
    pub(crate) live_writes: Option<LiveWrites>,
    /// The stores that were left running.
    pub(crate) kept: Option<Kept>,
}

/// A part of the run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Stage {
    /// Name of the stage.
    pub(crate) name: &'static str,
    /// Seconds that it took.
    pub(crate) duration_s: f64,
}

/// A part of the way.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Leg {
    /// Phase to which it went.
    pub(crate) to: Phase,
    /// Steps that it took.
    pub(crate) steps: usize,
    /// Whether both stores agreed at its end.
    pub(crate) consistent: bool,
}

/// Counts of what the live writers did.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct LiveWrites {
    /// Operations done.
    pub(crate) done: u64,
    /// Rows they changed.
    pub(crate) rows: u64,
    /// Operations whose answer was lost.
    pub(crate) unknown: u64,
    /// Operations that were given up or refused.
    pub(crate) failed: u64,
    /// The longest that an operation took, retries included, in milliseconds.
    pub(crate) slowest_ms: u64,
    /// Writes through store handles that reached DynamoDB at once.
    pub(crate) applied: u64,
    /// Writes through store handles that were left to the relay.
    pub(crate) deferred: u64,
}

impl LiveWrites {
    /// Both together.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        Self {
            done: self.done + other.done,
            rows: self.rows + other.rows,
            unknown: self.unknown + other.unknown,
            failed: self.failed + other.failed,
            slowest_ms: self.slowest_ms.max(other.slowest_ms),
            applied: self.applied + other.applied,
            deferred: self.deferred + other.deferred,
        }
    }
}

/// One table of the run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct MigrateTable {
    /// The table.
    pub(crate) name: String,
    /// Rows of the source.
    pub(crate) source_count: u64,
    /// Live items of the target.
    pub(crate) target_count: Option<u64>,
    /// Rows that the backfill has finished, over all runs.
    pub(crate) backfilled: u64,
    /// Number of those that earlier runs had finished, and that this one did not read again.
    pub(crate) resumed: u64,
    /// Rows that this run read although an earlier one had finished them; 0 unless something is wrong.
    pub(crate) read_again: u64,
    /// Rows of the initial load that this run put.
    pub(crate) written: u64,
    /// Rows of the initial load whose key was there already.
    pub(crate) present: u64,
    /// Ranges of the plan.
    pub(crate) ranges: u64,
    /// Ranges that earlier runs had finished.
    pub(crate) ranges_resumed: u64,
    /// Load path of the initial load.
    pub(crate) load_path: LoadPath,
    /// Changes delivered by relays, over all runs.
    pub(crate) relayed: i64,
    /// Keys waiting for delivery at the end.
    pub(crate) pending: u64,
    /// Dead letters.
    pub(crate) dead_letters: u64,
    /// Those that no operator has acknowledged.
    pub(crate) dead_letters_unacknowledged: u64,
    /// Rows without an item.
    pub(crate) missing: u64,
    /// Rows whose item says something else.
    pub(crate) different: u64,
    /// Items without a row.
    pub(crate) extra: u64,
    /// Rows and items that do not decode.
    pub(crate) undecodable: u64,
    /// Keys that did not come to rest.
    pub(crate) unsettled: u64,
}

impl MigrateTable {
    /// Puts together what backfill, control tables and validation say of one table.
    pub(crate) fn of(
        backfill: &BackfillSummary,
        ranges: &[RangeRow],
        status: &TableStatus,
        report: &Report,
        validation: &TableReport,
    ) -> Self {
        let finished: u64 = ranges.iter().map(|range| range.rows_read.unsigned_abs()).sum();
        Self {
            name: backfill.table.clone(),
            source_count: validation.source_count,
            target_count: target_count(report, validation),
            backfilled: finished,
            resumed: backfill.rows_resumed,
            read_again: (backfill.rows_resumed + backfill.rows_read).saturating_sub(finished),
            written: backfill.rows_written,
            present: backfill.rows_present,
            ranges: backfill.ranges,
            ranges_resumed: backfill.ranges_resumed,
            load_path: backfill.load_path,
            relayed: status.relayed,
            pending: validation.pending,
            dead_letters: validation.dead_letters,
            dead_letters_unacknowledged: validation.dead_letters_unacknowledged,
            missing: validation.missing,
            different: validation.different,
            extra: validation.extra,
            undecodable: validation.undecodable,
            unsettled: validation.unsettled,
        }
    }
}

impl MigrateReport {
    /// Returns the report for people.
    pub(crate) fn text(&self) -> String {
        let headers = [
            "table",
            "source",
            "target",
            "backfilled",
            "resumed",
            "relayed",
            "pending",
            "dead letters",
            "missing",
            "different",
            "extra",
        ];
        let rows = self.tables.iter().map(|t| {
            let numbers = [
                t.source_count,
                t.backfilled,
                t.resumed,
                t.relayed.unsigned_abs(),
                t.pending,
                t.dead_letters,
                t.missing,
                t.different,
                t.extra,
            ];
            let mut cells: Vec<String> = std::iter::once(t.name.clone()).chain(numbers.map(count)).collect();
            cells.insert(2, t.target_count.map_or_else(not_counted, count));
            cells
        });
        let stages: Vec<String> =
            self.stages.iter().map(|s| format!("{} {}", s.name, seconds(s.duration_s))).collect();
        let mut text = table(&headers, rows);
        // Of many tables the same is said once.
        let said = |t: &&MigrateTable| {
            format!("{} of {} ranges were done before this run; {}", t.ranges_resumed, t.ranges, t.load_path)
        };
        for same in grouped(&self.tables, |t| Some(said(t))) {
            let names: Vec<&str> = same.iter().map(|t| t.name.as_str()).collect();
            text += &format!("\n  {}: {}", first_of(&names, SHOWN_MAX), said(&same[0]));
        }
        if let Some(live) = &self.live_writes {
            text += &format!(
                "\n  written meanwhile: {} operations, {} rows, the slowest took {} ms; {} failed, {} unknown; \
                 through store handles {} inline, {} left to the relay",
                count(live.done),
                count(live.rows),
                live.slowest_ms,
                live.failed,
                live.unknown,
                count(live.applied),
                count(live.deferred)
            );
        }
        text += &format!("\n  {}: {}", seconds(self.duration_s), stages.join(", "));
        for step in &self.steps {
            if let Some(pause) = &step.pause {
                text += &format!(
                    "\n  {} → {}: writes were paused for {:.0} ms",
                    step.from, step.phase, pause.took_ms
                );
            }
        }
        if self.legs.len() > 1 {
            let legs = self.legs.iter().map(|leg| {
                format!("{} {}", leg.to, if leg.consistent { "agrees" } else { "DOES NOT AGREE" })
            });
            text += &format!("\n  legs: {}", legs.collect::<Vec<_>>().join(", "));
        }
        if self.phase == Phase::DynamoOnly {
            text += "\n  PostgreSQL follows through the reverse feed. Back: `cargo xtask rollback`, which loses nothing that was \
                     written meanwhile. For good: `cargo xtask complete`";
        }
        text += &format!(
            "\nPhase: {} (epoch {})\n{}",
            self.phase,
            self.epoch,
            verdict_line(&self.verdict, self.incremental)
        );
        text
    }
}
