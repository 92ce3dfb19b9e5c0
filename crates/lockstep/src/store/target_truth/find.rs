//! The present row of a primary key, strongly consistent.
//!
//! Three things may know where it is, and none of them is believed; the item there is. The *place* is right
//! for every row that was made or moved since the truth is here. The *target key* of the row to be written is
//! right for a row that stays where it is. The *index* by primary key is right for rows that were here
//! before, as long as it has caught up with what was written before the flip; it is eventually consistent, so
//! what it does not show yet must not have been made since. A writer that finds nothing asks for the place
//! and all these items once more, as they were at one moment: 1. We read the place. 2. Another moves the row.
//! 3. We read its tombstone. Nothing is alive, and yet the row is there.

use std::borrow::Cow;

use lockstep_core::{
    AttributeValue, Attributes, Error, Index, Item, Kind, MigratableTable, Result, Row, TargetKey,
    is_tombstone,
};
use lockstep_dynamo::control::Place;
use lockstep_dynamo::{Backoff, PartitionRange};

use crate::store::{PrimaryKey, Store};

/// A primary key, by its attributes.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::store) struct Id {
    /// Text by which places and counters are keyed.
    pub(super) text: String,
    values: Vec<AttributeValue>,
}

/// The row and place that were found of an id.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) id: Id,
    pub(super) place: Option<Place>,
    pub(super) live: Option<(TargetKey, Attributes)>,
}

/// Number of searches for a row that moves under the search.
const MOVES_MAX: usize = 5;

impl Id {
    fn of(values: Vec<AttributeValue>) -> Self {
        let parts = values.iter().map(|value| match value {
            AttributeValue::S(text) | AttributeValue::N(text) => Cow::Borrowed(text.as_str()),
            // As one text for all, rows of two ids would be taken for one.
            AttributeValue::B(blob) => Cow::Owned(hex::encode(blob.as_ref())),
            _ => Cow::Borrowed(""),
        });
        let text = match values.len() {
            1 => parts.collect(),
            // Parts may contain whatever would divide them.
            _ => serde_json::Value::from(parts.collect::<Vec<_>>()).to_string(),
        };
        Self { text, values }
    }

    /// The id as a number, where it is one.
    pub(super) fn number(&self) -> Option<i64> {
        match self.values.as_slice() {
            [AttributeValue::N(text)] => text.parse().ok(),
            _ => None,
        }
    }
}

impl<T: MigratableTable> Store<T> {
    pub(super) fn id_of_key(&self, key: &impl PrimaryKey) -> Result<Id> {
        let values = key.attributes().map_err(|reason| Error::unholdable(T::NAME, &reason))?;
        Ok(Id::of(values))
    }

    pub(in crate::store) fn id_of_row(&self, row: &T::Row) -> Result<Id> {
        let mut item = Item::default();
        T::key(row).into_item(&mut item).map_err(|reason| Error::unholdable(T::NAME, &reason))?;
        let columns = &T::Key::COLUMNS[..T::PRIMARY_KEY_COLUMNS];
        Ok(Id::of(columns.iter().filter_map(|column| item.get(column.attribute).cloned()).collect()))
    }

    pub(super) fn target_key_of(&self, row: &T::Row) -> Result<TargetKey> {
        let key = self.shared.table.target_key(&T::key(row)).and_then(|key| key.check().map(|()| key));
        key.map_err(|reason| Error::unholdable(T::NAME, &reason))
    }

    /// Says whether the target key has more in it than the primary key, so that a row may move.
    pub(super) const fn has_places() -> bool {
        T::Key::COLUMNS.len() > T::PRIMARY_KEY_COLUMNS
    }

    /// Finds the row of `id`. `likely` is where it will be if it does not move.
    pub(super) async fn find(&self, id: &Id, likely: Option<&TargetKey>) -> Result<Found> {
        if !Self::has_places() {
            let key = self.only_key(id)?;
            let live = self.live_at(&key, id).await?.map(|item| (key, item));
            return Ok(Found { id: id.clone(), place: None, live });
        }
        for _ in 0..MOVES_MAX {
            let place = self.control().place(T::NAME, &id.text).await?;
            let mut looked: Vec<TargetKey> = Vec::new();
            let known = place.iter().filter_map(|place| place.key.clone()).chain(likely.cloned());
            let mut found = self.first_alive(known, id, &mut looked).await?;
            if found.is_none() {
                found = self.first_alive(self.indexed(id).await?.into_iter(), id, &mut looked).await?;
            }
            if found.is_some() || self.is_nowhere(id, place.as_ref(), &looked).await? {
                return Ok(Found { id: id.clone(), place, live: found });
            }
        }
        Err(Error::target(
            Kind::Busy,
            format!("looking for a row of {}", T::NAME),
            "it moves again and again; try again",
        ))
    }

    async fn first_alive(
        &self,
        keys: impl Iterator<Item = TargetKey>,
        id: &Id,
        looked: &mut Vec<TargetKey>,
    ) -> Result<Option<(TargetKey, Attributes)>> {
        for key in keys {
            if looked.contains(&key) {
                continue;
            }
            if let Some(item) = self.live_at(&key, id).await? {
                return Ok(Some((key, item)));
            }
            looked.push(key);
        }
        Ok(None)
    }

    async fn live_at(&self, key: &TargetKey, id: &Id) -> Result<Option<Attributes>> {
        let name = &self.shared.binding.target_name;
        let found = Backoff::brief().retry(|| self.shared.target.get(name, key)).await?;
        Ok(found.filter(|item| self.is_alive(item, id)))
    }

    fn is_alive(&self, item: &Attributes, id: &Id) -> bool {
        let mut columns = T::Key::COLUMNS[..T::PRIMARY_KEY_COLUMNS].iter().zip(&id.values);
        !is_tombstone(item) && columns.all(|(column, value)| item.get(column.attribute) == Some(value))
    }

    async fn is_nowhere(&self, id: &Id, place: Option<&Place>, candidates: &[TargetKey]) -> Result<bool> {
        let (control, name) = (self.control(), self.shared.binding.target_name.as_str());
        let mut keys = vec![(control.table(), control.place_key(T::NAME, &id.text))];
        keys.extend(candidates.iter().map(|key| (name, key.to_attributes())));
        let mut read = Backoff::brief().retry(|| self.shared.target.get_together(&keys)).await?.into_iter();
        let place_now = read.next().flatten().map(|item| control.parse_place(&item));
        Ok(place_now.as_ref() == place && read.flatten().all(|item| !self.is_alive(&item, id)))
    }

    /// The places at which the index has the row.
    async fn indexed(&self, id: &Id) -> Result<Vec<TargetKey>> {
        let (index, [partition]) = (Self::index_by_id()?, id.values.as_slice()) else {
            return Ok(Vec::new());
        };
        let range =
            PartitionRange { index: Some(*index), partition: partition.clone(), from: None, to: None };
        let name = &self.shared.binding.target_name;
        let page =
            Backoff::brief().retry(|| self.shared.target.query_page(name, &range, true, None, None)).await?;
        Ok(page.items.iter().filter_map(TargetKey::of).collect())
    }

    fn index_by_id() -> Result<&'static Index> {
        let column = T::Key::COLUMNS.first().filter(|_| T::PRIMARY_KEY_COLUMNS == 1);
        let index = T::TARGET
            .indexes
            .iter()
            .find(|index| column.is_some_and(|column| column.attribute == index.partition.name));
        index.ok_or_else(|| {
            let message = "its target key has more columns than its primary key, so it needs an index whose partition is the \
                           primary key, like `by_id` in docs/add-your-own-table.md";
            Error::target(Kind::Misconfigured, format!("looking for a row of {}", T::NAME), message)
        })
    }

    /// The one place that a row can have whose target key is its primary key.
    fn only_key(&self, id: &Id) -> Result<TargetKey> {
        let columns = T::Key::COLUMNS
            .iter()
            .zip(&id.values)
            .map(|(column, value)| (column.attribute.to_owned(), value.clone()));
        let key = T::Key::from_item(&columns.collect::<Attributes>())
            .and_then(|key| self.shared.table.target_key(&key));
        key.and_then(|key| key.check().map(|()| key)).map_err(|reason| Error::unholdable(T::NAME, &reason))
    }
}
