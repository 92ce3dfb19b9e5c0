//! Workers of one migration: who is at work, and which range each one holds (R53).
//!
//! A worker has one lease, and its ranges are held for as long as that lasts, so that a heartbeat is one
//! small statement however many ranges there are. PostgreSQL judges a lease by its own clock, and the worker
//! by its own, from before it asked: no two clocks are compared. The statement that saves a worker's
//! acknowledgement checks it ([`Source::move_watermark`]), against the number of the lease.

use std::time::Duration;

use chrono::{DateTime, Utc};
use lockstep_core::{Doing, Kind, Result, Window};
use serde::Serialize;

use super::clock::worker_is_live;
use super::{RangeRow, Source};
use crate::sql;

/// Time for which the row of a worker whose lease is over is kept for people to see.
const OVER_KEPT: &str = "1 hour";

/// A worker that is to be known.
#[derive(Clone, Debug)]
pub struct Registering<'a> {
    /// Chosen by the worker by chance, another one for each registration.
    pub id: i64,
    /// Name of the worker, for people.
    pub name: &'a str,
    /// Whether its process holds the coordinator's lock.
    pub coordinator: bool,
    /// Time for which it is believed without a word.
    pub lease: Duration,
}

/// Facts that a worker tells with each heartbeat.
#[derive(Clone, Debug, Default)]
pub struct Pulse {
    /// Whether it has found no range to take.
    pub idle: bool,
    /// Rows that it has done so far.
    pub rows: i64,
    /// Rows a second since the heartbeat before.
    pub rows_per_s: f64,
    /// Reason why it moves no faster, if something holds it back.
    pub slowed_by: Option<String>,
}

/// A range that a worker holds.
#[derive(Clone, Debug, sqlx_macros::FromRow)]
pub struct HeldRange {
    /// Name of the table.
    pub table_name: String,
    /// Id of the worker that holds it.
    pub worker: i64,
    /// The number of this lease; each one has a greater number than all before.
    pub token: i64,
    /// The range, as it was when it was taken.
    #[sqlx(flatten)]
    pub range: RangeRow,
}

/// A worker as others see it.
#[derive(Clone, Debug, Serialize, sqlx_macros::FromRow)]
pub struct WorkerRow {
    /// Id of the worker.
    pub id: i64,
    /// Name of the worker, for people.
    pub name: String,
    /// Host that it connects from.
    pub host: String,
    /// Number of its process there.
    pub pid: i64,
    /// Whether it is the coordinator's backfill, which holds the coordinator's lock, and no worker.
    pub coordinator: bool,
    /// Time since which it is known.
    pub started_at: DateTime<Utc>,
    /// Rest of its lease in milliseconds; below zero it is over.
    pub lease_left_ms: i64,
    /// Whether it has found no range to take.
    pub idle: bool,
    /// Rows that it has done, when it last told.
    pub rows: i64,
    /// Rows a second, when it last told.
    pub rows_per_s: f64,
    /// Reason why it moved no faster then; `None` where nothing held it back.
    pub slowed_by: Option<String>,
    /// The ranges that it holds, as `table/number`.
    pub ranges: Vec<String>,
    /// Time, in seconds, for which it has held the range that it took first.
    pub longest_s: Option<f64>,
}

impl WorkerRow {
    /// Tells whether its lease is not over.
    pub fn is_live(&self) -> bool {
        self.lease_left_ms > 0
    }

    /// Tells whether it holds a range of this table.
    pub fn moves(&self, table: &str) -> bool {
        self.ranges.iter().any(|range| range.rsplit_once('/').is_some_and(|(of, _)| of == table))
    }
}

impl Source {
    /// Makes a worker known. A coordinator ends those of earlier ones: it has their lock, so they hold
    /// nothing.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Begin again under another id.
    #[crate::boxed]
    pub async fn register_worker(&self, who: &Registering<'_>) -> Result<()> {
        let doing = "registering a worker";
        sql::query(
            "DELETE FROM lockstep.workers
             WHERE (coordinator AND $1) OR lease_until < pg_catalog.clock_timestamp() - $2::interval",
        )
        .bind(who.coordinator)
        .bind(OVER_KEPT)
        .execute(self.pool())
        .await
        .doing(doing)?;
        sql::query(
            "INSERT INTO lockstep.workers (id, name, host, pid, coordinator, lease_until)
             VALUES ($1, $2, coalesce(pg_catalog.host(pg_catalog.inet_client_addr()), 'local'), $3, $4,
                     pg_catalog.clock_timestamp() + $5::float8 * interval '1 second')",
        )
        .bind(who.id)
        .bind(who.name)
        .bind(i64::from(std::process::id()))
        .bind(who.coordinator)
        .bind(who.lease.as_secs_f64())
        .execute(self.pool())
        .await
        .doing(doing)?;
        Ok(())
    }

    /// Renews a worker's lease. `false` once it is over: then it stays over, and what the worker held is
    /// free.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn renew_worker(&self, id: i64, lease: Duration, pulse: Pulse) -> Result<bool> {
        let renewed = sql::query(
            "UPDATE lockstep.workers SET renewed_at = pg_catalog.clock_timestamp(), idle = $3, rows = $4,
                rows_per_s = $5, slowed_by = $6,
                 lease_until = pg_catalog.clock_timestamp() + $2::float8 * interval '1 second'
             WHERE id = $1 AND lease_until > pg_catalog.clock_timestamp()",
        )
        .bind(id)
        .bind(lease.as_secs_f64())
        .bind(pulse.idle)
        .bind(pulse.rows)
        .bind(pulse.rows_per_s)
        .bind(pulse.slowed_by)
        .execute(self.pool())
        .await
        .doing("renewing the lease of a worker")?;
        Ok(renewed.rows_affected() == 1)
    }

    /// Forgets a worker; what it held is free at once.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn end_worker(&self, id: i64) -> Result<()> {
        sql::query("DELETE FROM lockstep.workers WHERE id = $1")
            .bind(id)
            .execute(self.pool())
            .await
            .doing("ending the lease of a worker")?;
        Ok(())
    }

    /// Takes any range of these tables that is not done and that no live worker holds; `None` where there is
    /// none, where the plan was made for another window of days, or where the worker's own lease is over.
    ///
    /// 1. A worker has a window. 2. A backfill that begins from the start makes a plan without one. 3. The
    ///    worker takes a range of it, reads its own window of that, and the range is done without the other
    ///    rows.
    ///
    /// By chance, as neighbouring keys often share a DynamoDB partition, and workers side by side would heat
    /// it up.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// A range may have been taken. It is free again once the worker's lease is over.
    #[crate::boxed]
    pub async fn claim_range(
        &self,
        worker: i64,
        tables: &[&str],
        window: &Window,
    ) -> Result<Option<HeldRange>> {
        let sql = format!(
            // A holder that this statement's snapshot does not show has registered since: it is live. So a
            // range is free only when it has none, or one that is seen to be over.
            "WITH free AS (
                 SELECT r.table_name, r.number FROM lockstep.ranges r
                 WHERE NOT r.done AND r.table_name = ANY ($2) AND (r.worker IS NULL OR r.worker = ANY (ARRAY(
                     SELECT w.id FROM lockstep.workers w WHERE NOT {live})))
                     AND EXISTS (SELECT 1 FROM lockstep.tables t WHERE t.name = r.table_name
                         AND t.window_start IS NOT DISTINCT FROM $3::timestamptz
                         AND t.window_end IS NOT DISTINCT FROM $4::timestamptz)
                 ORDER BY pg_catalog.random() LIMIT 1 FOR UPDATE OF r SKIP LOCKED)
             UPDATE lockstep.ranges AS r
             SET worker = $1, token = pg_catalog.nextval('lockstep.lease_seq'), leased_at =
                 pg_catalog.clock_timestamp()
             FROM free
             WHERE r.table_name = free.table_name AND r.number = free.number AND EXISTS (
                 SELECT 1 FROM lockstep.workers w WHERE w.id = $1 AND {live})
             RETURNING r.*",
            live = worker_is_live("w"),
        );
        sql::query_as(sqlx::AssertSqlSafe(sql))
            .persistent(false)
            .bind(worker)
            .bind(tables)
            .bind(window.start)
            .bind(window.end)
            .fetch_optional(self.pool())
            .await
            .doing("taking a range")
    }

    /// Returns every worker, live ones first; none where schema `lockstep` is older than workers, or where
    /// this role may not see them.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn workers(&self) -> Result<Vec<WorkerRow>> {
        let sql = format!(
            "SELECT w.id, w.name, w.host, w.pid, w.coordinator, w.started_at, w.idle, w.rows, w.rows_per_s,
                 -- A schema of before has no such column.
                 pg_catalog.to_jsonb(w) ->> 'slowed_by' AS slowed_by,
                 CASE WHEN {live} THEN (1000::float8 * extract(epoch FROM w.lease_until -
                     pg_catalog.clock_timestamp())::float8)::bigint
                     ELSE least(0, (1000::float8 * extract(epoch FROM w.lease_until -
                     pg_catalog.clock_timestamp())::float8)::bigint) END
                     AS lease_left_ms,
                 coalesce(h.ranges, '{{}}') AS ranges, h.longest_s
             FROM lockstep.workers w LEFT JOIN LATERAL (
                 SELECT pg_catalog.array_agg(r.table_name || '/' || r.number::text ORDER BY r.table_name,
                     r.number) AS ranges,
                     extract(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.min(r.leased_at))::float8
                         AS longest_s
                 FROM lockstep.ranges r WHERE r.worker = w.id AND NOT r.done) h ON true
             ORDER BY {live} DESC, w.name, w.started_at, w.id",
            live = worker_is_live("w"),
        );
        let found =
            sql::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(self.pool()).await.doing("reading the workers");
        match found {
            Err(error) if error.is_missing_table() => Ok(Vec::new()),
            // A role that only reads was given its rights before there was this table; all else it may still
            // see.
            Err(error) if error.kind == Kind::Denied => Ok(Vec::new()),
            found => found,
        }
    }
}
