//! The target pass: every item is read once and entered into the ledger.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{TryFutureExt, try_join};
use lockstep_core::{Attribute, Attributes, ItemView, PK, SK, TargetKey, Window, parse_fixed_width};
use lockstep_dynamo::{PageEnd, ScanBody, is_mark};
use tokio::task::JoinSet;

use crate::ledger::{Batch, Counted, Cursor, Entry, Ledger, Piece, Side, Standing};
use crate::suspect::{Aside, Subject, name_of_item};
use crate::table_run::TableRun;
use crate::tasks::{Stopped, compute, join};

/// The segments that no worker has taken yet, by their numbers.
type Pieces = Mutex<VecDeque<(usize, Piece)>>;

/// Returns one piece a segment of the scan.
pub(crate) fn pieces(segments: usize) -> Vec<Piece> {
    vec![Piece::default(); segments.max(1)]
}

/// Reads every item that is left of the segments. Items that Lockstep did not write are set aside.
pub(crate) async fn target_pass(run: &Arc<TableRun>, ledger: &Arc<Ledger>) -> Result<(), Stopped> {
    let pass = ledger.pass(Side::Target);
    let segments = pass.pieces.len();
    let pieces = Arc::new(Pieces::new(pass.left().into()));
    let mut workers = JoinSet::new();
    for _ in 0..run.options.settings.parallel.max(1) {
        workers.spawn(work(Arc::clone(run), Arc::clone(ledger), Arc::clone(&pieces), segments));
    }
    join(workers).await
}

async fn work(
    run: Arc<TableRun>,
    ledger: Arc<Ledger>,
    pieces: Arc<Pieces>,
    segments: usize,
) -> Result<(), Stopped> {
    let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    while let Some((segment, piece)) = next() {
        read_segment(&run, &ledger, (segment, segments), piece).await?;
    }
    Ok(())
}

/// Result of reading a segment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SegmentRead {
    pub(crate) counted: Counted,
    /// Read units that it took.
    pub(crate) units: f64,
}

/// Reads what is left of one of all segments.
pub(crate) async fn read_segment(
    run: &Arc<TableRun>,
    ledger: &Arc<Ledger>,
    segment: (usize, usize),
    piece: Piece,
) -> Result<SegmentRead, Stopped> {
    // Workers without a segment leave the processors idle: then the target reads the next page while one is
    // entered here.
    let looks_ahead = segment.1 < run.options.settings.parallel;
    let page = async |start: Option<&Attributes>| run.reader.body(&run.binding, segment, start).await;
    let mut all = SegmentRead::default();
    let mut asked = Some(page(piece.after.as_ref().and_then(start_of).as_ref()).await?);
    while let Some(body) = asked.take() {
        let ahead = if looks_ahead { Some(body.end()?) } else { None };
        // Before the next page is asked for.
        if let Some(end) = &ahead {
            run.reader.pay(&run.binding, end);
        }
        let entered = {
            let (run, ledger) = (Arc::clone(run), Arc::clone(ledger));
            compute(move || enter(&run, &ledger, &body, segment.0))
        };
        let entered = match ahead.as_ref().and_then(|end| end.next.as_ref()) {
            Some(start) => {
                let (entered, body) = try_join!(entered, page(Some(start)).map_err(Stopped::from))?;
                asked = Some(body);
                entered
            }
            None => entered.await?,
        };
        all.units += entered.end.capacity_units;
        all.counted += entered.counted;
        run.tally.count_read_units(entered.end.capacity_units);
        run.tally.count_target(entered.counted.live, entered.counted.tombstones);
        run.progress().target_items.fetch_add(entered.counted.read, Ordering::Relaxed);
        if ahead.is_none() {
            run.reader.pay(&run.binding, &entered.end);
            if let Some(start) = &entered.end.next {
                asked = Some(page(Some(start)).await?);
            }
        }
    }
    Ok(all)
}

/// Returns the position at which a page begins, as the ledger keeps it: the key of a table's scan is that of
/// its items.
fn cursor_of(start: &Attributes) -> Option<Cursor> {
    let place = TargetKey::of(start)?;
    String::from_utf8(Subject::Item { place }.to_name()).ok().map(|name| vec![name])
}

fn start_of(cursor: &Cursor) -> Option<Attributes> {
    match Subject::from_name(cursor.first()?.as_bytes())? {
        Subject::Item { place } => Some(place.to_attributes()),
        Subject::Key { .. } | Subject::Row { .. } => None,
    }
}

/// Counts of a page.
pub(crate) struct Entered {
    pub(crate) counted: Counted,
    end: PageEnd,
}

/// Enters a page of a segment: its items are read from its bytes, and each is looked at where it is.
fn enter(run: &TableRun, ledger: &Ledger, body: &ScanBody, piece: usize) -> Result<Entered, Stopped> {
    enter_up_to(run, ledger, body, piece, |end| match &end.next {
        // Without it a resumed run would count some items twice.
        Some(next) => Ok(Some(cursor_of(next).ok_or(Stopped::Cursor)?)),
        None => Ok(None),
    })
}

/// Enters a page of a piece, which was read up to `after` with it.
pub(crate) fn enter_up_to(
    run: &TableRun,
    ledger: &Ledger,
    body: &ScanBody,
    piece: usize,
    after: impl FnOnce(&PageEnd) -> Result<Option<Cursor>, Stopped>,
) -> Result<Entered, Stopped> {
    let mut printer = ledger.printer();
    let mut batch = Batch { piece, ..Batch::default() };
    let mut judgement = run.judge.begin();
    let end = body.read(|item| {
        batch.counted.read += 1;
        if is_mark(item) {
            return;
        }
        let partition = item.attribute(PK).filter(|_| item.version().is_some());
        let Some(partition) = partition else {
            batch.counted.live += 1;
            batch.aside.push(Aside::Foreign(item.place().as_ref().map(Into::into)).to_name());
            return;
        };
        let standing = if item.is_tombstone() { Standing::Tombstone } else { Standing::Live };
        match standing {
            Standing::Tombstone => batch.counted.tombstones += 1,
            _ if !is_within(&run.options.window, run.binding.table.day_attribute(), item) => return,
            _ => {
                batch.counted.live += 1;
                run.judge.item(&run.binding, item, &mut judgement);
            }
        }
        let name = name_of_item(partition, item.attribute(SK));
        batch.entries.push(Entry { print: printer.print(item.iter()), standing, name });
    })?;
    batch.after = after(&end)?;
    batch.counted.aside = batch.aside.len() as u64;
    let counted = batch.counted;
    ledger.enter(Side::Target, batch).map_err(|error| run.spool(error))?;
    run.judge.add(Side::Target, judgement);
    Ok(Entered { counted, end })
}

/// Tells whether an item's day is in the window. An item whose day cannot be read is: better looked at than
/// overlooked.
pub(crate) fn is_within(window: &Window, day: Option<&str>, item: &dyn ItemView) -> bool {
    if window.is_whole() {
        return true;
    }
    let Some(Attribute::S(text)) = day.and_then(|day| item.attribute(day)) else { return true };
    let Ok(at) = parse_fixed_width(text) else { return true };
    window.start.is_none_or(|start| at >= start) && window.end.is_none_or(|end| at < end)
}
