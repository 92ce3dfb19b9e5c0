//! The forward pass: every source row is looked for in the target.
//!
//! It compares the rows there were when it began, each as it is when its chunk is read. What is inserted behind its back,
//! or changed after it came by, is pending then (I1), and so it is the relay's to deliver and nothing is overlooked.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::Utc;
use lockstep_core::source::{CopyChunk, KeyBound, RangeRead, TableBinding};
use lockstep_core::{Attributes, Fields, TargetKey};
use tokio::task::JoinSet;

use crate::diff::{Class, SourceRow, classify};
use crate::suspect::{Subject, Suspect, Suspects, place_of};
use crate::table_run::TableRun;
use crate::tasks::{Stopped, compute, join};

/// Pieces a worker gets on average: enough that the last ones end together.
const PIECES_PER_WORKER: usize = 4;
/// A chunk aims at no more bytes than this, so that rows of hundreds of kilobytes do not fill the memory.
const CHUNK_BYTES: usize = 4 << 20;

/// The ranges that no worker has taken yet.
type Ranges = Mutex<VecDeque<RangeRead>>;

/// Compares every row of the table.
pub(crate) async fn forward(run: &Arc<TableRun>, suspects: Suspects, rows_estimate: i64) -> Result<(), Stopped> {
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
        workers.spawn(work(Arc::clone(run), Arc::clone(&ranges), suspects.clone()));
    }
    join(workers).await
}

async fn work(run: Arc<TableRun>, ranges: Arc<Ranges>, suspects: Suspects) -> Result<(), Stopped> {
    let next = || ranges.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    while let Some(mut range) = next() {
        loop {
            let chunk = Arc::new(run.reader.chunk(&run.binding, &range).await?);
            let rows_max = range.rows_max;
            let Some((rows, last)) = compare_chunk(&run, chunk, &mut range, &suspects).await? else { break };
            if rows < rows_max {
                break;
            }
            range.after = Some(last.map_err(Stopped::Border)?);
        }
    }
    Ok(())
}

/// How many rows there were, and the key of the last one.
type Read = (usize, Result<KeyBound, lockstep_core::Unholdable>);

async fn compare_chunk(
    run: &TableRun,
    chunk: Arc<CopyChunk>,
    range: &mut RangeRead,
    suspects: &Suspects,
) -> Result<Option<Read>, Stopped> {
    let placed = {
        let (binding, chunk) = (run.binding.clone(), Arc::clone(&chunk));
        compute(move || place(&binding, &chunk)).await
    };
    let Some(last) = placed.last else { return Ok(None) };
    let rows = placed.places.len();
    run.progress().source_rows.fetch_add(rows as u64, Ordering::Relaxed);
    range.rows_max = (CHUNK_BYTES * rows / chunk.bytes().max(1)).clamp(1, run.options.chunk_rows.max(1));

    let places: Vec<TargetKey> = placed.places.iter().flatten().cloned().collect();
    let items = run.reader.items(&run.binding.target_name, &places).await?;
    let compared = {
        let binding = run.binding.clone();
        compute(move || compare(&binding, &chunk, placed.places, items)).await
    };
    run.tally.count_compared(compared.equal, compared.expired);
    for column in compared.nameless {
        // Without a key there is nothing to look up again, and no dead letter could name it either.
        run.settle_nameless(column);
    }
    suspects.raise(placed.unholdable).await?;
    suspects.raise(compared.suspects).await?;
    Ok(Some((rows, last)))
}

/// Where the rows of a chunk belong.
struct Placed {
    /// A place a row, in the order of the chunk; `None` for a row that the target cannot hold.
    places: Vec<Option<TargetKey>>,
    unholdable: Vec<Suspect>,
    last: Option<Result<KeyBound, lockstep_core::Unholdable>>,
}

fn place(binding: &TableBinding, chunk: &CopyChunk) -> Placed {
    let mut placed = Placed { places: Vec::new(), unholdable: Vec::new(), last: None };
    let mut last = None;
    for tuple in chunk.tuples() {
        last = Some(tuple);
        let place = binding.table.encode(&mut Fields::of_copy(tuple)).map(|item| place_of(&item));
        if let (Err(_), Ok(primary_key)) = (&place, binding.bound_of(tuple)) {
            placed.unholdable.push(Suspect { subject: Subject::Row { primary_key }, of_row: true });
        }
        placed.places.push(place.ok());
    }
    placed.last = last.map(|tuple| binding.bound_of(tuple));
    placed
}

/// What comparing a chunk came to.
#[derive(Default)]
struct Compared {
    equal: u64,
    expired: u64,
    suspects: Vec<Suspect>,
    /// Columns because of which a row has no key that could be named.
    nameless: Vec<String>,
}

fn compare(
    binding: &TableBinding,
    chunk: &CopyChunk,
    places: Vec<Option<TargetKey>>,
    items: Vec<Option<Attributes>>,
) -> Compared {
    let now_s = Utc::now().timestamp();
    let table = binding.table.as_ref();
    let mut compared = Compared::default();
    let mut items = items.into_iter();
    for (tuple, place) in chunk.tuples().zip(places) {
        let Some(place) = place else {
            compared.nameless.extend(binding.bound_of(tuple).err().map(|reason| reason.column));
            continue;
        };
        let item = items.next().expect("an item or its absence for every place");
        match classify(table, Some(SourceRow::Copied(tuple)), item.as_ref(), now_s) {
            Class::Equal => compared.equal += 1,
            Class::Expired => compared.expired += 1,
            _ => match table.key_of_row(&mut Fields::of_copy(tuple)) {
                Ok(key) => compared.suspects.push(Suspect { subject: Subject::Key { key, place }, of_row: true }),
                Err(reason) => compared.nameless.push(reason.column),
            },
        }
    }
    compared
}
