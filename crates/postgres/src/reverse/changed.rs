//! Items that the feed has taken, for the step that compares them with their rows before the truth goes back.

use std::collections::HashSet;

use lockstep_core::{Doing, Error, Kind, Result, SourceKey};

use super::FedTable;
use super::table::among;
use crate::Source;
use crate::binding::text_digest_sql;
use crate::sql;

/// An item that was taken in this DynamoOnly.
#[derive(Clone, Debug, PartialEq)]
pub struct TakenItem {
    /// Key of the item, as [`place`](lockstep_core::place) prints it.
    pub place: String,
    /// The source key of its row.
    pub key: SourceKey,
}

/// A moment in the history of the source: what is not of a transaction before it is not in what was read
/// before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Since(pub(super) String);

/// Places and keys, as they are kept.
pub(super) fn parsed(found: Vec<(String, String)>, doing: &str) -> Result<Vec<TakenItem>> {
    let parsed = found.into_iter().map(|(place, key)| Ok(TakenItem { place, key: SourceKey::parse(&key)? }));
    parsed
        .collect::<Result<_, lockstep_core::Unholdable>>()
        .map_err(|e| Error::source(Kind::Invalid, doing, e.to_string()))
}

impl Source {
    /// The moment from which on transactions may not be over yet.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn reverse_moment(&self) -> Result<Since> {
        let asked =
            sql::query_scalar("SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text")
                .fetch_one(self.pool())
                .await;
        asked.map(Since).doing("asking for a moment")
    }

    /// Up to `limit` items, but for those that an operator has accepted to stay behind, that were taken at
    /// `since` or later, or ever, in the order of the digests of their places, after `after`.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn reverse_taken(
        &self,
        table: &FedTable,
        since: Option<&Since>,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<TakenItem>> {
        let doing = "listing items that came back";
        let digest = text_digest_sql("place");
        let sql = format!(
            "SELECT place, key::text FROM lockstep.reverse_places
             WHERE table_name = $1 AND ($2::text IS NULL OR touched >= $2::text::xid8) AND ($3::text IS NULL OR {digest} > {})
                 AND NOT EXISTS (SELECT FROM lockstep.reverse_again a
                                 WHERE a.table_name = $1 AND {} = {} AND a.acknowledged_at IS NOT NULL)
             ORDER BY {digest} LIMIT $4",
            text_digest_sql("$3::text"),
            text_digest_sql("a.place"),
            text_digest_sql("reverse_places.place"),
        );
        let found: Vec<(String, String)> = sql::query_as(sqlx::AssertSqlSafe(sql))
            .bind(table.binding().name())
            .bind(since.map(|since| &since.0))
            .bind(after)
            .bind(limit)
            .fetch_all(self.pool())
            .await
            .doing(doing)?;
        parsed(found, doing)
    }

    /// Returns the others of these items than those of which an operator has accepted that they stay behind.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn but_accepted(&self, table: &FedTable, taken: Vec<TakenItem>) -> Result<Vec<TakenItem>> {
        if taken.is_empty() {
            return Ok(taken);
        }
        let sql = format!(
            "SELECT place FROM lockstep.reverse_again WHERE {} AND acknowledged_at IS NOT NULL",
            among()
        );
        let accepted: HashSet<String> = sql::query_scalar::<String>(sqlx::AssertSqlSafe(sql))
            .bind(table.binding().name())
            .bind(taken.iter().map(|taken| taken.place.as_str()).collect::<Vec<_>>())
            .fetch_all(self.pool())
            .await
            .doing("asking what was accepted to stay behind")?
            .into_iter()
            .collect();
        Ok(taken.into_iter().filter(|taken| !accepted.contains(&taken.place)).collect())
    }

    /// Tells of each of these tables whether an item was taken at its moment or later, or ever: what
    /// [`Source::reverse_taken`] would list, without what an operator has accepted.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn reverse_taken_any(&self, asked: &[(&FedTable, Option<&Since>)]) -> Result<Vec<bool>> {
        let names: Vec<&str> = asked.iter().map(|(table, _)| table.binding().name()).collect();
        let since: Vec<Option<&str>> = asked.iter().map(|(_, since)| since.map(|at| at.0.as_str())).collect();
        sql::query_scalar(
            "SELECT EXISTS (SELECT FROM lockstep.reverse_places p
                 WHERE p.table_name = asked.name AND (asked.since IS NULL OR p.touched >= asked.since::xid8))
             FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]))
                 WITH ORDINALITY AS asked (name, since, nth) ORDER BY asked.nth",
        )
        .bind(names)
        .bind(since)
        .fetch_all(self.pool())
        .await
        .doing("asking which tables had items that came back")
    }

    /// The newest epoch that the target may have been written in; `None` where the truth was never there.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn newest_target_epoch(&self) -> Result<Option<lockstep_core::Epoch>> {
        let newest: Option<i64> = sql::query_scalar(
            "SELECT pg_catalog.max(epoch)
            FROM lockstep.target_epochs",
        )
        .fetch_one(self.pool())
        .await
        .doing("looking for the newest epoch of the target")?;
        Ok(newest.map(lockstep_core::Epoch))
    }

    /// Makes known that the target may be written in `epoch` as well, before an instance may. The feed tells
    /// a write of an epoch that the target has counted up to by itself from one of an unknown epoch, and
    /// PostgreSQL's own record does not follow the pauses there.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn note_target_epoch(&self, epoch: lockstep_core::Epoch) -> Result<()> {
        sql::query("INSERT INTO lockstep.target_epochs VALUES ($1) ON CONFLICT DO NOTHING")
            .bind(epoch.0)
            .execute(self.pool())
            .await
            .doing("noting an epoch of the target")
            .map(drop)
    }
}
