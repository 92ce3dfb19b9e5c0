//! Memory of items: their newest versions, and which of them have to be read again.

use std::collections::{HashMap, HashSet};

use lockstep_core::{Doing, Result, Version};
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::{Arguments as _, AssertSqlSafe};

use super::FedTable;
use super::accepted::{WITHDRAWN, becomes, noted};
use super::entry::{Entry, State};
use super::table::among;
use crate::binding::{digest_sql, list, text_digest_sql};
use crate::fault::of_sqlx;
use crate::lookup::{bind_key_columns, is_sayable, with_keys_sql};
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
    let known: Vec<(&Entry, &Vec<String>)> =
        entries.iter().filter_map(|e| e.key().map(|key| (e, key))).collect();
    let mut fresh = HashSet::with_capacity(entries.len());
    if !known.is_empty() {
        let row_key = list((0..table.binding.table.primary_key_columns()).map(|at| format!("k.key -> {at}")));
        // OFFSET 0: the key is made once, and not for each place that it is named in.
        let sql = format!(
            "INSERT INTO lockstep.reverse_places AS p (table_name, place, version, key, row_key, live)
             SELECT $1, k.place, k.version, k.key, pg_catalog.jsonb_build_array({row_key}), k.live
             FROM (SELECT * FROM {keys} AS made OFFSET 0) AS k ORDER BY k.place
             ON CONFLICT (table_name, {digest}) DO UPDATE SET version = excluded.version, key = excluded.key,
                 row_key = excluded.row_key, live = excluded.live, touched = excluded.touched
             WHERE p.version {than} excluded.version RETURNING p.place",
            keys = with_keys_sql(
                &table.binding,
                2,
                &[("place", "text"), ("version", "bigint"), ("live", "bool")]
            ),
            digest = text_digest_sql("place"),
        );
        let mut arguments = PgArguments::default();
        let is_live = |e: &Entry| matches!(e.state, State::Live(..));
        let added = arguments
            .add(name)
            .and_then(|()| arguments.add(known.iter().map(|(e, _)| e.place.as_str()).collect::<Vec<_>>()))
            .and_then(|()| arguments.add(known.iter().map(|(e, _)| e.version.0).collect::<Vec<_>>()))
            .and_then(|()| arguments.add(known.iter().map(|(e, _)| is_live(e)).collect::<Vec<_>>()));
        added.map_err(|error| of_sqlx(doing, sqlx::Error::Encode(error)))?;
        bind_key_columns(&mut arguments, &table.binding, known.iter().map(|(_, key)| *key))?;
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
/// target. Also one of which an operator has accepted that PostgreSQL keeps its row, which has gone.
pub(super) async fn note_others(
    connection: &mut PgConnection,
    name: &str,
    deleted: &[&String],
) -> Result<u64> {
    if deleted.is_empty() {
        return Ok(0);
    }
    let sql = format!(
        "INSERT INTO lockstep.reverse_again AS a (table_name, place, key, why)
         SELECT DISTINCT $1, other.place, other.key, 'another item of its row went'
         FROM (SELECT {row_key} AS row, place FROM lockstep.reverse_places WHERE {among}) AS gone
         JOIN lockstep.reverse_places other ON {of_other} = gone.row
         WHERE other.table_name = $1 AND other.live AND other.place <> gone.place
         ON CONFLICT (table_name, {place}) DO UPDATE SET {WITHDRAWN} WHERE a.acknowledged_at IS NOT NULL",
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
    /// Version of the state that it is about; `None` of an item that has none.
    pub(super) version: Option<Version>,
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
        "INSERT INTO lockstep.reverse_again AS a (table_name, place, key, why, for_good, version)
         SELECT $1, $2, (SELECT key FROM lockstep.reverse_places WHERE table_name = $1 AND {digest} = {}),
             $4, $5, $6
         ON CONFLICT (table_name, {digest}) DO UPDATE SET why = excluded.why, for_good = excluded.for_good,
             key = coalesce(excluded.key, a.key), removed = false, {}",
        text_digest_sql("$3::text"),
        becomes("excluded.version"),
    );
    sql::query(AssertSqlSafe(sql))
        .bind(name)
        .bind(place)
        .bind(remembered)
        .bind(why.text)
        .bind(why.for_good)
        .bind(noted(why.version))
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
    let sayable = || earlier.iter().filter(|(.., key)| is_sayable(key));
    let sql = format!(
        "INSERT INTO lockstep.reverse_again AS a (table_name, place, key, why, version)
         SELECT $1, k.place, k.key, 'written under a DynamoOnly that is over', k.version FROM {} AS k
         WHERE NOT EXISTS (SELECT FROM lockstep.reverse_places p
                           WHERE p.table_name = $1 AND {} = {} AND p.version >= k.version) ORDER BY k.place
         ON CONFLICT (table_name, {}) DO UPDATE SET why = excluded.why, key = excluded.key, removed = false, {}",
        with_keys_sql(&table.binding, 2, &[("place", "text"), ("version", "bigint")]),
        text_digest_sql("p.place"),
        text_digest_sql("k.place"),
        text_digest_sql("place"),
        becomes("excluded.version"),
    );
    let mut arguments = PgArguments::default();
    let added = arguments
        .add(table.binding.name())
        .and_then(|()| arguments.add(sayable().map(|(place, ..)| place.as_str()).collect::<Vec<_>>()))
        .and_then(|()| arguments.add(sayable().map(|(_, version, _)| version.0).collect::<Vec<_>>()));
    added.map_err(|error| of_sqlx(doing, sqlx::Error::Encode(error)))?;
    bind_key_columns(&mut arguments, &table.binding, sayable().map(|(.., key)| key))?;
    let noted = sql::query_with(AssertSqlSafe(sql), arguments).execute(connection).await.doing(doing)?;
    Ok(noted.rows_affected())
}

/// Removes the notes of items of which a state is taken, but for those that an operator has accepted in this
/// very state; says whether any acceptance of the table is left.
///
/// 1. An operator accepts that PostgreSQL stays without a state of an item. 2. A reverse backfill reads it
/// once more. 3. PostgreSQL refuses it, and what an operator has accepted holds up the way back once more.
pub(super) async fn clear_again(connection: &mut PgConnection, name: &str, fresh: &[&Entry]) -> Result<bool> {
    if fresh.is_empty() {
        return Ok(false);
    }
    // Mostly there are none, and then no digest is made.
    let sql = format!(
        "WITH gone AS (
             DELETE FROM lockstep.reverse_again AS a
             WHERE EXISTS (SELECT FROM lockstep.reverse_again WHERE table_name = $1) AND {}
                 AND NOT (a.acknowledged_at IS NOT NULL AND EXISTS (
                     SELECT FROM unnest($2::text[], $3::bigint[]) AS taken (place, version)
                     WHERE taken.place = a.place AND taken.version = a.version)))
         SELECT EXISTS (SELECT FROM lockstep.reverse_again WHERE table_name = $1 AND acknowledged_at IS NOT NULL)",
        among()
    );
    sql::query_scalar(AssertSqlSafe(sql))
        .bind(name)
        .bind(fresh.iter().map(|entry| entry.place.as_str()).collect::<Vec<_>>())
        .bind(fresh.iter().map(|entry| entry.version.0).collect::<Vec<_>>())
        .fetch_one(connection)
        .await
        .doing("clearing items to be read again")
}

/// Removes what was accepted of items whose rows PostgreSQL has taken now.
pub(super) async fn end_acceptances(
    connection: &mut PgConnection,
    name: &str,
    taken: &[&Entry],
) -> Result<()> {
    let sql = format!("DELETE FROM lockstep.reverse_again WHERE {} AND acknowledged_at IS NOT NULL", among());
    sql::query(AssertSqlSafe(sql))
        .bind(name)
        .bind(taken.iter().map(|entry| entry.place.as_str()).collect::<Vec<_>>())
        .execute(connection)
        .await
        .doing("ending what was accepted of items")
        .map(drop)
}

/// Notes of the items of states that PostgreSQL has not had that DynamoDB has removed them, with the source
/// keys that what went tells. What an operator has accepted was a state that was there.
pub(super) async fn note_removed(
    connection: &mut PgConnection,
    table: &FedTable,
    removed: &[(String, Option<Vec<String>>)],
) -> Result<()> {
    if removed.is_empty() {
        return Ok(());
    }
    let doing = "noting that items were removed";
    // Mostly there is none, and then this is all.
    let sql = format!(
        "UPDATE lockstep.reverse_again SET removed = true, {WITHDRAWN}
         WHERE EXISTS (SELECT FROM lockstep.reverse_again WHERE table_name = $1) AND {}
             AND version IS NOT NULL RETURNING place",
        among()
    );
    let noted: HashSet<String> = sql::query_scalar(AssertSqlSafe(sql))
        .bind(table.binding.name())
        .bind(removed.iter().map(|(place, _)| place.as_str()).collect::<Vec<_>>())
        .fetch_all(&mut *connection)
        .await
        .doing(doing)?
        .into_iter()
        .collect();
    let told: Vec<(&str, &Vec<String>)> = removed
        .iter()
        .filter(|(place, _)| noted.contains(place))
        .filter_map(|(place, key)| Some((place.as_str(), key.as_ref().filter(|key| is_sayable(key))?)))
        .collect();
    if told.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "UPDATE lockstep.reverse_again a SET key = k.key FROM {} AS k
         WHERE a.table_name = $1 AND a.key IS NULL AND {} = {}",
        with_keys_sql(&table.binding, 2, &[("place", "text")]),
        text_digest_sql("a.place"),
        text_digest_sql("k.place"),
    );
    let mut arguments = PgArguments::default();
    let added = arguments
        .add(table.binding.name())
        .and_then(|()| arguments.add(told.iter().map(|(place, _)| *place).collect::<Vec<_>>()));
    added.map_err(|error| of_sqlx(doing, sqlx::Error::Encode(error)))?;
    bind_key_columns(&mut arguments, &table.binding, told.iter().map(|(_, key)| *key))?;
    sql::query_with(AssertSqlSafe(sql), arguments).execute(connection).await.doing(doing).map(drop)
}

/// Notes the items that came into an empty place at a version that is no news, to be read again: the one that
/// is known is of an item that has gone, or the stream is read once more. Returns how many.
///
/// 1. The feed has taken version 7 of row 5, and is off for a day. 2. The item expires, and its record is
/// trimmed: the 7 stays known. 3. An application puts row 5, which begins at version 1 in the empty place,
/// and is acknowledged. 4. Held against the 7 it would be passed over, and as nothing of it is touched, no
/// comparison before the way back asks for it (I7).
pub(super) async fn note_born_again(
    connection: &mut PgConnection,
    name: &str,
    entries: &[Entry],
    fresh: &HashSet<String>,
) -> Result<u64> {
    let born: Vec<&Entry> =
        entries.iter().filter(|entry| entry.into_empty && !fresh.contains(&entry.place)).collect();
    if born.is_empty() {
        return Ok(0);
    }
    // What an operator has accepted was another state, though its version may be the higher one.
    let sql = format!(
        "INSERT INTO lockstep.reverse_again AS a (table_name, place, key, why, version)
         SELECT p.table_name, p.place, p.key, 'it came where a later version of it is known', c.version
         FROM lockstep.reverse_places p
         JOIN ROWS FROM (pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::bigint[])) AS c (place, version)
             ON {} = {}
         WHERE p.table_name = $1 ORDER BY p.place
         ON CONFLICT (table_name, {}) DO UPDATE SET why = excluded.why, removed = false,
             version = excluded.version,
             acknowledged_at = CASE WHEN a.version = excluded.version THEN a.acknowledged_at END,
             acknowledged_by = CASE WHEN a.version = excluded.version THEN a.acknowledged_by END",
        text_digest_sql("p.place"),
        text_digest_sql("c.place"),
        text_digest_sql("place"),
    );
    let noted = sql::query(AssertSqlSafe(sql))
        .bind(name)
        .bind(born.iter().map(|entry| entry.place.as_str()).collect::<Vec<_>>())
        .bind(born.iter().map(|entry| entry.version.0).collect::<Vec<_>>())
        .execute(connection)
        .await
        .doing("noting items that came into empty places")?;
    Ok(noted.rows_affected())
}

/// Notes the items that were read from the target at a version below the one that is remembered, to be read
/// once more: mostly the feed has had a newer state meanwhile, and else that version is of an item that has
/// gone, and nothing of the one that is there now would ever be taken.
pub(super) async fn note_outranked(
    connection: &mut PgConnection,
    name: &str,
    entries: &[Entry],
    fresh: &HashSet<String>,
) -> Result<()> {
    // What was read of a place without an item has no version, and says nothing of what came there since.
    let is_outranked = |e: &&Entry| e.version > Version::INITIAL_LOAD && !fresh.contains(&e.place);
    let places: Vec<&str> = entries.iter().filter(is_outranked).map(|e| e.place.as_str()).collect();
    if places.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "INSERT INTO lockstep.reverse_again (table_name, place, key, why)
         SELECT table_name, place, key, 'a newer state of it is known than was read'
         FROM lockstep.reverse_places WHERE {} ORDER BY place ON CONFLICT DO NOTHING",
        among()
    );
    sql::query(AssertSqlSafe(sql))
        .bind(name)
        .bind(places)
        .execute(connection)
        .await
        .doing("noting items that are older than what is known of them")
        .map(drop)
}
