//! Rows: a struct per table, whose columns are declared once.

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{Row as _, ValueRef};

use crate::column::ColumnTypes;
use crate::difference::FieldDiff;
use crate::item::Item;
use crate::unholdable::Unholdable;
use crate::view::ItemView;

/// One column, as the framework knows it.
#[derive(Clone, Copy, Debug)]
pub struct ColumnSpec {
    /// Column name in the source.
    pub name: &'static str,
    /// The attribute that holds it in the target.
    pub attribute: &'static str,
    /// The type the row struct expects, as `format_type()` prints it.
    pub sql_type: &'static str,
    /// Whether the row struct allows NULL.
    pub nullable: bool,
    /// The labels of an enum that the row struct knows; of other types none.
    pub labels: &'static [&'static str],
    /// Choice of what its attribute is; see [`Column::HELD_AS`](crate::Column::HELD_AS).
    pub held_as: Option<&'static str>,
    /// Whether a source column of that type is the one that the row struct says.
    pub accepts: fn(&str) -> bool,
    /// Whether the Rust type reads a column of that type, whatever the struct says of the column.
    pub reads: fn(&str) -> bool,
    /// The column inside a source key; see [`Column::key_expression`](crate::Column::key_expression).
    pub key_expression: fn(&str) -> String,
    /// A field as an SQL literal; see [`Column::literal`](crate::Column::literal).
    pub literal: fn(Option<&[u8]>) -> Result<String, Unholdable>,
}

/// Returns the attribute of the column of that name. For constants, so that no row looks for it.
pub(crate) const fn attribute_of(columns: &[ColumnSpec], name: Option<&str>) -> Option<&'static str> {
    let Some(name) = name else { return None };
    let mut at = 0;
    while at < columns.len() {
        if is_same(columns[at].name.as_bytes(), name.as_bytes()) {
            return Some(columns[at].attribute);
        }
        at += 1;
    }
    None
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

/// A row of one table, or the part of it that is its key. Implemented by [`row!`](crate::row), never by hand.
pub trait Row: Sized + Clone + Send + Sync + std::fmt::Debug + PartialEq + 'static {
    /// The columns in the order of every statement this framework builds.
    const COLUMNS: &'static [ColumnSpec];

    /// Reads a row from PostgreSQL's binary fields, in the order of [`Row::COLUMNS`].
    ///
    /// # Errors
    /// Names the column that DynamoDB or Rust cannot hold.
    fn from_fields(fields: &mut Fields<'_>) -> Result<Self, Unholdable>;

    /// Appends every column as a parameter, in the order of [`Row::COLUMNS`].
    fn bind(&self, arguments: &mut PgArguments);

    /// Makes every column that is not NULL its attribute.
    ///
    /// # Errors
    /// Names the column that DynamoDB cannot hold.
    fn into_item(self, item: &mut Item) -> Result<(), Unholdable>;

    /// Returns the row as PostgreSQL would hold it in columns of these types; see
    /// [`Column::fitted`](crate::Column::fitted).
    ///
    /// # Errors
    /// Names the column whose value PostgreSQL would refuse.
    fn fitted(self, types: &ColumnTypes) -> Result<Self, Unholdable>;

    /// Reads the row back from an item's attributes.
    ///
    /// # Errors
    /// Names the attribute that does not decode.
    fn from_item(item: &dyn ItemView) -> Result<Self, Unholdable>;

    /// Reads the row from the JSON array of a source key.
    ///
    /// # Errors
    /// Names the element that does not decode.
    fn from_key(elements: &[serde_json::Value]) -> Result<Self, Unholdable>;

    /// Returns every column as the text of an SQL literal. For keys: not every column type has one.
    ///
    /// # Errors
    /// Names the column whose type has none.
    fn literals(&self) -> Result<Vec<String>, Unholdable>;

    /// Returns the columns whose values differ in meaning.
    fn differing(&self, other: &Self) -> Vec<&'static str>;

    /// Returns how the source's row, which is `self`, and the target's differ, one entry a differing column.
    fn differences(&self, other: &Self) -> Vec<FieldDiff>;
}

/// A cursor over the binary fields of one source row, from a `COPY` stream or from a query.
#[derive(Debug)]
pub struct Fields<'a>(Origin<'a>);

#[derive(Debug)]
enum Origin<'a> {
    Copy { rest: &'a [u8] },
    Query { row: &'a PgRowRef<'a>, next: usize },
}

struct PgRowRef<'a>(&'a PgRow);

impl std::fmt::Debug for PgRowRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values stay out of logs (R36).
        write!(f, "row of {} columns", self.0.len())
    }
}

impl<'a> Fields<'a> {
    /// Returns the fields of one `COPY (FORMAT binary)` tuple, after its column count.
    pub fn of_copy(tuple: &'a [u8]) -> Self {
        Self(Origin::Copy { rest: tuple })
    }

    /// Runs `read` over the fields of a query's row, beginning with column `first`.
    ///
    /// The row must come from a prepared statement, because only those answer in binary.
    pub fn of_query<T>(row: &PgRow, first: usize, read: impl FnOnce(&mut Fields<'_>) -> T) -> T {
        let row = PgRowRef(row);
        read(&mut Fields(Origin::Query { row: &row, next: first }))
    }

    /// Returns the next field; `None` is NULL.
    ///
    /// # Errors
    /// When the row has fewer fields than the row type has columns.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<&'a [u8]>, Unholdable> {
        let short = || Unholdable::because("the row from PostgreSQL has fewer columns than the row type");
        match &mut self.0 {
            Origin::Copy { rest } => {
                let (length, tail) = rest.split_first_chunk::<4>().ok_or_else(short)?;
                let length = i32::from_be_bytes(*length);
                let Ok(length) = usize::try_from(length) else {
                    *rest = tail;
                    return Ok(None);
                };
                let (field, tail) = tail.split_at_checked(length).ok_or_else(short)?;
                *rest = tail;
                Ok(Some(field))
            }
            Origin::Query { row, next } => {
                let index = *next;
                *next += 1;
                let value = row.0.try_get_raw(index).map_err(|_| short())?;
                if value.is_null() {
                    return Ok(None);
                }
                value.as_bytes().map(Some).map_err(|_| short())
            }
        }
    }
}

/// Declares a row struct, or a key struct, and derives [`Row`] from the types of its fields.
///
/// A type may be followed by the exact SQL type where the Rust type alone does not say it:
///
/// ```
/// use lockstep_core::{Row, Scaled};
///
/// lockstep_core::row! {
///     /// A payment.
///     pub struct Payment {
///         /// Identity.
///         pub payment_id: i64,
///         /// What was paid.
///         pub amount: Scaled<2> = "numeric(18,2)",
///         /// When it was settled, if it was.
///         pub reference: Option<String>,
///     }
/// }
///
/// assert_eq!(Payment::COLUMNS[1].sql_type, "numeric(18,2)");
/// assert!(Payment::COLUMNS[2].nullable);
/// ```
#[macro_export]
macro_rules! row {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $( $(#[$field_meta:meta])* $field_vis:vis $field:ident : $type:ty $(= $sql:literal)? ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $name { $( $(#[$field_meta])* $field_vis $field: $type ),* }

        impl $crate::Row for $name {
            const COLUMNS: &'static [$crate::ColumnSpec] = &[ $( $crate::ColumnSpec {
                name: stringify!($field),
                attribute: stringify!($field),
                sql_type: $crate::row!(@sql $type $(, $sql)?),
                nullable: <$type as $crate::Column>::NULLABLE,
                labels: <$type as $crate::Column>::LABELS,
                held_as: <$type as $crate::Column>::HELD_AS,
                accepts: $crate::row!(@accepts $type $(, $sql)?),
                reads: <$type as $crate::Column>::accepts,
                key_expression: <$type as $crate::Column>::key_expression,
                literal: <$type as $crate::Column>::literal_of_field,
            } ),* ];

            fn from_fields(fields: &mut $crate::Fields<'_>) -> Result<Self, $crate::Unholdable> {
                Ok(Self { $( $field: fields
                    .next()
                    .and_then(<$type as $crate::Column>::from_field)
                    .map_err(|e| e.of(stringify!($field)))? ),* })
            }

            fn bind(&self, arguments: &mut $crate::PgArguments) {
                $( $crate::Column::bind(&self.$field, arguments); )*
            }

            fn into_item(self, item: &mut $crate::Item) -> Result<(), $crate::Unholdable> {
                $( if let Some(value) = $crate::Column::into_attribute(self.$field)
                    .map_err(|e| e.of(stringify!($field)))?
                {
                    item.push(stringify!($field), value);
                } )*
                Ok(())
            }

            fn fitted(self, types: &$crate::ColumnTypes) -> Result<Self, $crate::Unholdable> {
                Ok(Self { $( $field: $crate::Column::fitted(
                    self.$field,
                    types.of(stringify!($field), $crate::row!(@sql $type $(, $sql)?)),
                ).map_err(|e| e.of(stringify!($field)))? ),* })
            }

            fn from_item(item: &dyn $crate::ItemView) -> Result<Self, $crate::Unholdable> {
                Ok(Self { $( $field: <$type as $crate::Column>::from_attribute(item.attribute(stringify!($field)))
                    .map_err(|e| e.of(stringify!($field)))? ),* })
            }

            fn from_key(elements: &[$crate::serde_json::Value]) -> Result<Self, $crate::Unholdable> {
                let mut elements = elements.iter();
                Ok(Self { $( $field: elements
                    .next()
                    .ok_or_else(|| $crate::Unholdable::because("the key has too few elements"))
                    .and_then(<$type as $crate::Column>::from_key)
                    .map_err(|e| e.of(stringify!($field)))? ),* })
            }

            fn literals(&self) -> Result<Vec<String>, $crate::Unholdable> {
                Ok(vec![ $( $crate::Column::literal(&self.$field).map_err(|e| e.of(stringify!($field)))? ),* ])
            }

            fn differing(&self, other: &Self) -> Vec<&'static str> {
                let mut columns = Vec::new();
                $( if !$crate::Column::same(&self.$field, &other.$field) { columns.push(stringify!($field)); } )*
                columns
            }

            fn differences(&self, other: &Self) -> Vec<$crate::FieldDiff> {
                let mut found = Vec::new();
                $( if let Some(difference) = $crate::Column::difference(&self.$field, &other.$field) {
                    found.push(difference.in_column(stringify!($field)));
                } )*
                found
            }
        }
    };
    (@sql $type:ty) => { <$type as $crate::Column>::SQL_TYPE };
    (@sql $type:ty, $sql:literal) => { $sql };
    (@accepts $type:ty) => { <$type as $crate::Column>::accepts };
    (@accepts $type:ty, $sql:literal) => { |found: &str| found == $sql };
}
