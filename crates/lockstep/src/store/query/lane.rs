//! A lane: one partition of the target, read page by page, in order.

use std::collections::VecDeque;

use lockstep_core::{
    Attributes, Error, Index, Kind, MigratableTable, Result, SK, TargetKey, Version, is_tombstone, version_of,
};
use lockstep_dynamo::{Backoff, PartitionRange, READ_KEYS_MAX};

use super::{BATCH_ROWS_MAX, Query};
use crate::store::Store;

/// A row with what orders it.
pub(super) struct Placed<R> {
    pub(super) sort: String,
    version: Option<Version>,
    pub(super) row: R,
}

/// One partition being read. Holds one page of rows at most.
pub(super) struct Lane<T: MigratableTable> {
    range: PartitionRange,
    /// Sort key of the row to go on after.
    after: Option<String>,
    pub(super) rows: VecDeque<Placed<T::Row>>,
    start: Option<Attributes>,
    pub(super) at_end: bool,
    page_rows: usize,
}

impl<T: MigratableTable> Lane<T> {
    pub(super) fn new(
        query: &Query<T>,
        partition: lockstep_core::AttributeValue,
        after: Option<&str>,
        page_rows: usize,
    ) -> Self {
        let (mut from, mut to) = query.range.sort_bounds();
        // Both ends are inclusive, as DynamoDB has it; `fill` leaves out the row at `after` itself.
        match after {
            Some(after) if query.ascending => from = from.max(Some(after.to_owned())),
            Some(after) => to = Some(to.map_or(after.to_owned(), |to| to.min(after.to_owned()))),
            None => {}
        }
        let range = PartitionRange { index: query.index, partition, from, to };
        let after = after.map(str::to_owned);
        Self { range, after, rows: VecDeque::new(), start: None, at_end: false, page_rows }
    }

    /// Reads pages until there is a row, or no more page.
    pub(super) async fn fill(&mut self, store: &Store<T>, query: &Query<T>) -> Result<()> {
        while self.rows.is_empty() && !self.at_end {
            let (target, name) = (&store.shared.target, &store.shared.binding.target_name);
            let limit = i32::try_from(self.page_rows).ok();
            let page =
                target.query_page(name, &self.range, query.ascending, limit, self.start.take()).await?;
            // The next page may have to make up for tombstones and rows that are not kept.
            self.page_rows = (self.page_rows * 2).min(BATCH_ROWS_MAX);
            self.at_end = page.next.is_none();
            self.start = page.next;
            let items = match query.index {
                Some(index) if !index.whole_items => self.whole_items(store, &index, page.items).await?,
                _ => page.items,
            };
            for item in items.into_iter().filter(|item| !is_tombstone(item)) {
                let version = version_of(&item);
                let row = store.decoded(&item)?;
                let sort = sort_of(store, &T::key(&row))?;
                self.push(query, store, Placed { sort, version, row });
            }
        }
        Ok(())
    }

    fn push(&mut self, query: &Query<T>, store: &Store<T>, placed: Placed<T::Row>) {
        let passed =
            |after: &String| if query.ascending { placed.sort <= *after } else { placed.sort >= *after };
        if self.after.as_ref().is_some_and(passed)
            || store.is_expired(&placed.row)
            || !query.keeps(&placed.row)
        {
            return;
        }
        match self.rows.back_mut() {
            // In an index a row that just moved may be seen in its old place and in its new one.
            Some(last) if last.sort == placed.sort => {
                if placed.version > last.version {
                    *last = placed;
                }
            }
            _ => self.rows.push_back(placed),
        }
    }

    /// Reads the items whose keys an index of keys has, strongly consistent, and in order. Left out is an
    /// item that is gone, and one that has moved to another partition of the index since: the index follows
    /// the table, a little later.
    async fn whole_items(
        &self,
        store: &Store<T>,
        index: &Index,
        keys: Vec<Attributes>,
    ) -> Result<Vec<Attributes>> {
        let places: Vec<TargetKey> = keys.iter().filter_map(TargetKey::of).collect();
        let name = &store.shared.binding.target_name;
        let mut items = match places.as_slice() {
            [] => Vec::new(),
            [place] => store.shared.target.get(name, place).await?.into_iter().collect(),
            _ => {
                let mut items = Vec::with_capacity(places.len());
                for some in places.chunks(READ_KEYS_MAX) {
                    items.extend(store.shared.target.get_many(name, some, Backoff::brief()).await?);
                }
                items
            }
        };
        items.retain(|item| item.get(index.partition.name) == Some(&self.range.partition));
        let position =
            |item: &Attributes| places.iter().position(|place| TargetKey::of(item).as_ref() == Some(place));
        items.sort_by_cached_key(|item| position(item));
        Ok(items)
    }
}

/// The sort key of a row's place in the target; empty in a table without one.
pub(super) fn sort_of<T: MigratableTable>(store: &Store<T>, key: &T::Key) -> Result<String> {
    let place = store.table().target_key(key).map_err(|reason| Error::unholdable(T::NAME, &reason))?;
    match place.sort {
        None => Ok(String::new()),
        Some(lockstep_core::AttributeValue::S(sort)) => Ok(sort),
        Some(_) => {
            let message = format!("{SK} of {} is no string, so its rows cannot be put in order", T::NAME);
            Err(Error::target(Kind::Misconfigured, format!("querying {}", T::NAME), message))
        }
    }
}
