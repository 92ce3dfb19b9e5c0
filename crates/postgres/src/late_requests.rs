//! Time until which a request of DynamoOnly may still land, after the truth has come back.
//!
//! It is one record, which no journal can crowd out, written by the transaction in which PostgreSQL's control
//! record leaves DynamoOnly. How long it lasts is told by the clock that is behind, this server's or the
//! asking machine's: one that is set ahead ends nothing early. A record of a time that lies ahead, as by a
//! clock that was set back since, counts from the moment that this is seen.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use lockstep_core::{Doing, Result};
use sqlx::postgres::PgConnection;

use super::Source;
use super::clock::is_ahead;
use crate::sql;

/// Begins it again, inside `transaction`. `lifetime` is how long a request that its sender has given up may
/// still land.
///
/// # Errors
/// The driver's.
#[crate::boxed]
pub async fn begin_late_requests(transaction: &mut PgConnection, lifetime: Duration) -> Result<()> {
    sql::query("UPDATE lockstep.late_requests SET lifetime_s = $1, begun_at = pg_catalog.clock_timestamp()")
        .bind(lifetime.as_secs_f64())
        .execute(transaction)
        .await
        .doing("noting until when requests may be late")
        .map(drop)
}

impl Source {
    /// For how long such a request may still land, and until when that is by this server's clock; `None`
    /// where none can any more.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn late_requests(&self) -> Result<Option<(Duration, DateTime<Utc>)>> {
        let found: Result<Option<(f64, DateTime<Utc>)>> = sql::query_as(
            "SELECT CASE WHEN l.begun_at = '-infinity' THEN 0
                 ELSE least(l.lifetime_s, l.lifetime_s
                     + extract(epoch FROM l.begun_at - least(c.now, $1))::float8) END, c.now
             FROM lockstep.late_requests l, pg_catalog.clock_timestamp() AS c (now)",
        )
        .bind(Utc::now())
        .fetch_optional(self.pool())
        .await
        .doing("asking until when requests may be late");
        let found = match found {
            // A schema of before this: the coordinator that comes next brings it up to date.
            Err(error) if error.is_missing_table() => None,
            found => found?,
        };
        let left = found.and_then(|(left_s, now)| Some((Duration::try_from_secs_f64(left_s).ok()?, now)));
        Ok(left.filter(|(left, _)| !left.is_zero()).map(|(left, now)| {
            let until = TimeDelta::from_std(left).ok().and_then(|left| now.checked_add_signed(left));
            (left, until.unwrap_or(DateTime::<Utc>::MAX_UTC))
        }))
    }

    /// Replaces stored times that lie ahead by the present one: when a table was captured, and when requests
    /// began to be late. Until the clock passed them, no verdict would be of after the one, and the other
    /// would not count down.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn replace_times_ahead(&self) -> Result<()> {
        let doing = "replacing times that lie ahead";
        for sql in [
            format!(
                "UPDATE lockstep.tables SET captured_at = pg_catalog.clock_timestamp() WHERE {}",
                is_ahead("captured_at")
            ),
            format!(
                "UPDATE lockstep.late_requests SET begun_at = pg_catalog.clock_timestamp() WHERE {}",
                is_ahead("begun_at")
            ),
        ] {
            sql::query(sqlx::AssertSqlSafe(sql)).execute(self.pool()).await.doing(doing)?;
        }
        Ok(())
    }
}
