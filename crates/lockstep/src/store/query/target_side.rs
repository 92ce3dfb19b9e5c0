//! Batches from DynamoDB: lanes merged by place, groups one after another.

use std::collections::VecDeque;

use futures::future::try_join_all;
use lockstep_core::{MigratableTable, Result};

use super::Query;
use super::lane::Lane;
use super::place::Place;
use crate::store::Store;

/// Most groups opened at once when the ones before were empty: a service that was silent for a month is a few
/// round trips, and one that was busy today costs one.
const GROUPS_AT_ONCE_MAX: usize = 8;
/// Most lanes read at once, so that a query of many shards and days does not take all connections.
const LANES_AT_ONCE_MAX: usize = 32;

/// The progress of a query in the target.
pub(super) struct TargetReader<T: MigratableTable> {
    open: VecDeque<Vec<Lane<T>>>,
    next_group: usize,
    at_once: usize,
    after: Option<Place>,
}

impl<T: MigratableTable> TargetReader<T> {
    /// A reader that goes on after a position.
    pub(super) fn new(store: &Store<T>, query: &Query<T>, after: Option<&T::Key>) -> Result<Self> {
        let mut next_group = 0;
        if let (Some(after), None) = (after, query.index)
            && query.partitions.len() > 1
            && let Ok(place) = store.table().target_key(after)
        {
            next_group = query.partitions.group_of(&place.partition, query.ascending).unwrap_or(0);
        }
        let after = after.map(|after| Place::of(store, query, after)).transpose()?.map(|(place, _)| place);
        Ok(Self { open: VecDeque::new(), next_group, at_once: 1, after })
    }

    /// Up to `rows_max` rows; fewer only at the end. After an error the reader is of no use, and nothing of
    /// the batch counts.
    pub(super) async fn batch(
        &mut self,
        store: &Store<T>,
        query: &Query<T>,
        rows_max: usize,
    ) -> Result<Vec<T::Row>> {
        let mut rows = Vec::new();
        while rows.len() < rows_max {
            let Some(lanes) = self.open.front_mut() else {
                if !self.open_more(store, query, rows_max - rows.len()).await? {
                    break;
                }
                continue;
            };
            let dry = lanes.iter_mut().filter(|lane| lane.rows.is_empty() && !lane.at_end);
            try_join_all(dry.map(|lane| lane.fill(store, query))).await?;
            let next = lanes
                .iter_mut()
                .filter(|lane| !lane.rows.is_empty())
                .reduce(|a, b| first(a, b, query.ascending));
            match next.and_then(|lane| lane.rows.pop_front()) {
                Some(placed) => {
                    self.at_once = 1;
                    rows.push(placed.row);
                }
                None => drop(self.open.pop_front()),
            }
        }
        Ok(rows)
    }

    /// Opens the next groups and reads the first page of each of their lanes; says whether there were any.
    async fn open_more(&mut self, store: &Store<T>, query: &Query<T>, page_rows: usize) -> Result<bool> {
        let until = query.partitions.len().min(self.next_group + self.at_once);
        let mut lanes_left = LANES_AT_ONCE_MAX;
        let first_group = self.next_group;
        while self.next_group < until && (lanes_left > 0 || self.next_group == first_group) {
            let partitions = query.partitions.group(self.next_group, query.ascending);
            lanes_left = lanes_left.saturating_sub(partitions.len());
            let lane = |partition| Lane::new(query, partition, self.after.as_ref(), page_rows);
            self.open.push_back(partitions.into_iter().map(lane).collect());
            self.next_group += 1;
        }
        try_join_all(self.open.iter_mut().flatten().map(|lane| lane.fill(store, query))).await?;
        self.at_once = (self.at_once * 2).min(GROUPS_AT_ONCE_MAX);
        Ok(self.next_group > first_group)
    }
}

/// The one of two lanes that is due.
fn first<'a, T: MigratableTable>(a: &'a mut Lane<T>, b: &'a mut Lane<T>, ascending: bool) -> &'a mut Lane<T> {
    let (place_a, place_b) =
        (a.rows.front().map(|placed| &placed.place), b.rows.front().map(|placed| &placed.place));
    if (place_a <= place_b) == ascending { a } else { b }
}
