//! From a verb to the change of one row: what it has to know first, what is there, and what is to be there.

use lockstep_core::{
    AttributeValue, Attributes, Error, Item, Kind, MigratableTable, RESERVED_ATTRIBUTES, Result, Row,
    TargetKey, ids_end,
};
use lockstep_dynamo::Backoff;

use super::Permit;
use super::change::{Base, Change};
use super::find::{Found, Id};
use crate::store::verb::{KEY_STAYS, Verb};
use crate::store::{PrimaryKey, Store};

/// A verb, with what is known of it before anything is read: its row as PostgreSQL would hold it, its id.
pub(super) enum Wanted<R, F> {
    Put(Id, R),
    Insert(R),
    Update(Id, F),
    Delete(Id),
}

/// The next thing to do for a verb.
#[expect(clippy::large_enum_variant, reason = "one at a time, on its way from one function to the next")]
pub(super) enum Planned<R> {
    /// Send this change, after which the row is as given.
    Change(Option<R>, Change),
    /// Nothing: there is no such row.
    Nothing,
    /// Nothing: the function of an update has left the row alone.
    Other(R),
}

impl<R, F> Wanted<R, F> {
    /// The id of the row; `None` where the store gives one.
    pub(super) fn id(&self) -> Option<&Id> {
        match self {
            Self::Put(id, _) | Self::Update(id, _) | Self::Delete(id) => Some(id),
            Self::Insert(_) => None,
        }
    }
}

impl<T: MigratableTable> Store<T> {
    /// Takes what a verb says, once, before its tries.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a row or a key that one of the stores cannot hold; the driver's.
    pub(super) async fn wanted<K: PrimaryKey, F>(
        &self,
        permit: &Permit,
        verb: Verb<'_, T::Row, K, F>,
    ) -> Result<Wanted<T::Row, F>> {
        Ok(match verb {
            Verb::Put(row) => {
                let row = self.fitted(permit, row.clone()).await?;
                let id = self.id_of_row(&row)?;
                self.keep_ids_clear_of(&id).await?;
                Wanted::Put(id, row)
            }
            Verb::Insert(row) => Wanted::Insert(self.fitted(permit, row.clone()).await?),
            Verb::Update(key, change) => Wanted::Update(self.id_of_key(key)?, change),
            Verb::Delete(key) => Wanted::Delete(self.id_of_key(key)?),
        })
    }

    /// Reads what is there, and says what is to be there. `noted` is the change of this row that its
    /// transaction has noted before and not sent: its row counts, and what it was read over.
    ///
    /// The row that a function is shown is the one that is replaced, so it is read once: read again for the
    /// replacement, what another writer changed in between would be replaced unseen.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a row that one of the stores cannot hold, or with another primary key; the
    /// driver's.
    pub(super) async fn plan<F: FnMut(&mut T::Row) -> bool>(
        &self,
        permit: &Permit,
        wanted: &mut Wanted<T::Row, F>,
        noted: Option<&Change>,
    ) -> Result<Planned<T::Row>> {
        match wanted {
            Wanted::Put(id, row) => {
                let likely = self.target_key_of(row)?;
                let found = self.find(id, Some(&likely)).await?;
                let change = self.change_to(permit, found, Some(row)).await?;
                Ok(Planned::Change(Some(row.clone()), change))
            }
            Wanted::Insert(row) => {
                let (row, change) = self.numbered(permit, row).await?;
                Ok(Planned::Change(Some(row), change))
            }
            Wanted::Update(..) | Wanted::Delete(_) if noted.is_some_and(|noted| !noted.has_row()) => {
                Ok(Planned::Nothing)
            }
            Wanted::Update(id, change) => {
                let found = self.find(id, noted.and_then(Change::was_at)).await?;
                let Some(mut row) = self.seen(&found, noted)? else { return Ok(Planned::Nothing) };
                if !change(&mut row) {
                    return Ok(Planned::Other(row));
                }
                let row = self.fitted(permit, row).await?;
                let change = self.change_to(permit, found, Some(&row)).await?;
                Ok(Planned::Change(Some(row), change))
            }
            Wanted::Delete(id) => {
                let found = self.find(id, noted.and_then(Change::was_at)).await?;
                match noted.map_or(found.live.is_some(), Change::has_row) {
                    true => Ok(Planned::Change(None, self.change_to(permit, found, None).await?)),
                    false => Ok(Planned::Nothing),
                }
            }
        }
    }

    /// The row as its transaction sees it.
    fn seen(&self, found: &Found, noted: Option<&Change>) -> Result<Option<T::Row>> {
        match (noted, &found.live) {
            (Some(noted), _) => {
                let item = noted.to.as_ref().map(|(_, item, _)| item.clone().into_attributes());
                item.map(|item| self.decoded(&item)).transpose()
            }
            (None, Some((_, item))) => self.decoded(item).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// The row with an id of its own, and the change that makes it. Nothing is read: no other row has the id.
    async fn numbered(&self, permit: &Permit, row: &T::Row) -> Result<(T::Row, Change)> {
        let unholdable = |reason| Error::unholdable(T::NAME, &reason);
        let writer = &self.shared.writer;
        let ([column], Some(end)) = (&T::Key::COLUMNS[..T::PRIMARY_KEY_COLUMNS], Self::ids_end()) else {
            let message =
                "its primary key is no number that could be counted up; use `put` with a key of your own";
            return Err(Error::target(Kind::Invalid, format!("inserting into {}", T::NAME), message));
        };
        let (of, size) = ((T::NAME, permit.control.epoch), writer.options().id_block);
        let id = writer.ids().next(&self.control(), of, size, end).await?;
        let mut item = Item::default();
        row.clone().into_item(&mut item).map_err(unholdable)?;
        let mut attributes = item.into_attributes();
        attributes.insert(column.attribute.to_owned(), AttributeValue::N(id.to_string()));
        let row = T::Row::from_item(&attributes).map_err(unholdable)?;
        let found = Found { id: self.id_of_row(&row)?, place: None, live: None };
        let to =
            (self.target_key_of(&row)?, self.shared.table.encode(&row).map_err(unholdable)?, Base::default());
        let change = self.change_of(permit, found, Some(to))?;
        Ok((row, change))
    }

    /// The change that gives what was found a new state, or none.
    async fn change_to(&self, permit: &Permit, found: Found, row: Option<&T::Row>) -> Result<Change> {
        let Some(row) = row else { return self.change_of(permit, found, None) };
        if self.id_of_row(row)? != found.id {
            return Err(Error::target(Kind::Invalid, format!("writing {}", T::NAME), KEY_STAYS));
        }
        let item = self.shared.table.encode(row).map_err(|reason| Error::unholdable(T::NAME, &reason))?;
        let key = self.target_key_of(row)?;
        let base = match &found.live {
            Some((from, there)) if *from == key => Base::of(Some(there))?,
            // Most often nothing, or the tombstone of an earlier stay.
            _ => {
                let name = &self.shared.binding.target_name;
                Base::of(Backoff::brief().retry(|| self.shared.target.get(name, &key)).await?.as_ref())?
            }
        };
        self.change_of(permit, found, Some((key, item, base)))
    }

    fn change_of(
        &self,
        permit: &Permit,
        found: Found,
        to: Option<(TargetKey, Item, Base)>,
    ) -> Result<Change> {
        let kept = match &found.live {
            Some((_, there)) if to.is_some() && self.is_complete(permit) => self.unknown_in(there),
            _ => Attributes::new(),
        };
        let from = found.live.map(|(key, item)| Base::of(Some(&item)).map(|base| (key, base))).transpose()?;
        Ok(Change {
            table: T::NAME,
            target_name: self.shared.binding.target_name.clone(),
            id: found.id.text,
            from,
            to,
            place: Self::has_places().then_some(found.place),
            kept,
        })
    }

    /// Those attributes of an item that are of no column, key or index of this build.
    ///
    /// 1. The migration is complete, and a new build has a column more. 2. While both builds run, the new one
    /// puts a row. 3. The old one updates it, and puts back what it knows of: the column is gone, as it never
    /// would be by an UPDATE. Before the completion there is no such column, and an attribute that no row has
    /// would differ from PostgreSQL for ever.
    fn unknown_in(&self, there: &Attributes) -> Attributes {
        let indexes = T::TARGET.indexes;
        let is_of_an_index = |name: &str| {
            indexes
                .iter()
                .flat_map(|index| index.sort.iter().chain([&index.partition]))
                .any(|key| key.name == name)
        };
        let is_known = |name: &str| {
            RESERVED_ATTRIBUTES.contains(&name)
                || is_of_an_index(name)
                || T::Row::COLUMNS.iter().any(|column| column.attribute == name)
        };
        let unknown = there.iter().filter(|(name, _)| !is_known(name));
        unknown.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Before a row of an id that the caller chose is written.
    async fn keep_ids_clear_of(&self, id: &Id) -> Result<()> {
        match (id.number(), Self::ids_end()) {
            // No row is given one from there on.
            (Some(number), Some(end)) if number < end => {
                self.shared.writer.ids().keep_clear_of(&self.control(), T::NAME, number).await
            }
            _ => Ok(()),
        }
    }

    /// The least number that no row is given; `None` where the primary key is no number that is counted up.
    fn ids_end() -> Option<i64> {
        let [column] = &T::Key::COLUMNS[..T::PRIMARY_KEY_COLUMNS] else { return None };
        ids_end(column.sql_type)
    }
}
