//! One page of a shard, in one transaction: the rows, what is remembered of their items, and the position.

use chrono::{DateTime, Utc};
use lockstep_core::{Doing, Epoch, Error, Folded, Kind, Phase, Result, Version};
use sqlx::postgres::PgConnection;

use super::FedTable;
use super::accepted::withdraw_all;
use super::apply::{Applied, apply};
use super::entry;
use super::feeding::finish_feeding;
use super::foreign::note_ahead;
use super::positions::lose_disowned;
use super::remember::{Guard, Why, forget, note_again, note_earlier, note_removed};
use crate::Source;
use crate::repair::mark;
use crate::sql;

/// A page of a shard, ready to be applied.
#[derive(Clone, Copy, Debug)]
pub struct FedPage<'a> {
    /// The shard.
    pub shard: &'a str,
    /// The position that it was read from.
    pub from: Option<&'a str>,
    /// The position after it.
    pub to: Option<&'a str>,
    /// Whether it is the rest of the shard.
    pub finished: bool,
    /// Time at which its newest record was made.
    pub newest_at: Option<DateTime<Utc>>,
    /// Changes of the page, the newest of each item.
    pub folded: &'a Folded,
    /// The newest epoch that was begun, as both stores show, asked after the page was read: records of
    /// later ones are another program's, and are set aside. `None` where that was not asked, or they do not
    /// show it.
    pub begun: Option<Epoch>,
}

impl Source {
    /// Applies a page and saves its position, both or neither.
    ///
    /// Where it has records of an epoch that the source has never begun, and `begun` does not tell them from
    /// a history that is lost, nothing is done, and the answer says so.
    ///
    /// # Errors [`Kind::Busy`] on a deadlock: nothing was done, and the page may come again.
    /// [`Kind::Refused`] when another feed has moved the position.
    ///
    /// # Cancel safety
    /// All of it is done, or nothing.
    pub async fn apply_reverse(&self, table: &FedTable, page: FedPage<'_>) -> Result<Applied> {
        let name = table.binding.name();
        let (mut transaction, mut epochs, mut writer) = self.begin_feeding(table).await?;
        let mut plan = entry::plan(&*table.binding.table, page.folded, &epochs);
        if !plan.late.is_empty() {
            // Marks from outside need the barrier for themselves, and meanwhile the phase may change: looked
            // at again behind it.
            transaction.rollback().await.doing("making way for marks")?;
            (transaction, epochs, writer) = self.begin_feeding_alone(table).await?;
            plan = entry::plan(&*table.binding.table, page.folded, &epochs);
        }
        let is_anothers = |version: &Version| page.begun.is_some_and(|begun| version.epoch() > begun);
        if !plan.ahead.iter().all(|(_, version, _)| is_anothers(version)) {
            return Ok(Applied { ahead: true, ..Applied::default() });
        }
        if !save_position(&mut transaction, name, &page).await? {
            return Ok(Applied::default());
        }
        forget(&mut transaction, name, &plan.forget_before).await?;
        lose_disowned(&mut transaction, name, &plan.disowned).await?;
        let mut applied = apply(&mut transaction, &writer, &plan.entries, Guard::Newer).await?;
        for (place, version, why) in &plan.undecodable {
            let why = Why { text: why, for_good: true, version: Some(*version) };
            note_again(&mut transaction, name, place, None, why).await?;
        }
        applied.again += plan.undecodable.len() as u64;
        applied.again += note_earlier(&mut transaction, table, &plan.earlier).await?;
        note_ahead(&mut transaction, &table.binding, &plan.ahead).await?;
        applied.again += plan.ahead.len() as u64;
        if !plan.late.is_empty() {
            let late = mark(&mut transaction, &table.binding, &plan.late).await?;
            note_late(&mut transaction, name, &plan.late).await?;
            tracing::warn!(
                table = name,
                late,
                "writes of DynamoOnly landed after it was over; the relay puts the rows over them"
            );
        }
        applied.skipped += plan.skipped;
        note_removed(&mut transaction, table, &plan.removed).await?;
        forget(&mut transaction, name, &plan.forget_after).await?;
        count(&mut transaction, name, &applied, page.folded, epochs.now.phase).await?;
        finish_feeding(transaction, name).await?;
        Ok(applied)
    }
}

/// Keeps in the journal which keys a late write has changed, at most a hundred of them: the row goes over
/// what it wrote. Mostly its caller was told that its end is unknown. But should records of different
/// items ever come in another order than they were written in, which Amazon promises of the records of one
/// item only, then a write that was acknowledged comes late as well, and this is where it can be found.
async fn note_late(connection: &mut PgConnection, name: &str, keys: &[Vec<String>]) -> Result<()> {
    const KEPT: usize = 100;
    let some: Vec<&Vec<String>> = keys.iter().take(KEPT).collect();
    let detail = serde_json::json!({ "table": name, "count": keys.len(), "keys": some });
    sql::query(
        "INSERT INTO lockstep.journal (actor, kind, step, detail)
         VALUES ('reverse feed', 'note', 'late writes of DynamoOnly', $1)",
    )
    .bind(detail)
    .execute(connection)
    .await
    .doing("keeping which writes came late")
    .map(drop)
}

/// Moves the position of a shard from where the page was read to after it; says `false` where it has moved
/// there already, as after a commit whose answer was lost (I8).
async fn save_position(connection: &mut PgConnection, name: &str, page: &FedPage<'_>) -> Result<bool> {
    let doing = format!("saving a position of {name}");
    let (rounds, places): (Vec<&str>, Vec<&str>) =
        page.folded.markers.iter().map(|(round, place)| (round.as_str(), place.as_str())).unzip();
    let saved: i64 = sql::query_scalar(
        "WITH saved AS (
             INSERT INTO lockstep.reverse_shards AS s
                 (table_name, shard, position, finished, marker, newest_at, empty_at)
             VALUES ($1, $2, $4, $5, $6, $7, CASE WHEN $8 THEN pg_catalog.clock_timestamp() END)
             ON CONFLICT (table_name, shard) DO UPDATE SET position = excluded.position,
                 finished = excluded.finished, marker = coalesce(excluded.marker, s.marker),
                 newest_at = coalesce(excluded.newest_at, s.newest_at),
                 empty_at = coalesce(excluded.empty_at, s.empty_at)
             WHERE s.position IS NOT DISTINCT FROM $3 AND NOT s.finished
             RETURNING true),
         seen AS (
             INSERT INTO lockstep.reverse_markers (table_name, round, place)
             SELECT DISTINCT $1, m.round, m.place
             FROM ROWS FROM (pg_catalog.unnest($9::text[]), pg_catalog.unnest($10::text[]))
                 AS m (round, place)
             WHERE EXISTS (SELECT FROM saved)
             ON CONFLICT (table_name, round, place) DO NOTHING)
         SELECT pg_catalog.count(*) FROM saved",
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
    .bind(&rounds)
    .bind(&places)
    .fetch_one(&mut *connection)
    .await
    .doing(&doing)?;
    if saved == 1 {
        return Ok(true);
    }
    let there: bool = sql::query_scalar(
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
    Err(Error::source(
        Kind::Refused,
        doing,
        "another reverse feed has moved the position; one may run at a time",
    ))
}

/// Adds to the durable counts. What is foreign, or expires, while the source decides, is not the feed's
/// business.
async fn count(
    connection: &mut PgConnection,
    name: &str,
    applied: &Applied,
    folded: &Folded,
    phase: Phase,
) -> Result<()> {
    let ours = phase == Phase::DynamoOnly;
    let (expired, foreign) = if ours { (folded.expired, folded.foreign) } else { (0, 0) };
    let goes_on = "UPDATE lockstep.reverse_tables SET stopped_at = NULL, stopped_why = NULL
         WHERE table_name = $1 AND stopped_at IS NOT NULL";
    let doing = "noting that a feed goes on";
    sql::query(goes_on).bind(name).execute(&mut *connection).await.doing(doing)?;
    if applied.applied + expired + foreign == 0 {
        return Ok(());
    }
    sql::query(
        "UPDATE lockstep.reverse_tables SET applied = applied + $2, expired = expired + $3,
             foreign_count = foreign_count + $4, foreign_why = CASE WHEN $4 > 0 THEN $5 ELSE foreign_why END WHERE table_name = $1",
    )
    .bind(name)
    .bind(applied.applied as i64)
    .bind(expired as i64)
    .bind(foreign as i64)
    .bind(folded.foreign_reason)
    .execute(&mut *connection)
    .await
    .doing("counting what was fed")?;
    if foreign > 0 {
        withdraw_all(connection, name).await?;
    }
    Ok(())
}
