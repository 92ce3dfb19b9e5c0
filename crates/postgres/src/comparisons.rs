//! One comparison of a table by many processes: who leads it, on which terms, and which piece each one reads
//! (R53).
//!
//! A piece is held for as long as its worker's lease lasts ([`Source::renew_worker`]), also when it has been
//! read: what was read of it is in that worker's process, and is handed over from there. The number of the
//! lease alone tells what counts; why is written in `lockstep_validator`'s `shared`.

use std::time::Duration;

use lockstep_core::{Doing, Error, Kind, Result};
use serde_json::Value;

use super::clock::worker_is_live;
use super::{KeyBound, Source};
use crate::sql;

/// A comparison that several processes share.
#[derive(Clone, Debug, sqlx_macros::FromRow)]
pub struct SharedComparison {
    /// Name of the table.
    pub table_name: String,
    /// Number of the run, by chance.
    pub run: i64,
    /// Name of the process that leads it, for people.
    pub name: String,
    /// Terms that a process must share to take part.
    pub terms: Value,
    /// The number of the leader's newest wish; zero before the first.
    pub ask: i32,
    /// Wish of the leader.
    pub asked: String,
    /// For each bucket whether its entries are wanted, a bit each.
    pub wanted: Vec<u8>,
}

/// A piece of one side of a table.
#[derive(Clone, Debug, PartialEq, Eq, sqlx_macros::FromRow)]
pub struct ComparisonPiece {
    /// `source` or `target`.
    pub side: String,
    /// Number of the piece on that side.
    pub number: i32,
    /// Key after which its rows come.
    pub after: Option<KeyBound>,
    /// The last key that is of it.
    pub until: Option<KeyBound>,
    /// The worker that has it, if one has.
    pub worker: Option<i64>,
    /// The number of that lease.
    pub token: i64,
    /// Whether it was read whole under that lease.
    pub done: bool,
    /// Whether that worker's lease lasts.
    pub held: bool,
    /// Counts of its worker.
    pub counted: Value,
}

/// First and last key of a new piece.
pub type PieceBounds = (Option<KeyBound>, Option<KeyBound>);

/// Whether the lease of a leader lasts.
pub(super) const IS_LED: &str = "c.lease_until > pg_catalog.clock_timestamp()
    AND c.lease_until <= pg_catalog.clock_timestamp() + c.lease";
const PIECE: &str = "p.side, p.number, p.after, p.until, p.worker, p.token, p.done, p.counted";

impl Source {
    /// Begins a comparison that others may take part in, with its pieces: those of the source by their
    /// bounds, and a number of segments of the target. `false` where another one of this table has a leader.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// It may have begun. It ends with its lease.
    #[crate::boxed]
    pub async fn begin_shared_comparison(
        &self,
        of: &SharedComparison,
        lease: Duration,
        pieces: &[PieceBounds],
        segments: usize,
    ) -> Result<bool> {
        let doing = "beginning a comparison that is shared";
        let mut transaction = self.begin(doing).await?;
        sql::query(sqlx::AssertSqlSafe(format!(
            "DELETE FROM lockstep.comparisons AS c WHERE c.table_name = $1 AND NOT ({IS_LED})"
        )))
        .bind(&of.table_name)
        .execute(&mut *transaction)
        .await
        .doing(doing)?;
        let begun = sql::query(
            "INSERT INTO lockstep.comparisons (table_name, run, name, terms, lease, lease_until)
             VALUES ($1, $2, $3, $4, $5::float8 * interval '1 second',
                     pg_catalog.clock_timestamp() + $5::float8 * interval '1 second')
             ON CONFLICT (table_name) DO NOTHING",
        )
        .bind(&of.table_name)
        .bind(of.run)
        .bind(&of.name)
        .bind(&of.terms)
        .bind(lease.as_secs_f64())
        .execute(&mut *transaction)
        .await
        .doing(doing)?;
        if begun.rows_affected() == 0 {
            return Ok(false);
        }
        let bounds = pieces.iter().map(|(after, until)| ("source", after.as_ref(), until.as_ref()));
        let all = bounds.chain(std::iter::repeat_n(("target", None, None), segments));
        let mut numbers = [0, 0];
        for (side, after, until) in all {
            let number = &mut numbers[usize::from(side == "target")];
            sql::query(
                "INSERT INTO lockstep.comparison_pieces (run, side, number, after, until)
                 VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(of.run)
            .bind(side)
            .bind(*number)
            .bind(after)
            .bind(until)
            .execute(&mut *transaction)
            .await
            .doing(doing)?;
            *number += 1;
        }
        transaction.commit().await.doing(doing)?;
        Ok(true)
    }

    /// Renews the leader's lease. `false` where its comparison is gone: another one was begun since.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn renew_shared_comparison(&self, run: i64, lease: Duration) -> Result<bool> {
        let renewed = sql::query(
            "UPDATE lockstep.comparisons
             SET lease_until = pg_catalog.clock_timestamp() + $2::float8 * interval '1 second'
             WHERE run = $1",
        )
        .bind(run)
        .bind(lease.as_secs_f64())
        .execute(self.pool())
        .await
        .doing("renewing the lease of a comparison")?;
        Ok(renewed.rows_affected() == 1)
    }

    /// Ends a comparison, and forgets what was handed over.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn end_shared_comparison(&self, run: i64) -> Result<()> {
        sql::query("DELETE FROM lockstep.comparisons WHERE run = $1")
            .bind(run)
            .execute(self.pool())
            .await
            .doing("ending a comparison")
            .map(drop)
    }

    /// Returns the comparison of a table that has a leader now; `None` where there is none, where schema
    /// `lockstep` is older than such comparisons, or where this role may not see them.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn shared_comparison(&self, table: &str) -> Result<Option<SharedComparison>> {
        let found = sql::query_as(sqlx::AssertSqlSafe(format!(
            "SELECT c.table_name, c.run, c.name, c.terms, c.ask, c.asked, c.wanted
             FROM lockstep.comparisons c WHERE c.table_name = $1 AND {IS_LED}"
        )))
        .bind(table)
        .fetch_optional(self.pool())
        .await
        .doing("looking for a comparison to take part in");
        absent(found).map(Option::flatten)
    }

    /// Counts those who hold a piece of any comparison that has a leader now: one for each process and table,
    /// as a process registers for each table that it reads.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn comparison_sharers(&self) -> Result<i64> {
        sql::query_scalar(sqlx::AssertSqlSafe(format!(
            "SELECT pg_catalog.count(*) FROM lockstep.workers w
             WHERE {live} AND EXISTS (SELECT FROM lockstep.comparison_pieces p
                 JOIN lockstep.comparisons c ON c.run = p.run WHERE p.worker = w.id AND {IS_LED})",
            live = worker_is_live("w")
        )))
        .fetch_one(self.pool())
        .await
        .doing("counting who shares a comparison")
    }

    /// Takes any piece that was not read under a lease that lasts; `None` where there is none, or where the
    /// worker's own lease is over.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// A piece may have been taken. It is free again once the worker's lease is over.
    #[crate::boxed]
    pub async fn claim_comparison_piece(&self, run: i64, worker: i64) -> Result<Option<ComparisonPiece>> {
        sql::query_as(sqlx::AssertSqlSafe(format!(
            // A holder that this statement's snapshot does not show has registered since: it is live.
            "WITH free AS (
                 SELECT p.run, p.side, p.number FROM lockstep.comparison_pieces p
                 WHERE p.run = $1 AND (p.worker IS NULL OR p.worker = ANY (ARRAY(
                     SELECT w.id FROM lockstep.workers w WHERE NOT {live})))
                 ORDER BY pg_catalog.random() LIMIT 1 FOR UPDATE OF p SKIP LOCKED)
             UPDATE lockstep.comparison_pieces AS p
             SET worker = $2, token = pg_catalog.nextval('lockstep.lease_seq'), done = false,
                 counted = '{{}}', leased_at = pg_catalog.clock_timestamp()
             FROM free
             WHERE p.run = free.run AND p.side = free.side AND p.number = free.number AND EXISTS (
                 SELECT 1 FROM lockstep.workers w WHERE w.id = $2 AND {live})
             RETURNING {PIECE}, true AS held",
            live = worker_is_live("w")
        )))
        .bind(run)
        .bind(worker)
        .fetch_optional(self.pool())
        .await
        .doing("taking a piece of a comparison")
    }

    /// Records that a piece was read whole under the lease by which it was taken. `false` where that lease is
    /// over: another worker reads it, or may.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn finish_comparison_piece(
        &self,
        run: i64,
        piece: &ComparisonPiece,
        counted: &Value,
    ) -> Result<bool> {
        let finished = sql::query(sqlx::AssertSqlSafe(format!(
            "UPDATE lockstep.comparison_pieces AS p SET done = true, counted = $5
             WHERE p.run = $1 AND p.side = $2 AND p.number = $3 AND p.token = $4 AND EXISTS (
                 SELECT 1 FROM lockstep.workers w WHERE w.id = p.worker AND {})",
            worker_is_live("w")
        )))
        .bind(run)
        .bind(&piece.side)
        .bind(piece.number)
        .bind(piece.token)
        .bind(counted)
        .execute(self.pool())
        .await
        .doing("recording that a piece was read")?;
        Ok(finished.rows_affected() == 1)
    }

    /// Returns every piece of a comparison, in order; none once the comparison has ended.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn comparison_pieces(&self, run: i64) -> Result<Vec<ComparisonPiece>> {
        let found = sql::query_as(sqlx::AssertSqlSafe(format!(
            "SELECT {PIECE}, w.id IS NOT NULL AS held FROM lockstep.comparison_pieces p
             LEFT JOIN lockstep.workers w ON w.id = p.worker AND {live}
             WHERE p.run = $1 ORDER BY p.side, p.number",
            live = worker_is_live("w")
        )))
        .bind(run)
        .fetch_all(self.pool())
        .await
        .doing("reading the pieces of a comparison");
        absent(found).map(Option::unwrap_or_default)
    }
}

/// `None` where there is no such table yet, or none that this role may see.
pub(super) fn absent<T>(found: Result<T>) -> Result<Option<T>> {
    let is_absent = |error: &Error| error.is_missing_table() || error.kind == Kind::Denied;
    match found {
        Err(error) if is_absent(&error) => Ok(None),
        found => found.map(Some),
    }
}
