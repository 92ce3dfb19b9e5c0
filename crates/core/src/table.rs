//! The one trait that says everything the framework needs to know of a table (R3).

use chrono::{DateTime, Utc};

use crate::AttributeValue;
use crate::attribute::{DELETED_ATTRIBUTE, PK, SK, TTL_ATTRIBUTE};
use crate::item::Item;
use crate::judgement::{Aggregate, Rule};
use crate::key::{TargetKey, TargetSchema};
use crate::names::OwnNames;
use crate::naming::Naming;
use crate::row::Row;
use crate::unholdable::Unholdable;
use crate::version::Version;
use crate::view::ItemView;

/// A table that Lockstep can move.
///
/// The framework calls every method from many tasks at once and as often as it likes, so all of them must be
/// pure: the same row gives the same keys on every machine and in every run. [`MigratableTable::layout`]
/// names whatever configuration changes that, and a migration under way refuses to go on under another
/// layout.
pub trait MigratableTable: Send + Sync + 'static {
    /// One row of the source.
    type Row: Row;
    /// The primary key, then every other column that the target key is derived from.
    type Key: Row;

    /// Name of the table in configuration, reports and control tables; also the default of both relations'
    /// names.
    const NAME: &'static str;
    /// Number of columns of [`MigratableTable::Key`], counted from the first, that are the source's primary
    /// key.
    const PRIMARY_KEY_COLUMNS: usize = 1;
    /// Key schema and indexes of the target.
    const TARGET: TargetSchema;
    /// Names of keys, expiry and bookkeeping in the target. A key that is called as the attribute of a
    /// column is that column.
    const NAMES: OwnNames = OwnNames::DEFAULT;
    /// The `timestamptz` column that date windows and daily counts go by, if there is one.
    const DAY_COLUMN: Option<&'static str> = None;

    /// Returns the key of a row.
    fn key(row: &Self::Row) -> Self::Key;

    /// Returns the place in the target of the row of this key. It must differ for rows with different primary
    /// keys.
    ///
    /// # Errors
    /// When the key cannot be a DynamoDB key.
    fn target_key(&self, key: &Self::Key) -> Result<TargetKey, Unholdable>;

    /// Adds the attributes that are the partition keys of indexes, to an item that has nothing else in it. An
    /// attribute left out leaves the row out of that index.
    ///
    /// # Errors
    /// When an index key cannot be formed.
    fn index_attributes(&self, row: &Self::Row, item: &mut Item) -> Result<(), Unholdable>;

    /// Tells whether items of this table may expire, so that expiry is switched on for the target table.
    fn expires(&self) -> bool {
        false
    }

    /// Names every setting that decides when items expire, as in `ttl_days=90`; `off` where none does. It is
    /// fixed once a migration has begun.
    ///
    /// Each table says it itself: 1. A table says no more than that its items expire. 2. Two processes keep
    /// them for 90 days and for 30, and both are let in. 3. The state that one has delivered is not the one
    /// that the other would deliver under that version, which is taken for history loss.
    fn expiry(&self) -> String;

    /// Returns the time from which DynamoDB may remove the item; `None` keeps it for ever.
    fn expires_at(&self, _row: &Self::Row) -> Option<DateTime<Utc>> {
        None
    }

    /// Names every setting that decides keys, for example the number of write shards.
    fn layout(&self) -> String {
        String::new()
    }

    /// Tells whether reports that are passed on may show the values of a column, or of an attribute that is
    /// derived from columns. Everything is masked unless this says otherwise, and the default shows only what
    /// the source key consists of, because a finding that cannot be looked up is of no use.
    fn reveals(&self, column: &str) -> bool {
        Self::Key::COLUMNS.iter().any(|of_key| of_key.name == column)
    }

    /// Business rules, by name: what must hold of every row by itself, in either store.
    fn rules(&self) -> &'static [Rule<Self::Row>] {
        &[]
    }

    /// Returns the sums that rows are added up to, on both sides, to be compared exactly.
    fn aggregates(&self) -> &'static [Aggregate<Self::Row>] {
        &[]
    }

    /// Columns that refer to tables that stay behind.
    fn references(&self) -> &'static [Reference] {
        &[]
    }

    /// Returns the row as an item, without a version. Not to be replaced: what an item consists of is said by
    /// the methods above, and rows that come from PostgreSQL are taken apart by them without passing through
    /// here.
    ///
    /// # Errors
    /// When DynamoDB cannot hold the row; it is then dead-lettered, never altered to fit (R4).
    fn encode(&self, row: &Self::Row) -> Result<Item, Unholdable> {
        encode_row(self, &Self::key(row), row.clone())
    }

    /// Returns the row that an item holds.
    ///
    /// # Errors
    /// Names the attribute that does not decode.
    fn decode(item: &dyn ItemView) -> Result<Self::Row, Unholdable> {
        Self::Row::from_item(item)
    }
}

/// [`MigratableTable::encode`] of a row that the caller does not need any more, and whose key is at hand: its
/// texts are moved, not copied.
pub(crate) fn encode_row<T: MigratableTable + ?Sized>(
    table: &T,
    key: &T::Key,
    row: T::Row,
) -> Result<Item, Unholdable> {
    let naming = const { Naming::of(T::NAMES, T::Row::COLUMNS) };
    let key = table.target_key(key)?;
    key.check().map_err(|reason| naming.explain(reason))?;
    // Attributes that follow from the row are made before it is taken apart; that a column cannot be held is
    // told first all the same.
    let mut derived = Item::with_capacity(T::TARGET.indexes.len() + 1);
    let of_indexes = table.index_attributes(&row, &mut derived);
    if let Some(at) = table.expires_at(&row) {
        derived.push(TTL_ATTRIBUTE, AttributeValue::N(at.timestamp().to_string()));
    }
    let mut item = Item::with_capacity(T::Row::COLUMNS.len() + T::TARGET.indexes.len() + 4);
    item.push(PK, key.partition);
    if let Some(sort) = key.sort {
        item.push(SK, sort);
    }
    row.into_item(&mut item)?;
    of_indexes?;
    item.append(derived);
    T::TARGET.check_keys(&item).map_err(|reason| naming.explain(reason))?;
    naming.check(&item)?;
    Ok(item)
}

/// A column that refers to a table that stays in PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The referring column.
    pub column: &'static str,
    /// The table referred to.
    pub to_table: &'static str,
    /// Key column of the table that is referred to.
    pub to_column: &'static str,
}

/// Returns the item that says: deleted at `version` (I3). It has no index attributes, so it leaves every
/// index.
pub fn tombstone(key: TargetKey, version: Version) -> Item {
    let mut item = key.into_item();
    item.push(DELETED_ATTRIBUTE, AttributeValue::Bool(true));
    item.at(version)
}
