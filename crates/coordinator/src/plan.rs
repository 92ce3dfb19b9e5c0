//! The plan, decided without any I/O: how a table is cut into ranges, and how the initial load gets into the
//! target.

use lockstep_dynamo::LoadPath;
use lockstep_postgres::{Heap, KeyBound};

use crate::options::{LoadPathChoice, RangesChoice};

/// Rows that lie in the order of their keys to less than this are read by blocks. At 0 each row of a chunk is
/// in another block; a table to which rows are added in the order of their keys has nearly 1.
const CORRELATION_LOW: f64 = 0.5;

/// A block with more bytes than this, with what is stored apart for it, is too large to be read at once. A
/// chunk of blocks has whole ones, and in memory it is several times as large.
const BLOCK_BYTES_MAX: i64 = 512 * 1024;

/// A piece of a table: keys after the first bound, up to and including the second.
pub type Range = (Option<KeyBound>, Option<KeyBound>);

/// Cuts a table at `bounds`, which are sorted and without duplicates; the last is its greatest key.
///
/// Every key up to the last bound is in exactly one range. Keys after it appeared after the plan was made, so
/// capture has them (I1): a backfill of a table that grows for ever ends all the same.
pub fn split(bounds: &[KeyBound]) -> Vec<Range> {
    let lowers = std::iter::once(None).chain(bounds.iter().cloned().map(Some));
    lowers.zip(bounds.iter().cloned().map(Some)).collect()
}

/// Tells whether a table is better read by blocks: its rows lie in another order than their keys, and there
/// are more blocks than the server keeps, so that by keys a block would be read from the disk for each of its
/// rows.
///
/// `again`: its blocks were read, and it was rewritten meanwhile. Then by keys, or else a table that is
/// rewritten every night and takes longer than a day never comes to an end.
pub(crate) fn by_blocks(choice: RangesChoice, heap: &Heap, again: bool) -> bool {
    match choice {
        RangesChoice::Key => false,
        RangesChoice::Blocks => true,
        RangesChoice::Auto => {
            let disordered = heap.correlation.is_some_and(|correlation| correlation < CORRELATION_LOW);
            let fits = heap.block_bytes <= BLOCK_BYTES_MAX;
            !again && disordered && heap.exceeds_memory && fits && heap.unreadable.is_none()
        }
    }
}

/// Cuts a file into pieces of about equal size: each block is in exactly one.
///
/// Blocks that come later are in none. The plan is made after capture began, so what lies in them was written
/// under capture (I1), and a backfill of a table that grows for ever ends all the same.
pub(crate) fn split_blocks(blocks: i64, pieces: usize) -> Vec<(i64, i64)> {
    let pieces = i64::try_from(pieces).unwrap_or(i64::MAX).clamp(1, blocks.max(1));
    let cut = |piece: i64| (i128::from(blocks) * i128::from(piece) / i128::from(pieces)) as i64;
    (0..pieces).map(|piece| (cut(piece), cut(piece + 1))).filter(|(from, until)| from < until).collect()
}

/// Returns the load path. Each yields to whatever is in the target already, so that a process that was
/// stopped in the middle and wakes hours later, with requests that it signs then, overwrites nothing.
pub fn load_path(choice: LoadPathChoice, has_partiql: bool) -> LoadPath {
    if choice == LoadPathChoice::Cold {
        tracing::warn!(
            "load path `cold` is no more: it was no faster, and not safe from a process that slept; loading guarded"
        );
    }
    if has_partiql { LoadPath::GuardedBatch } else { LoadPath::ConditionalPut }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn holds(range: &Range, key: i64) -> bool {
        let number = |bound: &KeyBound| bound[0].parse::<i64>().expect("a number");
        range.0.as_ref().is_none_or(|lower| key > number(lower))
            && range.1.as_ref().is_none_or(|upper| key <= number(upper))
    }

    proptest! {
        #[test]
        fn every_key_up_to_the_last_bound_is_in_exactly_one_range(
            bounds in proptest::collection::btree_set(-500_i64..500, 1..40),
            keys in proptest::collection::vec(-600_i64..600, 1..200),
        ) {
            let last = *bounds.last().expect("not empty");
            let bounds: Vec<KeyBound> = bounds.iter().map(|b| vec![b.to_string()]).collect();
            let ranges = split(&bounds);
            prop_assert_eq!(ranges.len(), bounds.len());
            for key in keys {
                let expected = usize::from(key <= last);
                prop_assert_eq!(ranges.iter().filter(|range| holds(range, key)).count(), expected, "key {}", key);
            }
        }
    }

    #[test]
    fn an_empty_table_has_no_ranges() {
        assert!(split(&[]).is_empty() && split_blocks(0, 64).is_empty());
    }

    proptest! {
        #[test]
        fn every_block_is_in_exactly_one_range(blocks in 0_i64..=(1 << 32), pieces in 1_usize..2_000) {
            let ranges = split_blocks(blocks, pieces);
            let mut next = 0;
            for (from, until) in &ranges {
                prop_assert!(*from == next && until > from);
                next = *until;
            }
            prop_assert_eq!(next, blocks);
            prop_assert_eq!(ranges.len() as i64, blocks.min(pieces as i64));
        }
    }

    #[test]
    fn a_large_table_in_disorder_is_read_by_blocks_until_it_is_rewritten() {
        use RangesChoice::{Auto, Blocks, Key};
        let heap = |correlation, exceeds_memory| Heap {
            file: Some("7/1/2/3".to_owned()),
            blocks: 9,
            unreadable: None,
            exceeds_memory,
            block_bytes: 8192,
            correlation,
        };
        let wild = heap(Some(0.01), true);
        assert!(by_blocks(Auto, &wild, false) && by_blocks(Blocks, &wild, true));
        assert!(!by_blocks(Auto, &wild, true) && !by_blocks(Key, &wild, false));
        for by_key in [heap(Some(0.99), true), heap(Some(0.01), false), heap(None, true)] {
            assert!(!by_blocks(Auto, &by_key, false) && by_blocks(Blocks, &by_key, false), "{by_key:?}");
        }
        let parted = Heap { unreadable: Some("it has partitions".to_owned()), ..wild.clone() };
        let vast = Heap { block_bytes: 30 << 20, ..wild };
        assert!(!by_blocks(Auto, &parted, false) && !by_blocks(Auto, &vast, false));
    }

    #[test]
    fn every_load_path_yields_to_what_is_there() {
        use LoadPathChoice::{Auto, Cold, Guarded};
        for choice in [Auto, Guarded, Cold] {
            assert_eq!(load_path(choice, true), LoadPath::GuardedBatch);
            assert_eq!(load_path(choice, false), LoadPath::ConditionalPut);
        }
    }
}
