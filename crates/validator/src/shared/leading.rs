//! The leader: has the table read by workers, holds against each other what they hand over, and decides what
//! does not match.

use std::sync::Arc;
use std::time::Instant;

use lockstep_postgres::SharedComparison;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::gathering::{Desk, Whole};
use super::helping::work;
use super::lease::by_chance;
use super::portion::{PART_BUCKETS, set};
use super::terms::Terms;
use super::{LOOK_EVERY, PieceCounted, Wish};
use crate::evidence::Digests;
use crate::ledger::{BUCKETS_PER_PARTITION, Begun, Difference, Entry, Join, Layout, Side, Sums};
use crate::options::Sharing;
use crate::recheck::{BATCH, recheck};
use crate::source_pass;
use crate::suspect::Suspects;
use crate::table_run::TableRun;
use crate::tasks::{Stopped, failures};

/// About how many entries are wanted at once: some thirty megabytes in the source, until they are joined.
const ENTRIES_AT_ONCE: u64 = 200_000;

/// Leads a comparison of a table of about `rows_estimate` rows to its end; an error says what was not
/// compared.
pub(crate) async fn lead(run: &Arc<TableRun>, sharing: &Sharing, rows_estimate: i64) -> Result<(), String> {
    let desk = Desk::begin(run, sharing, rows_estimate).await;
    let desk = desk.map_err(|e| format!("nothing was compared: {e}"))?;
    let (comparison, source) = (desk.comparison.run, &run.reader.source);
    let (sender, queue) = mpsc::channel(BATCH);
    let leading = async {
        let (of, stop) = (desk.comparison.clone(), CancellationToken::new());
        let working = work(run, &of, sharing, &stop);
        tokio::pin!(working);
        // The queue of suspects ends when this does.
        let leading = desk.lead(Suspects(sender));
        let led = tokio::select! {
            led = leading => led,
            ended = &mut working => return Err(ended.err().unwrap_or(Stopped::GivenUp)),
            lost = keep(run, comparison, sharing) => Err(lost),
        };
        stop.cancel();
        // The result of its own part shows in the whole.
        let _ = working.await;
        led
    };
    let leading = async {
        let led = leading.await;
        if let Err(error) = source.end_shared_comparison(comparison).await {
            tracing::debug!("a comparison is left to end by its lease: {error}");
        }
        led
    };
    let (led, recheck) = tokio::join!(leading, recheck(run, queue));
    let failures = failures([
        ("not everything was read and compared", led),
        ("not every mismatch was read again", recheck),
    ]);
    if !failures.is_empty() {
        return Err(failures.join("; "));
    }
    run.check_stores().await
}

/// Renews the leader's lease until it is lost.
async fn keep(run: &TableRun, comparison: i64, sharing: &Sharing) -> Stopped {
    loop {
        tokio::time::sleep(sharing.lease / 4).await;
        match run.reader.source.renew_shared_comparison(comparison, sharing.lease).await {
            Ok(true) => {}
            Ok(false) => return Stopped::GivenUp,
            Err(error) => tracing::debug!("the lease of a comparison was not renewed: {error}"),
        }
    }
}

impl Desk {
    async fn begin(run: &Arc<TableRun>, sharing: &Sharing, rows_estimate: i64) -> Result<Self, Stopped> {
        let (reader, name) = (&run.reader, run.binding.name());
        let now = reader.ask(|| reader.source.clock()).await?;
        run.speak_as_of(Begun { as_of: now, pass: run.options.pass, number: run.number }, now);
        let layout = Layout::new(rows_estimate, run.options.settings.memory_bytes, run.options.digest_seed);
        let terms = Terms::of(run, layout).await?;
        // Enough for many workers; one of a few rows takes longer to be claimed than to be read.
        let pieces = usize::try_from(rows_estimate / 5_000).unwrap_or(0).clamp(32, 512);
        let bounds: Vec<_> = source_pass::pieces(run, rows_estimate, pieces)
            .await?
            .into_iter()
            .map(|piece| (piece.after, piece.until))
            .collect();
        let comparison = SharedComparison {
            table_name: name.to_owned(),
            run: by_chance(),
            name: sharing.name.clone(),
            terms: serde_json::to_value(&terms).map_err(|_| run.garbled())?,
            ask: 0,
            asked: String::new(),
            wanted: Vec::new(),
        };
        // One that was killed has its lease for a while.
        let begun = Instant::now();
        let patience = 2 * sharing.lease;
        loop {
            let source = &reader.source;
            if source.begin_shared_comparison(&comparison, sharing.lease, &bounds, terms.segments).await? {
                return Ok(Self { run: Arc::clone(run), comparison, layout, ask: 0 });
            }
            if begun.elapsed() > patience {
                let leader = reader.source.shared_comparison(name).await?.map(|other| other.name);
                return Err(Stopped::Unfit(format!(
                    "a comparison of {name} by several processes is under way, led by {}: wait for it, \
                     help it, or compare in one process beside it",
                    leader.unwrap_or_else(|| "another process".to_owned())
                )));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn lead(mut self, suspects: Suspects) -> Result<(), Stopped> {
        let whole = self.gather(Wish::Sums, &[]).await?;
        let (mut rows, mut items) = (Sums::none(self.layout.partitions), Sums::none(self.layout.partitions));
        for (side, sums) in [(Side::Source, &mut rows), (Side::Target, &mut items)] {
            let mut parts = self.parts(&whole, side, 0);
            while let Some(part) = parts.next().await? {
                let first = usize::try_from(part.number).unwrap_or(usize::MAX).saturating_mul(PART_BUCKETS);
                sums.merge(first, &part.body).ok_or_else(|| self.run.garbled())?;
            }
        }
        self.require_read(&whole)?;
        let aside = self.count(&whole)?;
        let _ = self.run.digests.set(Digests::of(self.layout.seed, &rows, &items));
        if aside > 0 {
            self.decide_asides(&suspects).await?;
        }
        self.run.tally.count_buckets(rows.len() as u64, 0);
        for partitions in self.groups(&rows, &items) {
            self.compare(partitions, (&rows, &items), &suspects).await?;
        }
        Ok(())
    }

    /// Counts what the pieces had; returns how much of it has no place in a bucket.
    fn count(&self, whole: &Whole) -> Result<u64, Stopped> {
        let (mut aside, tally) = (0, &self.run.tally);
        for piece in &whole.pieces {
            let counted: PieceCounted =
                serde_json::from_value(piece.counted.clone()).map_err(|_| self.run.garbled())?;
            aside += counted.counted.aside;
            if piece.side == Side::Target.label() {
                tally.count_target(counted.counted.live, counted.counted.tombstones);
                tally.count_read_units(counted.read_units);
            }
        }
        Ok(aside)
    }

    /// Partitions in groups, each of about as many wanted entries as are handed over at once.
    fn groups(&self, rows: &Sums, items: &Sums) -> Vec<std::ops::Range<usize>> {
        let wanted = |partition: usize| -> u64 {
            let first = partition * BUCKETS_PER_PARTITION;
            let buckets = first..first + BUCKETS_PER_PARTITION;
            let differing = buckets.filter(|bucket| !rows.is_equal(items, *bucket));
            differing.map(|bucket| rows.count(bucket) + items.count(bucket)).sum()
        };
        let (mut groups, mut first, mut entries) = (Vec::new(), 0, 0);
        for partition in 0..self.layout.partitions {
            let more = wanted(partition);
            if partition > first && entries + more > ENTRIES_AT_ONCE {
                groups.push(first..partition);
                (first, entries) = (partition, 0);
            }
            entries += more;
        }
        groups.push(first..self.layout.partitions);
        groups
    }

    /// Holds rows and items of these partitions against each other.
    async fn compare(
        &mut self,
        partitions: std::ops::Range<usize>,
        (rows, items): (&Sums, &Sums),
        suspects: &Suspects,
    ) -> Result<(), Stopped> {
        let (mut wanted, mut is_any) = (vec![0; rows.len() / 8], false);
        let of_partition =
            |partition: usize| partition * BUCKETS_PER_PARTITION..(partition + 1) * BUCKETS_PER_PARTITION;
        for bucket in partitions.clone().flat_map(of_partition) {
            if !rows.is_equal(items, bucket) {
                set(&mut wanted, bucket);
                is_any = true;
            }
        }
        let whole = if is_any { Some(self.gather(Wish::Entries, &wanted).await?) } else { None };
        for partition in partitions {
            let mut difference = Difference::default();
            for bucket in of_partition(partition) {
                match rows.is_equal(items, bucket) {
                    true => difference.equal += rows.count(bucket),
                    false => difference.buckets_differing += 1,
                }
            }
            let mut join = Join::from(difference);
            // Where none of its buckets is wanted, nothing was handed over.
            if let Some(whole) = &whole {
                self.each_entry(whole, Side::Target, partition, |item| join.item(item)).await?;
                self.each_entry(whole, Side::Source, partition, |row| join.row(row)).await?;
            }
            self.run.raise(join.end(), suspects).await?;
        }
        whole.as_ref().map_or(Ok(()), |whole| self.require_read(whole))
    }

    async fn decide_asides(&mut self, suspects: &Suspects) -> Result<(), Stopped> {
        let whole = self.gather(Wish::Asides, &[]).await?;
        for side in [Side::Source, Side::Target] {
            let mut parts = self.parts(&whole, side, self.layout.partitions);
            while let Some(part) = parts.next().await? {
                for entry in self.entries(&part.body)? {
                    self.run.decide_aside(side, &entry.name, suspects).await?;
                }
            }
        }
        self.require_read(&whole)
    }

    fn require_read(&self, whole: &Whole) -> Result<(), Stopped> {
        if whole.is_read() { Ok(()) } else { Err(self.run.garbled()) }
    }

    async fn each_entry(
        &self,
        whole: &Whole,
        side: Side,
        partition: usize,
        mut each: impl FnMut(Entry),
    ) -> Result<(), Stopped> {
        let mut parts = self.parts(whole, side, partition);
        while let Some(part) = parts.next().await? {
            self.entries(&part.body)?.into_iter().for_each(&mut each);
        }
        Ok(())
    }

    fn entries(&self, body: &[u8]) -> Result<Vec<Entry>, Stopped> {
        let (mut from, mut entries) = (body, Vec::new());
        while !from.is_empty() {
            let left = from.len() as u64;
            entries.push(Entry::read(&mut from, left).map_err(|error| self.run.spool(error))?);
        }
        Ok(entries)
    }
}
