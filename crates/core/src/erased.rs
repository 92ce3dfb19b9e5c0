//! The object-safe handle, so that unlike tables sit in one `Vec`.

use std::sync::Arc;

use crate::column::Unholdable;
use crate::item::{Attributes, Item, is_bookkeeping};
use crate::key::{SourceKey, TargetKey, TargetSchema};
use crate::row::{ColumnSpec, Fields, Row};
use crate::table::{MigratableTable, Reference};

/// A table whose row type has been forgotten. Rows travel through it as PostgreSQL's bytes and as items.
pub trait AnyTable: Send + Sync {
    /// See [`MigratableTable::NAME`].
    fn name(&self) -> &'static str;
    /// All columns, in statement order.
    fn columns(&self) -> &'static [ColumnSpec];
    /// The primary key, then the other columns of the source key.
    fn key_columns(&self) -> &'static [ColumnSpec];
    /// How many of [`AnyTable::key_columns`] are the primary key.
    fn primary_key_columns(&self) -> usize;
    /// Key schema and indexes of the target.
    fn target(&self) -> TargetSchema;
    /// See [`MigratableTable::DAY_COLUMN`].
    fn day_column(&self) -> Option<&'static str>;
    /// See [`MigratableTable::layout`].
    fn layout(&self) -> String;
    /// See [`MigratableTable::references`].
    fn references(&self) -> &'static [Reference];

    /// Whether items of this table may expire.
    fn expires(&self) -> bool;

    /// Turns a source row into its item, without a version.
    ///
    /// # Errors
    /// When the row cannot be held; see [`MigratableTable::encode`].
    fn encode(&self, fields: &mut Fields<'_>) -> Result<Item, Unholdable>;

    /// Turns a source row into its item, its source key as [`AnyTable::key_of_row`] gives it, and the time of its expiry as
    /// [`AnyTable::expires_at`] does, decoding the row once.
    ///
    /// # Errors
    /// As [`AnyTable::encode`].
    fn encode_keyed(&self, fields: &mut Fields<'_>) -> Result<(Item, Vec<String>, Option<i64>), Unholdable>;

    /// Where the row of a source key lives in the target.
    ///
    /// # Errors
    /// When no DynamoDB key can be formed; then nothing of that row can be in the target either.
    fn target_key(&self, key: &SourceKey) -> Result<TargetKey, Unholdable>;

    /// The source key of a row, as one SQL literal a key column.
    ///
    /// # Errors
    /// When the row does not decode.
    fn key_of_row(&self, fields: &mut Fields<'_>) -> Result<Vec<String>, Unholdable>;

    /// The source key of the row that an item holds, as one SQL literal a key column.
    ///
    /// # Errors
    /// When the item is not a row of this table.
    fn key_of_item(&self, attributes: &Attributes) -> Result<Vec<String>, Unholdable>;

    /// Compares a source row with an item, column by column, index and expiry attributes included.
    ///
    /// # Errors
    /// Which side does not decode, and why.
    fn compare(&self, fields: &mut Fields<'_>, attributes: &Attributes) -> Result<Vec<String>, CompareError>;

    /// Seconds since 1970 after which the row's item may be gone; `None` for never or where the row does not decode.
    fn expires_at(&self, fields: &mut Fields<'_>) -> Option<i64>;

    /// Names of the business rules that the row breaks.
    ///
    /// # Errors
    /// When the row does not decode.
    fn broken_rules(&self, fields: &mut Fields<'_>) -> Result<Vec<&'static str>, Unholdable>;
}

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

impl<T: MigratableTable> AnyTable for T {
    fn name(&self) -> &'static str {
        T::NAME
    }

    fn columns(&self) -> &'static [ColumnSpec] {
        T::Row::COLUMNS
    }

    fn key_columns(&self) -> &'static [ColumnSpec] {
        T::Key::COLUMNS
    }

    fn primary_key_columns(&self) -> usize {
        T::PRIMARY_KEY_COLUMNS
    }

    fn target(&self) -> TargetSchema {
        T::TARGET
    }

    fn day_column(&self) -> Option<&'static str> {
        T::DAY_COLUMN
    }

    fn layout(&self) -> String {
        MigratableTable::layout(self)
    }

    fn references(&self) -> &'static [Reference] {
        MigratableTable::references(self)
    }

    fn expires(&self) -> bool {
        MigratableTable::expires(self)
    }

    fn encode(&self, fields: &mut Fields<'_>) -> Result<Item, Unholdable> {
        MigratableTable::encode(self, &T::Row::from_fields(fields)?)
    }

    fn encode_keyed(&self, fields: &mut Fields<'_>) -> Result<(Item, Vec<String>, Option<i64>), Unholdable> {
        let row = T::Row::from_fields(fields)?;
        let key = T::key(&row).literals()?;
        let expires_at = MigratableTable::expires_at(self, &row).map(|at| at.timestamp());
        Ok((MigratableTable::encode(self, &row)?, key, expires_at))
    }

    fn target_key(&self, key: &SourceKey) -> Result<TargetKey, Unholdable> {
        let target_key = MigratableTable::target_key(self, &T::Key::from_key(&key.0)?)?;
        target_key.check()?;
        Ok(target_key)
    }

    fn key_of_row(&self, fields: &mut Fields<'_>) -> Result<Vec<String>, Unholdable> {
        T::key(&T::Row::from_fields(fields)?).literals()
    }

    fn key_of_item(&self, attributes: &Attributes) -> Result<Vec<String>, Unholdable> {
        T::Key::from_item(attributes)?.literals()
    }

    fn compare(&self, fields: &mut Fields<'_>, attributes: &Attributes) -> Result<Vec<String>, CompareError> {
        let row = T::Row::from_fields(fields).map_err(CompareError::Source)?;
        let expected = MigratableTable::encode(self, &row).map_err(CompareError::Source)?;
        let found = T::decode(attributes).map_err(CompareError::Target)?;
        let mut differing: Vec<String> = row.differing(&found).into_iter().map(str::to_owned).collect();
        // Attributes that are not columns: keys, index keys, expiry. They are derived, so they must be equal to the letter.
        let is_column = |name: &str| T::Row::COLUMNS.iter().any(|column| column.name == name);
        for (name, value) in expected.iter().filter(|(name, _)| !is_column(name)) {
            if attributes.get(*name) != Some(value) {
                differing.push((*name).to_owned());
            }
        }
        let known = |name: &str| expected.get(name).is_some() || is_column(name) || is_bookkeeping(name);
        let mut unexpected: Vec<String> = attributes.keys().filter(|name| !known(name)).cloned().collect();
        unexpected.sort_unstable();
        differing.append(&mut unexpected);
        Ok(differing)
    }

    fn expires_at(&self, fields: &mut Fields<'_>) -> Option<i64> {
        let row = T::Row::from_fields(fields).ok()?;
        MigratableTable::expires_at(self, &row).map(|at| at.timestamp())
    }

    fn broken_rules(&self, fields: &mut Fields<'_>) -> Result<Vec<&'static str>, Unholdable> {
        let row = T::Row::from_fields(fields)?;
        Ok(self.rules().iter().filter(|rule| !(rule.holds)(&row)).map(|rule| rule.name).collect())
    }
}
