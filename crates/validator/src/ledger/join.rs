//! Entries of buckets that differ, joined by their places.

use std::collections::HashMap;

use super::entry::{Entry, Standing};

/// Difference of the two sides of a partition.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Rows that have an equal item.
    pub(crate) equal: u64,
    /// Rows past their expiry whose item is gone.
    pub(crate) expired: u64,
    /// Names of rows that have no equal item.
    pub(crate) rows: Vec<Vec<u8>>,
    /// Names of items at whose place there is no row.
    pub(crate) items: Vec<Vec<u8>>,
    /// Names of rows that were met at one place, each with that of another. Rows of one key have one name.
    pub(crate) twins: HashMap<Vec<u8>, Vec<u8>>,
    /// Buckets whose entries were read again.
    pub(crate) buckets_differing: u64,
}

/// Entries that were met so far: every item first, then every row.
#[derive(Debug, Default)]
pub(crate) struct Join {
    /// Entry of each item, with the name of the first row that was met at its place.
    at_place: HashMap<u128, (Entry, Option<Vec<u8>>)>,
    difference: Difference,
}

impl Join {
    /// Makes a join that goes on from what whole buckets came to.
    pub(crate) fn from(difference: Difference) -> Self {
        Self { difference, at_place: HashMap::new() }
    }

    /// Notes an item.
    pub(crate) fn item(&mut self, item: Entry) {
        self.at_place.insert(item.print.place, (item, None));
    }

    /// Holds a row against the item at its place.
    pub(crate) fn row(&mut self, row: Entry) {
        let difference = &mut self.difference;
        match self.at_place.get_mut(&row.print.place) {
            // 1. A key loses its unique index, and two rows have it, equal in every column. 2. Both are
            // equal to their item, and one of them is nowhere. So one item is the answer to one row, and
            // the other is read again.
            Some((_, Some(first))) => {
                difference.twins.insert(first.clone(), row.name.clone());
                difference.twins.insert(row.name.clone(), first.clone());
                difference.rows.push(row.name);
            }
            Some((item, first)) => {
                *first = Some(row.name.clone());
                match item.standing != Standing::Tombstone && item.print.state == row.print.state {
                    true => difference.equal += 1,
                    false => difference.rows.push(row.name),
                }
            }
            None if row.standing == Standing::Expired => difference.expired += 1,
            None => difference.rows.push(row.name),
        }
    }

    /// Returns the difference of the two sides.
    pub(crate) fn end(self) -> Difference {
        let is_alone =
            |(item, row): &(Entry, Option<Vec<u8>>)| row.is_none() && item.standing != Standing::Tombstone;
        let without_row = self.at_place.into_values().filter(is_alone).map(|(item, _)| item.name).collect();
        Difference { items: without_row, ..self.difference }
    }
}
