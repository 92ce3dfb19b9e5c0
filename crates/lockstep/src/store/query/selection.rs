//! A query on a handle, which callers hold and read as they like.

use std::num::NonZeroUsize;
use std::sync::Arc;

use futures::{Stream, StreamExt, TryStreamExt, stream};
use lockstep_core::{MigratableTable, Phase, Result};

use super::cursor::Cursor;
use super::walk::Walk;
use super::{BATCH_ROWS_MAX, Query};
use crate::store::Store;
use crate::store::reads::{Answer, ReadFrom};

/// Rows of a stream's first batch; later ones are larger. A caller who wants the newest few does not pay for
/// hundreds.
const FIRST_BATCH_ROWS: usize = 50;
/// Rows that a shadow read of a query compares.
const SHADOW_ROWS: usize = 25;

/// A query on a store handle. Nothing is asked before it is read; it may be read several times, and outlives
/// the handle.
pub struct Selection<T: MigratableTable> {
    pub(super) store: Store<T>,
    pub(super) query: Arc<Query<T>>,
}

impl<T: MigratableTable> Clone for Selection<T> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), query: self.query.clone() }
    }
}

impl<T: MigratableTable> std::fmt::Debug for Selection<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.query.fmt(f)
    }
}

/// Some rows of a query, and where the next begin.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<R> {
    /// The rows, in the order of the query.
    pub rows: Vec<R>,
    /// Hand it to the next call; `None` when there is nothing more.
    pub next: Option<Cursor>,
    /// Store that answered; of a page that two stores answered, the one that answered its end.
    pub from: ReadFrom,
}

impl<T: MigratableTable> Selection<T> {
    pub(super) fn new(store: Store<T>, query: Query<T>) -> Self {
        Self { store, query: Arc::new(query) }
    }

    /// Every row, read batch by batch as the stream is polled; memory is bounded by a batch per partition
    /// read.
    ///
    /// ```no_run
    /// # use futures::TryStreamExt;
    /// # use lockstep::{MigratableTable, Result, Selection};
    /// # async fn example<Payments: MigratableTable>(selection: Selection<Payments>) -> Result<()> {
    /// let mut rows = selection.stream();
    /// while let Some(row) = rows.try_next().await? {
    ///     println!("one more, of {}", Payments::NAME);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// An item is an error where neither store that the phase allows would answer; the stream ends with it.
    /// Rows before it were right, and a [`Selection::page`] may go on after them.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    pub fn stream(&self) -> impl Stream<Item = Result<T::Row>> + Send + 'static + use<T> {
        self.stream_marked().map_ok(|answer| answer.value)
    }

    /// As [`Selection::stream`], and says of each row who answered.
    ///
    /// ```no_run
    /// # use futures::TryStreamExt;
    /// # use lockstep::{MigratableTable, Result, Selection};
    /// # async fn example<Payments: MigratableTable>(selection: Selection<Payments>) -> Result<()> {
    /// let mut answers = selection.stream_marked();
    /// while let Some(answer) = answers.try_next().await? {
    ///     println!("a row of {}, from {:?}", Payments::NAME, answer.from);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Selection::stream`].
    ///
    /// # Cancel safety
    /// Reading has no effect.
    pub fn stream_marked(&self) -> impl Stream<Item = Result<Answer<T::Row>>> + Send + 'static + use<T> {
        let walk = Walk::new(self.store.clone(), self.query.clone(), None);
        let batches = stream::try_unfold(
            (self.clone(), walk, FIRST_BATCH_ROWS),
            |(selection, mut walk, rows_max)| async move {
                if walk.at_end {
                    return Ok::<_, lockstep_core::Error>(None);
                }
                let (rows, from) = walk.batch(rows_max).await?;
                if rows_max == FIRST_BATCH_ROWS {
                    selection.shadow(walk.phase);
                }
                let answers = stream::iter(rows.into_iter().map(move |value| Ok(Answer { value, from })));
                Ok(Some((answers, (selection, walk, (rows_max * 2).min(BATCH_ROWS_MAX)))))
            },
        );
        batches.try_flatten().boxed()
    }

    /// Up to `limit` rows after `cursor`; a limit above 500 is taken as 500.
    ///
    /// ```no_run
    /// # use std::num::NonZeroUsize;
    /// # use lockstep::{MigratableTable, Result, Selection};
    /// # async fn example<T: MigratableTable>(selection: Selection<T>, limit: NonZeroUsize) -> Result<()> {
    /// let first = selection.page(limit, None).await?;
    /// if let Some(cursor) = &first.next {
    ///     // It goes on in whichever store answers by then.
    ///     let second = selection.page(limit, Some(cursor)).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Selection::stream`]; [`Kind::Invalid`](lockstep_core::Kind::Invalid) for a cursor that is not
    /// of this query.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    pub async fn page(&self, limit: NonZeroUsize, cursor: Option<&Cursor>) -> Result<Page<T::Row>> {
        let hash = self.query.hash();
        let after = cursor.map(|cursor| cursor.position::<T>(hash)).transpose()?;
        let limit = limit.get().min(BATCH_ROWS_MAX);
        let mut walk = Walk::new(self.store.clone(), self.query.clone(), after);
        // One more than asked for tells whether there is a next page.
        let (mut rows, mut from) = walk.batch(limit + 1).await?;
        while rows.len() <= limit && !walk.at_end {
            let (more, answered) = walk.batch(limit + 1 - rows.len()).await?;
            rows.extend(more);
            from = answered;
        }
        if cursor.is_none() {
            self.shadow(walk.phase);
        }
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = match rows.last().filter(|_| more) {
            Some(last) => Some(Cursor::new::<T>(hash, &T::key(last))?),
            None => None,
        };
        Ok(Page { rows, next, from })
    }

    /// The first row, if there is one.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Result, Selection};
    /// # async fn example<Payments: MigratableTable>(selection: Selection<Payments>) -> Result<()> {
    /// if selection.first().await?.is_none() {
    ///     println!("no row, in either store");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Selection::stream`].
    ///
    /// # Cancel safety
    /// Reading has no effect.
    pub async fn first(&self) -> Result<Option<T::Row>> {
        Ok(self.first_marked().await?.value)
    }

    /// As [`Selection::first`], and says who answered.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Result, Selection};
    /// # async fn example<Payments: MigratableTable>(selection: Selection<Payments>) -> Result<()> {
    /// let newest = selection.first_marked().await?;
    /// println!("{:?} answered; there is one: {}", newest.from, newest.value.is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Selection::stream`].
    ///
    /// # Cancel safety
    /// Reading has no effect.
    pub async fn first_marked(&self) -> Result<Answer<Option<T::Row>>> {
        let page = self.page(NonZeroUsize::MIN, None).await?;
        Ok(Answer { value: page.rows.into_iter().next(), from: page.from })
    }

    /// Repeats the beginning of the query on both stores and compares, for a share of the reads of
    /// DualWrite and HybridRead. Does not wait.
    fn shadow(&self, phase: Option<Phase>) {
        let reads = &self.store.shared.reads;
        if matches!(phase, Some(Phase::DualWrite | Phase::HybridRead)) && reads.is_shadowed() {
            let selection = self.clone();
            reads.shadow().spawn(
                T::NAME,
                self.query.name,
                async move { selection.compare(SHADOW_ROWS).await },
            );
        }
    }
}
