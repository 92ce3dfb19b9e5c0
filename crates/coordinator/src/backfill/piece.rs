//! Rest of a range to read, chunk by chunk: in the order of keys, or of blocks.

use lockstep_core::Window;
use lockstep_postgres::{BlockRead, HeldRange, KeyBound, RangeRead};

/// Rows of the first chunk, before their size is known.
const ROWS_FIRST: usize = 500;
/// Bounds of the adapted number of rows: one request at least, and no statement that runs for long.
const ROWS_MIN: usize = 25;
const ROWS_MAX: usize = 20_000;

/// Factor by which the next chunk may have more blocks. 1. The blocks of a chunk are empty. 2. Each row of
/// the next has 300 KB, stored apart: a block of these is some 30 MB. So what is not known yet is read in
/// small steps.
const BLOCKS_GROWTH: i64 = 4;
/// Bytes of a block, as nearly every server has them.
const BLOCK_BYTES: usize = 8192;
/// A chunk of blocks without rows goes through this many times the bytes of one with rows.
const EMPTY_CHUNKS: usize = 8;

/// Rest of a range to read.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    /// Range of keys.
    Keys(RangeRead),
    /// Range of blocks.
    Blocks {
        /// The next chunk.
        next: BlockRead,
        /// The first block after the range.
        end: i64,
    },
}

/// A chunk that was read, as far as the next one depends on it.
pub(super) struct Chunk {
    pub(super) rows: usize,
    pub(super) bytes: usize,
    pub(super) last_key: Option<KeyBound>,
}

impl Piece {
    /// Makes the piece from the watermark of a range to its end.
    pub(super) fn of(held: &HeldRange, window: &Window) -> Self {
        let Some(left) = held.blocks_left(window) else {
            return Self::Keys(RangeRead {
                after: held.range.watermark.clone().or_else(|| held.range.lower.clone()),
                until: held.range.upper.clone(),
                rows_max: ROWS_FIRST,
                window: window.clone(),
                bytes_expected: 0,
            });
        };
        let end = left.until;
        Self::Blocks { next: BlockRead { until: end.min(left.from + 1), ..left }, end }
    }

    /// Goes on behind a chunk. Says what the watermark is once everything up to it is finished, and whether
    /// that was the last one.
    pub(super) fn go_on(&mut self, chunk: Chunk, chunk_bytes: usize) -> (Option<KeyBound>, bool) {
        match self {
            Self::Keys(read) => {
                let at_end = chunk.rows < read.rows_max;
                read.rows_max = rows_for(chunk_bytes, chunk.bytes, chunk.rows);
                read.expect_like(chunk.bytes, chunk.rows);
                read.after = chunk.last_key.clone().or_else(|| read.after.take());
                (chunk.last_key, at_end)
            }
            Self::Blocks { next, end } => {
                let blocks = (next.until - next.from).max(1);
                let more = blocks_for(chunk_bytes, chunk.bytes, blocks);
                next.from = next.until;
                next.until = (*end).min(next.from + more);
                next.bytes_expected = expected(chunk.bytes, next.until - next.from, blocks);
                (Some(next.watermark()), next.from >= *end)
            }
        }
    }
}

/// Returns how many rows make a chunk of about `target` bytes, judged by the one before.
fn rows_for(target: usize, bytes: usize, rows: usize) -> usize {
    let per_row = bytes / rows.max(1);
    (target / per_row.max(1)).clamp(ROWS_MIN, ROWS_MAX)
}

/// Returns the same in blocks.
fn blocks_for(target: usize, bytes: usize, blocks: i64) -> i64 {
    let per_block = bytes / usize::try_from(blocks).unwrap_or(1).max(1);
    let wanted = (target / per_block.max(1)).min(EMPTY_CHUNKS * target / BLOCK_BYTES);
    i64::try_from(wanted).unwrap_or(1).clamp(1, blocks * BLOCKS_GROWTH)
}

fn expected(bytes: usize, blocks: i64, of_blocks: i64) -> usize {
    let bytes = bytes as f64 * blocks.max(0) as f64 / of_blocks as f64;
    (bytes * 1.0625) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: usize = 256 * 1024;

    #[test]
    fn chunks_are_sized_by_bytes() {
        assert_eq!(rows_for(512 * 1024, 600 * 500, 500), 873);
        assert_eq!(rows_for(512 * 1024, 300_000 * 10, 10), ROWS_MIN);
        assert_eq!(rows_for(512 * 1024, 500, 500), ROWS_MAX);
        assert_eq!(rows_for(512 * 1024, 0, 0), ROWS_MAX);
    }

    #[test]
    fn chunks_of_blocks_grow_in_steps_and_are_one_block_at_least() {
        assert_eq!(blocks_for(CHUNK, 8_000, 1), 4, "not more than four times as many");
        assert_eq!(blocks_for(CHUNK, 8_000 * 16, 16), 32);
        assert_eq!(blocks_for(CHUNK, 30_000_000, 64), 1, "rows whose bytes are stored apart");
        assert_eq!(blocks_for(CHUNK, 0, 200), 256, "without rows");
        assert_eq!(blocks_for(1, 0, 1), 1);
    }

    #[test]
    fn each_block_of_a_range_is_in_exactly_one_chunk() {
        for (from, end) in [(0, 1), (0, 1_000), (37, 38), (90, 515), (70, 70)] {
            let next = BlockRead {
                from,
                until: end.min(from + 1),
                file: String::new(),
                window: Window::default(),
                bytes_expected: 0,
            };
            let (mut piece, mut read_up_to, mut bytes) = (Piece::Blocks { next, end }, from, 0);
            loop {
                let Piece::Blocks { next, .. } = &piece else { panic!("of blocks") };
                assert_eq!(next.from, read_up_to, "without a gap");
                assert!(next.until <= end && (next.until > next.from || from == end), "{next:?}");
                read_up_to = next.until;
                bytes = (bytes * 7 + 5_000) % 90_000;
                let chunk = Chunk { rows: bytes / 100, bytes, last_key: None };
                let (mark, at_end) = piece.go_on(chunk, CHUNK);
                assert_eq!(mark, Some(vec![read_up_to.to_string()]));
                if at_end {
                    break;
                }
            }
            assert_eq!(read_up_to, end);
        }
    }
}
