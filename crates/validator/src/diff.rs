//! One row against one item. Pure: no store, no clock.

use lockstep_core::{
    AnyTable, Attributes, CompareError, FieldDiff, FieldValue, Fields, PK, SK, Unholdable, is_tombstone,
};
use lockstep_postgres::KeyState;

/// A source row.
pub(crate) enum SourceRow<'a> {
    /// A tuple of a chunk: how tests have rows without a store.
    #[cfg(test)]
    Copied(&'a [u8]),
    /// A key that was looked up; its row exists.
    LookedUp(&'a KeyState),
}

impl<'a> SourceRow<'a> {
    /// Returns the row of a key that was looked up, if there is one.
    pub(crate) fn of(state: &'a KeyState) -> Option<Self> {
        state.exists().then_some(Self::LookedUp(state))
    }

    /// Runs `read` over the row's fields, from the first one.
    pub(crate) fn fields<T>(&self, read: impl FnOnce(&mut Fields<'_>) -> T) -> T {
        match self {
            #[cfg(test)]
            Self::Copied(tuple) => read(&mut Fields::of_copy(tuple)),
            Self::LookedUp(state) => state.with_fields(read).expect("the row exists: `of` checked it"),
        }
    }
}

/// Relation of a row to the item at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Neither a row nor a live item.
    Absent,
    /// Row and item say the same.
    Equal,
    /// A row without a live item.
    Missing,
    /// A row past its expiry without any item. A tombstone in its place is no expiry: expiry leaves nothing.
    Expired,
    /// Row and item differ in these columns or attributes.
    Different(Vec<String>),
    /// A live item that is not the row's: there is no row, or its place is another one.
    Extra,
    /// Several rows have its key, which is these columns: at most one of them is in the target.
    Shared(Vec<String>),
    /// The target cannot hold the row, because of this column.
    Unholdable(String),
    /// The item does not decode, because of this attribute.
    Undecodable(String),
}

/// Compares. `now_s` is in seconds since 1970 and decides about expiry only.
pub(crate) fn classify(
    table: &dyn AnyTable,
    row: Option<SourceRow<'_>>,
    item: Option<&Attributes>,
    now_s: i64,
) -> Class {
    let live = item.filter(|item| !is_tombstone(item));
    match (row, live) {
        (None, None) => Class::Absent,
        (None, Some(_)) => Class::Extra,
        (Some(row), None) => {
            if let Err(unholdable) = row.fields(|fields| table.encode(fields)) {
                return Class::Unholdable(unholdable.column);
            }
            let expired = row.fields(|fields| table.expires_at(fields)).is_some_and(|at_s| at_s <= now_s);
            if expired && item.is_none() { Class::Expired } else { Class::Missing }
        }
        (Some(row), Some(item)) => match row.fields(|fields| table.differences(fields, item)) {
            Ok(fields) if fields.is_empty() => Class::Equal,
            Ok(fields) if fields.iter().any(|field| field.column == PK || field.column == SK) => Class::Extra,
            Ok(fields) => {
                Class::Different(fields.into_iter().map(|field| called(table, field.column)).collect())
            }
            Err(CompareError::Source(unholdable)) => Class::Unholdable(unholdable.column),
            Err(CompareError::Target(undecodable)) => Class::Undecodable(undecodable.column),
        },
    }
}

/// Explains what differs between a row and its item, or which attribute does not decode and why: without
/// values, unless `unmasked` or the table reveals them.
pub(crate) fn explain(
    table: &dyn AnyTable,
    row: &SourceRow<'_>,
    item: &Attributes,
    unmasked: bool,
) -> Vec<FieldDiff> {
    let fields = match row.fields(|fields| table.differences(fields, item)) {
        Ok(fields) => fields,
        Err(CompareError::Source(_)) => Vec::new(),
        // Reasons never hold values.
        Err(CompareError::Target(Unholdable { column, reason })) => {
            vec![FieldDiff {
                column,
                path: None,
                source: FieldValue::Masked,
                target: FieldValue::Unreadable(reason),
            }]
        }
    };
    let shown =
        |field: FieldDiff| if unmasked || table.reveals(&field.column) { field } else { field.masked() };
    let named = |field: FieldDiff| FieldDiff { column: called(table, field.column.clone()), ..field };
    fields.into_iter().map(shown).map(named).collect()
}

/// Returns a column, or an attribute of Lockstep's own as it is called in the table.
fn called(table: &dyn AnyTable, name: String) -> String {
    let is_column = table.columns().iter().any(|column| column.name == name);
    if is_column { name } else { table.naming().sent(&name).into_owned() }
}
