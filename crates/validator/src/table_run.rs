//! State that the passes of one table share, and its report.

use std::sync::{Arc, OnceLock};

use chrono::{DateTime, Utc};
use lockstep_core::Advice::ValidateFolder;
use lockstep_core::{Control, Epoch, Phase};
use lockstep_dynamo::{Export, TableStanding};
use lockstep_postgres::{TableBinding, read_order};
use tokio::sync::Semaphore;

use crate::evidence::{Digests, ExportSeen};
use crate::ledger::Begun;
use crate::options::ValidateOptions;
use crate::progress::{TableValidationProgress, ValidationProgress};
use crate::quality::Judge;
use crate::reader::Reader;
use crate::table_report::TableReport;
use crate::tally::{Outcome, Tally};
use crate::tasks::Stopped;
use crate::verified::identity;

/// State that the passes of one table share.
#[derive(Debug)]
pub(crate) struct TableRun {
    pub(crate) reader: Reader,
    pub(crate) binding: TableBinding,
    pub(crate) options: ValidateOptions,
    pub(crate) phase: Phase,
    pub(crate) epoch: i64,
    /// The number that was drawn before the first reading of this run.
    pub(crate) number: Option<i64>,
    pub(crate) tally: Tally,
    pub(crate) judge: Judge,
    /// Batches of suspects that may be in memory with their rows and items; the others wait without.
    pub(crate) observing: Semaphore,
    /// Digests of both sides; set once, when both were read to the end.
    pub(crate) digests: OnceLock<Digests>,
    /// Export that is read instead of the target; set once, before anything is read.
    pub(crate) export: OnceLock<Export>,
    begun: OnceLock<Begun>,
    verified_as_of: OnceLock<DateTime<Utc>>,
    /// Identity of what a full pass rested on before its first reading, if that can be said.
    rests_on: OnceLock<Option<String>>,
    /// Order in which rows are read, as it was before the first of them.
    read_order: OnceLock<String>,
    /// DynamoDB's id of the target table, as it was before the first item; the inner `None` where it has
    /// none.
    target_id: OnceLock<Option<String>>,
    progress: Arc<ValidationProgress>,
    /// Stands in where the caller watches other tables.
    unwatched: TableValidationProgress,
}

impl TableRun {
    pub(crate) fn new(
        reader: &Reader,
        binding: &TableBinding,
        options: &ValidateOptions,
        (control, number): (&Control, Option<i64>),
        progress: &Arc<ValidationProgress>,
    ) -> Arc<Self> {
        Arc::new(Self {
            reader: reader.clone(),
            binding: binding.clone(),
            options: options.clone(),
            phase: control.phase,
            epoch: control.epoch.0,
            number,
            tally: Tally::new(options.settings.findings_max),
            judge: Judge::new(options, reader.source.now_at_least().timestamp()),
            observing: Semaphore::new(2 * options.settings.parallel.max(1)),
            digests: OnceLock::new(),
            export: OnceLock::new(),
            begun: OnceLock::new(),
            verified_as_of: OnceLock::new(),
            rests_on: OnceLock::new(),
            read_order: OnceLock::new(),
            target_id: OnceLock::new(),
            progress: Arc::clone(progress),
            unwatched: TableValidationProgress::default(),
        })
    }

    /// Makes a run of the same table and options, with counters of its own and none that are watched, that
    /// judges nothing.
    pub(crate) fn beside(&self) -> Arc<Self> {
        let now = self.reader.source.now_at_least();
        let control =
            Control { phase: self.phase, epoch: Epoch(self.epoch), changed_at: now, writes_paused: false };
        let options = ValidateOptions { quality: false, ..self.options.clone() };
        Self::new(
            &self.reader,
            &self.binding,
            &options,
            (&control, self.number),
            &ValidationProgress::new(&[]),
        )
    }

    pub(crate) fn progress(&self) -> &TableValidationProgress {
        self.progress.of(self.binding.name()).unwrap_or(&self.unwatched)
    }

    pub(crate) fn record(&self, outcome: Outcome, of_row: bool) {
        self.tally.record(outcome, of_row, self.progress());
    }

    /// Stops the run because of a file of the ledger.
    pub(crate) fn spool(&self, error: std::io::Error) -> Stopped {
        let temporary = || (std::env::temp_dir().display().to_string(), "TMPDIR".to_owned());
        let kept =
            |kept: &crate::settings::Kept| (kept.folder.display().to_string(), ValidateFolder.to_string());
        let (folder, setting) = self.options.kept.as_ref().map_or_else(temporary, kept);
        Stopped::Spool { folder, setting, error }
    }

    /// Stops the run because of an entry that does not read back.
    pub(crate) fn garbled(&self) -> Stopped {
        self.spool(std::io::Error::new(std::io::ErrorKind::InvalidData, "it does not read back"))
    }

    /// Checks what every conclusion rests on: each change is captured (I1), no column is unknown to the
    /// row type, rows are read in one order, and the target table is one and the same. At the start, and
    /// again at the end, because all of it must have held all the time.
    pub(crate) async fn check_stores(&self) -> Result<(), String> {
        let (reader, binding) = (&self.reader, &self.binding);
        let capture = reader.ask(|| reader.source.capture_state(binding)).await.map_err(|e| e.to_string())?;
        capture.require_on(binding.name()).map_err(|e| e.to_string())?;
        let shape = reader.ask(|| reader.source.shape(binding)).await.map_err(|e| e.to_string())?;
        if let Some(wrong) = shape.wrong() {
            return Err(format!("{} cannot be compared: {wrong}; {}", binding.relation, shape.next()));
        }
        let fingerprint =
            reader.ask(|| reader.source.fingerprint(binding)).await.map_err(|e| e.to_string())?;
        let state =
            reader.ask(|| reader.source.table_state(binding.name())).await.map_err(|e| e.to_string())?;
        // Where the file of rows is another one, the look at the shape has said so there.
        let captured_at = state.map(|state| state.captured_at.to_string()).unwrap_or_default();
        let order = format!("{} {captured_at}", read_order(&fingerprint));
        if *self.read_order.get_or_init(|| order.clone()) != order {
            return Err(format!(
                "{} was altered or rewritten while it was read, and rows may have been passed over; run it again",
                binding.relation
            ));
        }
        let described = reader.ask(|| reader.source.describe(binding)).await.map_err(|e| e.to_string())?;
        let mismatches = described.mismatches(binding);
        if !mismatches.is_empty() {
            return Err(format!("{} cannot be read: {}", binding.relation, mismatches.join("; ")));
        }
        self.check_target().await
    }

    /// Checks that the target table is the one that was there at first: 1. All its items are read. 2. It is
    /// deleted and made again, empty. 3. The rows are read, and all of them are equal to what was read.
    async fn check_target(&self) -> Result<(), String> {
        let (reader, binding) = (&self.reader, &self.binding);
        let (name, schema) = (&binding.target_name, binding.table.target());
        let there = reader.ask(|| reader.target.describe(name, &schema)).await;
        let id = match there.map_err(|e| e.to_string())? {
            TableStanding::There(there) => there.id,
            _ => None,
        };
        if *self.target_id.get_or_init(|| id.clone()) == id {
            return Ok(());
        }
        Err(format!("DynamoDB table {name} was made again while it was read; run it again"))
    }

    /// Returns DynamoDB's id of the target table, once [`TableRun::check_stores`] has looked.
    pub(crate) fn target_id(&self) -> Option<&str> {
        self.target_id.get()?.as_deref()
    }

    /// Returns the order in which rows are read, once [`TableRun::check_stores`] has looked.
    pub(crate) fn read_order(&self) -> Option<&str> {
        self.read_order.get().map(String::as_str)
    }

    /// Says of when the report is to speak: before anything is read.
    pub(crate) fn speak_as_of(&self, begun: Begun, verified_as_of: DateTime<Utc>) {
        // Once a run; there is nothing to be done about a second time.
        let _ = self.begun.set(begun);
        let _ = self.verified_as_of.set(verified_as_of);
    }

    /// Returns what this pass is to rest on besides rows and items.
    pub(crate) async fn rests_on(&self) -> Result<Option<String>, String> {
        let reader = &self.reader;
        let identity = reader.ask(|| identity(&reader.source, &reader.target, &self.binding)).await;
        identity.map_err(|e| e.to_string())
    }

    /// Notes that, before anything is read.
    pub(crate) fn rest_on(&self, identity: Option<String>) {
        // Once a run.
        let _ = self.rests_on.set(identity);
    }

    /// Returns the report as it is by now.
    pub(crate) fn report(&self) -> TableReport {
        TableReport {
            as_of: self.begun.get().map(|begun| begun.as_of),
            pass: self.begun.get().and_then(|begun| begun.pass),
            began: self.begun.get().and_then(|begun| begun.number),
            rests_on: self.rests_on.get().cloned().flatten(),
            verified_as_of: self.verified_as_of.get().copied(),
            export: self.export.get().map(|export| ExportSeen {
                arn: export.summary.arn.clone(),
                at: export.at(),
                items: export.summary.items,
            }),
            ..self.tally.report(self.binding.name())
        }
    }

    /// Returns the report, with what waits at the end.
    pub(crate) async fn close(&self, compared: Result<(), String>) -> TableReport {
        let mut report = self.report();
        let (reader, name) = (&self.reader, self.binding.name());
        let waiting = async {
            let lag = reader.ask(|| reader.source.lag(name)).await?;
            let dead_letters = reader.ask(|| reader.source.count_dead_letters(name)).await?;
            Ok::<_, lockstep_core::Error>((lag, dead_letters))
        };
        let mut failures = Vec::from_iter(compared.err());
        match waiting.await {
            Ok((lag, (all, unacknowledged))) => {
                report.pending = report.pending.max(lag.keys.unsigned_abs());
                report.dead_letters = all.unsigned_abs();
                report.dead_letters_unacknowledged = unacknowledged.unsigned_abs();
            }
            Err(error) => failures.push(format!("could not count the pending keys: {error}")),
        }
        report.digests = self.digests.get().cloned();
        report.complete = failures.is_empty();
        report.store_failed = !report.complete && reader.gave_up();
        report.failure = (!failures.is_empty()).then(|| failures.join("; "));
        report
    }
}
