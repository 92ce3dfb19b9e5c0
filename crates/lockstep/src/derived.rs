//! Items that the code of `#[derive(Table)]` names. Not for applications: it may change in any version.

use std::borrow::Cow;
use std::sync::LazyLock;

pub use chrono;
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};
pub use lockstep_core::{Aggregate, MigratableTable, Reference, Rule};
pub use lockstep_core::{Attribute, Labelled, label};
pub use lockstep_core::{AttributeValue, Item, ItemView, Unholdable, serde_json};
pub use lockstep_core::{Column, ColumnSpec, ColumnTypes, FieldDiff, Fields, PgArguments, Row};
pub use lockstep_core::{Index, KeyAttribute, KeyType, OwnNames, Projected, SK, TargetKey, TargetSchema};
pub use lockstep_postgres::column_sql::printed;

pub use crate::store::PrimaryKey;
use lockstep_template::{Template, Value};
pub use std::{
    option::Option::{self, None, Some},
    result::Result::{self, Err, Ok},
    string::String,
    vec::Vec,
};
use uuid::Uuid;

/// A template that is parsed once.
pub type Parsed = LazyLock<Result<Template, String>>;

/// Parses a template that the derive has parsed before.
///
/// # Errors
/// When it is none.
pub fn parsed(text: &str) -> Result<Template, String> {
    text.parse::<Template>().map_err(|e| e.to_string())
}

/// The value of a column in a key.
#[derive(Debug)]
pub enum KeyText<'a> {
    /// A whole number.
    Integer(i64),
    /// Anything else.
    Text(Cow<'a, str>),
}

/// A type that keys can be made of.
#[diagnostic::on_unimplemented(
    message = "no key can be made of `{Self}`",
    label = "a key is made of i16, i32, i64, String, Uuid, Vec<u8>, dates and times, and enums"
)]
pub trait KeyValue {
    /// Returns its value in a key; `None` is NULL.
    ///
    /// # Errors
    /// When a key cannot hold it.
    fn of(&self) -> Result<Option<KeyText<'_>>, Unholdable>;
}

macro_rules! integer {
    ($($type:ty),*) => { $(
        impl KeyValue for $type {
            fn of(&self) -> Result<Option<KeyText<'_>>, Unholdable> {
                Ok(Some(KeyText::Integer((*self).into())))
            }
        }
    )* };
}

integer!(i16, i32, i64);

impl KeyValue for bool {
    fn of(&self) -> Result<Option<KeyText<'_>>, Unholdable> {
        let text = if *self { "true" } else { "false" };
        Ok(Some(KeyText::Text(Cow::Borrowed(text))))
    }
}

impl KeyValue for String {
    fn of(&self) -> Result<Option<KeyText<'_>>, Unholdable> {
        Ok(Some(KeyText::Text(Cow::Borrowed(self))))
    }
}

impl KeyValue for DateTime<Utc> {
    fn of(&self) -> Result<Option<KeyText<'_>>, Unholdable> {
        lockstep_core::fixed_width(*self).map(|text| Some(KeyText::Text(Cow::Owned(text))))
    }
}

impl KeyValue for Uuid {
    fn of(&self) -> Result<Option<KeyText<'_>>, Unholdable> {
        Ok(Some(KeyText::Text(Cow::Owned(self.to_string()))))
    }
}

/// Those of which the text in a key is what a literal says.
macro_rules! spelled {
    ($($type:ty),*) => { $(
        impl KeyValue for $type {
            fn of(&self) -> Result<Option<KeyText<'_>>, Unholdable> {
                Column::literal(self).map(|text| Some(KeyText::Text(Cow::Owned(text))))
            }
        }
    )* };
}

spelled!(Vec<u8>, NaiveDate, NaiveTime, NaiveDateTime);

/// Returns the label of an enum in a key; `None` is NULL. A macro sees no type but its name, so here the
/// compiler says what is none.
pub fn label_in_key<T: LabelInKey>(value: Option<&T>) -> Option<KeyText<'static>> {
    value.map(|value| KeyText::Text(Cow::Borrowed(value.text())))
}

/// A type that `#[derive(Label)]` was written for.
#[diagnostic::on_unimplemented(
    message = "no key can be made of `{Self}`",
    label = "a key is made of i16, i32, i64, String, Uuid, Vec<u8>, dates and times under their own names, \
             and of enums with #[derive(lockstep::Label)]"
)]
pub trait LabelInKey {
    /// Returns its label.
    fn text(&self) -> &'static str;
}

impl<T: Labelled> LabelInKey for T {
    fn text(&self) -> &'static str {
        self.label()
    }
}

impl<T: KeyValue> KeyValue for Option<T> {
    fn of(&self) -> Result<Option<KeyText<'_>>, Unholdable> {
        self.as_ref().map_or(Ok(None), T::of)
    }
}

/// Renders a template; `None` where a column is NULL.
///
/// # Errors
/// Names the column that does not fit its form.
pub fn render(
    template: &Parsed,
    values: &[(&str, Option<KeyText<'_>>)],
    number: bool,
) -> Result<Option<AttributeValue>, Unholdable> {
    let template = template.as_ref().map_err(|e| Unholdable::because(e.clone()))?;
    let value_of = |name: &str| match values.iter().find(|(column, _)| *column == name)?.1.as_ref()? {
        KeyText::Integer(number) => Some(Value::Integer(*number)),
        KeyText::Text(text) => Some(Value::Text(text)),
    };
    let key = template.render(value_of).map_err(|e| Unholdable::because(e.why).of(&e.column))?;
    Ok(key.map(|text| if number { AttributeValue::N(text) } else { AttributeValue::S(text) }))
}

/// A time, or one that may be NULL.
pub trait ExpiryColumn {
    /// Returns the time.
    fn moment(self) -> Option<DateTime<Utc>>;
}

impl ExpiryColumn for DateTime<Utc> {
    fn moment(self) -> Option<DateTime<Utc>> {
        Some(self)
    }
}

impl ExpiryColumn for Option<DateTime<Utc>> {
    fn moment(self) -> Option<DateTime<Utc>> {
        self
    }
}

/// `after_s` seconds after a column; `None` keeps the item.
pub fn expiry(column: impl ExpiryColumn, after_s: i64) -> Option<DateTime<Utc>> {
    column.moment()?.checked_add_signed(TimeDelta::seconds(after_s))
}

#[cfg(test)]
mod tests;
