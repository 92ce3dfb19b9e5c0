//! Memory of items: their newest versions, and which of them have to be read again.

use std::collections::{HashMap, HashSet};

use lockstep_core::{Doing, Result, Version};
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::{Arguments as _, AssertSqlSafe};

use super::FedTable;
use super::entry::{Entry, State};
use crate::binding::{digest_sql, list, text_digest_sql};
use crate::fault::of_sqlx;
use crate::lookup::{bind_keys, is_sayable, keys_sql};
use crate::sql;

/// Condition under which a version is news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    /// A version above the one that is remembered.
    Newer,
    /// The same version as well, for states that were read from the target: an item that was changed by hand
    /// has kept it.
    AtLeast,
}

/// The condition that a row is of table `$1` and of one of the places `$2`.
fn among() -> String {
    format!(
        "table_name = $1 AND {} = ANY (ARRAY(SELECT {} FROM pg_catalog.unnest($2::text[]) AS asked))",
        text_digest_sql("place"),
        text_digest_sql("asked")
    )
}

/// Source keys, as PostgreSQL prints them, of items whose tombstone says nothing of the row.
pub(super) async fn remembered(
    connection: &mut PgConnection,
    name: &str,
    entries: &[Entry],
) -> Result<HashMap<String, String>> {
    let unknown: Vec<&String> =
        entries.iter().filter(|e| matches!(e.state, State::Unknown)).map(|e| &e.place).collect();
    if unknown.is_empty() {
        return Ok(HashMap::new());
    }
    let sql = format!("SELECT place, key::text FROM lockstep.reverse_places WHERE {}", among());
    let found: Vec<(String, String)> = sql::query_as(AssertSqlSafe(sql))
        .bind(name)
        .bind(&unknown)
        .fetch_all(connection)
        .await
        .doing("looking up what is known of items")?;
    Ok(found.into_iter().collect())
}

/// Remembers the newest version of each item; returns the items for which this is news (I2 on the way back).
pub(super) async fn remember(
    connection: &mut PgConnection,
    table: &FedTable,
    entries: &[Entry],
    guard: Guard,
) -> Result<HashSet<String>> {
    let doing = "remembering versions of items";
    let than = if guard == Guard::Newer { "<" } else { "<=" };
    let name = table.binding.name();
    let known: Vec<(usize, &Entry, &Vec<String>)> =
        entries.iter().enumerate().filter_map(|(n, e)| e.key().map(|key| (n, e, key))).collect();
    let mut fresh = HashSet::new();
    if !known.is_empty() {
        let row_key = list((0..table.binding.table.primary_key_columns()).map(|at| format!("k.key -> {at}")));
        let sql = format!(
            "INSERT INTO lockstep.reverse_places AS p (table_name, place, version, key, row_key, live)
             SELECT $1, c.place, c.version, k.key, pg_catalog.jsonb_build_array({row_key}), c.live
             FROM unnest($2::int[], $3::text[], $4::bigint[], $5::bool[]) AS c (n, place, version,
                 live)
             JOIN {keys} AS k USING (n) ORDER BY c.place
             ON CONFLICT (table_name, {digest}) DO UPDATE SET version = excluded.version, key = excluded.key,
                 row_key = excluded.row_key, live = excluded.live, touched = excluded.touched
             WHERE p.version {than} excluded.version RETURNING p.place",
            keys = keys_sql(&table.binding, 6),
            digest = text_digest_sql("place"),
        );
        let mut arguments = PgArguments::default();
        let added = arguments
            .add(name)
            .and_then(|()| arguments.add(known.iter().map(|(n, ..)| *n as i32).collect::<Vec<_>>()))
            .and_then(|()| arguments.add(known.iter().map(|(_, e, _)| e.place.clone()).collect::<Vec<_>>()))
            .and_then(|()| arguments.add(known.iter().map(|(_, e, _)| e.version.0).collect::<Vec<_>>()))
            .and_then(|()| {
                arguments
                    .add(known.iter().map(|(_, e, _)| matches!(e.state, State::Live(..))).collect::<Vec<_>>())
            });
        added.map_err(|error| of_sqlx(doing, sqlx::Error::Encode(error)))?;
        bind_keys(&mut arguments, &table.binding, known.iter().map(|(n, _, key)| (*n, *key)))?;
        let found: Vec<String> = sql::query_scalar_with(AssertSqlSafe(sql), arguments)
            .fetch_all(&mut *connection)
            .await
            .doing(doing)?;
        fresh.extend(found);
    }
    let unknown: Vec<&Entry> = entries.iter().filter(|e| matches!(e.state, State::Unknown)).collect();
    if !unknown.is_empty() {
        let sql = format!(
            "UPDATE lockstep.reverse_places p SET version = c.version, live = false,
                touched = pg_catalog.pg_current_xact_id()
             FROM unnest($2::text[], $3::bigint[]) AS c (place, version)
             WHERE p.table_name = $1 AND {} = {} AND p.version < c.version RETURNING p.place",
            text_digest_sql("p.place"),
            text_digest_sql("c.place"),
        );
        let found: Vec<String> = sql::query_scalar(AssertSqlSafe(sql))
            .bind(name)
            .bind(unknown.iter().map(|e| e.place.clone()).collect::<Vec<_>>())
            .bind(unknown.iter().map(|e| e.version.0).collect::<Vec<_>>())
            .fetch_all(connection)
            .await
            .doing(doing)?;
        fresh.extend(found);
    }
    Ok(fresh)
}

/// Forgets the versions of items that went without a tombstone.
pub(super) async fn forget(connection: &mut PgConnection, name: &str, places: &[String]) -> Result<()> {
    if places.is_empty() {
        return Ok(());
    }
    sql::query(AssertSqlSafe(format!("DELETE FROM lockstep.reverse_places WHERE {}", among())))
        .bind(name)
        .bind(places)
        .execute(connection)
        .await
        .doing("forgetting versions of items that went")?;
    Ok(())
}

/// Notes the other live items of rows that were just deleted, to be read again.
///
/// Items of one row may come in any order, as they are in different shards. 1. A row moves from A to B and
/// back to A. 2. A's records come first and the row is A's. 3. B's put comes, late, and the row is B's. 4.
/// B's tombstone deletes it. But A is live: its state is not in the stream any more, so it is read from the
/// target.
pub(super) async fn note_others(
    connection: &mut PgConnection,
    name: &str,
    deleted: &[&String],
) -> Result<u64> {
    if deleted.is_empty() {
        return Ok(0);
    }
    let sql = format!(
        "INSERT INTO lockstep.reverse_again (table_name, place, key, why)
         SELECT DISTINCT $1, other.place, other.key, 'another item of its row went'
         FROM (SELECT {row_key} AS row, place FROM lockstep.reverse_places WHERE {among}) AS gone
         JOIN lockstep.reverse_places other ON {of_other} = gone.row
         WHERE other.table_name = $1 AND other.live AND other.place <> gone.place
         ON CONFLICT (table_name, {place}) DO NOTHING",
        row_key = digest_sql("row_key"),
        among = among(),
        of_other = digest_sql("other.row_key"),
        place = text_digest_sql("place"),
    );
    let noted = sql::query(AssertSqlSafe(sql))
        .bind(name)
        .bind(deleted)
        .execute(connection)
        .await
        .doing("noting items to be read again")?;
    Ok(noted.rows_affected())
}

/// Reason why an item is to be read again.
#[derive(Clone, Copy)]
pub(super) struct Why<'a> {
    pub(super) text: &'a str,
    /// PostgreSQL can never hold it as it is: a dead letter until it changes.
    pub(super) for_good: bool,
}

/// Notes one item to be read again; `remembered` names the item whose source key is remembered, if it is.
pub(super) async fn note_again(
    connection: &mut PgConnection,
    name: &str,
    place: &str,
    remembered: Option<&str>,
    why: Why<'_>,
) -> Result<()> {
    let digest = text_digest_sql("place");
    let sql = format!(
        "INSERT INTO lockstep.reverse_again (table_name, place, key, why, for_good)
         SELECT $1, $2, (SELECT key FROM lockstep.reverse_places WHERE table_name = $1 AND {digest} = {}), $4, $5
         ON CONFLICT (table_name, {digest}) DO UPDATE SET why = excluded.why, for_good = excluded.for_good,
             key = coalesce(excluded.key, reverse_again.key)",
        text_digest_sql("$3::text"),
    );
    sql::query(AssertSqlSafe(sql))
        .bind(name)
        .bind(place)
        .bind(remembered)
        .bind(why.text)
        .bind(why.for_good)
        .execute(connection)
        .await
        .doing("noting an item to be read again")?;
    Ok(())
}

/// Notes items of which a record of an earlier DynamoOnly was read, but for those of which as much is known
/// already; returns how many.
pub(super) async fn note_earlier(
    connection: &mut PgConnection,
    table: &FedTable,
    earlier: &[(String, Version, Vec<String>)],
) -> Result<u64> {
    if earlier.is_empty() {
        return Ok(0);
    }
    let doing = "noting items that were written under an earlier epoch";
    // A key that PostgreSQL cannot hold is none that it could have had in that epoch.
    let sayable = || earlier.iter().enumerate().filter(|(_, (.., key))| is_sayable(key));
    let sql = format!(
        "INSERT INTO lockstep.reverse_again AS a (table_name, place, key, why)
         SELECT $1, c.place, k.key, 'written under a DynamoOnly that is over'
         FROM unnest($2::int[], $3::text[], $4::bigint[]) AS c (n, place, version) JOIN {} AS k
             USING (n)
         WHERE NOT EXISTS (SELECT FROM lockstep.reverse_places p
                           WHERE p.table_name = $1 AND {} = {} AND p.version >= c.version) ORDER BY c.place
         ON CONFLICT (table_name, {}) DO UPDATE SET why = excluded.why, key = excluded.key",
        keys_sql(&table.binding, 5),
        text_digest_sql("p.place"),
        text_digest_sql("c.place"),
        text_digest_sql("place"),
    );
    let mut arguments = PgArguments::default();
    let added = arguments
        .add(table.binding.name())
        .and_then(|()| arguments.add(sayable().map(|(n, _)| n as i32).collect::<Vec<_>>()))
        .and_then(|()| arguments.add(sayable().map(|(_, (place, ..))| place.clone()).collect::<Vec<_>>()))
        .and_then(|()| arguments.add(sayable().map(|(_, (_, version, _))| version.0).collect::<Vec<_>>()));
    added.map_err(|error| of_sqlx(doing, sqlx::Error::Encode(error)))?;
    bind_keys(&mut arguments, &table.binding, sayable().map(|(n, (.., key))| (n, key)))?;
    let noted = sql::query_with(AssertSqlSafe(sql), arguments).execute(connection).await.doing(doing)?;
    Ok(noted.rows_affected())
}

pub(super) async fn clear_again(
    connection: &mut PgConnection,
    name: &str,
    fresh: &HashSet<String>,
) -> Result<()> {
    if fresh.is_empty() {
        return Ok(());
    }
    sql::query(AssertSqlSafe(format!("DELETE FROM lockstep.reverse_again WHERE {}", among())))
        .bind(name)
        .bind(fresh.iter().cloned().collect::<Vec<_>>())
        .execute(connection)
        .await
        .doing("clearing items to be read again")?;
    Ok(())
}
