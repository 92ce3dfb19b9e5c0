//! A lane: one partition of the target, read page by page, in order.
//!
//! DynamoDB keeps the items of a partition in the order of their sort key and of nothing else. Rows with one
//! sort key, and in an index without one all rows of a partition, come in any order: the lane gathers such a
//! *run* and puts it in order before it hands it out. Of a long run it keeps the first [`RUN_ROWS_MAX`] and
//! reads it again when they are gone, so memory stays bounded.

use std::collections::VecDeque;

use lockstep_core::{
    AttributeValue, Attributes, Index, MigratableTable, Projected, Result, TargetKey, Version, is_tombstone,
    version_of,
};
use lockstep_dynamo::{Backoff, PartitionRange, READ_KEYS_MAX};

use super::place::{Part, Place};
use super::{BATCH_ROWS_MAX, Query};
use crate::store::Store;

/// Most rows of one run that are kept.
const RUN_ROWS_MAX: usize = 4 * BATCH_ROWS_MAX;

/// A row with what orders it.
pub(super) struct Placed<R> {
    pub(super) place: Place,
    primary_key: Vec<Part>,
    version: Option<Version>,
    pub(super) row: R,
}

/// One partition being read. Holds a page of rows and a run at most.
pub(super) struct Lane<T: MigratableTable> {
    range: PartitionRange,
    /// The row to go on after.
    after: Option<Place>,
    pub(super) rows: VecDeque<Placed<T::Row>>,
    run: Vec<Placed<T::Row>>,
    /// Gap in the run: rows of it were left out.
    is_cut: bool,
    start: Option<Attributes>,
    pub(super) at_end: bool,
    page_rows: usize,
}

impl<T: MigratableTable> Lane<T> {
    pub(super) fn new(
        query: &Query<T>,
        partition: AttributeValue,
        after: Option<&Place>,
        page_rows: usize,
    ) -> Self {
        let page_rows = match query.index {
            // The whole of it is read anyway.
            Some(index) if index.sort.is_none() => BATCH_ROWS_MAX,
            // The last row of a page may not be the last of its run.
            Some(_) => page_rows + 1,
            None => page_rows,
        };
        Self {
            range: range(query, partition, after),
            after: after.cloned(),
            rows: VecDeque::new(),
            run: Vec::new(),
            is_cut: false,
            start: None,
            at_end: false,
            page_rows,
        }
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
                Some(index) if index.projection != Projected::All => {
                    self.whole_items(store, &index, page.items).await?
                }
                _ => page.items,
            };
            for item in items.into_iter().filter(|item| !is_tombstone(item)) {
                let version = version_of(&item);
                let row = store.decoded(&item)?;
                let (place, primary_key) = Place::of(store, query, &T::key(&row))?;
                if self.is_due(query, store, &place, &row) {
                    self.push(query, Placed { place, primary_key, version, row });
                }
                if self.is_cut && self.run.is_empty() {
                    break;
                }
            }
            if self.at_end {
                self.end_run(query);
            }
            if self.is_cut && self.run.is_empty() {
                self.read_again(query);
            }
        }
        Ok(())
    }

    fn is_due(&self, query: &Query<T>, store: &Store<T>, place: &Place, row: &T::Row) -> bool {
        let passed = |after: &Place| if query.ascending { place <= after } else { place >= after };
        // DynamoDB looks for no range in an index without a sort key.
        let is_within = is_ordered(query) || query.range.holds(&place.sort);
        is_within && !self.after.as_ref().is_some_and(passed) && !store.is_expired(row) && query.keeps(row)
    }

    /// Takes a row into its run; ends the one before.
    fn push(&mut self, query: &Query<T>, placed: Placed<T::Row>) {
        let is_ordered = is_ordered(query);
        if is_ordered && self.run.first().is_some_and(|first| first.place.sort != placed.place.sort) {
            self.end_run(query);
            if self.is_cut {
                return;
            }
        }
        self.run.push(placed);
        if query.index.is_none() {
            self.end_run(query);
        } else if self.run.len() >= 2 * RUN_ROWS_MAX {
            self.tidy_run(query);
        }
    }

    /// Puts the run in order, with each row once: an index may show a row that just moved in its old place
    /// and in its new one.
    fn tidy_run(&mut self, query: &Query<T>) {
        if self.run.len() < 2 {
            return;
        }
        self.run.sort_by(|a, b| a.primary_key.cmp(&b.primary_key).then(b.version.cmp(&a.version)));
        self.run.dedup_by(|later, first| later.primary_key == first.primary_key);
        self.run.sort_by(|a, b| {
            let order = a.place.cmp(&b.place);
            if query.ascending { order } else { order.reverse() }
        });
        self.is_cut |= self.run.len() > RUN_ROWS_MAX;
        self.run.truncate(RUN_ROWS_MAX);
    }

    fn end_run(&mut self, query: &Query<T>) {
        self.tidy_run(query);
        self.rows.extend(self.run.drain(..));
    }

    /// Begins again after the last row of a run that did not fit.
    fn read_again(&mut self, query: &Query<T>) {
        if let Some(last) = self.rows.back() {
            self.range = range(query, self.range.partition.clone(), Some(&last.place));
            self.after = Some(last.place.clone());
        }
        (self.is_cut, self.start, self.at_end) = (false, None, false);
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
        // Of a row that just moved the index may show both places, and a request may end between them.
        let mut places: Vec<TargetKey> = Vec::with_capacity(keys.len());
        for place in keys.iter().filter_map(TargetKey::of) {
            if !places.contains(&place) {
                places.push(place);
            }
        }
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

/// Says whether a partition is kept in the order of a sort key. A table without one has one item in each.
fn is_ordered<T: MigratableTable>(query: &Query<T>) -> bool {
    query.index.is_none_or(|index| index.sort.is_some())
}

/// The rest of a partition after a row. Both ends are inclusive, as DynamoDB has it; the lane leaves out
/// what it has passed.
fn range<T: MigratableTable>(
    query: &Query<T>,
    partition: AttributeValue,
    after: Option<&Place>,
) -> PartitionRange {
    let (mut from, mut to) = query.range.sort_bounds();
    match after.map(|after| after.sort.clone()).filter(|_| T::TARGET.sort.is_some() && is_ordered(query)) {
        Some(after) if query.ascending => from = from.max(Some(after)),
        Some(after) => to = Some(to.map_or(after.clone(), |to| to.min(after))),
        None => {}
    }
    PartitionRange { index: query.index, partition, from, to }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::query::{Partitions, Query};

    #[derive(Clone, Debug, PartialEq, crate::Table)]
    #[lockstep(name = "pieces", table = "Pieces", partition = "{shelf}#{id}")]
    #[lockstep(index(name = "by_kind", partition = "{kind}"))]
    #[lockstep(index(name = "by_id", partition = "{id}"))]
    struct Piece {
        #[lockstep(primary_key)]
        id: i64,
        shelf: i64,
        kind: i64,
    }

    fn placed(id: i64, shelf: i64, version: i64) -> Placed<Piece> {
        let number = |number: i64| Part::Number(number.into());
        Placed {
            place: Place::at("", vec![number(shelf), number(id)]),
            primary_key: vec![number(id)],
            version: Some(Version(version)),
            row: Piece { id, shelf, kind: 1 },
        }
    }

    fn filled(ascending: bool, rows: impl IntoIterator<Item = Placed<Piece>>) -> Lane<Pieces> {
        let partition = AttributeValue::N("1".to_owned());
        let query = Query::new("of_kind", &["shelf"], Partitions::one(partition.clone()));
        let mut query: Query<Pieces> = query.on(Pieces::TARGET.indexes[0]);
        if ascending {
            query = query.ascending();
        }
        let mut lane = Lane::new(&query, partition, None, 1);
        for row in rows {
            lane.push(&query, row);
        }
        lane.end_run(&query);
        lane
    }

    #[test]
    fn a_row_that_an_index_shows_in_two_places_is_the_one_of_its_newer_version() {
        // 1. Row 5 moves from shelf 2 to shelf 9. 2. The index has its new entry, and still the old one.
        for both in [[placed(5, 2, 10), placed(5, 9, 11)], [placed(5, 9, 11), placed(5, 2, 10)]] {
            let lane = filled(true, [placed(4, 3, 7)].into_iter().chain(both).chain([placed(6, 3, 7)]));
            let rows: Vec<(i64, i64)> =
                lane.rows.iter().map(|placed| (placed.row.id, placed.row.shelf)).collect();
            assert_eq!(rows, [(4, 3), (6, 3), (5, 9)]);
        }
    }

    #[test]
    fn a_long_run_keeps_its_first_rows_and_is_read_again_after_them() {
        let all = RUN_ROWS_MAX as i64 * 3;
        for ascending in [true, false] {
            let lane = filled(ascending, (0..all).map(|id| placed((id * 7_919) % all, 1, 1)));
            let first = if ascending { 0 } else { all - 1 };
            assert_eq!(lane.rows.front().map(|placed| placed.row.id), Some(first));
            assert_eq!(lane.rows.len(), RUN_ROWS_MAX);
            assert!(lane.is_cut);
        }
    }
}
