//! The keys of one read: sent, and what was delivered taken out of the set.

use std::sync::atomic::Ordering::Relaxed;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use lockstep_core::{Error as StoreError, Item, Kind};
use lockstep_dynamo::{STATEMENTS_MAX, Tried, apart};
use lockstep_postgres::{PendingBatch, PendingRow};

use super::Table;
use super::deliver::{Due, Fate};
use crate::error::{CoordinatorError, Result};

/// Fewer rows than this are through as soon by puts.
const INSERTS_FROM: usize = 2 * STATEMENTS_MAX;

/// Outcome of the keys of one read.
#[derive(Default)]
pub(super) struct Sent {
    pub(super) delivered: u64,
    pub(super) set_aside: u64,
    /// Reason why one of them stayed pending.
    pub(super) error: Option<CoordinatorError>,
}

impl<'a> Table<'a> {
    /// Sends what one read found, and acknowledges what was delivered of it, even when another key of it
    /// failed.
    ///
    /// # Errors
    /// When it could not be acknowledged: it is delivered again (I2).
    pub(super) async fn send(self, batch: PendingBatch) -> Result<Sent> {
        let mut sent = Sent::default();
        let mut delivered = Vec::with_capacity(batch.rows.len());
        let mut refused = Vec::new();
        for fate in self.fates(&batch.rows).await {
            match fate {
                Ok(Fate::Delivered(key)) => delivered.push(key),
                Ok(Fate::SetAside) => {
                    sent.set_aside += 1;
                    self.progress.dead_letters.fetch_add(1, Relaxed);
                }
                Ok(Fate::Refused(put)) => refused.push(put),
                Ok(Fate::MarkedAgain) => {}
                Err(error) => sent.error = Some(error),
            }
        }
        self.run.pace.charge(&self.run.migration.source).await;
        let contradicted = self.judge(refused, &mut delivered).await?;
        if !delivered.is_empty() {
            let (source, name) = (&self.run.migration.source, self.binding.name());
            source.acknowledge_of(self.share.as_ref(), name, &delivered, batch.read_at).await?;
            source.count_relayed(name, delivered.len() as u64).await?;
            sent.delivered = delivered.len() as u64;
            self.progress.relayed.fetch_add(sent.delivered, Relaxed);
        }
        if !contradicted.is_empty() {
            // Others have to hear of it as well.
            self.run.migration.watch.forget();
            sent.error = Some(CoordinatorError::HistoryLost(contradicted));
        }
        Ok(sent)
    }

    async fn fates<'b>(self, rows: &'b [PendingRow]) -> Vec<Result<Fate>>
    where
        'a: 'b,
    {
        // Boxed and collected first: otherwise the compiler cannot see that this future may be sent to
        // another thread.
        let mut under_way: FuturesUnordered<BoxFuture<'b, Vec<Result<Fate>>>> = FuturesUnordered::new();
        let (mut news, mut rest) = (Vec::new(), Vec::with_capacity(rows.len()));
        for row in rows {
            match self.due(row) {
                Due::Item(item) if rows.len() >= INSERTS_FROM => news.push((row, item)),
                due => rest.push((row, due)),
            }
        }
        for (row, due) in rest {
            under_way.push(self.one(row, due).boxed());
        }
        for chunk in apart(news) {
            under_way.push(self.new_ones(chunk).boxed());
        }
        let mut fates = Vec::with_capacity(rows.len());
        while let Some(some) = under_way.next().await {
            fates.extend(some);
        }
        fates
    }

    async fn one(self, row: &PendingRow, due: Due) -> Vec<Result<Fate>> {
        let _lane = self.kept.lanes.lane().await;
        vec![self.conclude(row, due).await]
    }

    /// Inserts rows that are new, if most are. Every item that this leaves open (a row that is there, one
    /// that the target refused, an answer that was lost or asked to slow down) is put under the guard, whose
    /// answer counts.
    async fn new_ones<'b>(self, chunk: Vec<(&'b PendingRow, Item)>) -> Vec<Result<Fate>>
    where
        'a: 'b,
    {
        let mut fates = Vec::with_capacity(chunk.len());
        let mut puts: FuturesUnordered<BoxFuture<'b, Vec<Result<Fate>>>> = FuturesUnordered::new();
        // Decided when it may leave: by then an earlier one may have been answered.
        let lane = self.kept.lanes.lane().await;
        let tried = if chunk.len() > 1 { self.kept.inserts.try_next() } else { None };
        if let Some(tried) = tried {
            let (rows, items): (Vec<&PendingRow>, Vec<Item>) = chunk.into_iter().unzip();
            let written = self.insert(tried, items).await;
            drop(lane);
            for (place, row) in rows.into_iter().enumerate() {
                if written.get(place) == Some(&true) {
                    fates.push(Ok(Fate::of(row)));
                } else {
                    puts.push(self.one(row, self.due(row)).boxed());
                }
            }
        } else {
            drop(lane);
            for (row, item) in chunk {
                puts.push(self.one(row, Due::Item(item)).boxed());
            }
        }
        while let Some(some) = puts.next().await {
            fates.extend(some);
        }
        fates
    }

    /// Inserts the items and returns, of each, whether it is in the target because of this; of none where
    /// that is not known.
    async fn insert(self, tried: Tried<'_>, items: Vec<Item>) -> Vec<bool> {
        let sent = items.len();
        let (target, name) = (&self.run.migration.target, &self.binding.target_name);
        if self.run.may_write(self.read_at, self.binding, &items).await.is_err() {
            // Each hears why when it is put by itself.
            return Vec::new();
        }
        let answer = target.insert_versioned(self.read_at, name, items).await;
        match answer {
            Ok(inserted) => {
                self.progress.add_capacity(inserted.capacity_units);
                tried.answered(inserted.present, sent);
                inserted.written
            }
            Err(error) => {
                self.note(&error);
                tried.failed(&error, self.binding.name());
                Vec::new()
            }
        }
    }

    fn note(&self, error: &StoreError) {
        match error.kind {
            Kind::Unknown => self.progress.lost_replies.fetch_add(1, Relaxed),
            Kind::Throttled => self.progress.throttles.fetch_add(1, Relaxed),
            _ => 0,
        };
    }
}
