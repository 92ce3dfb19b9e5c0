//! The source pass: every row is read once and entered into the ledger.
//!
//! It reads the rows there were when it began, each as it is when its chunk is read. What is inserted behind its back, or
//! changed after it came by, is pending then (I1), and so it is the relay's to deliver and nothing is overlooked.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::Utc;
use lockstep_core::source::{CopyChunk, KeyBound, RangeRead};
use tokio::task::JoinSet;

use crate::ledger::{Entry, Ledger, Side, Standing};
use crate::suspect::{Subject, Suspect, Suspects, place_of};
use crate::table_run::TableRun;
use crate::tasks::{Stopped, compute, join};

/// Pieces a worker gets on average: enough that the last ones end together.
const PIECES_PER_WORKER: usize = 4;
/// A chunk aims at no more bytes than this, so that rows of hundreds of kilobytes do not fill the memory.
const CHUNK_BYTES: usize = 4 << 20;

/// The ranges that no worker has taken yet.
type Ranges = Mutex<VecDeque<RangeRead>>;

/// Reads every row of the table. Rows that the target cannot hold have no place in the ledger and become suspects at once.
pub(crate) async fn source_pass(
    run: &Arc<TableRun>,
    ledger: &Arc<Ledger>,
    suspects: Suspects,
    rows_estimate: i64,
) -> Result<(), Stopped> {
    let pieces = run.options.parallel.max(1) * PIECES_PER_WORKER;
    let sample = || run.reader.source.sample_bounds(&run.binding, pieces, rows_estimate);
    let bounds = run.reader.ask(sample).await?;
    let mut after = None;
    let ranges = bounds.into_iter().map(|until| RangeRead {
        after: after.replace(until.clone()),
        until: Some(until),
        rows_max: run.options.chunk_rows.max(1),
        window: run.options.window.clone(),
    });
    let ranges = Arc::new(Ranges::new(ranges.collect()));
    let mut workers = JoinSet::new();
    for _ in 0..run.options.parallel.max(1) {
        workers.spawn(work(Arc::clone(run), Arc::clone(ledger), Arc::clone(&ranges), suspects.clone()));
    }
    join(workers).await
}

async fn work(run: Arc<TableRun>, ledger: Arc<Ledger>, ranges: Arc<Ranges>, suspects: Suspects) -> Result<(), Stopped> {
    let next = || ranges.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    while let Some(mut range) = next() {
        loop {
            let chunk = run.reader.chunk(&run.binding, &range).await?;
            let bytes = chunk.bytes();
            let read = {
                let (run, ledger) = (Arc::clone(&run), Arc::clone(&ledger));
                compute(move || enter(&run, &ledger, &chunk)).await?
            };
            for column in read.nameless {
                // Without a key there is nothing to look up again, and no dead letter could name it either.
                run.settle_nameless(column);
            }
            suspects.raise(read.unholdable).await?;
            let Some(last) = read.last else { break };
            run.progress().source_rows.fetch_add(read.rows as u64, Ordering::Relaxed);
            if read.rows < range.rows_max {
                break;
            }
            range.rows_max = (CHUNK_BYTES * read.rows / bytes.max(1)).clamp(1, run.options.chunk_rows.max(1));
            range.after = Some(last.map_err(Stopped::Border)?);
        }
    }
    Ok(())
}

/// What became of a chunk.
#[derive(Default)]
struct Read {
    rows: usize,
    /// The key of the last row.
    last: Option<Result<KeyBound, lockstep_core::Unholdable>>,
    unholdable: Vec<Suspect>,
    /// Columns because of which a row has no key that could be named.
    nameless: Vec<String>,
}

fn enter(run: &TableRun, ledger: &Ledger, chunk: &CopyChunk) -> Result<Read, Stopped> {
    let now_s = Utc::now().timestamp();
    let binding = &run.binding;
    let mut printer = ledger.printer();
    let mut entries = Vec::with_capacity(run.options.chunk_rows);
    let (mut read, mut last) = (Read::default(), None);
    let mut judgement = run.judge.begin();
    for tuple in chunk.tuples() {
        (read.rows, last) = (read.rows + 1, Some(tuple));
        match run.judge.encode(binding, tuple, &mut judgement) {
            Ok((item, key, expires_at_s)) => entries.push(Entry {
                print: printer.print(item.iter().map(|(name, value)| (*name, value))),
                standing: if expires_at_s.is_some_and(|at_s| at_s <= now_s) { Standing::Expired } else { Standing::Live },
                name: Subject::Key { key, place: place_of(&item) }.to_name(),
            }),
            Err(reason) => match binding.bound_of(tuple) {
                Ok(primary_key) => read.unholdable.push(Suspect { subject: Subject::Row { primary_key }, of_row: true }),
                Err(_) => read.nameless.push(reason.column),
            },
        }
    }
    ledger.enter(Side::Source, &entries).map_err(Stopped::spool)?;
    run.judge.add(Side::Source, judgement);
    read.last = last.map(|tuple| binding.bound_of(tuple));
    Ok(read)
}
