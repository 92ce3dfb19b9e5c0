//! The contiguous watermark of one range (I4): it never passes a chunk that is not settled, in whatever order
//! they settle.

use std::collections::VecDeque;

use lockstep_postgres::{KeyBound, RangeProgress};

/// Chunks of one range that have been read and are not yet behind the watermark, in the order of their keys.
#[derive(Debug, Default)]
pub(crate) struct Watermark {
    open: VecDeque<Chunk>,
    first: u64,
}

#[derive(Debug)]
struct Chunk {
    last_key: Option<KeyBound>,
    settled: Option<RangeProgress>,
}

/// Distance that a watermark has moved.
#[derive(Debug, PartialEq)]
pub(crate) struct Advance {
    /// The new watermark; `None` when the chunks passed were empty.
    pub(crate) key: Option<KeyBound>,
    /// Sum of the chunks passed.
    pub(crate) progress: RangeProgress,
}

impl Watermark {
    /// Notes that a chunk ending in `last_key` has been read, and gives it a number.
    pub(crate) fn read(&mut self, last_key: Option<KeyBound>) -> u64 {
        self.open.push_back(Chunk { last_key, settled: None });
        self.first + self.open.len() as u64 - 1
    }

    /// Notes that every row of a chunk is acknowledged or dead-lettered; says how far the watermark moves, if
    /// it moves.
    pub(crate) fn settle(&mut self, number: u64, progress: RangeProgress) -> Option<Advance> {
        let place = number
            .checked_sub(self.first)
            .expect("I4: a chunk behind the watermark was settled again") as usize;
        let chunk = self.open.get_mut(place).expect("I4: a chunk was settled that was never read");
        assert!(chunk.settled.replace(progress).is_none(), "I4: a chunk was settled twice");
        let mut advance = None;
        while self.open.front().is_some_and(|chunk| chunk.settled.is_some()) {
            let Some(chunk) = self.open.pop_front() else { break };
            self.first += 1;
            let sum = advance.get_or_insert(Advance { key: None, progress: RangeProgress::default() });
            sum.key = chunk.last_key.or_else(|| sum.key.take());
            sum.progress += chunk.settled.unwrap_or_default();
        }
        advance
    }

    /// Whether nothing is under way.
    pub(crate) fn is_settled(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn progress(rows: i64) -> RangeProgress {
        RangeProgress { rows_read: rows, ..RangeProgress::default() }
    }

    #[test]
    fn the_watermark_waits_for_the_slowest_chunk() {
        let mut watermark = Watermark::default();
        let numbers: Vec<u64> = (0..3).map(|n| watermark.read(Some(vec![n.to_string()]))).collect();
        assert_eq!(watermark.settle(numbers[2], progress(4)), None);
        assert_eq!(watermark.settle(numbers[1], progress(2)), None);
        let advance = watermark.settle(numbers[0], progress(1)).expect("moves");
        assert_eq!(advance, Advance { key: Some(vec!["2".into()]), progress: progress(7) });
        assert!(watermark.is_settled());
    }

    proptest! {
        #[test]
        fn in_any_order_it_moves_contiguously_and_loses_nothing(order in Just((0..20_usize).collect::<Vec<_>>()).prop_shuffle()) {
            let mut watermark = Watermark::default();
            let numbers: Vec<u64> = (0..20).map(|n| watermark.read(Some(vec![n.to_string()]))).collect();
            let (mut settled, mut total) = ([false; 20], 0);
            for place in order {
                settled[place] = true;
                if let Some(advance) = watermark.settle(numbers[place], progress(1)) {
                    let key: usize = advance.key.expect("chunks have keys")[0].parse().expect("number");
                    prop_assert!(settled[..=key].iter().all(|s| *s), "passed an unsettled chunk");
                    prop_assert!(settled.get(key + 1) != Some(&true), "stopped early");
                    total += advance.progress.rows_read;
                }
            }
            prop_assert_eq!(total, 20);
        }
    }
}
