//! A sample: some rows looked up in the target, some items looked up in the source.
//!
//! Rows are chosen by a hash of their primary key under the seed, and those with the smallest are taken:
//! every row has the same chance, wherever it is in the table and however dense its keys are, and the same
//! seed takes the same rows while they are there. It takes one pass over the primary key's index. Items are
//! chosen in two steps: segments of a scan cut the target into equal parts of its hash range, some of them
//! are drawn by the seed and read whole; of what they hold, the smallest by hash are taken. So every item has
//! the same chance as well, and a few pages are read and not the table.
//!
//! What was chosen goes to the recheck, as every suspect does: what it does not find equal, it reads until it
//! is decided.

use std::collections::{BinaryHeap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use lockstep_core::{Fields, TargetKey, is_tombstone, version_of};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::options::Sample;
use crate::suspect::{Subject, Suspect, Suspects, finding_at, place_of};
use crate::table_report::FindingClass;
use crate::table_run::TableRun;
use crate::tally::Outcome;
use crate::target_pass::is_within;
use crate::tasks::{Stopped, compute};

/// Segments that are drawn: more make the sample less lumpy, fewer make it cheaper.
const SEGMENTS_DRAWN: u64 = 32;
/// Most segments of a scan (DynamoDB Developer Guide, "Parallel scan").
const SEGMENTS_MAX: u64 = 1_000_000;

/// Raises the sampled rows and items as suspects.
pub(crate) async fn sample(run: &Arc<TableRun>, sample: Sample, suspects: &Suspects) -> Result<(), Stopped> {
    let places = rows(run, sample, suspects).await?;
    items(run, sample, &places, suspects).await
}

/// Raises the rows; returns where their items are, so that none of them is looked at twice.
async fn rows(run: &Arc<TableRun>, sample: Sample, suspects: &Suspects) -> Result<HashSet<Vec<u8>>, Stopped> {
    let (source, binding) = (&run.reader.source, &run.binding);
    let read = || source.sample_rows(binding, &run.options.window, sample.rows, sample.seed);
    let chunk = run.reader.ask(read).await?;
    let binding = binding.clone();
    let (chosen, nameless) = compute(move || {
        let (mut chosen, mut nameless) = (Vec::new(), Vec::new());
        for tuple in chunk.tuples() {
            match (binding.table.encode_keyed(&mut Fields::of_copy(tuple)), binding.bound_of(tuple)) {
                (Ok((item, key, _)), _) => chosen.push(Subject::Key { key, place: place_of(&item) }),
                (Err(_), Ok(primary_key)) => chosen.push(Subject::Row { primary_key }),
                (Err(reason), Err(_)) => nameless.push(reason.column),
            }
        }
        (chosen, nameless)
    })
    .await;
    run.tally.count_sampled((chosen.len() + nameless.len()) as u64, 0);
    run.progress().source_rows.fetch_add((chosen.len() + nameless.len()) as u64, Ordering::Relaxed);
    for column in nameless {
        run.record(Outcome::Found(finding_at(None, FindingClass::Undecodable, vec![column])), true);
    }
    let places = chosen.iter().filter_map(Subject::place).map(name_of).collect();
    suspects.raise(chosen.into_iter().map(Suspect::of_row).collect()).await?;
    Ok(places)
}

async fn items(
    run: &Arc<TableRun>,
    sample: Sample,
    seen: &HashSet<Vec<u8>>,
    suspects: &Suspects,
) -> Result<(), Stopped> {
    let (segments, drawn) = draw(run.progress().rows_expected(), sample, run.options.settings.scan_segments);
    // The greatest of the smallest is on top.
    let mut smallest: BinaryHeap<(u128, Vec<u8>)> = BinaryHeap::with_capacity(sample.rows + 1);
    for segment in drawn {
        let mut start = None;
        loop {
            let at = (segment as usize, segments as usize);
            let page = run.reader.page(&run.binding, at, start.as_ref()).await?;
            run.tally.count_read_units(page.capacity_units);
            run.progress().target_items.fetch_add(page.items.len() as u64, Ordering::Relaxed);
            for item in &page.items {
                let place = TargetKey::of(item);
                let Some(known) = place.as_ref().filter(|_| version_of(item).is_some()) else {
                    run.record(
                        Outcome::Found(finding_at(place.as_ref(), FindingClass::Foreign, Vec::new())),
                        false,
                    );
                    continue;
                };
                if is_tombstone(item)
                    || !is_within(&run.options.window, run.binding.table.day_attribute(), item)
                {
                    continue;
                }
                let name = name_of(known);
                smallest.push((hash(&name, sample.seed), name));
                if smallest.len() > sample.rows {
                    smallest.pop();
                }
            }
            start = page.next;
            if start.is_none() {
                break;
            }
        }
    }
    run.tally.count_sampled(0, smallest.len() as u64);
    let unseen = smallest.into_iter().filter(|(_, name)| !seen.contains(name));
    let subjects = unseen.filter_map(|(_, name)| Subject::from_name(&name));
    suspects.raise(subjects.map(Suspect::of_item).collect()).await
}

/// Into how many segments to cut, and which of them to read, for a target of about `items` items.
fn draw(items: u64, sample: Sample, scan_segments: usize) -> (u64, Vec<u64>) {
    let wanted = (sample.rows as u64).max(1);
    let per_segment = wanted.div_ceil(SEGMENTS_DRAWN);
    // An endpoint that is not to be scanned in segments is scanned whole.
    let segments = if scan_segments <= 1 { 1 } else { items.div_ceil(per_segment).clamp(1, SEGMENTS_MAX) };
    let mut by_hash: Vec<(u128, u64)> =
        (0..segments).map(|segment| (hash(&segment.to_le_bytes(), sample.seed), segment)).collect();
    by_hash.sort_unstable();
    // A few more than the average needs: segments are not equally full.
    let drawn = by_hash.into_iter().take(SEGMENTS_DRAWN as usize * 5 / 4).map(|(_, segment)| segment);
    (segments, drawn.collect())
}

fn name_of(place: &TargetKey) -> Vec<u8> {
    Subject::Item { place: place.clone() }.to_name()
}

fn hash(bytes: &[u8], seed: i64) -> u128 {
    xxh3_128_with_seed(bytes, seed.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_drawn_without_repetition_and_by_the_seed() {
        let of = |items, rows, seed, scan_segments| draw(items, Sample { rows, seed }, scan_segments);
        let (segments, drawn) = of(1_000_000, 1_000, 1, 8);
        assert_eq!((segments, drawn.len()), (31_250, 40));
        assert_eq!(drawn.iter().collect::<HashSet<_>>().len(), 40);
        assert_eq!(of(1_000_000, 1_000, 1, 8).1, drawn);
        assert_ne!(of(1_000_000, 1_000, 2, 8).1, drawn);
        // A table that is smaller than the sample is read whole, and so is one that must not be cut.
        assert_eq!(of(5, 1_000, 1, 8), (1, vec![0]));
        assert_eq!(of(1_000_000, 1_000, 1, 1), (1, vec![0]));
        assert_eq!(of(0, 10, 1, 8), (1, vec![0]));
    }

    #[test]
    fn every_segment_has_the_same_chance() {
        let mut times = vec![0_u32; 100];
        for seed in 0..2_000 {
            for segment in draw(3_200, Sample { rows: 1_024, seed }, 8).1 {
                times[segment as usize] += 1;
            }
        }
        // 40 of 100, 2,000 times: 800 each, give or take five standard deviations of 22.
        assert!(times.iter().all(|times| (690..910).contains(times)), "{times:?}");
    }
}
