//! Cursors: a position, and the query it belongs to, as text for an HTTP API.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use lockstep_core::{Error, Kind, MigratableTable, Result, Row, SourceKey, Unholdable};

/// The end of a page. Opaque, URL-safe, and good in every phase: a page may come from another store than the
/// one before it.
///
/// It may come from any client: it can move within its query, and never out of it. A row that is deleted or
/// moved meanwhile does not break it. It holds the key of the last row of its page, readable to those who
/// look.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(String);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Cursor {
    type Err = std::convert::Infallible;

    /// Takes any text: whether it is a cursor of a query is found out when it is used with that query.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

/// Longest cursor that is looked at: no key that an item can have makes a longer one.
const TEXT_BYTES_MAX: usize = 16 * 1024;

impl Cursor {
    pub(super) fn new<T: MigratableTable>(query: u64, after: &T::Key) -> Result<Self> {
        let key = source_key::<T>(after).map_err(|reason| Error::unholdable(T::NAME, &reason))?;
        let json = serde_json::to_vec(&(query, key)).map_err(|e| refused(&e.to_string()))?;
        Ok(Self(hex::encode(json)))
    }

    /// The position, if the cursor is of this query.
    pub(super) fn position<T: MigratableTable>(&self, query: u64) -> Result<T::Key> {
        let json = unhex(&self.0).ok_or_else(|| refused("it is damaged"))?;
        let (of, key): (u64, SourceKey) =
            serde_json::from_slice(&json).map_err(|_| refused("it is damaged"))?;
        if of != query {
            return Err(refused("it belongs to another query"));
        }
        T::Key::from_key(&key.0).map_err(|_| refused("it is of another table or version"))
    }
}

fn refused(why: &str) -> Error {
    Error::source(Kind::Invalid, "reading a cursor", format!("{why}; begin again without one"))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() > TEXT_BYTES_MAX { None } else { hex::decode(text).ok() }
}

/// The source key of a typed key, element by element as PostgreSQL would build it.
pub(super) fn source_key<T: MigratableTable>(key: &T::Key) -> Result<SourceKey, Unholdable> {
    let element = |(literal, sql_type): (String, &str)| match sql_type {
        "bigint" | "integer" | "smallint" => {
            literal.parse::<i64>().map_or(Value::String(literal), Value::from)
        }
        // `AT TIME ZONE 'UTC'` prints no zone, and no digits of a second that are not needed.
        timed if timed.starts_with("time") => Value::String(plain_time(&literal)),
        _ => Value::String(literal),
    };
    let types = T::Key::COLUMNS.iter().map(|column| column.sql_type);
    Ok(SourceKey(key.literals()?.into_iter().zip(types).map(element).collect()))
}

fn plain_time(literal: &str) -> String {
    let time = literal.trim_end_matches('Z');
    time.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_postgres_writes_them_in_a_key() {
        assert_eq!(plain_time("2026-01-31T23:59:59.000001Z"), "2026-01-31T23:59:59.000001");
        assert_eq!(plain_time("2026-01-31T23:59:59.500000Z"), "2026-01-31T23:59:59.5");
        assert_eq!(plain_time("2026-01-31T20:00:00.000000Z"), "2026-01-31T20:00:00");
    }

    /// As `jsonb_build_array` of PostgreSQL prints them, whether they have a zone or not.
    #[test]
    fn what_has_no_zone_is_written_in_the_same_way() {
        #[derive(Clone, Debug, PartialEq, crate::Table)]
        #[lockstep(name = "shifts", partition = "{at}", sort = "{clock}#{day}")]
        struct Shift {
            #[lockstep(primary_key)]
            at: chrono::NaiveDateTime,
            #[lockstep(primary_key)]
            clock: chrono::NaiveTime,
            #[lockstep(primary_key)]
            day: chrono::NaiveDate,
        }
        let day = chrono::NaiveDate::default();
        let shift = Shift { at: day.into(), clock: "10:00:00.5".parse().expect("a time"), day };
        let key = source_key::<ShiftTable>(&ShiftTable::key(&shift)).expect("a key");
        let expected = ["1970-01-01T00:00:00", "10:00:00.5", "1970-01-01"].map(Value::from);
        assert_eq!(key.0, expected);
        assert_eq!(<ShiftTable as MigratableTable>::Key::from_key(&key.0), Ok(ShiftTable::key(&shift)));
    }

    #[test]
    fn a_text_that_is_no_cursor_is_refused() {
        for text in ["", "z", "zz", "0", "ffff", "é0", &"00".repeat(TEXT_BYTES_MAX)] {
            let bytes = unhex(text).unwrap_or_default();
            assert!(serde_json::from_slice::<(u64, SourceKey)>(&bytes).is_err(), "{text}");
        }
    }
}
