//! The contiguous watermark of one range (I4): it never passes a chunk that is not finished, in whatever
//! order they finish.

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
    finished: Option<RangeProgress>,
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
        self.open.push_back(Chunk { last_key, finished: None });
        self.first + self.open.len() as u64 - 1
    }

    /// Notes that every row of a chunk is acknowledged or dead-lettered; says how far the watermark moves, if
    /// it moves.
    pub(crate) fn finish(&mut self, number: u64, progress: RangeProgress) -> Option<Advance> {
        let index = number
            .checked_sub(self.first)
            .expect("I4: a chunk behind the watermark was finished again") as usize;
        let chunk = self.open.get_mut(index).expect("I4: a chunk was finished that was never read");
        assert!(chunk.finished.replace(progress).is_none(), "I4: a chunk was finished twice");
        let mut advance = None;
        while self.open.front().is_some_and(|chunk| chunk.finished.is_some()) {
            let Some(chunk) = self.open.pop_front() else { break };
            self.first += 1;
            let sum = advance.get_or_insert(Advance { key: None, progress: RangeProgress::default() });
            sum.key = chunk.last_key.or_else(|| sum.key.take());
            sum.progress += chunk.finished.unwrap_or_default();
        }
        advance
    }

    /// Tells whether nothing is under way.
    pub(crate) fn is_finished(&self) -> bool {
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
        assert_eq!(watermark.finish(numbers[2], progress(4)), None);
        assert_eq!(watermark.finish(numbers[1], progress(2)), None);
        let advance = watermark.finish(numbers[0], progress(1)).expect("moves");
        assert_eq!(advance, Advance { key: Some(vec!["2".into()]), progress: progress(7) });
        assert!(watermark.is_finished());
    }

    proptest! {
        #[test]
        fn in_any_order_it_moves_contiguously_and_loses_nothing(order in Just((0..20_usize).collect::<Vec<_>>()).prop_shuffle()) {
            let mut watermark = Watermark::default();
            let numbers: Vec<u64> = (0..20).map(|n| watermark.read(Some(vec![n.to_string()]))).collect();
            let (mut finished, mut total) = ([false; 20], 0);
            for index in order {
                finished[index] = true;
                if let Some(advance) = watermark.finish(numbers[index], progress(1)) {
                    let key: usize = advance.key.expect("chunks have keys")[0].parse().expect("number");
                    prop_assert!(finished[..=key].iter().all(|s| *s), "passed an unfinished chunk");
                    prop_assert!(finished.get(key + 1) != Some(&true), "stopped early");
                    total += advance.progress.rows_read;
                }
            }
            prop_assert_eq!(total, 20);
        }
    }
}
