//! One table's names on both sides, and the SQL fragments built from them once.

use std::fmt;
use std::str::FromStr;

use lockstep_core::{Error, Kind, TableHandle};

use super::sql::{CONTROL_SCHEMA, control_schema};

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

    /// Reads `table` or `schema.table`. Names are taken as they are, case included. One that has a dot in it
    /// is put in double quotes, as SQL takes it: `"my.schema"."My.Table"`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            let message = format!(
                "`{text}` is not of the form table or schema.table; put a name with a dot in it in double quotes"
            );
            Error::source(Kind::Misconfigured, "reading a relation name", message)
        };
        let parts = parts(text).ok_or_else(wrong)?;
        match parts.as_slice() {
            [name] => Ok(Self { schema: "public".to_owned(), name: name.clone() }),
            [schema, name] => Ok(Self { schema: schema.clone(), name: name.clone() }),
            _ => Err(wrong()),
        }
    }
}

/// Returns the names between the dots of a qualified name, quoted or not; `None` where one is empty or a
/// quote does not end.
fn parts(text: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let (part, after) = match rest.strip_prefix('"') {
            Some(quoted) => until_quote(quoted)?,
            None => {
                let end = rest.find('.').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        if part.is_empty() {
            return None;
        }
        parts.push(part);
        match after.strip_prefix('.') {
            Some(more) => rest = more,
            None => return after.is_empty().then_some(parts),
        }
    }
}

/// Returns a quoted name up to its closing quote, and what comes after it. Two quotes are one of the name.
fn until_quote(quoted: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = quoted;
    loop {
        let end = rest.find('"')?;
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, rest)),
        }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

impl Relation {
    /// Returns the name as SQL takes it.
    pub fn sql(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }
}

/// Quotes an identifier.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a literal; sessions run with `standard_conforming_strings`.
/// Text of the application that has our schema's name in it is spelled so that it is not taken for the name.
pub(crate) fn quote_literal(text: &str) -> String {
    if text.contains(CONTROL_SCHEMA) && control_schema() != CONTROL_SCHEMA {
        return spelled(text);
    }
    format!("'{}'", text.replace('\'', "''"))
}

/// Returns a literal of the same text in which no `lockstep` stands, for [`sql`](super::sql) to leave it. 1.
/// The keys of a range end at `lockstep.a`. 2. The name of a schema in it would be replaced. 3. The range
/// would end elsewhere, and rows between the two be in none.
fn spelled(text: &str) -> String {
    let escaped = text.replace('\\', r"\\").replace('\'', "''");
    format!("E'{}'", escaped.replace(CONTROL_SCHEMA, r"\x6cockstep"))
}

/// A table, the relation it is read from and the DynamoDB table it moves to.
#[derive(Clone)]
pub struct TableBinding {
    /// Table that is bound.
    pub table: TableHandle,
    /// Relation in the source.
    pub relation: Relation,
    /// Name of the table in the target.
    pub target_name: String,
}

impl fmt::Debug for TableBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} → {})", self.name(), self.relation, self.target_name)
    }
}

impl TableBinding {
    /// Returns the table's name.
    pub fn name(&self) -> &'static str {
        self.table.name()
    }

    /// Returns every column, each qualified with `alias`.
    pub fn columns_sql(&self, alias: &str) -> String {
        let selected = |c| self.table.selected(c, &format!("{alias}.{}", quote_identifier(c.name)));
        list(self.table.columns().iter().map(selected))
    }

    /// Returns the expression that writes column `at` of
    /// [`AnyTable::columns`](lockstep_core::AnyTable::columns) from a parameter.
    pub(crate) fn parameter_sql(&self, at: usize, parameter: usize) -> String {
        self.table.parameter(&self.table.columns()[at], &format!("${parameter}"))
    }

    /// Returns the source key of a row called `alias`, as `jsonb`. Trigger, relay and stores all use this one
    /// expression.
    pub fn key_sql(&self, alias: &str) -> String {
        let parts = self
            .table
            .key_columns()
            .iter()
            .map(|c| (c.key_expression)(&format!("{alias}.{}", quote_identifier(c.name))));
        format!("pg_catalog.jsonb_build_array({})", list(parts))
    }

    /// Tells whether a row may have another source key at another time: its key is more than its primary key.
    pub fn has_several_keys(&self) -> bool {
        self.table.primary_key_columns() < self.table.key_columns().len()
    }

    /// Names of the primary key's columns.
    pub fn primary_key(&self) -> impl Iterator<Item = &'static str> + Clone + '_ {
        self.table.key_columns()[..self.table.primary_key_columns()].iter().map(|c| c.name)
    }

    /// Returns the primary key of a row called `alias`, as a comma-separated list.
    pub fn primary_key_sql(&self, alias: &str) -> String {
        list(self.primary_key().map(|name| format!("{alias}.{}", quote_identifier(name))))
    }

    /// Returns the condition that source row `row` is the one named by the `jsonb` expression `key`: found by
    /// primary key, then held against the whole key, so that a row whose key columns have moved on does not
    /// answer to its old key.
    pub fn row_of_key_sql(&self, row: &str, key: &str) -> String {
        format!("{} AND {} = {key}", self.row_of_primary_key_sql(row, key), self.key_sql(row))
    }

    /// Returns the same by primary key alone: the row, whichever source key it has by now.
    ///
    /// By the operators of PostgreSQL's own schema, also where a statement has the search path of the
    /// application. 1. A key is a varchar, an enum, an array or a range, whose operators are made for other
    /// types: text, any enum. 2. A role makes `=` for that very type in the path. 3. A deletion of the feed
    /// calls it as the operator, and one that says yes deletes every row. No key is of a type whose operators
    /// are elsewhere: `inspect` refuses it.
    pub(crate) fn row_of_primary_key_sql(&self, row: &str, key: &str) -> String {
        let names = self.primary_key();
        let same = names
            .zip(self.primary_key_values_sql(key))
            .map(|(name, value)| format!("{row}.{} OPERATOR(pg_catalog.=) {value}", quote_identifier(name)));
        same.collect::<Vec<_>>().join(" AND ")
    }

    /// Returns the condition that two keys, `jsonb` expressions, are of one primary key to PostgreSQL,
    /// whatever their texts.
    pub(crate) fn same_primary_key_sql(&self, one: &str, other: &str) -> String {
        let others = self.primary_key_values_sql(other);
        let same = self
            .primary_key_values_sql(one)
            .zip(others)
            .map(|(one, other)| format!("{one} OPERATOR(pg_catalog.=) {other}"));
        same.collect::<Vec<_>>().join(" AND ")
    }

    /// Returns the values of the primary key's columns in a key, a `jsonb` expression.
    fn primary_key_values_sql(&self, key: &str) -> impl Iterator<Item = String> {
        let columns = &self.table.key_columns()[..self.table.primary_key_columns()];
        columns.iter().enumerate().map(move |(i, c)| {
            let cast = if c.sql_type == "timestamp with time zone" {
                "timestamp AT TIME ZONE 'UTC'"
            } else {
                c.sql_type
            };
            format!("(({key}->>{i})::{cast})")
        })
    }
}

/// Returns the digest of a source key, a `jsonb` expression: what Lockstep's tables are keyed by.
///
/// Not by the key itself: a btree holds 2,704 bytes, and a text in a key is as long as the application likes.
/// Its own statement failed, because the trigger could not mark the row. Not by `md5` either: two keys of one
/// `md5` can be made, and the second would be taken for the first. Spelled so that it is immutable and takes
/// every byte that the database holds, also where that is no text of any encoding; and the same under every
/// `standard_conforming_strings`.
///
/// Two keys are the same if they print the same. A column type whose equal values print in several ways
/// (`1.0`, `1.00`) has to print them in one in
/// [`Column::key_expression`](lockstep_core::Column::key_expression).
pub(crate) fn digest_sql(key: &str) -> String {
    text_digest_sql(&format!("({key})::text"))
}

/// Returns the same of a `text` expression.
pub(crate) fn text_digest_sql(text: &str) -> String {
    format!(
        "pg_catalog.sha256(pg_catalog.decode(pg_catalog.replace({text}, E'\\\\', E'\\\\\\\\'), 'escape'))"
    )
}

/// Parts with commas between.
pub fn list(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_application_wrote_is_never_taken_for_the_name() {
        for text in ["lockstep", "lockstep.a", "it's \\ lockstep.control", "lockstep_archive.x lockstep"] {
            let literal = spelled(text);
            assert!(!literal.contains(CONTROL_SCHEMA), "{literal}");
            let read =
                literal[2..literal.len() - 1].replace(r"\x6c", "l").replace("''", "'").replace(r"\\", r"\");
            assert_eq!(read, text);
        }
    }

    #[test]
    fn hostile_names_stay_inside_their_quotes() {
        let relation: Relation = "app.pay\"ments".parse().expect("two parts");
        assert_eq!(relation.sql(), "\"app\".\"pay\"\"ments\"");
        assert_eq!(quote_literal("o'clock"), "'o''clock'");
        assert!("a.b.c".parse::<Relation>().is_err());
        let quoted: Relation = r#""My.Schema"."Or""ders""#.parse().expect("quoted");
        assert_eq!((quoted.schema.as_str(), quoted.name.as_str()), ("My.Schema", "Or\"ders"));
        assert!(
            "\"a".parse::<Relation>().is_err()
                && "\"a\"b".parse::<Relation>().is_err()
                && "a.".parse::<Relation>().is_err()
        );
        assert!("".parse::<Relation>().is_err());
    }
}
