//! One table from the first count to its report.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use lockstep_core::{Control, Phase, TargetKey};
use lockstep_postgres::TableBinding;
use tokio::sync::{Semaphore, mpsc};

use crate::evidence::Digests;
use crate::incremental::compare_changed;
use crate::keep::{self, Kept};
use crate::ledger::{Begun, Ledger, Side};
use crate::options::{Sample, ValidateOptions};
use crate::progress::{Progress, TableProgress};
use crate::quality::Judge;
use crate::reader::Reader;
use crate::recheck::{BATCH, recheck};
use crate::report::{FindingClass, TableReport};
use crate::sample::sample;
use crate::source_pass::source_pass;
use crate::suspect::{Aside, Subject, Suspect, Suspects, finding_at};
use crate::tally::{Outcome, Tally};
use crate::target_pass::target_pass;
use crate::tasks::{Stopped, compute};

/// How often what was read is made durable. Less often where that takes long: a tenth of the time is enough for it.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(2);

/// What the passes of one table share.
#[derive(Debug)]
pub(crate) struct TableRun {
    pub(crate) reader: Reader,
    pub(crate) binding: TableBinding,
    pub(crate) options: ValidateOptions,
    pub(crate) phase: Phase,
    pub(crate) epoch: i64,
    pub(crate) tally: Tally,
    pub(crate) judge: Judge,
    /// Batches of suspects that may be in memory with their rows and items; the others wait without.
    pub(crate) observing: Semaphore,
    digests: OnceLock<Digests>,
    begun: OnceLock<Begun>,
    verified_as_of: OnceLock<DateTime<Utc>>,
    progress: Arc<Progress>,
    /// Stands in where the caller watches other tables.
    unwatched: TableProgress,
}

impl TableRun {
    pub(crate) fn new(
        reader: &Reader,
        binding: &TableBinding,
        options: &ValidateOptions,
        control: &Control,
        progress: &Arc<Progress>,
    ) -> Arc<Self> {
        Arc::new(Self {
            reader: reader.clone(),
            binding: binding.clone(),
            options: options.clone(),
            phase: control.phase,
            epoch: control.epoch.0,
            tally: Tally::new(options.findings_max),
            judge: Judge::new(options, Utc::now().timestamp()),
            observing: Semaphore::new(2 * options.parallel.max(1)),
            digests: OnceLock::new(),
            begun: OnceLock::new(),
            verified_as_of: OnceLock::new(),
            progress: Arc::clone(progress),
            unwatched: TableProgress::default(),
        })
    }

    pub(crate) fn progress(&self) -> &TableProgress {
        self.progress.of(self.binding.name()).unwrap_or(&self.unwatched)
    }

    pub(crate) fn settle(&self, outcome: Outcome, of_row: bool) {
        self.tally.settle(outcome, of_row, self.progress());
    }

    /// Why a file of the ledger stops the run.
    pub(crate) fn spool(&self, error: std::io::Error) -> Stopped {
        let temporary = || (std::env::temp_dir().display().to_string(), "TMPDIR");
        let kept = |kept: &crate::options::Kept| (kept.folder.display().to_string(), "validate.folder");
        let (folder, setting) = self.options.kept.as_ref().map_or_else(temporary, kept);
        Stopped::Spool { folder, setting, error }
    }

    /// Compares the table to the end; an error says what was not compared.
    pub(crate) async fn compare(self: &Arc<Self>) -> Result<(), String> {
        let nothing = |reason: String| format!("nothing was compared: {reason}");
        let rows_estimate = self.open().await.map_err(nothing)?;
        if let Some(sample) = self.options.sample {
            return self.compare_sample(sample).await;
        }
        if self.options.incremental {
            return compare_changed(self).await;
        }
        let Kept { ledger, begun } = keep::open(self, rows_estimate).await.map_err(|e| nothing(e.to_string()))?;
        self.speak_as_of(begun, begun.as_of);
        let ledger = Arc::new(ledger);
        self.count_resumed(&ledger);
        let (sender, queue) = mpsc::channel(BATCH);
        let passes = async {
            // In here, so that the queue of suspects ends when everything that feeds it has.
            let suspects = Suspects(sender);
            let (source, target) = self.read_both(&ledger).await;
            let compared = match (&source, &target) {
                (Ok(()), Ok(())) => self.compare_ledger(&ledger, &suspects).await,
                _ => Ok(()),
            };
            (source, target, compared)
        };
        let ((source, target, compared), recheck) = tokio::join!(passes, recheck(self, queue));
        let rows = format!("{} of {} rows were compared", self.tally.compared(), self.progress().rows_expected());
        let failures = [
            source.err().map(|e| ("not every row was read", e)),
            target.err().map(|e| ("not every item was read", e)),
            compared.err().map(|e| ("rows and items were read and not all compared", e)),
            recheck.err().map(|e| ("not every mismatch was read again", e)),
        ];
        // The recheck says itself why it ended; that its feeders then stopped adds nothing.
        let failures = failures.into_iter().flatten().filter(|(_, e)| !matches!(e, Stopped::RecheckEnded));
        let failures: Vec<String> = failures.map(|(what, e)| format!("{what}: {e}")).collect();
        if !failures.is_empty() {
            let kept = if ledger.is_kept() { "; what was read is kept, and the same command goes on from there" } else { "" };
            return Err(format!("{}; {rows}{kept}", failures.join("; ")));
        }
        // Compared to the end: what is kept would only make the next run older.
        let forgotten = compute(move || ledger.forget()).await;
        forgotten.map_err(|error| self.spool(error).to_string())?;
        self.check_source().await
    }

    /// Compares what a sample chooses.
    async fn compare_sample(self: &Arc<Self>, chosen: Sample) -> Result<(), String> {
        let now = self.reader.ask(|| self.reader.source.clock()).await.map_err(|e| format!("nothing was compared: {e}"))?;
        self.speak_as_of(Begun { as_of: now, pass: None }, now);
        let (sender, queue) = mpsc::channel(BATCH);
        let sampling = async {
            let suspects = Suspects(sender);
            sample(self, chosen, &suspects).await
        };
        let (sampled, recheck) = tokio::join!(sampling, recheck(self, queue));
        match (sampled, recheck) {
            (Err(Stopped::RecheckEnded) | Ok(()), Err(e)) => Err(format!("not everything that was chosen was read: {e}")),
            (Err(e), _) => Err(format!("the sample could not be drawn: {e}")),
            (Ok(()), Ok(())) => self.check_source().await,
        }
    }

    /// What an earlier part of this run had read counts as read.
    fn count_resumed(&self, ledger: &Ledger) {
        let (source, target) = (ledger.pass(Side::Source).counted, ledger.pass(Side::Target).counted);
        self.tally.count_resumed(source.read);
        self.judge.resume(source.read, target.read);
        self.tally.count_target(target.live, target.tombstones);
        self.progress().rows_resumed.store(source.read, Ordering::Relaxed);
        self.progress().source_rows.fetch_add(source.read, Ordering::Relaxed);
        self.progress().target_items.fetch_add(target.read, Ordering::Relaxed);
    }

    /// Reads what is left of both sides, and makes durable now and then what was read.
    async fn read_both(self: &Arc<Self>, ledger: &Arc<Ledger>) -> (Result<(), Stopped>, Result<(), Stopped>) {
        let checkpoint = async || {
            let ledger = Arc::clone(ledger);
            let begun = Instant::now();
            // It waits for the disk, which is no work for rayon's threads.
            let done = tokio::task::spawn_blocking(move || ledger.checkpoint()).await;
            let done = done.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            // Without it the run only loses what it could have resumed from; the passes notice a full disk by themselves.
            if let Err(error) = done {
                tracing::warn!(table = self.binding.name(), "progress could not be kept: {error}");
            }
            begun.elapsed()
        };
        let checkpoints = async {
            let mut took = Duration::ZERO;
            loop {
                tokio::time::sleep(CHECKPOINT_EVERY.max(10 * took)).await;
                took = checkpoint().await;
            }
        };
        let both = async { tokio::join!(source_pass(self, ledger), target_pass(self, ledger)) };
        if !ledger.is_kept() {
            return both.await;
        }
        let read = tokio::select! {
            read = both => read,
            () = checkpoints => unreachable!("checkpoints go on until the passes end"),
        };
        checkpoint().await;
        read
    }

    /// Holds what both passes saw against each other.
    async fn compare_ledger(self: &Arc<Self>, ledger: &Arc<Ledger>, suspects: &Suspects) -> Result<(), Stopped> {
        self.settle_asides(ledger, suspects).await?;
        self.tally.count_buckets(ledger.buckets() as u64, 0);
        // Both passes are at their end, and this is called once.
        let _ = self.digests.set(ledger.digests());
        for partition in 0..ledger.partitions() {
            let of_partition = Arc::clone(ledger);
            let compared = compute(move || of_partition.compare(partition)).await;
            let difference = compared.map_err(|error| self.spool(error))?;
            self.tally.count_compared(difference.equal, difference.expired);
            self.tally.count_buckets(0, difference.buckets_differing);
            for (names, of_row) in [(difference.rows, true), (difference.items, false)] {
                let subjects = names.iter().map(|name| Subject::from_name(name).ok_or_else(|| self.garbled()));
                let raised = subjects.map(|subject| subject.map(|subject| Suspect { subject, of_row }));
                suspects.raise(raised.collect::<Result<_, _>>()?).await?;
            }
        }
        Ok(())
    }

    /// Looks at what has no place in a bucket, one after the other: a whole table may be of that kind.
    async fn settle_asides(self: &Arc<Self>, ledger: &Arc<Ledger>, suspects: &Suspects) -> Result<(), Stopped> {
        for side in [Side::Source, Side::Target] {
            let (sender, mut asides) = mpsc::channel(BATCH);
            let ledger = Arc::clone(ledger);
            // Not on rayon's threads: it waits for the recheck, which needs them.
            let reading = tokio::task::spawn_blocking(move || {
                // Nobody may be listening any more; then the rest is of no use.
                ledger.asides(side, |name| drop(sender.blocking_send(name)))
            });
            while let Some(name) = asides.recv().await {
                let found = match Aside::from_name(&name).ok_or_else(|| self.garbled())? {
                    Aside::Unholdable(primary_key) => {
                        suspects.raise(vec![Suspect { subject: Subject::Row { primary_key }, of_row: true }]).await?;
                        continue;
                    }
                    Aside::Nameless(column) => finding_at(None, FindingClass::Undecodable, vec![column]),
                    Aside::Foreign(place) => finding_at(place.map(TargetKey::from).as_ref(), FindingClass::Foreign, Vec::new()),
                };
                self.settle(Outcome::Found(found), side == Side::Source);
            }
            let read = reading.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            read.map_err(|error| self.spool(error))?;
        }
        Ok(())
    }

    fn garbled(&self) -> Stopped {
        self.spool(std::io::Error::new(std::io::ErrorKind::InvalidData, "it does not read back"))
    }

    /// Checks that comparing makes sense, counts, and returns about how many rows there are.
    async fn open(&self) -> Result<i64, String> {
        self.check_source().await?;
        let (reader, binding) = (&self.reader, &self.binding);
        let described = reader.ask(|| reader.source.describe(binding)).await.map_err(|e| e.to_string())?;
        let counted = reader.ask(|| reader.source.count(binding, &self.options.window)).await.map_err(|e| e.to_string())?;
        self.tally.count_source(counted.unsigned_abs());
        self.progress().rows_expected.store(counted.unsigned_abs(), Ordering::Relaxed);
        Ok(described.rows_estimate.max(counted))
    }

    /// Checks what every conclusion rests on: each change is captured (I1), and no column is unknown to the row type. At the
    /// start, and again at the end, because both must have held all the time.
    pub(crate) async fn check_source(&self) -> Result<(), String> {
        let (reader, binding) = (&self.reader, &self.binding);
        let capture = reader.ask(|| reader.source.capture_state(binding)).await.map_err(|e| e.to_string())?;
        capture.require_on(binding.name()).map_err(|e| e.to_string())?;
        let described = reader.ask(|| reader.source.describe(binding)).await.map_err(|e| e.to_string())?;
        let mismatches = described.mismatches(binding);
        if mismatches.is_empty() {
            Ok(())
        } else {
            Err(format!("{} cannot be read: {}", binding.relation, mismatches.join("; ")))
        }
    }

    /// Says of when the report is to speak: before anything is read.
    pub(crate) fn speak_as_of(&self, begun: Begun, verified_as_of: DateTime<Utc>) {
        // Once a run; there is nothing to be done about a second time.
        let _ = self.begun.set(begun);
        let _ = self.verified_as_of.set(verified_as_of);
    }

    /// The report as it is by now.
    pub(crate) fn report(&self) -> TableReport {
        TableReport {
            as_of: self.begun.get().map(|begun| begun.as_of),
            pass: self.begun.get().and_then(|begun| begun.pass),
            verified_as_of: self.verified_as_of.get().copied(),
            ..self.tally.report(self.binding.name())
        }
    }

    /// The report, with what waits at the end.
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
            Err(error) => failures.push(format!("what waits was not counted: {error}")),
        }
        report.digests = self.digests.get().cloned();
        report.complete = failures.is_empty();
        report.failure = (!failures.is_empty()).then(|| failures.join("; "));
        report
    }
}
