//! A declared table, as the coordinator and the validator work on it.

use lockstep_core::text::hex;
use lockstep_core::{
    AnyRow, AnyTable, AttributeValue, Attributes, ColumnSpec, CompareError, Difference, EncodedRow, ExactSum,
    FieldDiff, Fields, Group, Item, ItemView, Judgement, Naming, OwnNames, PgArguments, Reference, SourceKey,
    TargetKey, TargetSchema, Unholdable, beside_columns, bind_text,
};
use lockstep_postgres::column_sql;

use crate::kind::Read;
use crate::shape::{Shape, Values};

/// A table whose columns and keys were declared and read from the schema, and not written in Rust.
#[derive(Clone, Copy, Debug)]
pub struct DeclaredTable(pub(crate) &'static Shape);

struct DeclaredRow {
    shape: &'static Shape,
    values: Values,
}

impl AnyRow for DeclaredRow {
    fn bind(&self, arguments: &mut PgArguments) {
        for (column, value) in self.shape.columns.iter().zip(&self.values) {
            bind_text(arguments, value.as_ref().map(|value| column.kind.to_input(value)));
        }
    }

    fn key(&self) -> Result<Vec<String>, Unholdable> {
        self.shape.literals(&self.values)
    }

    fn number(&self, column: &str) -> Option<i64> {
        match self.values[self.shape.place(column)?].as_ref()? {
            AttributeValue::N(text) => text.parse().ok(),
            _ => None,
        }
    }
}

impl AnyTable for DeclaredTable {
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn columns(&self) -> &'static [ColumnSpec] {
        self.0.specs
    }

    fn key_columns(&self) -> &'static [ColumnSpec] {
        self.0.key_specs
    }

    fn primary_key_columns(&self) -> usize {
        self.0.primary_columns
    }

    fn target(&self) -> TargetSchema {
        self.0.target
    }

    fn names(&self) -> OwnNames {
        *self.0.naming.names()
    }

    fn naming(&self) -> Naming {
        self.0.naming
    }

    fn day_column(&self) -> Option<&'static str> {
        self.0.day.map(|place| self.0.columns[place].name)
    }

    fn layout(&self) -> String {
        self.0.layout.clone()
    }

    fn references(&self) -> &'static [Reference] {
        self.0.references
    }

    fn expires(&self) -> bool {
        self.0.expiry.is_some()
    }

    fn expiry(&self) -> String {
        // The declaration of it is in the layout, letter for letter.
        if self.expires() { "on".to_owned() } else { "off".to_owned() }
    }

    fn encode(&self, fields: &mut Fields<'_>) -> Result<Item, Unholdable> {
        self.0.item(self.0.of_fields(fields)?)
    }

    fn encode_keyed(&self, fields: &mut Fields<'_>) -> Result<EncodedRow, Unholdable> {
        self.encoded(self.0.of_fields(fields)?)
    }

    fn target_key(&self, key: &SourceKey) -> Result<TargetKey, Unholdable> {
        let place = self.0.place_of_key(key)?;
        place.check().map_err(|reason| self.0.naming.explain(reason))?;
        Ok(place)
    }

    fn literals_of_key(&self, key: &SourceKey) -> Result<Vec<String>, Unholdable> {
        self.0.literals_of_key(key)
    }

    fn key_of_row(&self, fields: &mut Fields<'_>) -> Result<Vec<String>, Unholdable> {
        self.0.literals(&self.0.of_fields(fields)?)
    }

    fn key_of_item(&self, attributes: &Attributes) -> Result<Vec<String>, Unholdable> {
        self.0.literals_of_item(attributes)
    }

    fn row_of_item(&self, attributes: &Attributes) -> Result<Box<dyn AnyRow>, Unholdable> {
        Ok(Box::new(DeclaredRow { shape: self.0, values: self.0.of_item(attributes)? }))
    }

    fn place_of_item(&self, attributes: &Attributes) -> Result<TargetKey, Unholdable> {
        self.0.place_of_item(attributes)
    }

    fn differences(
        &self,
        fields: &mut Fields<'_>,
        attributes: &Attributes,
    ) -> Result<Vec<FieldDiff>, CompareError> {
        let row = self.0.of_fields(fields).map_err(CompareError::Source)?;
        let expected = self.0.item(row.clone()).map_err(CompareError::Source)?;
        let found = self.0.of_item(attributes).map_err(CompareError::Target)?;
        let mut differing = Vec::new();
        for ((column, a), b) in self.0.columns.iter().zip(&row).zip(&found) {
            let same = match (a, b) {
                (Some(a), Some(b)) => column.kind.same(a, b),
                (a, b) => a.is_none() && b.is_none(),
            };
            if !same {
                // As PostgreSQL is given it: of a set or a document every element is shown.
                let text =
                    |value: &Option<AttributeValue>| value.as_ref().map(|value| column.kind.to_input(value));
                differing.push(Difference::of(text(a).as_deref(), text(b).as_deref()).in_column(column.name));
            }
        }
        let is_column = |name: &str| self.0.columns.iter().any(|column| column.attribute == name);
        differing.extend(beside_columns(&expected, attributes, &is_column, &shown));
        Ok(differing)
    }

    fn reveals(&self, column: &str) -> bool {
        self.0.reveals.contains(column)
    }

    fn expires_at(&self, fields: &mut Fields<'_>) -> Option<i64> {
        self.0.expires_at_s(&self.0.of_fields(fields).ok()?)
    }

    fn rule_names(&self) -> Vec<&'static str> {
        self.0.rules.iter().map(|rule| rule.name).collect()
    }

    fn aggregates(&self) -> Vec<(&'static str, &'static [&'static str])> {
        self.0.sums.iter().map(|sum| (sum.name, sum.names)).collect()
    }

    fn encode_judged(
        &self,
        fields: &mut Fields<'_>,
        judgement: &mut Judgement,
    ) -> Result<EncodedRow, Unholdable> {
        let encoded = self.0.of_fields(fields).and_then(|row| {
            let day = self.0.day_of(&row).map(str::to_owned);
            let judged = self.has_quality().then(|| self.judged(&row));
            Ok((self.encoded(row)?, day, judged))
        });
        match encoded {
            Ok((encoded, day, judged)) => {
                let (day, expires_at_s) = (day.as_deref(), encoded.2);
                match judged {
                    None => judgement.count_row(expires_at_s, day),
                    Some((broken, sums)) => {
                        let key = || json_of(&encoded.1);
                        judgement.count_told(broken, sums.into_iter(), expires_at_s, day, key);
                    }
                }
                Ok(encoded)
            }
            Err(reason) => {
                judgement.count_unreadable();
                Err(reason)
            }
        }
    }

    fn judge_item(&self, item: &dyn ItemView, judgement: &mut Judgement) {
        match self.0.of_item(item) {
            Ok(row) if self.has_quality() => {
                let (broken, sums) = self.judged(&row);
                let key = || self.0.literals(&row).map_or_else(|_| "[]".to_owned(), |key| json_of(&key));
                let (expires_at_s, day) = (self.0.expires_at_s(&row), self.0.day_of(&row));
                judgement.count_told(broken, sums.into_iter(), expires_at_s, day, key);
            }
            Ok(row) => judgement.count_row(self.0.expires_at_s(&row), self.0.day_of(&row)),
            Err(_) => judgement.count_unreadable(),
        }
    }

    fn accepts(&self, column: &ColumnSpec, sql_type: &str) -> bool {
        self.0.place(column.name).is_some_and(|place| self.0.columns[place].sql_type == sql_type)
    }

    fn omits(&self, column: &str) -> bool {
        self.0.omitted.iter().any(|omitted| omitted == column)
    }

    fn selected(&self, column: &ColumnSpec, name: &str) -> String {
        match self.0.place(column.name).map(|place| &self.0.columns[place]) {
            Some(column) if column.read == Read::Binary => name.to_owned(),
            Some(column) if column.is_foreign => column_sql::printed(name),
            Some(_) => column_sql::selected(name),
            None => name.to_owned(),
        }
    }

    fn parameter(&self, column: &ColumnSpec, place: &str) -> String {
        column_sql::parameter(place, column.sql_type)
    }

    fn is_keyed_by_primary_key(&self) -> bool {
        self.0.by_primary_key
    }

    fn key_needs_settings(&self) -> bool {
        self.0.needs_settings
    }

    fn has_store(&self) -> bool {
        false
    }
}

/// The rules that a row breaks, and for each sum its group and what it adds.
type Judged = (Vec<&'static str>, Vec<(&'static str, Group, ExactSum)>);

impl DeclaredTable {
    fn has_quality(&self) -> bool {
        !(self.0.rules.is_empty() && self.0.sums.is_empty())
    }

    fn judged(&self, row: &Values) -> Judged {
        let broken = self.0.rules.iter().filter(|rule| !rule.holds(row)).map(|rule| rule.name);
        (broken.collect(), self.0.sums.iter().map(|sum| sum.of(row)).collect())
    }

    fn encoded(&self, row: Values) -> Result<EncodedRow, Unholdable> {
        let literals = self.0.literals(&row)?;
        let expires_at_s = self.0.expires_at_s(&row);
        Ok((self.0.item(row)?, literals, expires_at_s))
    }
}

fn json_of(key: &[String]) -> String {
    serde_json::Value::from(key).to_string()
}

/// Returns an attribute as text, for people.
fn shown(attribute: &AttributeValue) -> String {
    match attribute {
        AttributeValue::S(text) | AttributeValue::N(text) => text.clone(),
        AttributeValue::Bool(is) => is.to_string(),
        AttributeValue::B(blob) => hex::printed(blob.as_ref()),
        AttributeValue::Null(_) => "NULL".to_owned(),
        _ => "a list, map or set".to_owned(),
    }
}
