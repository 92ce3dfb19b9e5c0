//! One table of a backfill: its plan, and what a run of it needs to know.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use lockstep_core::Window;
use lockstep_dynamo::{Backoff, Bucket, LoadPath};
use lockstep_postgres::{ImportRow, KeyBound, TableBinding};
use tokio_util::sync::CancellationToken;

use super::cut::{plan_once, ranges_of_its_file};
use super::lease::WorkerLease;
use super::{BackfillSummary, Shared};
use crate::error::{CoordinatorError, Result};
use crate::import;
use crate::options::MigrationContext;
use crate::plan;
use crate::progress::{Progress, TableProgress};

/// A table whose plan is made.
pub(super) struct Table {
    pub(super) binding: TableBinding,
    fingerprint: String,
    /// Fingerprint of the table before anything of it was read.
    seen: String,
    window: Window,
    path: LoadPath,
    import: Option<ImportRow>,
    bucket: Option<Bucket>,
    started: Instant,
    rows_estimate: i64,
    ranges: usize,
    ranges_resumed: u64,
    rows_resumed: u64,
}

/// One table under one lease.
pub(super) struct TableRun {
    pub(super) migration: Arc<MigrationContext>,
    pub(super) binding: TableBinding,
    pub(super) fingerprint: String,
    pub(super) window: Window,
    pub(super) path: LoadPath,
    /// The import that the table is under.
    pub(super) import: Option<ImportRow>,
    /// Bucket that its parts are put into; `None` where they go into a folder.
    pub(super) bucket: Option<Bucket>,
    pub(super) shared: Arc<Shared>,
    pub(super) lease: Arc<WorkerLease>,
    pub(super) cancel: CancellationToken,
    /// A sample of this part of the table's pages, in percent, has some dozen rows of each range; `None`
    /// where the size of the table is not known.
    pub(super) sample_percent: Option<f64>,
    all_progress: Arc<Progress>,
    /// The fingerprint of the table when a reader last saw another file of it.
    seen: Mutex<String>,
}

/// Rows of a sample, for each range.
const SAMPLED: usize = 50;

impl Table {
    /// Looks at a table, and at what earlier runs have done. Makes its plan, unless there is one.
    ///
    /// # Errors
    /// Either store's; [`Kind::Misconfigured`] where the plan was made for another window of days.
    pub(super) async fn begin(
        migration: &MigrationContext,
        binding: &TableBinding,
        progress: &Progress,
    ) -> Result<Self> {
        let started = Instant::now();
        let (name, source) = (binding.name(), &migration.source);
        let progress = progress.of(name);
        let import = import::under_way(migration, binding).await?;
        let bucket = match import.as_ref().filter(|import| import.state == "writing") {
            Some(import) => import::bucket(migration, import).await?,
            None => None,
        };
        let path = choose_path(migration, binding, import.as_ref()).await?;
        *progress.load_path.lock().expect("no panic while holding it") = Some(path);
        // Expiry is judged by this time.
        source.clock().await?;
        let rows_estimate = source.describe(binding).await?.rows_likely();
        plan_once(migration, binding, rows_estimate).await?;
        let ranges = ranges_of_its_file(migration, binding).await?;
        let seen = source.fingerprint(binding).await?;
        let resumed: i64 = ranges.iter().map(|range| range.rows_read).sum();
        progress.rows_expected.store(rows_estimate.max(resumed) as u64, Relaxed);
        progress.rows_resumed.store(resumed as u64, Relaxed);
        let state = source.table_state(name).await?;
        Ok(Self {
            binding: binding.clone(),
            fingerprint: state.map(|state| state.fingerprint).unwrap_or_default(),
            seen,
            window: migration.options.backfill.window(),
            path,
            import,
            bucket,
            started,
            rows_estimate,
            ranges: ranges.len(),
            ranges_resumed: ranges.iter().filter(|range| range.done).count() as u64,
            rows_resumed: resumed as u64,
        })
    }

    /// Tells whether DynamoDB was asked for a job that makes its target.
    pub(super) fn waits_for_a_job(&self) -> bool {
        self.import.as_ref().is_some_and(|import| import.state == "importing")
    }

    /// Makes the worker that works on it under this lease.
    pub(super) fn under(
        &self,
        migration: &Arc<MigrationContext>,
        lease: &Arc<WorkerLease>,
        shared: &Arc<Shared>,
        all_progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Arc<TableRun> {
        let sampled = (self.ranges * SAMPLED) as f64;
        let sample_percent = (self.rows_estimate > 0)
            .then(|| (100.0 * sampled / self.rows_estimate as f64).clamp(0.001, 100.0));
        Arc::new(TableRun {
            migration: migration.clone(),
            binding: self.binding.clone(),
            fingerprint: self.fingerprint.clone(),
            window: self.window.clone(),
            path: self.path,
            import: self.import.clone(),
            bucket: self.bucket.clone(),
            shared: shared.clone(),
            lease: lease.clone(),
            cancel: cancel.clone(),
            sample_percent,
            all_progress: all_progress.clone(),
            seen: Mutex::new(self.seen.clone()),
        })
    }

    /// Returns what this run did.
    ///
    /// # Errors
    /// The source's.
    pub(super) async fn summary(
        &self,
        migration: &MigrationContext,
        progress: &Progress,
    ) -> Result<BackfillSummary> {
        let name = self.binding.name();
        let progress = progress.of(name);
        let ended = progress.last_range.lock().expect("no panic while holding it").unwrap_or(self.started);
        Ok(BackfillSummary {
            table: name.to_owned(),
            load_path: self.path,
            ranges: migration.source.ranges(name).await?.len() as u64,
            ranges_resumed: self.ranges_resumed,
            rows_resumed: self.rows_resumed,
            rows_read: progress.rows_read(),
            rows_written: progress.rows_written(),
            rows_present: progress.rows_present(),
            dead_letters: progress.dead_letters(),
            bytes_read: progress.bytes_read(),
            duration_s: ended.saturating_duration_since(self.started).as_secs_f64(),
        })
    }
}

async fn choose_path(
    migration: &MigrationContext,
    binding: &TableBinding,
    import: Option<&ImportRow>,
) -> Result<LoadPath> {
    if import.is_some_and(|import| import.state != "filling") {
        // There is no table to ask for what it can.
        return Ok(LoadPath::Import);
    }
    let probe = binding.table.target().unused_key();
    let has_partiql =
        Backoff::patient().retry(|| migration.target.has_partiql(&binding.target_name, &probe)).await?;
    if has_partiql && import.is_some() {
        return Ok(LoadPath::Fill);
    }
    Ok(plan::load_path(migration.options.backfill.load_path, has_partiql))
}

impl TableRun {
    pub(super) fn progress(&self) -> &TableProgress {
        self.all_progress.of(self.binding.name())
    }

    pub(super) fn seen(&self) -> String {
        self.seen.lock().expect("no panic while holding it").clone()
    }

    pub(super) fn see(&self, now: String) {
        *self.seen.lock().expect("no panic while holding it") = now;
    }

    /// Sets a row aside, if it still is as it was read, and stops the run when there are too many.
    pub(super) async fn set_aside_key(&self, key: &KeyBound, tuple: &[u8], reason: &str) -> Result<()> {
        self.lease.require()?;
        let aside = Backoff::brief()
            .retry(|| self.migration.source.set_aside_initial_load(&self.binding, key, tuple, reason))
            .await?;
        if !aside {
            return Ok(());
        }
        self.progress().dead_letters.fetch_add(1, Relaxed);
        let found = self.shared.errors.fetch_add(1, Relaxed) + 1;
        let allowed = self.migration.options.backfill.errors_max;
        if found > allowed {
            return Err(CoordinatorError::TooManyErrors {
                table: self.binding.name().to_owned(),
                found,
                allowed,
            });
        }
        Ok(())
    }
}
