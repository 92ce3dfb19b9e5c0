//! The object-safe handle, so that unlike tables sit in one `Vec`.
//!
//! In reading order: this file (what it can), `beside` (differences that are in no column), `of_table` (each
//! table in Rust is one).

mod beside;
mod of_table;

pub use beside::beside_columns;

use std::sync::Arc;

use sqlx::postgres::PgArguments;

use crate::attribute::Attributes;
use crate::difference::FieldDiff;
use crate::item::Item;
use crate::judgement::Judgement;
use crate::key::{SourceKey, TargetKey, TargetSchema};
use crate::names::OwnNames;
use crate::naming::Naming;
use crate::row::{ColumnSpec, Fields};
use crate::table::Reference;
use crate::unholdable::Unholdable;
use crate::view::ItemView;

/// A table whose row type has been forgotten. Rows travel through it as PostgreSQL's bytes and as items.
pub trait AnyTable: Send + Sync {
    /// See [`MigratableTable::NAME`](crate::MigratableTable::NAME).
    fn name(&self) -> &'static str;
    /// Returns all columns, in statement order.
    fn columns(&self) -> &'static [ColumnSpec];
    /// Returns the primary key, then the other columns of the source key.
    fn key_columns(&self) -> &'static [ColumnSpec];
    /// Returns how many of [`AnyTable::key_columns`] are the primary key.
    fn primary_key_columns(&self) -> usize;
    /// Key schema and indexes of the target.
    fn target(&self) -> TargetSchema;
    /// See [`MigratableTable::NAMES`](crate::MigratableTable::NAMES).
    fn names(&self) -> OwnNames {
        OwnNames::DEFAULT
    }

    /// Returns the names, and which of them are columns.
    fn naming(&self) -> Naming {
        Naming::of(self.names(), self.columns())
    }

    /// See [`MigratableTable::DAY_COLUMN`](crate::MigratableTable::DAY_COLUMN).
    fn day_column(&self) -> Option<&'static str>;

    /// Returns the attribute that holds [`AnyTable::day_column`].
    fn day_attribute(&self) -> Option<&'static str> {
        let day = self.day_column()?;
        self.columns().iter().find(|column| column.name == day).map(|column| column.attribute)
    }

    /// See [`MigratableTable::layout`](crate::MigratableTable::layout). Names that are not the usual ones
    /// are part of it.
    fn layout(&self) -> String;
    /// See [`MigratableTable::references`](crate::MigratableTable::references).
    fn references(&self) -> &'static [Reference];

    /// Tells whether items of this table may expire.
    fn expires(&self) -> bool;

    /// See [`MigratableTable::expiry`](crate::MigratableTable::expiry).
    fn expiry(&self) -> String;

    /// Turns a source row into its item, without a version.
    ///
    /// # Errors
    /// When the row cannot be held; see [`MigratableTable::encode`](crate::MigratableTable::encode).
    fn encode(&self, fields: &mut Fields<'_>) -> Result<Item, Unholdable>;

    /// Turns a source row into its item, its source key as [`AnyTable::key_of_row`] gives it, and the time of
    /// its expiry as [`AnyTable::expires_at`] does, decoding the row once.
    ///
    /// # Errors
    /// As [`AnyTable::encode`].
    fn encode_keyed(&self, fields: &mut Fields<'_>) -> Result<EncodedRow, Unholdable>;

    /// Returns the place in the target of the row of a source key.
    ///
    /// # Errors
    /// When no DynamoDB key can be formed; then nothing of that row can be in the target either.
    fn target_key(&self, key: &SourceKey) -> Result<TargetKey, Unholdable>;

    /// Returns a source key as capture wrote it, as one SQL literal a key column: spelled as
    /// [`AnyTable::key_of_row`] does.
    ///
    /// # Errors
    /// When it is not a key of this table.
    fn literals_of_key(&self, key: &SourceKey) -> Result<Vec<String>, Unholdable>;

    /// Returns the source key of a row, as one SQL literal a key column.
    ///
    /// # Errors
    /// When the row does not decode.
    fn key_of_row(&self, fields: &mut Fields<'_>) -> Result<Vec<String>, Unholdable>;

    /// Returns the source key of the row that an item holds, as one SQL literal a key column.
    ///
    /// # Errors
    /// When the item is not a row of this table.
    fn key_of_item(&self, attributes: &Attributes) -> Result<Vec<String>, Unholdable>;

    /// Returns the row that an item holds.
    ///
    /// # Errors
    /// When the item is not a row of this table.
    fn row_of_item(&self, attributes: &Attributes) -> Result<Box<dyn AnyRow>, Unholdable>;

    /// Returns the place to which an item with these attributes belongs. One that is elsewhere was not
    /// written by Lockstep.
    ///
    /// # Errors
    /// When the item is not a row of this table.
    fn place_of_item(&self, attributes: &Attributes) -> Result<TargetKey, Unholdable>;

    /// Compares a source row with an item, column by column, index and expiry attributes included. The values
    /// are as they are; see [`FieldDiff::masked`].
    ///
    /// # Errors
    /// The side that does not decode, and the reason.
    fn differences(
        &self,
        fields: &mut Fields<'_>,
        attributes: &Attributes,
    ) -> Result<Vec<FieldDiff>, CompareError>;

    /// See [`MigratableTable::reveals`](crate::MigratableTable::reveals).
    fn reveals(&self, column: &str) -> bool;

    /// Seconds since 1970 after which the row's item may be gone; `None` for never or where the row does not
    /// decode.
    fn expires_at(&self, fields: &mut Fields<'_>) -> Option<i64>;

    /// Returns the names of all business rules.
    fn rule_names(&self) -> Vec<&'static str>;

    /// Names of the sums that both sides are compared by, and what the parts of their groups are.
    fn aggregates(&self) -> Vec<(&'static str, &'static [&'static str])>;

    /// [`AnyTable::encode_keyed`], and judges the row with the same decoding.
    ///
    /// # Errors
    /// As [`AnyTable::encode`]; then the row is counted as unreadable.
    fn encode_judged(
        &self,
        fields: &mut Fields<'_>,
        judgement: &mut Judgement,
    ) -> Result<EncodedRow, Unholdable>;

    /// Judges the row of a live item.
    fn judge_item(&self, item: &dyn ItemView, judgement: &mut Judgement);

    /// Tells whether a source column of this type, as `format_type()` prints it, can be read as `column`.
    fn accepts(&self, column: &ColumnSpec, sql_type: &str) -> bool {
        (column.accepts)(sql_type)
    }

    /// Tells whether a column of the source may be absent from [`AnyTable::columns`]: PostgreSQL makes its
    /// value again by itself.
    fn omits(&self, _column: &str) -> bool {
        false
    }

    /// Returns the expression that a statement reads a column by; `name` is qualified and quoted.
    fn selected(&self, _column: &ColumnSpec, name: &str) -> String {
        name.to_owned()
    }

    /// Returns the expression that a statement writes a column by, from its parameter, as `$3`.
    fn parameter(&self, _column: &ColumnSpec, place: &str) -> String {
        place.to_owned()
    }

    /// Tells whether the identity of a row is the source's primary key, and not another unique index.
    fn is_keyed_by_primary_key(&self) -> bool {
        true
    }

    /// Tells whether key expressions print as text what depends on settings of a session, so that a trigger
    /// needs those of our own sessions.
    fn key_needs_settings(&self) -> bool {
        false
    }

    /// Tells whether applications write through a store handle, so that capture installs the functions that
    /// one calls.
    fn has_store(&self) -> bool {
        true
    }
}

/// A row whose type has been forgotten, on its way from an item to PostgreSQL.
pub trait AnyRow: Send + Sync {
    /// Appends every column as a parameter, in the order of [`AnyTable::columns`].
    fn bind(&self, arguments: &mut PgArguments);

    /// Returns the row's source key, as one SQL literal a key column.
    ///
    /// # Errors
    /// Names the column whose type has none.
    fn key(&self) -> Result<Vec<String>, Unholdable>;

    /// Returns what a column holds, where that is a whole number.
    fn number(&self, column: &str) -> Option<i64>;
}

/// An item without a version, the source key of its row as one SQL literal a key column, and the second since
/// 1970 of its expiry, if it has one.
pub type EncodedRow = (Item, Vec<String>, Option<i64>);

/// One side of a comparison did not decode.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CompareError {
    /// The source row cannot be held by DynamoDB: a dead letter.
    #[error("source {0}")]
    Source(Unholdable),
    /// The item is not a row of this table.
    #[error("item {0}")]
    Target(Unholdable),
}

/// A shared table handle.
pub type TableHandle = Arc<dyn AnyTable>;
