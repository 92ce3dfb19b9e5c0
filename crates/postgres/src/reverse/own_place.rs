//! The row that stands at the place of an item, under whichever source key.
//!
//! 1. The target knows the day of a time only. Row and item are of ten o'clock. 2. In DynamoOnly an
//! application moves them to eleven, and deletes them. 3. The feed reads both in one page, or PostgreSQL
//! refuses the state of eleven: what comes is a tombstone over that. 4. By its key no row goes and none is
//! compared, and the row of ten o'clock is the truth again after the way back. So a row is looked for by its
//! primary key, and is the one that is meant where its own place is that of the item.

use lockstep_core::{Doing, Error, Fields, Kind, Result, SourceKey, place};
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::{Arguments as _, AssertSqlSafe, Row as _};

use crate::fault::of_sqlx;
use crate::lookup::{bind_keys, is_sayable, keys_sql};
use crate::sql;
use crate::{Source, TableBinding};

const DOING: &str = "looking for the rows at the places of items";

/// Returns the source key of a row, where its place is this one.
fn key_of_row_at(binding: &TableBinding, printed: &str, at: &str) -> Result<Option<SourceKey>> {
    let key = SourceKey::parse(printed).map_err(|e| Error::source(Kind::Invalid, DOING, e.to_string()))?;
    // A row that no item can be of has no place.
    let own = binding.table.target_key(&key).ok().map(|own| place(&own.to_attributes()));
    Ok((own.as_deref() == Some(at)).then_some(key))
}

/// Puts the keys of the rows that stand at these places now in the place of those that their items have, as
/// SQL literals. Others stay.
pub(super) async fn keys_at(
    connection: &mut PgConnection,
    binding: &TableBinding,
    places: &[&str],
    keys: &mut [Vec<String>],
) -> Result<()> {
    if !binding.has_several_keys() {
        return Ok(());
    }
    let asked: Vec<(usize, &Vec<String>)> =
        keys.iter().enumerate().filter(|(_, key)| is_sayable(key)).collect();
    if asked.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "SELECT k.n, {}::text FROM {} AS k JOIN {} AS s ON {}",
        binding.key_sql("s"),
        keys_sql(binding, 1),
        binding.relation.sql(),
        binding.row_of_primary_key_sql("s", "k.key"),
    );
    let mut arguments = PgArguments::default();
    bind_keys(&mut arguments, binding, asked.into_iter())?;
    let found: Vec<(i32, String)> =
        sql::query_as_with(AssertSqlSafe(sql), arguments).fetch_all(connection).await.doing(DOING)?;
    for (n, printed) in found {
        let n = n as usize;
        let own = key_of_row_at(binding, &printed, places[n])?;
        if let Some(Ok(literals)) = own.map(|own| binding.table.literals_of_key(&own)) {
            keys[n] = literals;
        }
    }
    Ok(())
}

/// A row that stands at the place of an item.
pub(super) struct OwnRow {
    /// Source key of it, as PostgreSQL prints it.
    pub(super) key: String,
    /// Time of its expiry, in seconds since 1970.
    pub(super) expires_at_s: Option<i64>,
}

/// Returns the row that stands at `at`, by the printed key of a state that its item has or had; it is held
/// until the transaction ends.
pub(super) async fn row_at_place(
    connection: &mut PgConnection,
    binding: &TableBinding,
    at: &str,
    key: &str,
) -> Result<Option<OwnRow>> {
    let sql = format!(
        "SELECT {}::text, {} FROM (SELECT $1::text::jsonb AS key) AS k JOIN {} AS s ON {} FOR UPDATE OF s",
        binding.key_sql("s"),
        binding.columns_sql("s"),
        binding.relation.sql(),
        binding.row_of_primary_key_sql("s", "k.key"),
    );
    let mut arguments = PgArguments::default();
    arguments.add(key).map_err(|error| of_sqlx(DOING, sqlx::Error::Encode(error)))?;
    let found = sql::query_with(AssertSqlSafe(sql), arguments).fetch_all(connection).await.doing(DOING)?;
    for row in found {
        let printed: String = row.get(0);
        if key_of_row_at(binding, &printed, at)?.is_some() {
            let expires_at_s = Fields::of_query(&row, 1, |fields| binding.table.expires_at(fields));
            return Ok(Some(OwnRow { key: printed, expires_at_s }));
        }
    }
    Ok(None)
}

impl Source {
    /// Puts the source keys of the rows that stand at these places now in the place of `keys`, those of their
    /// items, as SQL literals. Where none does, or the row has another place by now, a key stays.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn keys_at_places(
        &self,
        binding: &TableBinding,
        places: &[&str],
        keys: &mut [Vec<String>],
    ) -> Result<()> {
        let mut connection = self.pool().acquire().await.doing(DOING)?;
        keys_at(&mut connection, binding, places, keys).await
    }
}
