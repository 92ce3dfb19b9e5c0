//! Asking the workers of a comparison, and collecting what they hand over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lockstep_postgres::{AnswerPart, AnswerPlace, ComparisonPiece, SharedComparison};

use super::coverage::{Stage, are_read, stage};
use super::{LOOK_EVERY, Wish};
use crate::ledger::{Counted, Layout, Side};
use crate::table_run::TableRun;
use crate::tasks::Stopped;

/// Desk at which the leader asks and collects.
pub(super) struct Desk {
    pub(super) run: Arc<TableRun>,
    pub(super) comparison: SharedComparison,
    pub(super) layout: Layout,
    pub(super) ask: i32,
}

/// Answers that are the whole table.
pub(super) struct Whole {
    workers: Vec<i64>,
    /// Parts that the answers have, and those that were read.
    parts: u64,
    read: AtomicU64,
    pub(super) pieces: Vec<ComparisonPiece>,
}

impl Desk {
    /// Asks every worker, as often as it takes until the answers are the whole table.
    pub(super) async fn gather(&mut self, wish: Wish, wanted: &[u8]) -> Result<Whole, Stopped> {
        loop {
            self.until_read().await?;
            self.ask += 1;
            let (reader, ask) = (&self.run.reader, self.ask);
            let source = &reader.source;
            let comparison = self.comparison.run;
            if !reader.ask(|| source.ask_workers(comparison, ask, wish.label(), wanted)).await? {
                return Err(Stopped::GivenUp);
            }
            loop {
                // Answers first: those of before are of no newer pieces.
                let answers = reader.ask(|| source.answered(comparison, ask)).await?;
                let pieces = reader.ask(|| source.comparison_pieces(comparison)).await?;
                match stage(&pieces, &answers) {
                    Stage::Whole(taken) => {
                        let parts = taken.iter().map(|answer| answer.parts.unsigned_abs()).sum();
                        let workers = taken.into_iter().map(|answer| answer.worker).collect();
                        return Ok(Whole { workers, pieces, parts, read: AtomicU64::new(0) });
                    }
                    Stage::Answering => tokio::time::sleep(LOOK_EVERY).await,
                    Stage::Reading | Stage::Stale => break,
                }
            }
        }
    }

    /// Waits until each piece is read.
    async fn until_read(&self) -> Result<(), Stopped> {
        let reader = &self.run.reader;
        loop {
            let pieces = reader.ask(|| reader.source.comparison_pieces(self.comparison.run)).await?;
            if pieces.is_empty() {
                return Err(Stopped::GivenUp);
            }
            self.show(&pieces);
            if are_read(&pieces) {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn show(&self, pieces: &[ComparisonPiece]) {
        let of_side = |side: Side| -> u64 {
            let done = pieces.iter().filter(|piece| piece.side == side.label());
            let counted = done.map(|piece| serde_json::from_value(piece.counted.clone()).unwrap_or_default());
            counted.map(|counted: Counted| counted.read).sum()
        };
        let progress = self.run.progress();
        progress.source_rows.store(of_side(Side::Source), Ordering::Relaxed);
        progress.target_items.store(of_side(Side::Target), Ordering::Relaxed);
    }

    pub(super) fn parts<'a>(&'a self, whole: &'a Whole, side: Side, part: usize) -> Parts<'a> {
        let part = i32::try_from(part).unwrap_or(i32::MAX);
        let at = AnswerPlace { run: self.comparison.run, ask: self.ask, side: side.label(), part };
        Parts { run: &self.run, at, whole, after: (0, -1) }
    }
}

impl Whole {
    /// Tells whether every part was read that the workers have handed over: of entries that are on neither
    /// side, none is missed.
    pub(super) fn is_read(&self) -> bool {
        self.read.load(Ordering::Relaxed) == self.parts
    }
}

/// Parts that the workers of a whole answer handed over at one place, one by one.
pub(super) struct Parts<'a> {
    run: &'a TableRun,
    at: AnswerPlace,
    whole: &'a Whole,
    after: (i64, i32),
}

impl Parts<'_> {
    pub(super) async fn next(&mut self) -> Result<Option<AnswerPart>, Stopped> {
        let reader = &self.run.reader;
        let workers = &self.whole.workers;
        let next = reader.ask(|| reader.source.next_answer_part(self.at, workers, self.after)).await?;
        if let Some(part) = &next {
            self.whole.read.fetch_add(1, Ordering::Relaxed);
            self.after = (part.worker, part.number);
        }
        Ok(next)
    }
}
