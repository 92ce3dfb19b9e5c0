//! Relays beside each other: which share of the pending keys each one delivers (R53).
//!
//! A share is a range of the keys' digests, the same in every table. All that are registered have the whole
//! set between them; a relay that joins, leaves, or finds that the lease of another is over deals the shares
//! out again. No result depends on it: two relays that deliver one key cost a unit more, and the version
//! decides (I2). So a share is given away at once, and not waited for.
//!
//! What a relay acknowledges is checked by the statement that takes marks out: a key that is not in its share
//! any more, or that comes after its lease, stays pending for the one that has it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use lockstep_core::{Doing, Kind, Result};
use serde::Serialize;

use super::{Source, SourceTransaction};
use crate::sql;

/// Number of parts that digests are divided into.
const PARTS: i32 = 1 << 16;

const JOINING: &str = "sharing the pending keys among relays";

/// A relay that is to be known.
#[derive(Clone, Debug)]
pub struct JoiningRelay<'a> {
    /// Chosen by the relay by chance, another one each time it joins.
    pub id: i64,
    /// Name of the relay, for people.
    pub name: &'a str,
    /// Time for which it is believed without a word.
    pub lease: Duration,
}

/// The keys that a relay delivers, while others deliver the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx_macros::FromRow)]
pub struct RelayShare {
    /// Id of the relay that has it.
    pub relay: i64,
    /// The number of this share; each one has a greater number than all before.
    pub token: i64,
    lower: i32,
    upper: i32,
}

impl RelayShare {
    pub(super) fn of(relay: i64, token: i64, (lower, upper): (i32, i32)) -> Self {
        Self { relay, token, lower, upper }
    }

    /// Tells whether it is every key: the relay is the only one.
    pub fn is_whole(&self) -> bool {
        (self.lower, self.upper) == (0, PARTS)
    }

    /// Returns a condition on a digest, as constants: a bound that the planner does not see is read past.
    pub(super) fn condition_sql(&self, digest: &str) -> String {
        let bound = |part: i32| format!("pg_catalog.decode('{part:04x}', 'hex')");
        let mut sql = String::new();
        if self.lower > 0 {
            sql += &format!(" AND {digest} >= {}", bound(self.lower));
        }
        if self.upper < PARTS {
            sql += &format!(" AND {digest} < {}", bound(self.upper));
        }
        sql
    }

    /// Returns the expression that tells whether a relay, given as `id`, has a digest in its share now, under
    /// a lease that is not over.
    pub(super) fn is_held_sql(id: &str, digest: &str) -> String {
        let part = format!("pg_catalog.get_byte({digest}, 0) * 256 + pg_catalog.get_byte({digest}, 1)");
        format!(
            "EXISTS (SELECT 1 FROM lockstep.relays r WHERE r.id = {id} AND {live}
                AND {part} >= r.lower AND {part} < r.upper)",
            live = live_sql("r"),
        )
    }
}

/// A relay as others see it.
#[derive(Clone, Debug, Serialize, sqlx_macros::FromRow)]
pub struct RelayRow {
    /// Id of the relay.
    pub id: i64,
    /// Name of the relay, for people.
    pub name: String,
    /// Host that it connects from.
    pub host: String,
    /// Number of its process there.
    pub pid: i64,
    /// Time since which it is known.
    pub started_at: DateTime<Utc>,
    /// Rest of its lease in milliseconds; below zero it is over.
    pub lease_left_ms: i64,
    /// Share of the pending keys that it has, in percent.
    pub share_percent: f64,
}

impl RelayRow {
    /// Tells whether its lease is not over.
    pub fn is_live(&self) -> bool {
        self.lease_left_ms > 0
    }
}

impl Source {
    /// Makes a relay known, and gives it its share, which is taken from the others at once. `None` where
    /// schema `lockstep` is older than shares, or where this role may not have one: then a relay delivers
    /// everything.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Join again under another id. A share that was given is free again once its lease is over.
    #[crate::boxed]
    pub async fn join_relays(&self, who: &JoiningRelay<'_>) -> Result<Option<RelayShare>> {
        let joined = async {
            let mut transaction = self.begin_dealing().await?;
            sql::query(
                "INSERT INTO lockstep.relays (id, name, host, pid, lease, lease_until)
                 VALUES ($1, $2, coalesce(pg_catalog.host(pg_catalog.inet_client_addr()), 'local'), $3,
                     $4::float8 * interval '1 second',
                     pg_catalog.clock_timestamp() + $4::float8 * interval '1 second')",
            )
            .bind(who.id)
            .bind(who.name)
            .bind(i64::from(std::process::id()))
            .bind(who.lease.as_secs_f64())
            .execute(&mut *transaction)
            .await
            .doing(JOINING)?;
            deal(transaction, who.id).await
        };
        match joined.await {
            Err(error) if error.is_missing_table() || error.kind == Kind::Denied => Ok(None),
            joined => joined,
        }
    }

    /// Renews the lease of a relay, and says what its share is by now. `None` where it was taken out, as its
    /// lease was over: then it has none any more. One whose lease is over, and which none has taken out, has
    /// it again: its keys were given to no other.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn renew_relay(&self, id: i64, lease: Duration) -> Result<Option<RelayShare>> {
        let renewed: Option<(bool, i64, i32, i32)> = sql::query_as(sqlx::AssertSqlSafe(renewing_sql()))
            .bind(id)
            .bind(lease.as_secs_f64())
            .fetch_optional(self.pool())
            .await
            .doing("renewing the share of a relay")?;
        match renewed {
            Some((true, ..)) => deal(self.begin_dealing().await?, id).await,
            Some((false, token, lower, upper)) => Ok(Some(RelayShare { relay: id, token, lower, upper })),
            None => Ok(None),
        }
    }

    /// Forgets a relay; the others have its share at once.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn leave_relays(&self, id: i64) -> Result<()> {
        let mut transaction = self.begin_dealing().await?;
        sql::query("DELETE FROM lockstep.relays WHERE id = $1")
            .bind(id)
            .execute(&mut *transaction)
            .await
            .doing(JOINING)?;
        deal(transaction, id).await.map(drop)
    }

    /// Returns every relay that shares the pending keys, live ones first; none where schema `lockstep` is
    /// older than shares, or where this role may not see them.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn relays(&self) -> Result<Vec<RelayRow>> {
        let found = sql::query_as(
            "SELECT id, name, host, pid, started_at,
                 (1000::float8 * extract(epoch FROM lease_until -
                     pg_catalog.clock_timestamp())::float8)::bigint AS lease_left_ms,
                 100::float8 * (upper - lower)::float8 / $1::float8 AS share_percent
             FROM lockstep.relays
             ORDER BY lease_until > pg_catalog.clock_timestamp() DESC, name, started_at, id",
        )
        .bind(f64::from(PARTS))
        .fetch_all(self.pool())
        .await
        .doing("reading the relays");
        match found {
            Err(error) if error.is_missing_table() || error.kind == Kind::Denied => Ok(Vec::new()),
            found => found,
        }
    }

    /// Begins to deal keys out, one relay at a time: two that deal at once would give some keys to none.
    async fn begin_dealing(&self) -> Result<SourceTransaction> {
        let mut transaction = self.begin(JOINING).await?;
        sql::query("LOCK TABLE lockstep.relays IN SHARE ROW EXCLUSIVE MODE")
            .execute(&mut *transaction)
            .await
            .doing(JOINING)?;
        Ok(transaction)
    }
}

/// Returns the statement that renews the lease of relay `$1` for `$2` seconds, and says whether the lease of
/// another one is over, and what its own share is.
pub(super) fn renewing_sql() -> String {
    format!(
        "UPDATE lockstep.relays AS r
         SET lease_until = pg_catalog.clock_timestamp() + $2::float8 * interval '1 second'
         WHERE r.id = $1
         RETURNING EXISTS (SELECT 1 FROM lockstep.relays o WHERE o.id <> $1 AND NOT {}) AS is_to_deal,
             r.token, r.lower, r.upper",
        live_sql("o")
    )
}

/// Returns the expression that tells whether the lease of a row is not over.
fn live_sql(row: &str) -> String {
    format!(
        "({row}.lease_until > pg_catalog.clock_timestamp()
            AND {row}.lease_until <= pg_catalog.clock_timestamp() + 2::float8 * {row}.lease)"
    )
}

/// Takes out those whose lease is over, and gives the whole set to those that are left, in equal parts.
async fn deal(mut transaction: SourceTransaction, id: i64) -> Result<Option<RelayShare>> {
    let over = format!("DELETE FROM lockstep.relays AS o WHERE o.id <> $1 AND NOT {}", live_sql("o"));
    sql::query(sqlx::AssertSqlSafe(over)).bind(id).execute(&mut *transaction).await.doing(JOINING)?;
    sql::query(
        "WITH ordered AS (
             SELECT id, pg_catalog.row_number() OVER (ORDER BY started_at, id) AS place,
                 pg_catalog.count(*) OVER () AS relays
             FROM lockstep.relays),
         due AS (
             SELECT id, ((place - 1) * $1 / relays)::integer AS lower, (place * $1 / relays)::integer AS upper
             FROM ordered)
         UPDATE lockstep.relays AS r
         SET lower = due.lower, upper = due.upper, token = pg_catalog.nextval('lockstep.lease_seq')
         FROM due WHERE r.id = due.id AND (r.lower <> due.lower OR r.upper <> due.upper)",
    )
    .bind(i64::from(PARTS))
    .execute(&mut *transaction)
    .await
    .doing(JOINING)?;
    let share = sql::query_as("SELECT id AS relay, token, lower, upper FROM lockstep.relays WHERE id = $1")
        .bind(id)
        .fetch_optional(&mut *transaction)
        .await
        .doing(JOINING)?;
    transaction.commit().await.doing(JOINING)?;
    Ok(share)
}
