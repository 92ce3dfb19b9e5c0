//! The source pass: every row is read once and entered into the ledger.
//!
//! It reads the rows there were when it began, each as it is when its chunk is read. A row that is inserted
//! behind its back, or changed after it came by, is pending then (I1), and so it is the relay's to deliver
//! and nothing is overlooked.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use lockstep_postgres::{CopyChunk, RangeRead};
use tokio::task::JoinSet;

use crate::ledger::{Batch, Counted, Entry, Ledger, Piece, Side, Standing};
use crate::suspect::{Aside, name_of_row};
use crate::table_run::TableRun;
use crate::tasks::{Stopped, compute, join};

/// Pieces of a table: enough that the last ones end together, whatever the number of workers.
pub(crate) const PIECES: usize = 32;

/// The pieces that no worker has taken yet, by their numbers.
type Pieces = Mutex<VecDeque<(usize, Piece)>>;

/// Cuts the table into about a number of pieces, which together are all rows there are now.
pub(crate) async fn pieces(
    run: &TableRun,
    rows_estimate: i64,
    number: usize,
) -> lockstep_core::Result<Vec<Piece>> {
    let reader = &run.reader;
    let bounds = reader.ask(|| reader.source.sample_bounds(&run.binding, number, rows_estimate)).await?;
    let mut after = None;
    let piece =
        |until: Vec<String>| Piece { after: after.replace(until.clone()), until: Some(until), done: false };
    Ok(bounds.into_iter().map(piece).collect())
}

/// Reads every row that is left of the pieces. Rows that the target cannot hold have no place in a bucket and
/// are set aside.
pub(crate) async fn source_pass(run: &Arc<TableRun>, ledger: &Arc<Ledger>) -> Result<(), Stopped> {
    let pieces = Arc::new(Pieces::new(ledger.pass(Side::Source).left().into()));
    let mut workers = JoinSet::new();
    for _ in 0..run.options.settings.parallel.max(1) {
        workers.spawn(work(Arc::clone(run), Arc::clone(ledger), Arc::clone(&pieces)));
    }
    join(workers).await
}

async fn work(run: Arc<TableRun>, ledger: Arc<Ledger>, pieces: Arc<Pieces>) -> Result<(), Stopped> {
    let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    // Kept from piece to piece.
    let mut bytes_expected = 0;
    while let Some((number, piece)) = next() {
        read_piece(&run, &ledger, number, piece, &mut bytes_expected).await?;
    }
    Ok(())
}

/// Reads what is left of a piece, and says what that was. `bytes_expected` is of the next chunk, as far as it
/// is known from the ones before.
pub(crate) async fn read_piece(
    run: &Arc<TableRun>,
    ledger: &Arc<Ledger>,
    number: usize,
    piece: Piece,
    bytes_expected: &mut usize,
) -> Result<Counted, Stopped> {
    let (rows_max, chunk_bytes) =
        (run.options.settings.chunk_rows.max(1), run.options.settings.chunk_bytes());
    let (after, until, window) = (piece.after, piece.until, run.options.window.clone());
    let mut range = RangeRead { after, until, rows_max, window, bytes_expected: *bytes_expected };
    let mut all = Counted::default();
    loop {
        let chunk = run.reader.chunk(&run.binding, &range).await?;
        let bytes = chunk.bytes();
        let (counted, after) = {
            let (run, ledger, rows_max) = (Arc::clone(run), Arc::clone(ledger), range.rows_max);
            compute(move || enter(&run, &ledger, &chunk, number, rows_max)).await?
        };
        all += counted;
        run.progress().source_rows.fetch_add(counted.read, Ordering::Relaxed);
        if after.is_none() {
            return Ok(all);
        }
        let rows = counted.read as usize;
        range.rows_max = (chunk_bytes * rows / bytes.max(1)).clamp(1, rows_max);
        range.expect_like(bytes, rows);
        *bytes_expected = range.bytes_expected;
        range.after = after;
    }
}

/// Enters a chunk of a piece. Returns what it had, and the key of the last row if there may be more.
fn enter(
    run: &TableRun,
    ledger: &Ledger,
    chunk: &CopyChunk,
    piece: usize,
    rows_max: usize,
) -> Result<(Counted, Option<Vec<String>>), Stopped> {
    let now_s = run.reader.source.now_at_least().timestamp();
    let binding = &run.binding;
    let mut printer = ledger.printer();
    let mut batch =
        Batch { piece, entries: Vec::with_capacity(run.options.settings.chunk_rows), ..Batch::default() };
    let (mut rows, mut last) = (0, None);
    let mut judgement = run.judge.begin();
    for tuple in chunk.tuples() {
        (rows, last) = (rows + 1, Some(tuple));
        match run.judge.encode(binding, tuple, &mut judgement) {
            Ok((item, key, expires_at_s)) => batch.entries.push(Entry {
                print: printer.print(item.iter().map(|(name, value)| (*name, value.into()))),
                standing: if expires_at_s.is_some_and(|at_s| at_s <= now_s) {
                    Standing::Expired
                } else {
                    Standing::Live
                },
                name: name_of_row(&key, &item),
            }),
            Err(reason) => batch.aside.push(match binding.bound_of(tuple) {
                Ok(primary_key) => Aside::Unholdable(primary_key).to_name(),
                // Without a key there is nothing to look up again, and no dead letter could name it either.
                Err(_) => Aside::Nameless(reason.column).to_name(),
            }),
        }
    }
    let (read, aside) = (rows as u64, batch.aside.len() as u64);
    batch.counted = Counted { read, live: read, tombstones: 0, aside };
    batch.after = match last.filter(|_| rows == rows_max) {
        Some(tuple) => Some(binding.bound_of(tuple).map_err(Stopped::Border)?),
        None => None,
    };
    let (counted, after) = (batch.counted, batch.after.clone());
    ledger.enter(Side::Source, batch).map_err(|error| run.spool(error))?;
    run.judge.add(Side::Source, judgement);
    Ok((counted, after))
}
