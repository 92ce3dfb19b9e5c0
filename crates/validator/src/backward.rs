//! The backward pass: every item of the target is looked for in the source.
//!
//! Whether an item says the same as its row is the forward pass's business. Here it is only asked whether it has one, so
//! keys are all that is read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lockstep_core::source::{KeyState, TableBinding, Window};
use lockstep_core::{
    AttributeValue, Attributes, DELETED_ATTRIBUTE, PK, SK, TargetKey, VERSION_ATTRIBUTE, is_tombstone, parse_fixed_width,
    version_of,
};
use tokio::task::JoinSet;

use crate::report::FindingClass;
use crate::suspect::{Found, Subject, Suspect, Suspects, finding_at, place_of};
use crate::table_run::TableRun;
use crate::tally::Outcome;
use crate::tasks::{Stopped, compute, join};

/// Looks at every item of the table.
pub(crate) async fn backward(run: &Arc<TableRun>, suspects: Suspects) -> Result<(), Stopped> {
    let next_segment = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..run.options.parallel.max(1) {
        workers.spawn(work(Arc::clone(run), Arc::clone(&next_segment), suspects.clone()));
    }
    join(workers).await
}

async fn work(run: Arc<TableRun>, next_segment: Arc<AtomicUsize>, suspects: Suspects) -> Result<(), Stopped> {
    let segments = run.options.scan_segments.max(1);
    let attributes = attributes_of(&run.binding, &run.options.window);
    loop {
        let segment = next_segment.fetch_add(1, Ordering::Relaxed);
        if segment >= segments {
            return Ok(());
        }
        let mut start = None;
        loop {
            let table = &run.binding.target_name;
            let page = run.reader.page(table, (segment, segments), start.as_ref(), &attributes).await?;
            look_at(&run, page.items, &suspects).await?;
            let Some(next) = page.next else { break };
            start = Some(next);
        }
    }
}

/// The attributes that tell an item's key, its standing and its day.
fn attributes_of(binding: &TableBinding, window: &Window) -> Vec<&'static str> {
    let mut names = vec![PK, SK, VERSION_ATTRIBUTE, DELETED_ATTRIBUTE];
    names.extend(binding.table.key_columns().iter().map(|column| column.name));
    names.extend(binding.table.day_column().filter(|_| !window.is_whole()));
    // DynamoDB refuses a projection that names an attribute twice.
    names.sort_unstable();
    names.dedup();
    names
}

async fn look_at(run: &TableRun, items: Vec<Attributes>, suspects: &Suspects) -> Result<(), Stopped> {
    run.progress().target_items.fetch_add(items.len() as u64, Ordering::Relaxed);
    let (binding, window) = (run.binding.clone(), run.options.window.clone());
    let sorted = compute(move || sort(&binding, &window, items)).await;
    run.tally.count_target(sorted.live, sorted.tombstones);
    for found in sorted.found {
        run.settle(Outcome::Found(found), false);
    }
    let states = run.reader.look_up(&run.binding, &sorted.keys).await?;
    let binding = run.binding.clone();
    let without_row = compute(move || without_row(&binding, sorted.keys, sorted.places, &states)).await;
    suspects.raise(without_row).await
}

/// The items of a page, sorted by what they are.
#[derive(Default)]
struct Sorted {
    live: u64,
    tombstones: u64,
    /// Source keys of the live items, and beside them where the items are.
    keys: Vec<Vec<String>>,
    places: Vec<TargetKey>,
    found: Vec<Found>,
}

fn sort(binding: &TableBinding, window: &Window, items: Vec<Attributes>) -> Sorted {
    let mut sorted = Sorted::default();
    for item in &items {
        let place = TargetKey::of(item);
        let Some(place) = place.filter(|_| version_of(item).is_some()) else {
            sorted.live += 1;
            sorted.found.push(finding_at(TargetKey::of(item).as_ref(), FindingClass::Foreign, Vec::new()));
            continue;
        };
        if is_tombstone(item) {
            sorted.tombstones += 1;
            continue;
        }
        if !is_within(window, binding.table.day_column(), item) {
            continue;
        }
        sorted.live += 1;
        match binding.table.key_of_item(item) {
            Ok(key) => {
                sorted.keys.push(key);
                sorted.places.push(place);
            }
            Err(reason) => {
                sorted.found.push(finding_at(Some(&place), FindingClass::Undecodable, vec![reason.column]));
            }
        }
    }
    sorted
}

/// Whether an item's day is in the window. An item whose day cannot be read is: better looked at than overlooked.
fn is_within(window: &Window, day_column: Option<&str>, item: &Attributes) -> bool {
    let Some(AttributeValue::S(text)) = day_column.and_then(|column| item.get(column)) else { return true };
    let Ok(at) = parse_fixed_width(text) else { return true };
    window.start.is_none_or(|start| at >= start) && window.end.is_none_or(|end| at < end)
}

/// The items that no row owns: there is none of that key, or its item belongs elsewhere, as after a change of write shards.
fn without_row(binding: &TableBinding, keys: Vec<Vec<String>>, places: Vec<TargetKey>, states: &[KeyState]) -> Vec<Suspect> {
    let owns = |state: &KeyState, place: &TargetKey| {
        let encoded = state.with_fields(|fields| binding.table.encode(fields));
        match encoded {
            None => false,
            // Not to be held by the target: the forward pass has met it.
            Some(Err(_)) => true,
            Some(Ok(item)) => place_of(&item) == *place,
        }
    };
    let suspects = keys.into_iter().zip(places).zip(states).filter(|((_, place), state)| !owns(state, place));
    suspects.map(|((key, place), _)| Suspect { subject: Subject::Key { key, place }, of_row: false }).collect()
}
