//! Each [`MigratableTable`] is an [`AnyTable`].

use sqlx::postgres::PgArguments;

use super::beside::beside_columns;
use super::{AnyRow, AnyTable, CompareError, EncodedRow};
use crate::AttributeValue;
use crate::attribute::{Attribute, Attributes};
use crate::column::text_of;
use crate::difference::FieldDiff;
use crate::item::Item;
use crate::judgement::Judgement;
use crate::key::{SourceKey, TargetKey, TargetSchema};
use crate::names::OwnNames;
use crate::naming::Naming;
use crate::row::{ColumnSpec, Fields, Row, attribute_of};
use crate::table::{MigratableTable, Reference, encode_row};
use crate::unholdable::Unholdable;
use crate::view::ItemView;

struct RowOf<T: MigratableTable>(T::Row);

impl<T: MigratableTable> AnyRow for RowOf<T> {
    fn bind(&self, arguments: &mut PgArguments) {
        self.0.bind(arguments);
    }

    fn key(&self) -> Result<Vec<String>, Unholdable> {
        T::key(&self.0).literals()
    }

    fn number(&self, column: &str) -> Option<i64> {
        let mut item = Item::default();
        self.0.clone().into_item(&mut item).ok()?;
        let attribute = attribute_of(T::Row::COLUMNS, Some(column))?;
        match item.get(attribute) {
            Some(AttributeValue::N(text)) => text.parse().ok(),
            _ => None,
        }
    }
}

/// The attribute that holds the day of a row.
struct Days<T>(std::marker::PhantomData<T>);

impl<T: MigratableTable> Days<T> {
    const ATTRIBUTE: Option<&'static str> = attribute_of(T::Row::COLUMNS, T::DAY_COLUMN);
}

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

    fn names(&self) -> OwnNames {
        T::NAMES
    }

    fn naming(&self) -> Naming {
        const { Naming::of(T::NAMES, T::Row::COLUMNS) }
    }

    fn day_column(&self) -> Option<&'static str> {
        T::DAY_COLUMN
    }

    fn layout(&self) -> String {
        let mut layout = MigratableTable::layout(self);
        // Only of columns that are held otherwise, and of names that are unusual: of a migration under way
        // the layout stays as it is. It is what a column is called that is asked of columns which come and
        // go, so this begins as that.
        for column in T::Row::COLUMNS {
            if let Some(word) = column.held_as {
                layout += &format!(" {}->({word})", column.name);
            }
        }
        layout + &self.naming().layout()
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
        target_key.check().map_err(|reason| self.naming().explain(reason))?;
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
        let is_column = |name: &str| T::Row::COLUMNS.iter().any(|column| column.attribute == name);
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
                let day = Days::<T>::ATTRIBUTE.and_then(|day| item.get(day)).map(Attribute::from);
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
                let day = Days::<T>::ATTRIBUTE.and_then(|day| item.attribute(day));
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
