//! The object-safe handle, so that unlike tables sit in one `Vec`.

use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use sqlx::postgres::PgArguments;

use crate::attribute::{Attribute, Attributes, TTL_ATTRIBUTE, is_bookkeeping};
use crate::column::text_of;
use crate::difference::{Difference, FieldDiff, FieldValue};
use crate::expiry::is_expiry;
use crate::item::Item;
use crate::judgement::Judgement;
use crate::key::{SourceKey, TargetKey, TargetSchema};
use crate::row::{ColumnSpec, Fields, Row};
use crate::table::{MigratableTable, Reference, encode_row};
use crate::unholdable::Unholdable;
use crate::view::ItemView;

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

    /// See [`MigratableTable::expiry`].
    fn expiry(&self) -> String;

    /// Turns a source row into its item, without a version.
    ///
    /// # Errors
    /// When the row cannot be held; see [`MigratableTable::encode`].
    fn encode(&self, fields: &mut Fields<'_>) -> Result<Item, Unholdable>;

    /// Turns a source row into its item, its source key as [`AnyTable::key_of_row`] gives it, and the time of
    /// its expiry as [`AnyTable::expires_at`] does, decoding the row once.
    ///
    /// # Errors
    /// As [`AnyTable::encode`].
    fn encode_keyed(&self, fields: &mut Fields<'_>) -> Result<EncodedRow, Unholdable>;

    /// Where the row of a source key lives in the target.
    ///
    /// # Errors
    /// When no DynamoDB key can be formed; then nothing of that row can be in the target either.
    fn target_key(&self, key: &SourceKey) -> Result<TargetKey, Unholdable>;

    /// A source key as capture wrote it, as one SQL literal a key column: spelled as [`AnyTable::key_of_row`]
    /// does.
    ///
    /// # Errors
    /// When it is not a key of this table.
    fn literals_of_key(&self, key: &SourceKey) -> Result<Vec<String>, Unholdable>;

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

    /// The row that an item holds.
    ///
    /// # Errors
    /// When the item is not a row of this table.
    fn row_of_item(&self, attributes: &Attributes) -> Result<Box<dyn AnyRow>, Unholdable>;

    /// Where an item with these attributes belongs. One that is elsewhere was not written by Lockstep.
    ///
    /// # Errors
    /// When the item is not a row of this table.
    fn place_of_item(&self, attributes: &Attributes) -> Result<TargetKey, Unholdable>;

    /// Compares a source row with an item, column by column, index and expiry attributes included. The values
    /// are as they are; see [`FieldDiff::masked`].
    ///
    /// # Errors
    /// Which side does not decode, and why.
    fn differences(
        &self,
        fields: &mut Fields<'_>,
        attributes: &Attributes,
    ) -> Result<Vec<FieldDiff>, CompareError>;

    /// See [`MigratableTable::reveals`].
    fn reveals(&self, column: &str) -> bool;

    /// Seconds since 1970 after which the row's item may be gone; `None` for never or where the row does not
    /// decode.
    fn expires_at(&self, fields: &mut Fields<'_>) -> Option<i64>;

    /// The names of all business rules.
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

    /// Whether a source column of this type, as `format_type()` prints it, can be read as `column`.
    fn accepts(&self, column: &ColumnSpec, sql_type: &str) -> bool {
        (column.accepts)(sql_type)
    }

    /// Whether a column of the source may be absent from [`AnyTable::columns`]: PostgreSQL makes its value
    /// again by itself.
    fn omits(&self, _column: &str) -> bool {
        false
    }

    /// The expression that a statement reads a column by; `name` is qualified and quoted.
    fn selected(&self, _column: &ColumnSpec, name: &str) -> String {
        name.to_owned()
    }

    /// The expression that a statement writes a column by, from its parameter, as `$3`.
    fn parameter(&self, _column: &ColumnSpec, place: &str) -> String {
        place.to_owned()
    }

    /// Whether the identity of a row is the source's primary key, and not another unique index.
    fn is_keyed_by_primary_key(&self) -> bool {
        true
    }

    /// Whether key expressions print as text what depends on settings of a session, so that a trigger needs
    /// those of our own sessions.
    fn key_needs_settings(&self) -> bool {
        false
    }

    /// Whether applications write through a store handle, so that capture installs the functions that one
    /// calls.
    fn has_store(&self) -> bool {
        true
    }
}

/// A row whose type has been forgotten, on its way from an item to PostgreSQL.
pub trait AnyRow: Send + Sync {
    /// Appends every column as a parameter, in the order of [`AnyTable::columns`].
    fn bind(&self, arguments: &mut PgArguments);

    /// Its source key, as one SQL literal a key column.
    ///
    /// # Errors
    /// Names the column whose type has none.
    fn key(&self) -> Result<Vec<String>, Unholdable>;
}

struct RowOf<T: MigratableTable>(T::Row);

impl<T: MigratableTable> AnyRow for RowOf<T> {
    fn bind(&self, arguments: &mut PgArguments) {
        self.0.bind(arguments);
    }

    fn key(&self) -> Result<Vec<String>, Unholdable> {
        T::key(&self.0).literals()
    }
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

/// Differences in attributes that are not columns: keys, index keys, expiry. They are derived, so they must
/// be equal to the letter, but for an expiry that was put off (see [`Item::staying`]), and an attribute that
/// no rule of the table makes is one too many. `shown` makes a text of a value.
pub fn beside_columns(
    expected: &Item,
    found: &Attributes,
    is_column: &dyn Fn(&str) -> bool,
    shown: &dyn Fn(&AttributeValue) -> String,
) -> Vec<FieldDiff> {
    let (mut differing, now_s) = (Vec::new(), chrono::Utc::now().timestamp());
    for (name, value) in expected.iter().filter(|(name, _)| !is_column(name)) {
        let there = found.get(*name);
        let is_put_off = |there| *name == TTL_ATTRIBUTE && is_expiry(value, there, now_s);
        if there != Some(value) && !there.is_some_and(is_put_off) {
            let there = there.map(shown);
            differing.push(Difference::of(Some(&shown(value)), there.as_deref()).in_column(name));
        }
    }
    let known = |name: &str| expected.get(name).is_some() || is_column(name) || is_bookkeeping(name);
    let mut unexpected: Vec<_> = found.iter().filter(|(name, _)| !known(name)).collect();
    unexpected.sort_unstable_by_key(|(name, _)| *name);
    differing.extend(unexpected.into_iter().map(|(name, value)| FieldDiff {
        column: name.clone(),
        path: None,
        source: FieldValue::Absent,
        target: FieldValue::of(&shown(value)),
    }));
    differing
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

    fn expiry(&self) -> String {
        MigratableTable::expiry(self)
    }

    fn encode(&self, fields: &mut Fields<'_>) -> Result<Item, Unholdable> {
        let row = T::Row::from_fields(fields)?;
        encode_row(self, &T::key(&row), row)
    }

    fn encode_keyed(&self, fields: &mut Fields<'_>) -> Result<EncodedRow, Unholdable> {
        let row = T::Row::from_fields(fields)?;
        let key = T::key(&row);
        let literals = key.literals()?;
        let expires_at = MigratableTable::expires_at(self, &row).map(|at| at.timestamp());
        Ok((encode_row(self, &key, row)?, literals, expires_at))
    }

    fn target_key(&self, key: &SourceKey) -> Result<TargetKey, Unholdable> {
        let target_key = MigratableTable::target_key(self, &T::Key::from_key(&key.0)?)?;
        target_key.check()?;
        Ok(target_key)
    }

    fn literals_of_key(&self, key: &SourceKey) -> Result<Vec<String>, Unholdable> {
        T::Key::from_key(&key.0)?.literals()
    }

    fn key_of_row(&self, fields: &mut Fields<'_>) -> Result<Vec<String>, Unholdable> {
        T::key(&T::Row::from_fields(fields)?).literals()
    }

    fn key_of_item(&self, attributes: &Attributes) -> Result<Vec<String>, Unholdable> {
        T::Key::from_item(attributes)?.literals()
    }

    fn row_of_item(&self, attributes: &Attributes) -> Result<Box<dyn AnyRow>, Unholdable> {
        Ok(Box::new(RowOf::<T>(T::decode(attributes)?)))
    }

    fn place_of_item(&self, attributes: &Attributes) -> Result<TargetKey, Unholdable> {
        MigratableTable::target_key(self, &T::Key::from_item(attributes)?)
    }

    fn differences(
        &self,
        fields: &mut Fields<'_>,
        attributes: &Attributes,
    ) -> Result<Vec<FieldDiff>, CompareError> {
        let row = T::Row::from_fields(fields).map_err(CompareError::Source)?;
        let expected = MigratableTable::encode(self, &row).map_err(CompareError::Source)?;
        let found = T::decode(attributes).map_err(CompareError::Target)?;
        let mut differing = row.differences(&found);
        let is_column = |name: &str| T::Row::COLUMNS.iter().any(|column| column.name == name);
        differing.extend(beside_columns(&expected, attributes, &is_column, &text_of));
        Ok(differing)
    }

    fn reveals(&self, column: &str) -> bool {
        MigratableTable::reveals(self, column)
    }

    fn expires_at(&self, fields: &mut Fields<'_>) -> Option<i64> {
        let row = T::Row::from_fields(fields).ok()?;
        MigratableTable::expires_at(self, &row).map(|at| at.timestamp())
    }

    fn rule_names(&self) -> Vec<&'static str> {
        self.rules().iter().map(|rule| rule.name).collect()
    }

    fn aggregates(&self) -> Vec<(&'static str, &'static [&'static str])> {
        MigratableTable::aggregates(self).iter().map(|aggregate| (aggregate.name, aggregate.by)).collect()
    }

    fn encode_judged(
        &self,
        fields: &mut Fields<'_>,
        judgement: &mut Judgement,
    ) -> Result<EncodedRow, Unholdable> {
        let encoded = T::Row::from_fields(fields).and_then(|row| {
            let key = T::key(&row);
            let literals = key.literals()?;
            let expires_at_s = MigratableTable::expires_at(self, &row).map(|at| at.timestamp());
            let judged = judgement.judge(&row, self.rules(), MigratableTable::aggregates(self), expires_at_s);
            Ok((judged, (encode_row(self, &key, row)?, literals, expires_at_s)))
        });
        match encoded {
            Ok((judged, encoded)) => {
                let (item, literals, _) = &encoded;
                let day = T::DAY_COLUMN.and_then(|column| item.get(column)).map(Attribute::from);
                judgement.count(judged, day.and_then(text_in), || json_of(literals));
                Ok(encoded)
            }
            Err(reason) => {
                judgement.count_unreadable();
                Err(reason)
            }
        }
    }

    fn judge_item(&self, item: &dyn ItemView, judgement: &mut Judgement) {
        match T::decode(item) {
            Ok(row) => {
                let expires_at_s = MigratableTable::expires_at(self, &row).map(|at| at.timestamp());
                let day = T::DAY_COLUMN.and_then(|column| item.attribute(column));
                let judged =
                    judgement.judge(&row, self.rules(), MigratableTable::aggregates(self), expires_at_s);
                let key = || T::key(&row).literals().map_or_else(|_| "[]".to_owned(), |key| json_of(&key));
                judgement.count(judged, day.and_then(text_in), key);
            }
            Err(_) => judgement.count_unreadable(),
        }
    }
}

fn text_in(value: Attribute<'_>) -> Option<&str> {
    match value {
        Attribute::S(text) => Some(text),
        _ => None,
    }
}

fn json_of(key: &[String]) -> String {
    serde_json::Value::from(key).to_string()
}
