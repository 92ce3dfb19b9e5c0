//! The leader: has the table read by workers, holds against each other what they hand over, and settles what
//! does not match.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use lockstep_postgres::{AnswerPart, AnswerPlace, ComparisonPiece, SharedComparison};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::coverage::{Stage, are_read, stage};
use super::helping::work;
use super::lease::by_chance;
use super::portion::{PART_BUCKETS, set};
use super::terms::Terms;
use super::{LOOK_EVERY, PieceCounted, Wish};
use crate::evidence::Digests;
use crate::ledger::{BUCKETS_PER_PARTITION, Begun, Counted, Difference, Entry, Join, Layout, Side, Sums};
use crate::options::Sharing;
use crate::recheck::{BATCH, recheck};
use crate::source_pass;
use crate::suspect::Suspects;
use crate::table_run::TableRun;
use crate::tasks::Stopped;

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
        // What became of its own part shows in the whole.
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
    let failures = [
        led.err().map(|e| ("not everything was read and compared", e)),
        recheck.err().map(|e| ("not every mismatch was read again", e)),
    ];
    // The recheck says itself why it ended; that its feeders then stopped adds nothing.
    let failures = failures.into_iter().flatten().filter(|(_, e)| !matches!(e, Stopped::RecheckEnded));
    let failures: Vec<String> = failures.map(|(what, e)| format!("{what}: {e}")).collect();
    if !failures.is_empty() {
        return Err(failures.join("; "));
    }
    run.check_source().await
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

/// Where the leader asks and collects.
struct Desk {
    run: Arc<TableRun>,
    comparison: SharedComparison,
    layout: Layout,
    ask: i32,
}

/// Answers that are the whole table.
struct Whole {
    workers: Vec<i64>,
    pieces: Vec<ComparisonPiece>,
}

impl Desk {
    async fn begin(run: &Arc<TableRun>, sharing: &Sharing, rows_estimate: i64) -> Result<Self, Stopped> {
        let (reader, name) = (&run.reader, run.binding.name());
        let now = reader.ask(|| reader.source.clock()).await?;
        run.speak_as_of(Begun { as_of: now, pass: run.options.pass }, now);
        let layout = Layout::new(rows_estimate, run.options.memory_bytes, run.options.digest_seed);
        let terms = Terms::of(run, layout).await?;
        let bounds: Vec<_> = source_pass::pieces(run, rows_estimate)
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
            sharers: 0,
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
                    "a comparison of {name} by several processes is under way, led by {}: wait for it, help it, or \
                     compare in one process beside it",
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
        let aside = self.count(&whole)?;
        let _ = self.run.digests.set(Digests::of(self.layout.seed, &rows, &items));
        if aside > 0 {
            self.settle_asides(&suspects).await?;
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

    /// Partitions in groups of about so many wanted entries as are handed over at once.
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
        Ok(())
    }

    async fn settle_asides(&mut self, suspects: &Suspects) -> Result<(), Stopped> {
        let whole = self.gather(Wish::Asides, &[]).await?;
        for side in [Side::Source, Side::Target] {
            let mut parts = self.parts(&whole, side, self.layout.partitions);
            while let Some(part) = parts.next().await? {
                for entry in self.entries(&part.body)? {
                    self.run.settle_aside(side, &entry.name, suspects).await?;
                }
            }
        }
        Ok(())
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

    /// Asks every worker, as often as it takes until the answers are the whole table.
    async fn gather(&mut self, wish: Wish, wanted: &[u8]) -> Result<Whole, Stopped> {
        loop {
            self.until_read().await?;
            self.ask += 1;
            let (reader, ask) = (&self.run.reader, self.ask);
            let source = &reader.source;
            let comparison = self.comparison.run;
            // Asked twice, it would say that it was not the first.
            if !source.ask_workers(comparison, ask, wish.label(), wanted).await? {
                return Err(Stopped::GivenUp);
            }
            loop {
                // Answers first: those of before are of no newer pieces.
                let answers = reader.ask(|| source.answered(comparison, ask)).await?;
                let pieces = reader.ask(|| source.comparison_pieces(comparison)).await?;
                match stage(&pieces, &answers) {
                    Stage::Whole(workers) => return Ok(Whole { workers, pieces }),
                    Stage::Answering => tokio::time::sleep(LOOK_EVERY).await,
                    Stage::Reading | Stage::Stale => break,
                }
            }
        }
    }

    /// Waits until each piece is read.
    async fn until_read(&self) -> Result<(), Stopped> {
        let reader = &self.run.reader;
        loop {
            let pieces = reader.ask(|| reader.source.comparison_pieces(self.comparison.run)).await?;
            if pieces.is_empty() {
                return Err(Stopped::GivenUp);
            }
            self.show(&pieces);
            if are_read(&pieces) {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn show(&self, pieces: &[ComparisonPiece]) {
        let of_side = |side: Side| -> u64 {
            let done = pieces.iter().filter(|piece| piece.side == side.label());
            let counted = done.map(|piece| serde_json::from_value(piece.counted.clone()).unwrap_or_default());
            counted.map(|counted: Counted| counted.read).sum()
        };
        let progress = self.run.progress();
        progress.source_rows.store(of_side(Side::Source), Ordering::Relaxed);
        progress.target_items.store(of_side(Side::Target), Ordering::Relaxed);
    }

    fn parts<'a>(&'a self, whole: &'a Whole, side: Side, part: usize) -> Parts<'a> {
        let part = i32::try_from(part).unwrap_or(i32::MAX);
        let at = AnswerPlace { run: self.comparison.run, ask: self.ask, side: side.label(), part };
        Parts { run: &self.run, at, workers: &whole.workers, after: (0, -1) }
    }
}

/// What the workers of a whole answer handed over at one place, part by part.
struct Parts<'a> {
    run: &'a TableRun,
    at: AnswerPlace,
    workers: &'a [i64],
    after: (i64, i32),
}

impl Parts<'_> {
    async fn next(&mut self) -> Result<Option<AnswerPart>, Stopped> {
        let reader = &self.run.reader;
        let next = reader.ask(|| reader.source.next_answer_part(self.at, self.workers, self.after)).await?;
        if let Some(part) = &next {
            self.after = (part.worker, part.number);
        }
        Ok(next)
    }
}
