//! The target pass: every item is read once and entered into the ledger.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lockstep_core::source::Window;
use lockstep_core::{AttributeValue, Attributes, TargetKey, is_tombstone, parse_fixed_width, version_of};
use tokio::task::JoinSet;

use crate::ledger::{Entry, Ledger, Side, Standing};
use crate::report::FindingClass;
use crate::suspect::{Found, Subject, finding_at};
use crate::table_run::TableRun;
use crate::tally::Outcome;
use crate::tasks::{Stopped, compute, join};

/// Reads every item of the table. Items that Lockstep did not write are findings at once.
pub(crate) async fn target_pass(run: &Arc<TableRun>, ledger: &Arc<Ledger>) -> Result<(), Stopped> {
    let next_segment = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..run.options.parallel.max(1) {
        workers.spawn(work(Arc::clone(run), Arc::clone(ledger), Arc::clone(&next_segment)));
    }
    join(workers).await
}

async fn work(run: Arc<TableRun>, ledger: Arc<Ledger>, next_segment: Arc<AtomicUsize>) -> Result<(), Stopped> {
    let segments = run.options.scan_segments.max(1);
    loop {
        let segment = next_segment.fetch_add(1, Ordering::Relaxed);
        if segment >= segments {
            return Ok(());
        }
        let mut start = None;
        loop {
            let page = run.reader.page(&run.binding.target_name, (segment, segments), start.as_ref()).await?;
            run.progress().target_items.fetch_add(page.items.len() as u64, Ordering::Relaxed);
            let read = {
                let (run, ledger) = (Arc::clone(&run), Arc::clone(&ledger));
                compute(move || enter(&run, &ledger, &page.items)).await?
            };
            run.tally.count_target(read.live, read.tombstones);
            for found in read.foreign {
                run.settle(Outcome::Found(found), false);
            }
            let Some(next) = page.next else { break };
            start = Some(next);
        }
    }
}

/// What became of a page.
#[derive(Default)]
struct Read {
    live: u64,
    tombstones: u64,
    foreign: Vec<Found>,
}

fn enter(run: &TableRun, ledger: &Ledger, items: &[Attributes]) -> Result<Read, Stopped> {
    let mut printer = ledger.printer();
    let mut entries = Vec::with_capacity(items.len());
    let mut read = Read::default();
    let mut judgement = run.judge.begin();
    for item in items {
        let place = TargetKey::of(item);
        let Some(place) = place.filter(|_| version_of(item).is_some()) else {
            read.live += 1;
            read.foreign.push(finding_at(TargetKey::of(item).as_ref(), FindingClass::Foreign, Vec::new()));
            continue;
        };
        let standing = if is_tombstone(item) { Standing::Tombstone } else { Standing::Live };
        match standing {
            Standing::Tombstone => read.tombstones += 1,
            _ if !is_within(&run.options.window, run.binding.table.day_column(), item) => continue,
            _ => {
                read.live += 1;
                run.judge.item(&run.binding, item, &mut judgement);
            }
        }
        let print = printer.print(item.iter().map(|(name, value)| (name.as_str(), value)));
        entries.push(Entry { print, standing, name: Subject::Item { place }.to_name() });
    }
    ledger.enter(Side::Target, &entries).map_err(Stopped::spool)?;
    run.judge.add(Side::Target, judgement);
    Ok(read)
}

/// Whether an item's day is in the window. An item whose day cannot be read is: better looked at than overlooked.
fn is_within(window: &Window, day_column: Option<&str>, item: &Attributes) -> bool {
    let Some(AttributeValue::S(text)) = day_column.and_then(|column| item.get(column)) else { return true };
    let Ok(at) = parse_fixed_width(text) else { return true };
    window.start.is_none_or(|start| at >= start) && window.end.is_none_or(|end| at < end)
}
