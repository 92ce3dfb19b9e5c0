//! Options of a coordinator. Values only: files and environment are read elsewhere.

use std::time::Duration;

use lockstep_postgres::{LockTries, Source, Spending, TableBinding};

use lockstep_core::written::{ms, seconds, zero_is_none};
use lockstep_core::{Kind, Moment, Phase, Result as StoreResult, Window};
use lockstep_dynamo::Target;
use serde::{Deserialize, Serialize};

use crate::error::{CoordinatorError, Result};
use crate::feed_options::ReverseFeedOptions;
use crate::import_options::ImportOptions;
use crate::watch::Watch;

/// Everything a coordinator works on.
#[derive(Clone, Debug)]
pub struct MigrationContext {
    /// PostgreSQL.
    pub source: Source,
    /// DynamoDB.
    pub target: Target,
    /// The tables that move together.
    pub tables: Vec<TableBinding>,
    /// Names of tables of the migration that do not read in PostgreSQL as it is now. A step that takes reads
    /// back to PostgreSQL does without them, and nothing else does.
    pub unread: Vec<String>,
    /// Name of the operator or process at work, for the journal.
    pub actor: String,
    /// Settings.
    pub options: Options,
    /// Time at which a task of this process last made sure that neither store has lost history.
    pub watch: Watch,
}

/// Settings of all parts.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Options of the backfill.
    pub backfill: BackfillOptions,
    /// Moving it by DynamoDB's import from S3.
    pub import: ImportOptions,
    /// Delivering changes.
    pub relay: RelayOptions,
    /// Changing the phase.
    pub steps: StepOptions,
    /// The reverse feed that a step runs where no other process does.
    pub reverse_feed: ReverseFeedOptions,
    /// Dollars that copying may cost.
    pub spending: Spending,
}

/// Load path to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadPathChoice {
    /// Guarded batches where the endpoint has PartiQL; else one conditional put a row.
    #[default]
    Auto,
    /// The same.
    Guarded,
    /// The same, with a notice: writes without a condition are no more.
    Cold,
    /// Parts in S3, from which DynamoDB's own import makes the table. Tables that have a target already go on
    /// by guarded batches.
    Import,
}

/// Order in which the initial load is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RangesChoice {
    /// Order of blocks where rows lie in another order than their keys and the table is larger than what the
    /// server keeps in its memory; else order of keys.
    #[default]
    Auto,
    /// Order of the primary key.
    Key,
    /// Order in which rows lie, where the table can be read so.
    Blocks,
}

/// Settings of the backfill, as a file has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackfillOptions {
    /// Load path of the initial load.
    pub load_path: LoadPathChoice,
    /// Ranges read at once, over all tables: each holds one connection while it reads.
    pub readers: usize,
    /// Requests in flight at once, over all tables.
    pub requests_in_flight: usize,
    /// Kind of the ranges; a plan that is made stands.
    #[serde(default)]
    pub ranges: RangesChoice,
    /// Ranges that a table is cut into.
    pub ranges_per_table: usize,
    /// Bytes that one statement aims to read.
    pub chunk_bytes: usize,
    /// Most bytes read and not yet acknowledged, over all tables.
    pub queue_bytes_max: usize,
    /// Most write units a second; `None`, in a file 0, takes what the target gives.
    #[serde(with = "zero_is_none")]
    pub write_units_per_s_max: Option<u64>,
    /// Dead letters of one run after which it stops.
    pub errors_max: u64,
    /// Only rows from this moment on.
    pub window_start: Option<Moment>,
    /// Only rows before this moment.
    pub window_end: Option<Moment>,
    /// Time for which a worker is believed without a word; then its ranges are free for others.
    #[serde(rename = "lease_ms", with = "ms")]
    pub lease: Duration,
}

impl Default for BackfillOptions {
    fn default() -> Self {
        Self {
            load_path: LoadPathChoice::Auto,
            readers: 4,
            requests_in_flight: 16,
            ranges: RangesChoice::Auto,
            // Enough that the last range to finish is a small part of the whole, few enough to read the list
            // at a glance.
            ranges_per_table: 64,
            chunk_bytes: 256 * 1024,
            // Encoded rows take several times their bytes in PostgreSQL; this keeps the process well below
            // 200 MB and two processors busy.
            queue_bytes_max: 4 * 1024 * 1024,
            write_units_per_s_max: None,
            errors_max: 1_000,
            window_start: None,
            window_end: None,
            lease: Duration::from_secs(15),
        }
    }
}

impl BackfillOptions {
    /// Returns the days that are moved.
    pub fn window(&self) -> Window {
        Window { start: self.window_start.map(|m| m.0), end: self.window_end.map(|m| m.0) }
    }
}

/// Settings of the relay, as a file has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayOptions {
    /// Keys of one batch.
    pub batch_keys: usize,
    /// Writes in flight at once of one table. Four tables are delivered at once.
    pub requests_in_flight: usize,
    /// Pause when nothing is pending.
    #[serde(rename = "idle_pause_ms", with = "ms")]
    pub idle_pause: Duration,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self { batch_keys: 500, requests_in_flight: 32, idle_pause: Duration::from_millis(200) }
    }
}

/// Settings of a phase step, as a file has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepOptions {
    /// Longest wait for the barrier in one try, and so the longest stall that a step causes an application.
    // That of the source, where a file has it.
    #[serde(skip, default = "lock_timeout")]
    pub lock_timeout: Duration,
    /// Number of tries for the barrier.
    pub lock_tries: u32,
    /// Pause between tries.
    #[serde(rename = "lock_pause_ms", with = "ms")]
    pub lock_pause: Duration,
    /// Most pending keys at the step to HybridRead.
    pub pending_keys_max: i64,
    /// Greatest age of a pending key at that step.
    #[serde(rename = "pending_age_ms_max", with = "ms")]
    pub pending_age_max: Duration,
    /// Greatest age of the verdict at that step.
    #[serde(rename = "verdict_age_s_max", with = "seconds")]
    pub verdict_age_max: Duration,
    /// Time for which a store without an instance may go on with the phase it knows before it asks again; a
    /// step waits it out twice.
    #[serde(rename = "phase_lease_ms", with = "ms")]
    pub phase_lease: Duration,
    /// Longest that writes may wait while the truth moves; when it takes longer, everything is as it was.
    #[serde(rename = "pause_ms_max", with = "ms")]
    pub pause_max: Duration,
    /// Longest wait before such a pause, while writers go on, until the reverse feed is through and little is
    /// pending.
    #[serde(rename = "catch_up_s_max", with = "seconds")]
    pub catch_up_max: Duration,
    /// Time that the indexes of the target are given to show what was delivered last, inside the pause.
    #[serde(rename = "index_settle_ms", with = "ms")]
    pub index_settle: Duration,
    /// Percentile of the typed queries that is held against the two limits below: 50, 95 or 99.
    pub latency_percentile: u8,
    /// Milliseconds within which PostgreSQL is to answer them before a step to HybridRead or DynamoOnly; 0
    /// any.
    pub source_latency_ms_max: u64,
    /// The same of DynamoDB.
    pub target_latency_ms_max: u64,
    /// Times that each of them is asked of both stores for it.
    pub latency_rounds: usize,
    /// Time after which every lease is over, those that are not known any more included.
    #[serde(skip, default = "lease_max")]
    pub lease_max: Duration,
}

impl StepOptions {
    /// Repeats `attempt` while a lock keeps it from being done, as often and with such pauses as a step does;
    /// `again` is told the try and its error before each pause. Returns the number of tries as well.
    ///
    /// # Errors
    /// The attempt's; the last [`Kind::Busy`] when no try is left.
    pub(crate) async fn tries<T, F, G>(
        &self,
        attempt: impl Fn() -> F,
        again: impl Fn(u32, CoordinatorError) -> G,
    ) -> Result<(u32, T)>
    where
        F: Future<Output = Result<T>>,
        G: Future<Output = Result<()>>,
    {
        let tries = LockTries { tries: self.lock_tries, first: self.lock_pause, longest: self.lock_pause };
        let is_busy = |error: &CoordinatorError| match error {
            CoordinatorError::Store(error) => error.kind == Kind::Busy,
            _ => false,
        };
        tries.repeat_if(attempt, is_busy, again).await
    }

    /// [`StepOptions::tries`] of one call to a store, with nothing to do between.
    pub(crate) async fn while_busy<T, F>(&self, attempt: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = StoreResult<T>>,
    {
        let attempt = || {
            let attempted = attempt();
            async { Ok(attempted.await?) }
        };
        self.tries(attempt, |_, _| std::future::ready(Ok(()))).await.map(|(_, done)| done)
    }

    /// Makes the error for a caller whose step to `to` found the barrier busy at every try.
    pub(crate) fn barrier_busy(&self, error: CoordinatorError, to: Phase) -> CoordinatorError {
        match error {
            CoordinatorError::Store(error) if error.kind == Kind::Busy => {
                tracing::debug!("the last try ended so: {error}");
                let lock_timeout_ms = self.lock_timeout.as_millis() as u64;
                CoordinatorError::BarrierBusy { to, tries: self.lock_tries, lock_timeout_ms }
            }
            other => other,
        }
    }
}

fn lock_timeout() -> Duration {
    lockstep::config::LOCK_TIMEOUT
}

fn lease_max() -> Duration {
    lockstep::instance::LEASE_MAX
}

impl Default for StepOptions {
    fn default() -> Self {
        Self {
            lock_timeout: lock_timeout(),
            lock_tries: 60,
            lock_pause: Duration::from_millis(700),
            pending_keys_max: 10_000,
            pending_age_max: Duration::from_secs(10),
            verdict_age_max: Duration::from_secs(3600),
            phase_lease: lockstep::store::PHASE_LEASE,
            pause_max: Duration::from_secs(5),
            catch_up_max: Duration::from_secs(60),
            index_settle: Duration::from_millis(200),
            latency_percentile: 99,
            source_latency_ms_max: 0,
            target_latency_ms_max: 0,
            latency_rounds: 100,
            lease_max: lease_max(),
        }
    }
}

#[cfg(test)]
mod tests;
