//! States of items become rows: all at once, or one by one where PostgreSQL refuses one.

use std::collections::HashMap;

use lockstep_core::{Doing, Result};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::FedTable;
use super::entry::{Entry, State};
use super::remember::{
    Guard, Why, clear_again, end_acceptances, note_again, note_born_again, note_outranked, remember,
    remembered,
};
use super::rows::{is_about_the_row, is_for_good, is_taken, reason};
use super::texts::note_heirs;
use super::writer::{How, Writer};

/// Outcome of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Items with a state that PostgreSQL did not have: rows upserted and deleted.
    pub applied: u64,
    /// States that came from the source, or that it has had.
    pub skipped: u64,
    /// Items that wait to be read again.
    pub again: u64,
    /// Whether nothing was done, as there are records of an epoch that may be one that the source forgot; see
    /// [`FedPage::begun`](super::FedPage::begun).
    pub ahead: bool,
}

/// Applies entries: all at once; only if PostgreSQL refuses a row, or what is to be remembered of one, one by
/// one. Rows that take a value from each other go nowhere one by one, so they make way together first.
pub(super) async fn apply(
    connection: &mut PgConnection,
    writer: &Writer<'_>,
    entries: &[Entry],
    guard: Guard,
) -> Result<Applied> {
    let error = match try_together(connection, writer, entries, guard, How::Plain).await? {
        Ok(applied) => return Ok(applied),
        Err(error) => error,
    };
    if is_taken(&error)
        && entries.len() > 1
        && writer.can_displace()
        && let Ok(applied) = try_together(connection, writer, entries, guard, How::Displacing).await?
    {
        return Ok(applied);
    }
    one_by_one(connection, writer, entries, guard).await
}

/// In a savepoint; the inner error is about a row, and nothing was done.
async fn try_together(
    connection: &mut PgConnection,
    writer: &Writer<'_>,
    entries: &[Entry],
    guard: Guard,
    how: How,
) -> Result<Result<Applied>> {
    let mut savepoint = connection.begin().await.doing(SET)?;
    match together(&mut savepoint, writer, entries, guard, how).await {
        Ok(applied) => savepoint.commit().await.doing(RELEASE).map(|()| Ok(applied)),
        Err(error) if is_about_the_row(&error) => {
            savepoint.rollback().await.doing(GO_BACK)?;
            Ok(Err(error))
        }
        Err(error) => Err(error),
    }
}

const SET: &str = "setting a savepoint";
const RELEASE: &str = "releasing a savepoint";
const GO_BACK: &str = "going back to a savepoint";

/// Entries that are news, and the keys of tombstones that say nothing of their row.
struct News<'a> {
    entries: Vec<&'a Entry>,
    keys: HashMap<String, String>,
    /// Whether an operator has accepted of an item of the table that it stays behind.
    accepted: bool,
    /// Number of items that came into empty places at versions that are no news, to be read again.
    born_again: u64,
}

/// Remembers entries. Removes the note to read an item again once a newer state of it is applied; an
/// acceptance of this state stays until PostgreSQL has taken it.
async fn take<'a>(
    connection: &mut PgConnection,
    table: &FedTable,
    entries: &'a [Entry],
    guard: Guard,
) -> Result<News<'a>> {
    let name = table.binding.name();
    let mut keys = remembered(connection, name, entries).await?;
    let fresh = remember(connection, table, entries, guard).await?;
    // A tombstone of which nothing is known, here or in the stream, has no row.
    keys.retain(|place, _| fresh.contains(place));
    if guard == Guard::AtLeast && !table.lost_history && fresh.len() < entries.len() {
        note_outranked(connection, name, entries, &fresh).await?;
    }
    let born_again = match guard {
        Guard::Newer => note_born_again(connection, name, entries, &fresh).await?,
        Guard::AtLeast => 0,
    };
    let entries: Vec<&Entry> = entries.iter().filter(|entry| fresh.contains(&entry.place)).collect();
    let accepted = clear_again(connection, name, &entries).await?;
    Ok(News { entries, keys, accepted, born_again })
}

async fn together(
    connection: &mut PgConnection,
    writer: &Writer<'_>,
    entries: &[Entry],
    guard: Guard,
    how: How,
) -> Result<Applied> {
    let news = take(connection, writer.table, entries, guard).await?;
    let again = news.born_again + write_news(connection, writer, &news, how).await?;
    let applied = news.entries.len() as u64;
    Ok(Applied { applied, skipped: entries.len() as u64 - applied, again, ahead: false })
}

/// Each in savepoints of its own. What PostgreSQL cannot even remember of an item, as a key with a NUL in it,
/// is noted by its place, which every item has; the others go on.
async fn one_by_one(
    connection: &mut PgConnection,
    writer: &Writer<'_>,
    entries: &[Entry],
    guard: Guard,
) -> Result<Applied> {
    let table = writer.table;
    let mut applied = Applied::default();
    for entry in entries {
        let mut savepoint = connection.begin().await.doing(SET)?;
        let news = match take(&mut savepoint, table, std::slice::from_ref(entry), guard).await {
            Ok(news) => {
                savepoint.commit().await.doing(RELEASE)?;
                news
            }
            Err(error) if is_about_the_row(&error) => {
                savepoint.rollback().await.doing(GO_BACK)?;
                let why = reason(&error);
                let why = Why { text: &why, for_good: is_for_good(&error), version: Some(entry.version) };
                note_again(connection, table.binding.name(), &entry.place, None, why).await?;
                applied.applied += 1;
                applied.again += 1;
                continue;
            }
            Err(error) => return Err(error),
        };
        if news.entries.is_empty() {
            applied.skipped += 1;
            applied.again += news.born_again;
            continue;
        }
        applied.applied += 1;
        applied.again += one(connection, writer, entry, &news).await?;
    }
    Ok(applied)
}

/// Writes one entry in a savepoint of its own. A row that PostgreSQL does not take holds up no other row: it
/// may only be early.
async fn one(
    connection: &mut PgConnection,
    writer: &Writer<'_>,
    entry: &Entry,
    news: &News<'_>,
) -> Result<u64> {
    let table = writer.table;
    let mut savepoint = connection.begin().await.doing(SET)?;
    match write_news(&mut savepoint, writer, news, How::Plain).await {
        Ok(again) => savepoint.commit().await.doing(RELEASE).map(|()| again),
        Err(error) if is_about_the_row(&error) => {
            savepoint.rollback().await.doing(GO_BACK)?;
            let why = reason(&error);
            tracing::debug!(table = table.binding.name(), why, "a row is put off");
            let why = Why { text: &why, for_good: is_for_good(&error), version: Some(entry.version) };
            note_again(connection, table.binding.name(), &entry.place, Some(&entry.place), why).await?;
            Ok(1)
        }
        Err(error) => Err(error),
    }
}

async fn write_news(
    connection: &mut PgConnection,
    writer: &Writer<'_>,
    news: &News<'_>,
    how: How,
) -> Result<u64> {
    // Before the rows: what is noted while they are written is of what they are now.
    if news.accepted {
        end_acceptances(connection, writer.table.binding.name(), &news.entries).await?;
    }
    write(connection, writer, &news.entries, &news.keys, how).await
}

/// Upserts first, so that a row that moved within the page is at its new place when the tombstone of the old
/// one comes.
async fn write(
    connection: &mut PgConnection,
    writer: &Writer<'_>,
    news: &[&Entry],
    keys: &HashMap<String, String>,
    how: How,
) -> Result<u64> {
    let parts = writer.table.binding.table.primary_key_columns();
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
    if news.is_empty() {
        return Ok(0);
    }
    writer.put(connection, &rows, how).await?;
    let dead: Vec<(&String, Vec<String>)> = news
        .iter()
        .filter_map(|entry| match &entry.state {
            State::Gone(key) => Some((&entry.place, key.clone())),
            _ => None,
        })
        .collect();
    let (places, gone): (Vec<&String>, Vec<Vec<String>>) = dead.into_iter().unzip();
    let at: Vec<&str> = places.iter().map(|place| place.as_str()).collect();
    let mut deleted: Vec<&String> =
        writer.delete(connection, &at, gone).await?.into_iter().map(|n| places[n]).collect();
    for entry in news.iter().filter(|entry| matches!(entry.state, State::Unknown)) {
        if let Some(key) = keys.get(&entry.place)
            && writer.delete_key(connection, &entry.place, key).await?
        {
            deleted.push(&entry.place);
        }
    }
    note_heirs(connection, writer.table, &deleted).await
}
