//! What is remembered of items: their newest versions, and which of them have to be read again.

use std::collections::{HashMap, HashSet};

use lockstep_core::{Doing, Result, Version};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::FedTable;
use super::apply::Guard;
use super::entry::{Entry, State};
use super::rows::numbered_keys;
use crate::binding::list;

/// Source keys, as PostgreSQL prints them, of items whose tombstone says nothing of the row.
pub(super) async fn remembered(connection: &mut PgConnection, name: &str, entries: &[Entry]) -> Result<HashMap<String, String>> {
    let unknown: Vec<&String> = entries.iter().filter(|e| matches!(e.state, State::Unknown)).map(|e| &e.place).collect();
    if unknown.is_empty() {
        return Ok(HashMap::new());
    }
    let found: Vec<(String, String)> =
        sqlx::query_as("SELECT place, key::text FROM lockstep.reverse_places WHERE table_name = $1 AND place = ANY($2)")
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
             SELECT $1, c.place, c.version, k.key, jsonb_build_array({row_key}), c.live
             FROM unnest($2::int[], $3::text[], $4::bigint[], $5::bool[]) AS c (n, place, version, live)
             JOIN (VALUES {}) AS k (n, key) USING (n) ORDER BY c.place
             ON CONFLICT (table_name, place) DO UPDATE SET version = excluded.version, key = excluded.key,
                 row_key = excluded.row_key, live = excluded.live, touched = excluded.touched
             WHERE p.version {than} excluded.version RETURNING p.place",
            numbered_keys(table, known.iter().map(|(n, _, key)| (*n, *key)))
        );
        let found: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
            .persistent(false)
            .bind(name)
            .bind(known.iter().map(|(n, ..)| *n as i32).collect::<Vec<_>>())
            .bind(known.iter().map(|(_, e, _)| e.place.clone()).collect::<Vec<_>>())
            .bind(known.iter().map(|(_, e, _)| e.version.0).collect::<Vec<_>>())
            .bind(known.iter().map(|(_, e, _)| matches!(e.state, State::Live(..))).collect::<Vec<_>>())
            .fetch_all(&mut *connection)
            .await
            .doing(doing)?;
        fresh.extend(found);
    }
    let unknown: Vec<&Entry> = entries.iter().filter(|e| matches!(e.state, State::Unknown)).collect();
    if !unknown.is_empty() {
        let found: Vec<String> = sqlx::query_scalar(
            "UPDATE lockstep.reverse_places p SET version = c.version, live = false, touched = pg_current_xact_id()
             FROM unnest($2::text[], $3::bigint[]) AS c (place, version)
             WHERE p.table_name = $1 AND p.place = c.place AND p.version < c.version RETURNING p.place",
        )
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
    sqlx::query("DELETE FROM lockstep.reverse_places WHERE table_name = $1 AND place = ANY($2)")
        .bind(name)
        .bind(places)
        .execute(connection)
        .await
        .doing("forgetting versions of items that went")?;
    Ok(())
}

/// Notes the other live items of rows that were just deleted, to be read again.
///
/// Items of one row may come in any order, as they are in different shards. 1. A row moves from A to B and back to A. 2. A's
/// records come first and the row is A's. 3. B's put comes, late, and the row is B's. 4. B's tombstone deletes it. But A is
/// live: its state is not in the stream any more, so it is read from the target.
pub(super) async fn note_others(connection: &mut PgConnection, name: &str, deleted: &[&String]) -> Result<u64> {
    if deleted.is_empty() {
        return Ok(0);
    }
    let noted = sqlx::query(
        "INSERT INTO lockstep.reverse_again (table_name, place, key, why)
         SELECT DISTINCT $1, other.place, other.key, 'another item of its row went'
         FROM lockstep.reverse_places gone JOIN lockstep.reverse_places other USING (table_name, row_key)
         WHERE table_name = $1 AND gone.place = ANY($2) AND other.live AND other.place <> gone.place
         ON CONFLICT (table_name, place) DO NOTHING",
    )
    .bind(name)
    .bind(deleted)
    .execute(connection)
    .await
    .doing("noting items to be read again")?;
    Ok(noted.rows_affected())
}

/// Notes one item to be read again; `remembered` names the item whose source key is remembered, if it is.
pub(super) async fn note_again(
    connection: &mut PgConnection,
    name: &str,
    place: &str,
    remembered: Option<&str>,
    why: &str,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO lockstep.reverse_again (table_name, place, key, why)
         SELECT $1, $2, (SELECT key FROM lockstep.reverse_places WHERE table_name = $1 AND place = $3), $4
         ON CONFLICT (table_name, place) DO UPDATE SET why = excluded.why, key = coalesce(excluded.key, reverse_again.key)",
    )
    .bind(name)
    .bind(place)
    .bind(remembered)
    .bind(why)
    .execute(connection)
    .await
    .doing("noting an item to be read again")?;
    Ok(())
}

/// Notes items of which a record of an earlier DynamoOnly was read, but for those of which as much is known already; returns
/// how many.
pub(super) async fn note_earlier(
    connection: &mut PgConnection,
    table: &FedTable,
    earlier: &[(String, Version, Vec<String>)],
) -> Result<u64> {
    if earlier.is_empty() {
        return Ok(0);
    }
    let sql = format!(
        "INSERT INTO lockstep.reverse_again AS a (table_name, place, key, why)
         SELECT $1, c.place, k.key, 'written under a DynamoOnly that is over'
         FROM unnest($2::int[], $3::text[], $4::bigint[]) AS c (n, place, version) JOIN (VALUES {}) AS k (n, key) USING (n)
         WHERE NOT EXISTS (SELECT FROM lockstep.reverse_places p
                           WHERE p.table_name = $1 AND p.place = c.place AND p.version >= c.version) ORDER BY c.place
         ON CONFLICT (table_name, place) DO UPDATE SET why = excluded.why, key = excluded.key",
        numbered_keys(table, earlier.iter().enumerate().map(|(n, (_, _, key))| (n, key)))
    );
    let noted = sqlx::query(AssertSqlSafe(sql))
        .persistent(false)
        .bind(table.binding.name())
        .bind((0..earlier.len()).map(|n| n as i32).collect::<Vec<_>>())
        .bind(earlier.iter().map(|(place, ..)| place.clone()).collect::<Vec<_>>())
        .bind(earlier.iter().map(|(_, version, _)| version.0).collect::<Vec<_>>())
        .execute(connection)
        .await
        .doing("noting items that were written under an earlier epoch")?;
    Ok(noted.rows_affected())
}

pub(super) async fn clear_again(connection: &mut PgConnection, name: &str, fresh: &HashSet<String>) -> Result<()> {
    if fresh.is_empty() {
        return Ok(());
    }
    sqlx::query("DELETE FROM lockstep.reverse_again WHERE table_name = $1 AND place = ANY($2)")
        .bind(name)
        .bind(fresh.iter().cloned().collect::<Vec<_>>())
        .execute(connection)
        .await
        .doing("clearing items to be read again")?;
    Ok(())
}
