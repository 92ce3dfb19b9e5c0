//! One table from the first count to the last mismatch.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lockstep_core::TargetKey;
use tokio::sync::mpsc;

use crate::export_pass::{self, export_pass};
use crate::incremental::compare_changed;
use crate::keep::{self, Kept};
use crate::ledger::{Begun, Difference, Ledger, Side};
use crate::options::Sample;
use crate::recheck::{BATCH, recheck};
use crate::sample::sample;
use crate::shared::lead;
use crate::source_pass::source_pass;
use crate::suspect::{Aside, Subject, Suspect, Suspects, finding_at};
use crate::table_report::FindingClass;
use crate::table_run::TableRun;
use crate::tally::Outcome;
use crate::target_pass::target_pass;
use crate::tasks::{Stopped, compute, failures};

/// Interval at which what was read is made durable. Less often where that takes long: a tenth of the time is
/// enough for it.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(2);

impl TableRun {
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
        let rests_on = self.rests_on().await.map_err(nothing)?;
        if let Some(sharing) = &self.options.sharing {
            self.rest_on(rests_on);
            return lead(self, sharing, rows_estimate).await;
        }
        if !self.options.exports.is_empty() {
            let export = export_pass::open(self, &self.options.exports).await.map_err(nothing)?;
            // Once a run.
            let _ = self.export.set(export);
        }
        let Kept { ledger, begun } =
            keep::open(self, rows_estimate).await.map_err(|e| nothing(e.to_string()))?;
        self.speak_as_of(begun, begun.as_of);
        self.rest_on(rests_on);
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
        let rows =
            format!("{} of {} rows were compared", self.tally.compared(), self.progress().rows_expected());
        let failures = failures([
            ("not every row was read", source),
            ("not every item was read", target),
            ("rows and items were read and not all compared", compared),
            ("not every mismatch was read again", recheck),
        ]);
        if !failures.is_empty() {
            let kept = if ledger.is_kept() {
                "; the part that was read is kept, and the same command goes on from there"
            } else {
                ""
            };
            return Err(format!("{}; {rows}{kept}", failures.join("; ")));
        }
        // Compared to the end: what is kept would only make the next run older.
        let forgotten = compute(move || ledger.forget()).await;
        forgotten.map_err(|error| self.spool(error).to_string())?;
        self.check_stores().await
    }

    /// Compares what a sample chooses.
    async fn compare_sample(self: &Arc<Self>, chosen: Sample) -> Result<(), String> {
        let now = self
            .reader
            .ask(|| self.reader.source.clock())
            .await
            .map_err(|e| format!("nothing was compared: {e}"))?;
        self.speak_as_of(Begun { as_of: now, pass: None, number: self.number }, now);
        let (sender, queue) = mpsc::channel(BATCH);
        let sampling = async {
            let suspects = Suspects(sender);
            sample(self, chosen, &suspects).await
        };
        let (sampled, recheck) = tokio::join!(sampling, recheck(self, queue));
        match (sampled, recheck) {
            (Err(Stopped::RecheckEnded) | Ok(()), Err(e)) => {
                Err(format!("not everything that was chosen was read: {e}"))
            }
            (Err(e), _) => Err(format!("the sample could not be drawn: {e}")),
            (Ok(()), Ok(())) => self.check_stores().await,
        }
    }

    /// Counts what an earlier part of this run had read.
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
            // Without it the run only loses what it could have resumed from; the passes notice a full disk by
            // themselves.
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
        let items = async {
            match self.export.get() {
                Some(export) => export_pass(self, ledger, export).await,
                None => target_pass(self, ledger).await,
            }
        };
        let both = async { tokio::join!(source_pass(self, ledger), items) };
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
    async fn compare_ledger(
        self: &Arc<Self>,
        ledger: &Arc<Ledger>,
        suspects: &Suspects,
    ) -> Result<(), Stopped> {
        self.decide_asides(ledger, suspects).await?;
        self.tally.count_buckets(ledger.buckets() as u64, 0);
        // Both passes are at their end, and this is called once.
        let _ = self.digests.set(ledger.digests());
        for partition in 0..ledger.partitions() {
            let of_partition = Arc::clone(ledger);
            let compared = compute(move || of_partition.compare(partition)).await;
            self.raise(compared.map_err(|error| self.spool(error))?, suspects).await?;
        }
        Ok(())
    }

    /// Counts what the two sides of a partition are to each other, and raises what does not match.
    pub(crate) async fn raise(&self, difference: Difference, suspects: &Suspects) -> Result<(), Stopped> {
        self.tally.count_compared(difference.equal, difference.expired);
        self.tally.count_buckets(0, difference.buckets_differing);
        let subject = |name: &Vec<u8>| Subject::from_name(name).ok_or_else(|| self.garbled());
        let of_row = |name: &Vec<u8>| -> Result<Suspect, Stopped> {
            let other = difference.twins.get(name).map(subject).transpose()?;
            let shares_place_with = other.map(|other| other.shown());
            Ok(Suspect { shares_place_with, ..Suspect::of_row(subject(name)?) })
        };
        let of_item = |name: &Vec<u8>| subject(name).map(Suspect::of_item);
        suspects.raise(difference.rows.iter().map(of_row).collect::<Result<_, Stopped>>()?).await?;
        suspects.raise(difference.items.iter().map(of_item).collect::<Result<_, Stopped>>()?).await
    }

    /// Looks at what has no place in a bucket, one after the other: a whole table may be of that kind.
    async fn decide_asides(
        self: &Arc<Self>,
        ledger: &Arc<Ledger>,
        suspects: &Suspects,
    ) -> Result<(), Stopped> {
        for side in [Side::Source, Side::Target] {
            let (sender, mut asides) = mpsc::channel(BATCH);
            let ledger = Arc::clone(ledger);
            // Not on rayon's threads: it waits for the recheck, which needs them.
            let reading = tokio::task::spawn_blocking(move || {
                // The receiver may be gone; then the rest is of no use.
                ledger.asides(side, |name| drop(sender.blocking_send(name)))
            });
            while let Some(name) = asides.recv().await {
                self.decide_aside(side, &name, suspects).await?;
            }
            let read = reading.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            read.map_err(|error| self.spool(error))?;
        }
        Ok(())
    }

    /// Looks at one of what a pass set aside.
    pub(crate) async fn decide_aside(
        &self,
        side: Side,
        name: &[u8],
        suspects: &Suspects,
    ) -> Result<(), Stopped> {
        let found = match Aside::from_name(name).ok_or_else(|| self.garbled())? {
            Aside::Unholdable(primary_key) => {
                return suspects.raise(vec![Suspect::of_row(Subject::Row { primary_key })]).await;
            }
            Aside::Nameless(column) => finding_at(None, FindingClass::Undecodable, vec![column]),
            Aside::Foreign(place) => {
                finding_at(place.map(TargetKey::from).as_ref(), FindingClass::Foreign, Vec::new())
            }
        };
        self.record(Outcome::Found(found), side == Side::Source);
        Ok(())
    }

    /// Checks that comparing makes sense, counts, and returns about how many rows there are.
    async fn open(&self) -> Result<i64, String> {
        self.check_stores().await?;
        let (reader, binding) = (&self.reader, &self.binding);
        let described = reader.ask(|| reader.source.describe(binding)).await.map_err(|e| e.to_string())?;
        let counted = reader
            .ask(|| reader.source.count(binding, &self.options.window))
            .await
            .map_err(|e| e.to_string())?;
        self.tally.count_source(counted.unsigned_abs());
        self.progress().rows_expected.store(counted.unsigned_abs(), Ordering::Relaxed);
        Ok(described.rows_estimate.max(counted))
    }
}
