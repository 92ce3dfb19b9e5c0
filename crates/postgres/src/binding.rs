//! One table's names on both sides, and the SQL fragments built from them once.

use std::fmt;
use std::str::FromStr;

use lockstep_core::{Error, Kind, TableHandle};

/// A schema-qualified relation name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Schema; `public` where none was given.
    pub schema: String,
    /// Table.
    pub name: String,
}

impl FromStr for Relation {
    type Err = Error;

    /// Reads `table` or `schema.table`. Names are taken as they are, case included.
    fn from_str(text: &str) -> Result<Self, Error> {
        let (schema, name) = text.split_once('.').unwrap_or(("public", text));
        if schema.is_empty() || name.is_empty() || name.contains('.') {
            let message = format!("`{text}` is not of the form table or schema.table");
            return Err(Error::source(Kind::Misconfigured, "reading a relation name", message));
        }
        Ok(Self { schema: schema.to_owned(), name: name.to_owned() })
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

impl Relation {
    /// The name as SQL takes it.
    pub fn sql(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }
}

/// Quotes an identifier.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a literal; sessions run with `standard_conforming_strings`.
pub(crate) fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A table, the relation it is read from and the DynamoDB table it moves to.
#[derive(Clone)]
pub struct TableBinding {
    /// What the table is.
    pub table: TableHandle,
    /// Where it is in the source.
    pub relation: Relation,
    /// Its name in the target.
    pub target_name: String,
}

impl fmt::Debug for TableBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} → {})", self.name(), self.relation, self.target_name)
    }
}

impl TableBinding {
    /// The table's name.
    pub fn name(&self) -> &'static str {
        self.table.name()
    }

    /// Every column, each qualified with `alias`.
    pub fn columns_sql(&self, alias: &str) -> String {
        list(self.table.columns().iter().map(|c| format!("{alias}.{}", quote_identifier(c.name))))
    }

    /// The source key of a row called `alias`, as `jsonb`. Trigger, relay and stores all use this one expression.
    pub fn key_sql(&self, alias: &str) -> String {
        let parts = self.table.key_columns().iter().map(|c| (c.key_expression)(&format!("{alias}.{}", quote_identifier(c.name))));
        format!("pg_catalog.jsonb_build_array({})", list(parts))
    }

    /// Names of the primary key's columns.
    pub fn primary_key(&self) -> impl Iterator<Item = &'static str> + Clone + '_ {
        self.table.key_columns()[..self.table.primary_key_columns()].iter().map(|c| c.name)
    }

    /// The primary key of a row called `alias`, as a comma-separated list.
    pub fn primary_key_sql(&self, alias: &str) -> String {
        list(self.primary_key().map(|name| format!("{alias}.{}", quote_identifier(name))))
    }

    /// The condition that source row `row` is the one named by the `jsonb` expression `key`: found by primary key, then
    /// held against the whole key, so that a row whose key columns have moved on does not answer to its old key.
    pub fn row_of_key_sql(&self, row: &str, key: &str) -> String {
        format!("{} AND {} = {key}", self.row_of_primary_key_sql(row, key), self.key_sql(row))
    }

    /// The same by primary key alone: the row, whichever source key it has by now.
    pub(crate) fn row_of_primary_key_sql(&self, row: &str, key: &str) -> String {
        let by_primary_key = self.table.key_columns()[..self.table.primary_key_columns()].iter().enumerate().map(|(i, c)| {
            let cast = if c.sql_type == "timestamp with time zone" { "timestamp AT TIME ZONE 'UTC'" } else { c.sql_type };
            format!("{row}.{} = ({key}->>{i})::{cast}", quote_identifier(c.name))
        });
        by_primary_key.collect::<Vec<_>>().join(" AND ")
    }
}

/// The digest of a source key, a `jsonb` expression: what Lockstep's tables are keyed by.
///
/// Not by the key itself: a btree holds 2,704 bytes, and a text in a key is as long as the application likes. Its own statement
/// failed, because the trigger could not mark the row. Not by `md5` either: two keys of one `md5` can be made, and the second
/// would be taken for the first. Spelled so that it is immutable and takes every byte that the database holds, also where
/// that is no text of any encoding; and the same under every `standard_conforming_strings`.
///
/// Two keys are the same if they print the same. A column type whose equal values print in several ways (`1.0`, `1.00`) has to
/// print them in one in [`Column::key_expression`](lockstep_core::Column::key_expression).
pub(crate) fn digest_sql(key: &str) -> String {
    text_digest_sql(&format!("({key})::text"))
}

/// The same of a `text` expression.
pub(crate) fn text_digest_sql(text: &str) -> String {
    format!("pg_catalog.sha256(pg_catalog.decode(pg_catalog.replace({text}, E'\\\\', E'\\\\\\\\'), 'escape'))")
}

/// Parts with commas between.
pub fn list(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_stay_inside_their_quotes() {
        let relation: Relation = "app.pay\"ments".parse().expect("two parts");
        assert_eq!(relation.sql(), "\"app\".\"pay\"\"ments\"");
        assert_eq!(quote_literal("o'clock"), "'o''clock'");
        assert!("a.b.c".parse::<Relation>().is_err());
        assert!("".parse::<Relation>().is_err());
    }
}
