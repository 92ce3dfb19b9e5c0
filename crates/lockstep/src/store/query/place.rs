//! The place of a row in the order of a query: the same in both stores, and never that of two rows.
//!
//! 1. An index of a table without a sort key has three rows in a partition, all at sort key "". 2. A reader
//! takes equal sort keys for one row that moved, and a position at "" for the end. 3. Two rows are lost. So a
//! row is known by its primary key, and rows with one sort key stand in the order of the query's columns.

use lockstep_core::{AttributeValue, ColumnSpec, Error, Item, Kind, MigratableTable, Result, Row, SK};
use lockstep_postgres::quote_identifier;

use super::Query;
use crate::store::Store;

/// The place of a row.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The sort key of its item; empty in a table without one.
    pub(super) sort: String,
    /// The values of the query's columns, which end in the primary key.
    columns: Vec<Part>,
}

/// A value of a key, in PostgreSQL's order; of texts that is the order of bytes, which [`ordered`] asks for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Number(i128),
    Boolean(bool),
    Text(String),
    Bytes(Vec<u8>),
    Null,
}

impl Place {
    #[cfg(test)]
    pub(super) fn at(sort: &str, columns: Vec<Part>) -> Self {
        Self { sort: sort.to_owned(), columns }
    }

    /// The place of a row, and its primary key.
    pub(super) fn of<T: MigratableTable>(
        store: &Store<T>,
        query: &Query<T>,
        key: &T::Key,
    ) -> Result<(Self, Vec<Part>)> {
        let sort = sort_of(store, key)?;
        let mut values = Item::with_capacity(T::Key::COLUMNS.len());
        key.clone().into_item(&mut values).map_err(|reason| Error::unholdable(T::NAME, &reason))?;
        let part = |name: &str| part::<T>(values.get(name));
        let columns: Result<_> = query.order_columns().map(|column| part(column.attribute)).collect();
        let primary = T::Key::COLUMNS.iter().take(T::PRIMARY_KEY_COLUMNS);
        let primary_key: Result<_> = primary.map(|column| part(column.attribute)).collect();
        Ok((Self { sort, columns: columns? }, primary_key?))
    }
}

impl<T: MigratableTable> Query<T> {
    /// The columns of the query's order, then those of the primary key that it leaves out: without them rows
    /// that are equal in the order would be skipped at the end of a page.
    pub(super) fn order_columns(&self) -> impl Iterator<Item = &'static ColumnSpec> {
        let named = self.order.iter().filter_map(|name| T::Key::COLUMNS.iter().find(|c| c.name == *name));
        let primary = T::Key::COLUMNS.iter().take(T::PRIMARY_KEY_COLUMNS);
        named.chain(primary.filter(|column| !self.order.contains(&column.name)))
    }
}

/// A column as the source puts it in order, and the parameter of that number as it is compared with it. The
/// target orders texts by their bytes, and so does Rust.
pub(super) fn ordered(column: &ColumnSpec, parameter: usize) -> (String, String) {
    let name = format!("s.{}", quote_identifier(column.name));
    let value = format!("${parameter}");
    if !column.labels.is_empty() {
        (format!("{name}::text COLLATE pg_catalog.\"C\""), format!("{value}::text"))
    } else if column.sql_type == "text" || column.sql_type.starts_with("character") {
        (format!("{name} COLLATE pg_catalog.\"C\""), value)
    } else {
        (name, value)
    }
}

fn part<T: MigratableTable>(value: Option<&AttributeValue>) -> Result<Part> {
    let unlike = || unordered::<T>("a column of the key is no whole number, text, boolean or bytes");
    match value {
        None => Ok(Part::Null),
        Some(AttributeValue::S(text)) => Ok(Part::Text(text.clone())),
        Some(AttributeValue::Bool(is)) => Ok(Part::Boolean(*is)),
        Some(AttributeValue::B(blob)) => Ok(Part::Bytes(blob.as_ref().to_vec())),
        Some(AttributeValue::N(digits)) => digits.parse().map(Part::Number).map_err(|_| unlike()),
        Some(_) => Err(unlike()),
    }
}

/// The sort key of a row's item; empty in a table without one.
fn sort_of<T: MigratableTable>(store: &Store<T>, key: &T::Key) -> Result<String> {
    let place = store.table().target_key(key).map_err(|reason| Error::unholdable(T::NAME, &reason))?;
    match place.sort {
        None => Ok(String::new()),
        Some(AttributeValue::S(sort)) => Ok(sort),
        Some(_) => Err(unordered::<T>(&format!("{SK} is no string"))),
    }
}

fn unordered<T: MigratableTable>(why: &str) -> Error {
    let message = format!("{why}, so rows of {} cannot be put in order", T::NAME);
    Error::target(Kind::Misconfigured, format!("querying {}", T::NAME), message)
}
