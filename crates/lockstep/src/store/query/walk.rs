//! A query on its way: batch by batch from the store that is due then.

use std::sync::Arc;

use lockstep_core::{Epoch, Error, MigratableTable, Phase, Result};
use lockstep_dynamo::Backoff;

use super::Query;
use super::target_side::TargetReader;
use crate::phase::{Moment, PHASES_MAX, phase_kept_changing};
use crate::store::Store;
use crate::store::reads::{Asked, ReadFrom, ReadRoute, SourceCause};

/// A query that has come as far as `after`.
pub(super) struct Walk<T: MigratableTable> {
    pub(super) store: Store<T>,
    pub(super) query: Arc<Query<T>>,
    hash: u64,
    after: Option<T::Key>,
    reader: Option<ReadAhead<T>>,
    /// Reason why this walk left the target; it does not go back while the phase stays.
    fallen: Option<SourceCause>,
    /// Presence of a row before the next one, on this page or one before.
    begun: bool,
    counted: Option<ReadFrom>,
    /// The phase that the last batch was read in.
    pub(super) phase: Option<Phase>,
    pub(super) at_end: bool,
}

/// A reader with rows that it has read ahead, and what was so before it read them.
///
/// 1. In HybridRead a query of four partitions reads fifty rows of each, and answers fifty. 2. The handle
/// updates one of the others, and DynamoDB has it; or the truth moves to PostgreSQL and back. 3. Out of what
/// was read ahead the next batch would answer that row as it was.
struct ReadAhead<T: MigratableTable> {
    reader: TargetReader<T>,
    epoch: Epoch,
    at: Moment,
    /// Number of keys that this process had written.
    writes: u64,
}

impl<T: MigratableTable> Walk<T> {
    pub(super) fn new(store: Store<T>, query: Arc<Query<T>>, after: Option<T::Key>) -> Self {
        let (hash, begun) = (query.hash(), after.is_some());
        Self {
            store,
            query,
            hash,
            after,
            reader: None,
            fallen: None,
            begun,
            counted: None,
            phase: None,
            at_end: false,
        }
    }

    /// The next rows and who answered. Empty only at the end.
    ///
    /// Whatever happens, the next batch begins after the last row of this one: the position is all that is
    /// carried from one store to the other.
    pub(super) async fn batch(&mut self, rows_max: usize) -> Result<(Vec<T::Row>, ReadFrom)> {
        let mut control = self.store.shared.phase.current().await?;
        let mut phases_left = PHASES_MAX;
        loop {
            // Each batch asks again: a stream may be read for hours, through phases.
            let (phase, before) = (control.phase, self.after.clone());
            self.phase = Some(phase);
            let route = match (phase, self.fallen) {
                (Phase::HybridRead, Some(cause)) => ReadRoute::Source(cause),
                _ => self.store.shared.reads.route(phase, Asked::Query(self.hash)).await,
            };
            let (rows, from) = match route {
                ReadRoute::Source(cause) => {
                    self.reader = None;
                    (self.source_batch(rows_max).await?, ReadFrom::Source(cause))
                }
                ReadRoute::TargetOnly => {
                    let rows = self.target_batch(rows_max, control.epoch, Backoff::brief()).await?;
                    (rows, ReadFrom::Target)
                }
                ReadRoute::TargetThenSource(from) => {
                    match self.target_batch(rows_max, control.epoch, Backoff::none()).await {
                        Ok(rows) if rows.is_empty() && !self.begun => {
                            self.fall(SourceCause::Miss, None);
                            continue;
                        }
                        Ok(rows) => (rows, from),
                        Err(error) => {
                            self.fall(SourceCause::Error, Some(&error));
                            continue;
                        }
                    }
                }
            };
            // See `PhaseView::serve`: what came under an earlier phase is dropped, and read again from where
            // it began.
            let now = self.store.shared.phase.current().await?;
            if now.epoch != control.epoch {
                (control, self.after, self.reader, self.fallen, self.at_end) =
                    (now, before, None, None, false);
                phases_left = phases_left.checked_sub(1).ok_or_else(phase_kept_changing)?;
                continue;
            }
            if self.counted != Some(from) {
                self.store.shared.reads.count(from);
                self.counted = Some(from);
            }
            self.begun |= !rows.is_empty();
            if !rows.is_empty() || self.at_end {
                return Ok((rows, from));
            }
        }
    }

    fn fall(&mut self, cause: SourceCause, error: Option<&Error>) {
        if let Some(error) = error {
            tracing::debug!(table = T::NAME, query = self.query.name, kind = ?error.kind, "going on in PostgreSQL: {error}");
        }
        self.fallen = Some(cause);
        self.at_end = false;
    }

    async fn source_batch(&mut self, rows_max: usize) -> Result<Vec<T::Row>> {
        let rows = self.query.source_batch(&self.store, self.after.as_ref(), rows_max).await?;
        self.at_end = rows.len() < rows_max;
        // Also past rows that are not answered: an expired row must not be met again.
        self.after = rows.last().map(T::key).or(self.after.take());
        Ok(rows.into_iter().filter(|row| !self.store.is_expired(row) && self.query.keeps(row)).collect())
    }

    /// Tells whether what a reader has read ahead may still be answered, in `epoch`.
    fn is_current(&self, ahead: &ReadAhead<T>, epoch: Epoch) -> bool {
        let reads = &self.store.shared.reads;
        ahead.epoch == epoch
            && ahead.writes == reads.writes()
            && Moment::now().is_before(ahead.at.plus(reads.staleness_max()))
    }

    /// A reader that goes on after the last row.
    fn begin(&self, epoch: Epoch) -> Result<ReadAhead<T>> {
        let (at, writes) = (Moment::now(), self.store.shared.reads.writes());
        let reader = TargetReader::new(&self.store, &self.query, self.after.as_ref())?;
        Ok(ReadAhead { reader, epoch, at, writes })
    }

    async fn target_batch(
        &mut self,
        rows_max: usize,
        epoch: Epoch,
        mut backoff: Backoff,
    ) -> Result<Vec<T::Row>> {
        loop {
            let mut ahead = match self.reader.take() {
                Some(ahead) if self.is_current(&ahead, epoch) => ahead,
                _ => self.begin(epoch)?,
            };
            match ahead.reader.batch(&self.store, &self.query, rows_max).await {
                Ok(rows) => {
                    self.at_end = rows.len() < rows_max;
                    self.after = rows.last().map(T::key).or(self.after.take());
                    self.reader = Some(ahead);
                    return Ok(rows);
                }
                // The reader is gone, and with it the half of a batch that it may have had.
                Err(error) if error.kind.retry() == lockstep_core::Retry::Never => return Err(error),
                Err(error) => backoff.pause(error).await?,
            }
        }
    }
}
