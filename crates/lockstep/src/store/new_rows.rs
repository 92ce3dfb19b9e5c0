//! Rows of one batch that are new: put where there is nothing, 25 of them by a request.
//!
//! Only after a commit, best effort: what an insert leaves open (a row that is there, one that the target
//! refused, an answer that was lost or asked to slow down) is put under the guard, whose answer counts, and
//! behind that stand the mark and a relay. A strict write has to know of each of its requests whether it may
//! still land, and sends one a row.

use std::collections::BTreeMap;

use futures::stream::{self, StreamExt};
use lockstep_core::{DELETED_ATTRIBUTE, Item, Kind};
use lockstep_dynamo::{Inserts, ReadAt, STATEMENTS_MAX, apart};
use tokio::time::{Instant, timeout_at};

use super::Writer;
use super::deliver::{Put, late};

/// Items, each with the index of its put.
type Batch = Vec<(usize, Item)>;

impl Writer {
    /// Inserts the rows of `puts` where they are new and enough for a request of their own, and returns the
    /// indices of those that are in the target because of this. Of the others nothing is known.
    ///
    /// # Cancel safety
    /// A cancelled call is an unknown outcome of each: their keys are marked.
    pub(super) async fn insert_new(&self, read_at: ReadAt, puts: &[Put], deadline: Instant) -> Vec<usize> {
        let mut by_table: BTreeMap<&str, Batch> = BTreeMap::new();
        // Fewer are through as soon by puts.
        if puts.len() >= STATEMENTS_MAX {
            let rows = puts.iter().enumerate().filter(|(_, put)| put.item.get(DELETED_ATTRIBUTE).is_none());
            for (at, put) in rows {
                by_table.entry(put.table.as_str()).or_default().push((at, put.item.clone()));
            }
        }
        let mut written = Vec::new();
        for (table, rows) in by_table.into_iter().filter(|(_, rows)| rows.len() >= STATEMENTS_MAX) {
            let inserts = self.newness().of(table);
            let mut batches = apart(rows).into_iter().filter(|batch| batch.len() > 1);
            // One goes first: by what comes of it the others go that way, or as puts.
            let Some(first) = batches.next() else { continue };
            written.extend(self.insert_batch_of(read_at, table, &inserts, first, deadline).await);
            // Boxed and collected first, as in `send`.
            let sending: Vec<_> = batches
                .map(|batch| Box::pin(self.insert_batch_of(read_at, table, &inserts, batch, deadline)))
                .collect();
            let width = self.options().puts_in_flight_max.max(1);
            let mut answers = stream::iter(sending).buffer_unordered(width);
            while let Some(more) = answers.next().await {
                written.extend(more);
            }
        }
        written
    }

    async fn insert_batch_of(
        &self,
        read_at: ReadAt,
        table: &str,
        inserts: &Inserts,
        batch: Batch,
        deadline: Instant,
    ) -> Vec<usize> {
        let Some(tried) = inserts.try_next() else { return Vec::new() };
        let (places, items): (Vec<usize>, Vec<Item>) = batch.into_iter().unzip();
        match timeout_at(deadline, self.target().insert_versioned(read_at, table, items)).await {
            Ok(Ok(inserted)) => {
                tried.answered(inserted.present, places.len());
                let is_written = places.into_iter().zip(inserted.written);
                is_written.filter_map(|(place, is_written)| is_written.then_some(place)).collect()
            }
            Ok(Err(error)) => {
                tried.failed(&error, table);
                Vec::new()
            }
            // It may still arrive, and is never more than the put of each would do.
            Err(_) => {
                tried.failed(&late(Kind::Unknown), table);
                Vec::new()
            }
        }
    }
}
