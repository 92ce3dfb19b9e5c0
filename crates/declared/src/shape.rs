//! A declared table as it was put together at start: columns, keys and indexes, of which nothing changes any
//! more.
//!
//! It lives as long as the program, because names of columns and attributes are borrowed for ever; there is
//! one a table and start.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use lockstep_core::{
    Attribute, AttributeValue, Attributes, ColumnSpec, Fields, Index, Item, ItemView, Naming, PK, Reference,
    SK, SourceKey, TTL_ATTRIBUTE, TargetKey, TargetSchema, Unholdable, parse_fixed_width,
};

use lockstep_core::text::decimal;
use lockstep_template::{Template, Value};

use crate::kind::{Kind, Read};
use crate::quality::{Rule, Sum};

/// A row, or the part of it that is a key: its values in the order of its columns, `None` for NULL.
pub(crate) type Values = Vec<Option<AttributeValue>>;

#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    /// The attribute that holds it.
    pub(crate) attribute: &'static str,
    /// Type that it had when the table was put together.
    pub(crate) sql_type: String,
    pub(crate) nullable: bool,
    pub(crate) kind: Kind,
    pub(crate) read: Read,
    /// Whether its type is none of PostgreSQL's own, so that a cast of it to text may be the application's.
    pub(crate) is_foreign: bool,
    /// Most digits of a second that it keeps; others are rounded by PostgreSQL without a word.
    pub(crate) second_digits: Option<usize>,
}

/// A key attribute: a column that is a number, or a template.
#[derive(Debug)]
pub(crate) enum Part {
    Number(usize),
    Text(Template),
}

#[derive(Debug)]
pub(crate) struct IndexShape {
    pub(crate) index: Index,
    /// Part that its partition attribute holds; `None` where that is an attribute that is there anyway.
    pub(crate) partition: Option<Part>,
    pub(crate) sort: Option<Part>,
    /// Only rows with these values are in it.
    pub(crate) when: Vec<(usize, AttributeValue)>,
}

#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) columns: Vec<Column>,
    pub(crate) specs: &'static [ColumnSpec],
    pub(crate) naming: Naming,
    /// Places of the columns of the source key.
    pub(crate) key: Vec<usize>,
    pub(crate) key_specs: &'static [ColumnSpec],
    pub(crate) primary_columns: usize,
    pub(crate) by_primary_key: bool,
    pub(crate) target: TargetSchema,
    pub(crate) partition: Part,
    pub(crate) sort: Option<Part>,
    pub(crate) indexes: Vec<IndexShape>,
    /// A column, and seconds after it.
    pub(crate) expiry: Option<(usize, i64)>,
    pub(crate) day: Option<usize>,
    pub(crate) reveals: BTreeSet<String>,
    pub(crate) omitted: Vec<String>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) sums: Vec<Sum>,
    pub(crate) references: &'static [Reference],
    pub(crate) needs_settings: bool,
    pub(crate) layout: String,
}

impl Shape {
    pub(crate) fn place(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|other| other.name == column)
    }

    /// Returns the row of PostgreSQL's fields.
    pub(crate) fn of_fields(&self, fields: &mut Fields<'_>) -> Result<Values, Unholdable> {
        let one = |column: &Column| {
            let value = match fields.next()? {
                Some(field) => Some(column.kind.of_field(column.read, field)?),
                None if column.nullable => None,
                None => return Err(Unholdable::because("is NULL, and was NOT NULL when its table was read")),
            };
            Ok(value)
        };
        let mut one = one;
        self.columns.iter().map(|column| one(column).map_err(|e: Unholdable| e.of(column.name))).collect()
    }

    /// Returns the row that an item holds.
    pub(crate) fn of_item(&self, item: &dyn ItemView) -> Result<Values, Unholdable> {
        self.columns.iter().map(|column| column.of_item(item)).collect()
    }

    /// Returns the key columns of an item, at the places that they have in a row; all others are NULL.
    fn key_values_of_item(&self, item: &dyn ItemView) -> Result<Values, Unholdable> {
        let mut values = vec![None; self.columns.len()];
        for place in &self.key {
            values[*place] = self.columns[*place].of_item(item)?;
        }
        Ok(values)
    }

    /// Returns the same of a source key.
    fn key_values_of_key(&self, key: &SourceKey) -> Result<Values, Unholdable> {
        if key.0.len() != self.key.len() {
            return Err(Unholdable::because("the key has another number of elements than this table's"));
        }
        let mut values = vec![None; self.columns.len()];
        for (place, element) in self.key.iter().zip(&key.0) {
            let column = &self.columns[*place];
            values[*place] = Some(column.kind.of_key(element).map_err(|e| e.of(column.name))?);
        }
        Ok(values)
    }

    /// Returns the source key of a row, one literal a column.
    pub(crate) fn literals(&self, values: &Values) -> Result<Vec<String>, Unholdable> {
        let one = |place: &usize| {
            let column = &self.columns[*place];
            let value = values[*place].as_ref();
            let value = value.ok_or_else(|| Unholdable::because("is NULL in a key").of(column.name))?;
            Ok(column.kind.literal(value))
        };
        self.key.iter().map(one).collect()
    }

    pub(crate) fn literals_of_key(&self, key: &SourceKey) -> Result<Vec<String>, Unholdable> {
        self.literals(&self.key_values_of_key(key)?)
    }

    pub(crate) fn literals_of_item(&self, item: &Attributes) -> Result<Vec<String>, Unholdable> {
        self.literals(&self.key_values_of_item(item)?)
    }

    pub(crate) fn place_of_key(&self, key: &SourceKey) -> Result<TargetKey, Unholdable> {
        self.place_of(&self.key_values_of_key(key)?)
    }

    pub(crate) fn place_of_item(&self, item: &Attributes) -> Result<TargetKey, Unholdable> {
        self.place_of(&self.key_values_of_item(item)?)
    }

    /// Returns the place of a row in the target.
    pub(crate) fn place_of(&self, values: &Values) -> Result<TargetKey, Unholdable> {
        let of = |name: &str, part: &Part| {
            let value = self.part(part, values).map_err(|e| e.of(name))?;
            value.ok_or_else(|| Unholdable::because("is made of a column that is NULL").of(name))
        };
        let [pk, sk] = [PK, SK].map(|name| self.naming.called(name));
        let sort = self.sort.as_ref().map(|part| of(sk, part)).transpose()?;
        Ok(TargetKey { partition: of(pk, &self.partition)?, sort })
    }

    /// Returns the value of a key attribute; `None` where a column of it is NULL.
    fn part(&self, part: &Part, values: &Values) -> Result<Option<AttributeValue>, Unholdable> {
        match part {
            Part::Number(place) => Ok(values[*place].clone()),
            Part::Text(template) => {
                let unborrowed = self.unborrowed(template, values);
                let value_of = |column: &str| {
                    let place = self.place(column)?;
                    match unborrowed.iter().find(|(other, _)| *other == place) {
                        Some((_, text)) => Some(Value::Text(text)),
                        None => value_in_key(self.columns[place].kind, values[place].as_ref()?),
                    }
                };
                let text = template.render(value_of);
                let text = text.map_err(|unfit| Unholdable::because(unfit.to_string()))?;
                Ok(text.map(AttributeValue::S))
            }
        }
    }

    /// Values of a template whose text inside a key is no part of their attribute.
    fn unborrowed(&self, template: &Template, values: &Values) -> Vec<(usize, String)> {
        let mut texts = Vec::new();
        for place in template.columns().into_iter().filter_map(|name| self.place(name)) {
            let kind = self.columns[place].kind;
            let is_made = matches!(kind, Kind::Real | Kind::Double | Kind::Bytes | Kind::UuidBytes);
            if let (true, Some(value)) = (is_made, &values[place]) {
                texts.push((place, kind.literal(value)));
            }
        }
        texts
    }

    /// Returns the item of a row, without a version.
    pub(crate) fn item(&self, values: Values) -> Result<Item, Unholdable> {
        let place = self.place_of(&values)?;
        place.check().map_err(|reason| self.naming.explain(reason))?;
        let mut derived = Item::with_capacity(self.indexes.len() * 2 + 1);
        for index in &self.indexes {
            self.index_attributes(index, &values, &mut derived)?;
        }
        if let Some(at_s) = self.expires_at_s(&values) {
            derived.push(TTL_ATTRIBUTE, AttributeValue::N(at_s.to_string()));
        }
        let mut item = Item::with_capacity(self.columns.len() + self.indexes.len() * 2 + 4);
        item.push(PK, place.partition);
        if let Some(sort) = place.sort {
            item.push(SK, sort);
        }
        for (column, value) in self.columns.iter().zip(values) {
            if let Some(value) = value {
                item.push(column.attribute, value);
            }
        }
        item.append(derived);
        self.target.check_keys(&item).map_err(|reason| self.naming.explain(reason))?;
        self.naming.check(&item)?;
        Ok(item)
    }

    fn index_attributes(
        &self,
        shape: &IndexShape,
        values: &Values,
        item: &mut Item,
    ) -> Result<(), Unholdable> {
        if shape.when.iter().any(|(place, value)| values[*place].as_ref() != Some(value)) {
            return Ok(());
        }
        let Index { partition, sort, .. } = shape.index;
        let of = |name: &str, part: &Option<Part>| {
            part.as_ref().map(|part| self.part(part, values).map_err(|e| e.of(name))).transpose()
        };
        let of_sort =
            sort.map(|sort| of(sort.name, &shape.sort).map(|value| (sort.name, value))).transpose()?;
        match (of(partition.name, &shape.partition)?, of_sort) {
            // A part that is missing leaves the row out, and then the other part is of no use.
            (Some(None), _) | (_, Some((_, Some(None)))) => {}
            (partition_value, sort) => {
                if let Some(Some(value)) = partition_value {
                    item.push(partition.name, value);
                }
                if let Some((name, Some(Some(value)))) = sort {
                    item.push(name, value);
                }
            }
        }
        Ok(())
    }

    /// Returns the second since 1970 after which an item may be gone.
    pub(crate) fn expires_at_s(&self, values: &Values) -> Option<i64> {
        let (place, after_s) = self.expiry?;
        instant_of(values[place].as_ref()?)?.timestamp().checked_add(after_s)
    }

    /// Returns the day of a row, as a timestamp of fixed width.
    pub(crate) fn day_of<'a>(&self, values: &'a Values) -> Option<&'a str> {
        match values[self.day?].as_ref()? {
            AttributeValue::S(text) => Some(text),
            _ => None,
        }
    }
}

impl Column {
    fn of_item(&self, item: &dyn ItemView) -> Result<Option<AttributeValue>, Unholdable> {
        let value = match item.attribute(self.attribute) {
            Some(attribute) => {
                Some(self.kind.of_attribute(attribute).and_then(|value| self.fitting(value, attribute)))
            }
            None if self.nullable => None,
            None => Some(Err(Unholdable::because("is absent, and its column is NOT NULL"))),
        };
        value.transpose().map_err(|e| e.of(self.attribute))
    }

    /// Refuses what PostgreSQL would take and change.
    fn fitting(&self, value: AttributeValue, found: Attribute<'_>) -> Result<AttributeValue, Unholdable> {
        if let (Some(digits), AttributeValue::S(text)) = (self.second_digits, &value)
            && let Some((_, fraction)) = text.split_once('.')
            && fraction.trim_end_matches(['Z', 'S']).bytes().skip(digits).any(|byte| byte != b'0')
        {
            return Err(Unholdable::because(format!(
                "has more than {digits} digits of a second, and PostgreSQL would round it"
            )));
        }
        if let Attribute::S(text) = found
            && text.contains('\0')
        {
            return Err(Unholdable::because("holds a NUL, which no text of PostgreSQL does"));
        }
        Ok(value)
    }
}

/// Returns a value inside a key: numbers without zeros at the end, and everything else as its attribute
/// spells it.
fn value_in_key(kind: Kind, value: &AttributeValue) -> Option<Value<'_>> {
    Some(match (kind, value) {
        (Kind::Integer, AttributeValue::N(digits)) => Value::Integer(digits.parse().ok()?),
        (
            Kind::Scaled(_) | Kind::Numeric | Kind::Number,
            AttributeValue::S(text) | AttributeValue::N(text),
        ) => Value::Text(decimal::trimmed(text)),
        (_, AttributeValue::Bool(is)) => Value::Text(if *is { "true" } else { "false" }),
        (_, AttributeValue::S(text) | AttributeValue::N(text)) => Value::Text(text),
        _ => return None,
    })
}

/// Returns the moment that a date or a time says, those without a zone taken for UTC.
fn instant_of(value: &AttributeValue) -> Option<DateTime<Utc>> {
    let AttributeValue::S(text) = value else { return None };
    let whole = match text.len() {
        10 => format!("{text}T00:00:00.000000Z"),
        26 => format!("{text}Z"),
        _ => text.clone(),
    };
    parse_fixed_width(&whole).ok()
}
