//! One page of a shard, in one transaction: the rows, what is remembered of their items, and the position.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor};

use super::FedTable;
use super::entry::{Entry, Origin, State, origin, plan};
use super::rows::{delete, is_about_the_row, numbered_keys, reason, upsert};
use crate::error::{Doing, Error, Kind, Result};
use crate::item::{Attributes, is_tombstone, version_of};
use crate::key::place;
use crate::phase::Phase;
use crate::source::binding::list;
use crate::source::{Control, Source, SourceTransaction, take_shared};
use crate::target::streams::Folded;
use crate::version::{Epoch, Version};

/// A page of a shard, ready to be applied.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// The shard.
    pub shard: &'a str,
    /// The position that it was read from.
    pub from: Option<&'a str>,
    /// The position after it.
    pub to: Option<&'a str>,
    /// Whether it is the rest of the shard.
    pub finished: bool,
    /// When its newest record was made.
    pub newest_at: Option<DateTime<Utc>>,
    /// What it says.
    pub folded: &'a Folded,
}

/// What a page came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Items whose state was news: rows upserted and deleted.
    pub applied: u64,
    /// States that came from the source, or that it has had.
    pub skipped: u64,
    /// Items that wait to be read again.
    pub again: u64,
}

impl Source {
    /// Applies a page and saves its position, both or neither.
    ///
    /// # Errors
    /// [`Kind::Busy`] on a deadlock, or when the page is of an epoch that the source does not know of yet: nothing was done,
    /// and the page may come again. [`Kind::Refused`] when another feed has moved the position.
    ///
    /// # Cancel safety
    /// All of it is done, or nothing.
    pub async fn apply_reverse(&self, table: &FedTable, page: Page<'_>) -> Result<Applied> {
        let name = table.binding.name();
        let (mut transaction, control, fed_in) = self.begin_feeding(table).await?;
        let plan = plan(&*table.binding.table, page.folded, &control, fed_in);
        if plan.ahead {
            let message = "the stream has records of an epoch that PostgreSQL's control record does not know of yet";
            return Err(Error::source(Kind::Busy, format!("feeding {name}"), message));
        }
        if !plan.late.is_empty() {
            // Marks from outside need the barrier for themselves. Marked twice is marked; the position comes after.
            transaction.rollback().await.doing("making way for marks")?;
            let late = self.mark_for_repair(&table.binding, &plan.late).await?;
            tracing::warn!(
                table = name,
                late,
                "writes of DynamoOnly landed after it was over; the relay puts the rows over them"
            );
            (transaction, ..) = self.begin_feeding(table).await?;
        }
        if !save_position(&mut transaction, name, &page).await? {
            return Ok(Applied::default());
        }
        forget(&mut transaction, name, &plan.forget_before).await?;
        let (mut applied, again) = apply(&mut transaction, table, &plan.entries).await?;
        for (place, why) in &plan.undecodable {
            note_again(&mut transaction, name, place, None, why).await?;
        }
        applied.again = again + plan.undecodable.len() as u64;
        applied.skipped += plan.skipped;
        forget(&mut transaction, name, &plan.forget_after).await?;
        count(&mut transaction, name, &applied, page.folded, &control).await?;
        finish_feeding(transaction, name).await?;
        Ok(applied)
    }

    /// Applies items that were read from the target itself, under the same guard as the stream's; for a reverse backfill.
    /// Tombstones and what came from the source are passed over.
    ///
    /// # Errors
    /// As [`Source::apply_reverse`], but for positions, of which there is none.
    pub async fn apply_items(&self, table: &FedTable, items: &[Attributes]) -> Result<Applied> {
        let name = table.binding.name();
        let (mut transaction, control, _) = self.begin_feeding(table).await?;
        let (mut entries, mut skipped, mut undecodable) = (Vec::new(), 0, 0);
        for item in items.iter().filter(|item| !is_tombstone(item)) {
            let Some(version) = version_of(item).filter(|v| origin(*v, &control, None) == Origin::Target) else {
                skipped += 1;
                continue;
            };
            let decoded = table.binding.table.row_of_item(item).and_then(|row| row.key().map(|key| State::Live(row, key)));
            match decoded {
                Ok(state) => entries.push(Entry { place: place(item), version, state }),
                Err(why) => {
                    undecodable += 1;
                    let why = format!("the item is no row of this table: {why}");
                    note_again(&mut transaction, name, &place(item), None, &why).await?;
                }
            }
        }
        let (applied, again) = apply(&mut transaction, table, &entries).await?;
        finish_feeding(transaction, name).await?;
        Ok(Applied { again: again + undecodable, skipped: applied.skipped + skipped, ..applied })
    }

    /// Deletes rows, by their source keys, whose items went: each with the version of its tombstone, or with
    /// [`Version::HISTORY`] where there is nothing at its place. A place of which the feed knows more is left to the feed.
    ///
    /// # Errors
    /// As [`Source::apply_items`].
    pub async fn delete_fed(&self, table: &FedTable, gone: Vec<(String, Version, Vec<String>)>) -> Result<Applied> {
        let (mut transaction, control, _) = self.begin_feeding(table).await?;
        if control.phase != Phase::DynamoOnly {
            return Ok(Applied::default());
        }
        let entries = gone.into_iter().map(|(place, version, key)| Entry { place, version, state: State::Gone(key) });
        let (applied, again) = apply(&mut transaction, table, &entries.collect::<Vec<_>>()).await?;
        finish_feeding(transaction, table.binding.name()).await?;
        Ok(Applied { again, ..applied })
    }

    /// Begins a transaction that the trigger lets write in DynamoOnly, behind the barrier, with the phase as it is in it, and
    /// the newest DynamoOnly that the table was fed in.
    pub(super) async fn begin_feeding(&self, table: &FedTable) -> Result<(SourceTransaction, Control, Option<Epoch>)> {
        let doing = format!("feeding {}", table.binding.name());
        let mut transaction = self.begin(&doing).await?;
        take_shared(&mut transaction).await?;
        let control = Control::read(&mut transaction).await?;
        transaction.execute("INSERT INTO lockstep.reverse_writers VALUES (pg_current_xact_id())").await.doing(&doing)?;
        // A constraint that waits for the commit would refuse the whole page there, and not say which row.
        transaction.execute("SET CONSTRAINTS ALL IMMEDIATE").await.doing(&doing)?;
        if control.phase == Phase::DynamoOnly {
            let note = "UPDATE lockstep.reverse_tables SET epoch = $2 WHERE table_name = $1 AND epoch IS DISTINCT FROM $2";
            let noted = sqlx::query(note).bind(table.binding.name()).bind(control.epoch.0).execute(&mut *transaction).await;
            noted.doing(&doing)?;
            return Ok((transaction, control, Some(control.epoch)));
        }
        let fed_in: Option<Option<i64>> = sqlx::query_scalar("SELECT epoch FROM lockstep.reverse_tables WHERE table_name = $1")
            .bind(table.binding.name())
            .fetch_optional(&mut *transaction)
            .await
            .doing(&doing)?;
        Ok((transaction, control, fed_in.flatten().map(Epoch)))
    }
}

/// Takes the right to write back and commits.
pub(super) async fn finish_feeding(mut transaction: SourceTransaction, name: &str) -> Result<()> {
    let doing = format!("feeding {name}");
    let gone = "DELETE FROM lockstep.reverse_writers WHERE xid = pg_current_xact_id()";
    transaction.execute(gone).await.doing(&doing)?;
    transaction.commit().await.doing(&doing)
}

/// Moves the position of a shard from where the page was read to after it; says `false` where it has moved there already, as
/// after a commit whose answer was lost (I8).
async fn save_position(connection: &mut PgConnection, name: &str, page: &Page<'_>) -> Result<bool> {
    let doing = format!("saving a position of {name}");
    let saved = sqlx::query(
        "INSERT INTO lockstep.reverse_shards AS s (table_name, shard, position, finished, marker, newest_at, empty_at)
         VALUES ($1, $2, $4, $5, $6, $7, CASE WHEN $8 THEN clock_timestamp() END)
         ON CONFLICT (table_name, shard) DO UPDATE SET position = excluded.position, finished = excluded.finished,
             marker = coalesce(excluded.marker, s.marker), newest_at = coalesce(excluded.newest_at, s.newest_at),
             empty_at = coalesce(excluded.empty_at, s.empty_at)
         WHERE s.position IS NOT DISTINCT FROM $3 AND NOT s.finished",
    )
    .bind(name)
    .bind(page.shard)
    .bind(page.from)
    .bind(page.to)
    .bind(page.finished)
    .bind(&page.folded.marker)
    .bind(page.newest_at)
    // A closed shard that was read to its end has no more either.
    .bind(page.newest_at.is_none() || page.finished)
    .execute(&mut *connection)
    .await
    .doing(&doing)?;
    if saved.rows_affected() == 1 {
        return Ok(true);
    }
    let there: bool = sqlx::query_scalar(
        "SELECT position IS NOT DISTINCT FROM $3 AND finished = $4 FROM lockstep.reverse_shards WHERE table_name = $1 AND shard = $2",
    )
    .bind(name)
    .bind(page.shard)
    .bind(page.to)
    .bind(page.finished)
    .fetch_one(connection)
    .await
    .doing(&doing)?;
    if there {
        return Ok(false);
    }
    Err(Error::source(Kind::Refused, doing, "another reverse feed has moved it; only one may run"))
}

async fn forget(connection: &mut PgConnection, name: &str, places: &[String]) -> Result<()> {
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

/// Applies entries; returns what became of them, and how many items have to be read again.
pub(super) async fn apply(connection: &mut PgConnection, table: &FedTable, entries: &[Entry]) -> Result<(Applied, u64)> {
    let name = table.binding.name();
    let mut keys = remembered(connection, name, entries).await?;
    let fresh = remember(connection, table, entries).await?;
    // A tombstone of which nothing is known, here or in the stream, has no row.
    keys.retain(|place, _| fresh.contains(place));
    let news: Vec<&Entry> = entries.iter().filter(|entry| fresh.contains(&entry.place)).collect();
    clear_again(connection, name, &fresh).await?;
    let mut applied = Applied { applied: news.len() as u64, skipped: (entries.len() - news.len()) as u64, again: 0 };
    // All at once; only if PostgreSQL refuses a row, one by one.
    let mut savepoint = connection.begin().await.doing("setting a savepoint")?;
    let again = match write(&mut savepoint, table, &news, &keys).await {
        Ok(again) => {
            savepoint.commit().await.doing("releasing a savepoint")?;
            again
        }
        Err(error) if is_about_the_row(&error) => {
            savepoint.rollback().await.doing("going back to a savepoint")?;
            let mut again = 0;
            for entry in news {
                again += one(connection, table, entry, &keys).await?;
            }
            again
        }
        Err(error) => return Err(error),
    };
    applied.again = again;
    Ok((applied, again))
}

/// Writes one entry in a savepoint of its own. A row that PostgreSQL does not take holds up nobody: it may only be early.
async fn one(connection: &mut PgConnection, table: &FedTable, entry: &Entry, keys: &HashMap<String, String>) -> Result<u64> {
    let mut savepoint = connection.begin().await.doing("setting a savepoint")?;
    match write(&mut savepoint, table, &[entry], keys).await {
        Ok(again) => savepoint.commit().await.doing("releasing a savepoint").map(|()| again),
        Err(error) if is_about_the_row(&error) => {
            savepoint.rollback().await.doing("going back to a savepoint")?;
            let why = reason(&error);
            tracing::debug!(table = table.binding.name(), why, "a row is put off");
            note_again(connection, table.binding.name(), &entry.place, Some(&entry.place), &why).await?;
            Ok(1)
        }
        Err(error) => Err(error),
    }
}

/// Upserts first, so that a row that moved within the page is at its new place when the tombstone of the old one comes.
async fn write(connection: &mut PgConnection, table: &FedTable, news: &[&Entry], keys: &HashMap<String, String>) -> Result<u64> {
    let parts = table.binding.table.primary_key_columns();
    // Of two live items of one row the later one in the stream; the other one's tombstone is still to come.
    let mut newest: HashMap<&[String], usize> = HashMap::new();
    for (at, entry) in news.iter().enumerate() {
        if let State::Live(_, key) = &entry.state {
            newest.insert(&key[..parts], at);
        }
    }
    let rows = news.iter().enumerate().filter_map(|(at, entry)| match &entry.state {
        State::Live(row, key) if newest.get(&key[..parts]) == Some(&at) => Some(&**row),
        _ => None,
    });
    let rows = rows.collect::<Vec<_>>();
    if !rows.is_empty() {
        upsert(connection, table, &rows).await?;
    }
    let dead: Vec<(&String, Vec<String>)> = news
        .iter()
        .filter_map(|entry| match &entry.state {
            State::Gone(key) => Some((&entry.place, key.clone())),
            _ => None,
        })
        .collect();
    let (places, gone): (Vec<&String>, Vec<Vec<String>>) = dead.into_iter().unzip();
    let mut deleted: Vec<&String> = delete(connection, table, &gone).await?.into_iter().map(|n| places[n]).collect();
    for entry in news.iter().filter(|entry| matches!(entry.state, State::Unknown)) {
        if let Some(key) = keys.get(&entry.place)
            && super::rows::delete_key(connection, table, key).await?
        {
            deleted.push(&entry.place);
        }
    }
    note_others(connection, table.binding.name(), &deleted).await
}

/// Source keys, as PostgreSQL prints them, of items whose tombstone says nothing of the row.
async fn remembered(connection: &mut PgConnection, name: &str, entries: &[Entry]) -> Result<HashMap<String, String>> {
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
async fn remember(connection: &mut PgConnection, table: &FedTable, entries: &[Entry]) -> Result<HashSet<String>> {
    let doing = "remembering versions of items";
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
                 row_key = excluded.row_key, live = excluded.live
             WHERE p.version < excluded.version RETURNING p.place",
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
            "UPDATE lockstep.reverse_places p SET version = c.version, live = false
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

/// Notes the other live items of rows that were just deleted, to be read again.
///
/// Items of one row may come in any order, as they are in different shards. 1. A row moves from A to B and back to A. 2. A's
/// records come first and the row is A's. 3. B's put comes, late, and the row is B's. 4. B's tombstone deletes it. But A is
/// live: its state is not in the stream any more, so it is read from the target.
async fn note_others(connection: &mut PgConnection, name: &str, deleted: &[&String]) -> Result<u64> {
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
async fn note_again(connection: &mut PgConnection, name: &str, place: &str, remembered: Option<&str>, why: &str) -> Result<()> {
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

async fn clear_again(connection: &mut PgConnection, name: &str, fresh: &HashSet<String>) -> Result<()> {
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

/// Adds to the durable counts. What is foreign, or expires, while the source decides, is not the feed's business.
async fn count(connection: &mut PgConnection, name: &str, applied: &Applied, folded: &Folded, control: &Control) -> Result<()> {
    let ours = control.phase == Phase::DynamoOnly;
    let (expired, foreign) = if ours { (folded.expired, folded.foreign) } else { (0, 0) };
    if applied.applied + expired + foreign == 0 {
        return Ok(());
    }
    sqlx::query(
        "UPDATE lockstep.reverse_tables SET applied = applied + $2, expired = expired + $3,
             foreign_count = foreign_count + $4, foreign_why = CASE WHEN $4 > 0 THEN $5 ELSE foreign_why END WHERE table_name = $1",
    )
    .bind(name)
    .bind(applied.applied as i64)
    .bind(expired as i64)
    .bind(foreign as i64)
    .bind(folded.foreign_reason)
    .execute(connection)
    .await
    .doing("counting what was fed")?;
    Ok(())
}
