//! One table from the first count to its report.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use chrono::Utc;
use lockstep_core::Phase;
use lockstep_core::source::TableBinding;
use tokio::sync::mpsc;

use crate::evidence::Digests;
use crate::ledger::Ledger;
use crate::options::ValidateOptions;
use crate::progress::{Progress, TableProgress};
use crate::quality::Judge;
use crate::reader::Reader;
use crate::recheck::{BATCH, recheck};
use crate::report::{FindingClass, TableReport};
use crate::source_pass::source_pass;
use crate::suspect::{Subject, Suspect, Suspects, finding_at};
use crate::tally::{Outcome, Tally};
use crate::target_pass::target_pass;
use crate::tasks::{Stopped, compute};

/// What the passes of one table share.
#[derive(Debug)]
pub(crate) struct TableRun {
    pub(crate) reader: Reader,
    pub(crate) binding: TableBinding,
    pub(crate) options: ValidateOptions,
    pub(crate) phase: Phase,
    pub(crate) tally: Tally,
    pub(crate) judge: Judge,
    digests: OnceLock<Digests>,
    progress: Arc<Progress>,
    /// Stands in where the caller watches other tables.
    unwatched: TableProgress,
}

impl TableRun {
    pub(crate) fn new(
        reader: &Reader,
        binding: &TableBinding,
        options: &ValidateOptions,
        phase: Phase,
        progress: &Arc<Progress>,
    ) -> Arc<Self> {
        Arc::new(Self {
            reader: reader.clone(),
            binding: binding.clone(),
            options: options.clone(),
            phase,
            tally: Tally::new(options.findings_max),
            digests: OnceLock::new(),
            judge: Judge::new(options, Utc::now().timestamp()),
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

    /// Counts a row that has no key by which it could be looked up again.
    pub(crate) fn settle_nameless(&self, column: String) {
        self.settle(Outcome::Found(finding_at(None, FindingClass::Undecodable, vec![column])), true);
    }

    /// Compares the table to the end; an error says what was not compared.
    pub(crate) async fn compare(self: &Arc<Self>) -> Result<(), String> {
        let rows_estimate = self.open().await.map_err(|reason| format!("nothing was compared: {reason}"))?;
        let (sender, queue) = mpsc::channel(BATCH);
        let ledger = Arc::new(Ledger::new(rows_estimate).seeded(self.options.digest_seed));
        let passes = async {
            // In here, so that the queue of suspects ends when everything that feeds it has.
            let suspects = Suspects(sender);
            let (source, target) =
                tokio::join!(source_pass(self, &ledger, suspects.clone(), rows_estimate), target_pass(self, &ledger));
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
        if failures.is_empty() { self.check_source().await } else { Err(format!("{}; {rows}", failures.join("; "))) }
    }

    /// Holds what both passes saw against each other.
    async fn compare_ledger(self: &Arc<Self>, ledger: &Arc<Ledger>, suspects: &Suspects) -> Result<(), Stopped> {
        self.tally.count_buckets(ledger.buckets() as u64, 0);
        // Both passes are at their end, and this is called once.
        let _ = self.digests.set(ledger.digests());
        for partition in 0..ledger.partitions() {
            let of_partition = Arc::clone(ledger);
            let difference = compute(move || of_partition.compare(partition)).await.map_err(Stopped::spool)?;
            self.tally.count_compared(difference.equal, difference.expired);
            self.tally.count_buckets(0, difference.buckets_differing);
            for (names, of_row) in [(difference.rows, true), (difference.items, false)] {
                let subjects = names.iter().map(|name| Subject::from_name(name).expect("we wrote it"));
                suspects.raise(subjects.map(|subject| Suspect { subject, of_row }).collect()).await?;
            }
        }
        Ok(())
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
    async fn check_source(&self) -> Result<(), String> {
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

    /// The report, with what waits at the end.
    pub(crate) async fn close(&self, compared: Result<(), String>) -> TableReport {
        let mut report = self.tally.report(self.binding.name());
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
