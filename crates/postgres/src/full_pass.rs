//! The newest full pass of each table that found nothing, and what takes it away (R24).

use chrono::{DateTime, Utc};
use lockstep_core::{Doing, Result};
use sqlx::postgres::PgConnection;

use super::Source;
use crate::sql;

/// A full pass of a table that found nothing.
#[derive(Clone, Debug, PartialEq, sqlx_macros::FromRow)]
pub struct FullPass {
    /// Number of the pass.
    pub pass: i64,
    /// Time of its oldest reading.
    pub as_of: DateTime<Utc>,
    /// The phase it was made in.
    pub phase: String,
    /// The epoch it was made in.
    pub epoch: i64,
    /// Identity of what it was made of; opaque here.
    pub identity: String,
    /// Time until which changes have been looked at since.
    pub verified_as_of: DateTime<Utc>,
}

impl Source {
    /// Returns the newest full pass of a table that found nothing.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn full_pass(&self, table: &str) -> Result<Option<FullPass>> {
        sql::query_as(
            "SELECT pass, as_of, phase, epoch, identity, verified_as_of FROM lockstep.verified
             WHERE table_name = $1",
        )
        .bind(table)
        .fetch_optional(self.pool())
        .await
        .doing("reading the newest full pass")
    }

    /// Records a full pass that found nothing, unless there is one that began later, or a comparison that is
    /// not known to be older has found something. Says whether the notes of before it may be forgotten.
    ///
    /// 1. A pass begins, and reads an item while it is there. 2. The item is lost, another comparison finds
    ///    that, and takes away what there was to go on from. 3. The pass ends. Recorded, it would be gone on
    ///    from over the lost item.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn record_full_pass(&self, table: &str, full: &FullPass) -> Result<bool> {
        let doing = "recording a full pass";
        let mut transaction = self.begin(doing).await?;
        lock_passes(&mut transaction, doing).await?;
        if !may_count(&mut transaction, table, full.pass, doing).await? {
            return Ok(false);
        }
        sql::query(
            "INSERT INTO lockstep.verified AS v (table_name, pass, as_of, phase, epoch, identity, verified_as_of)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (table_name) DO UPDATE SET pass = excluded.pass, as_of = excluded.as_of, phase = excluded.phase,
                 epoch = excluded.epoch, identity = excluded.identity, verified_as_of = excluded.verified_as_of
             WHERE v.pass <= excluded.pass",
        )
        .bind(table)
        .bind(full.pass)
        .bind(full.as_of)
        .bind(&full.phase)
        .bind(full.epoch)
        .bind(&full.identity)
        .bind(full.verified_as_of)
        .execute(&mut *transaction)
        .await
        .doing(doing)?;
        transaction.commit().await.doing(doing)?;
        Ok(true)
    }

    /// Records until when changes have been looked at since a full pass; nothing if that is not the newest
    /// any more.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn record_verified(
        &self,
        table: &str,
        full_as_of: DateTime<Utc>,
        verified_as_of: DateTime<Utc>,
    ) -> Result<()> {
        sql::query(
            "UPDATE lockstep.verified SET verified_as_of = greatest(verified_as_of, $3) WHERE table_name = $1 AND as_of = $2",
        )
        .bind(table)
        .bind(full_as_of)
        .bind(verified_as_of)
        .execute(self.pool())
        .await
        .doing("recording what was looked at again")?;
        Ok(())
    }

    /// Notes that something was found in a table: no pass that has begun by now is gone on from or forgets a
    /// note, however much later it ends. With `with_base` the full pass that is recorded goes as well.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn note_found(&self, table: &str, with_base: bool) -> Result<()> {
        let doing = "noting that something was found";
        let mut transaction = self.begin(doing).await?;
        let newest = lock_passes(&mut transaction, doing).await?;
        sql::query(
            "INSERT INTO lockstep.found AS f (table_name, pass) VALUES ($1, $2)
             ON CONFLICT (table_name) DO UPDATE SET pass = greatest(f.pass, excluded.pass)",
        )
        .bind(table)
        .bind(newest)
        .execute(&mut *transaction)
        .await
        .doing(doing)?;
        if with_base {
            sql::query("DELETE FROM lockstep.verified WHERE table_name = $1")
                .bind(table)
                .execute(&mut *transaction)
                .await
                .doing(doing)?;
        }
        transaction.commit().await.doing(doing)
    }
}

/// Orders what passes record of a table with what others have found; the number of the newest pass.
async fn lock_passes(connection: &mut PgConnection, doing: &str) -> Result<i64> {
    sql::query_scalar("SELECT number FROM lockstep.passes FOR UPDATE")
        .fetch_one(connection)
        .await
        .doing(doing)
}

/// Tells whether pass `pass` began after the newest finding in the table.
async fn may_count(connection: &mut PgConnection, table: &str, pass: i64, doing: &str) -> Result<bool> {
    sql::query_scalar("SELECT NOT EXISTS (SELECT FROM lockstep.found WHERE table_name = $1 AND pass >= $2)")
        .bind(table)
        .bind(pass)
        .fetch_one(connection)
        .await
        .doing(doing)
}
