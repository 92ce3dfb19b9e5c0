//! Sweeping: intents whose transactions have ended are resolved by how they ended.

use std::time::Duration;

use lockstep_core::{Doing, Kind, Result};

use super::Source;
use super::clock::is_past;
use super::intents::{TransactionId, parse_xid};
use crate::sql;

/// End of a transaction, as far as the source can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionFate {
    /// The transaction is still under way.
    InProgress,
    /// The transaction committed.
    Committed,
    /// The transaction did not commit.
    Aborted,
    /// Too long ago for the source to know.
    Forgotten,
}

/// Result of one sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Swept {
    /// Intents of transactions that had committed: dropped.
    pub committed: u64,
    /// Keys of transactions that were rolled back: pending now.
    pub aborted: u64,
    /// Keys of transactions that the source no longer knows: pending now, which is always safe.
    pub forgotten: u64,
    /// Intents of transactions that are under way, or whose key is locked: left for the next sweep.
    pub waiting: u64,
}

/// Most intents that one sweep looks at.
const SWEEP_MAX: i64 = 500;

impl Source {
    /// Returns how a transaction ended.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn fate_of(&self, id: TransactionId) -> Result<TransactionFate> {
        // A number from the future is of another history of this source.
        let status: Option<String> = sql::query_scalar(
            "SELECT CASE WHEN $1::text::xid8 < pg_catalog.pg_current_xact_id()
                THEN pg_catalog.pg_xact_status($1::text::xid8) END",
        )
        .bind(id.0.to_string())
        .fetch_one(self.intents.pool())
        .await
        .doing("asking how a transaction ended")?;
        Ok(fate(status.as_deref()))
    }

    /// Resolves the intents that are at least `age_min` old, as far as their transactions have ended: the
    /// whole compensation there is. It may be repeated, run anywhere, and beside others like it; it never
    /// changes a source row.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Every step is one transaction.
    #[crate::boxed]
    pub async fn sweep_intents(&self, age_min: Duration) -> Result<Swept> {
        // Those under way come last, and each role has its share. 1. A role opens a transaction with hundreds
        // of savepoints, and records intents under their numbers. 2. They are the oldest for as long as it is
        // open. 3. No sweep looked at those of other roles, whose phantoms stayed.
        let sql = format!(
            "SELECT xid::text, owner, n, status FROM (
                 SELECT xid, coalesce(owner::text, '') AS owner, pg_catalog.count(*) AS n,
                     pg_catalog.min(made_at) AS since,
                     CASE WHEN xid < pg_catalog.pg_current_xact_id()
                         THEN pg_catalog.pg_xact_status(xid) END AS status
                 FROM lockstep.intents WHERE {} GROUP BY xid, coalesce(owner::text, '')) AS open
             ORDER BY status IS NOT DISTINCT FROM 'in progress',
                 pg_catalog.row_number() OVER (
                     PARTITION BY owner, status IS NOT DISTINCT FROM 'in progress' ORDER BY since), since
             LIMIT $2",
            is_past("made_at", "pg_catalog.make_interval(secs => $1)")
        );
        let rows: Vec<(String, String, i64, Option<String>)> = sql::query_as(sqlx::AssertSqlSafe(sql))
            .bind(age_min.as_secs_f64())
            .bind(SWEEP_MAX)
            .fetch_all(self.intents.pool())
            .await
            .doing("reading open intents")?;
        let mut swept = Swept::default();
        let (mut committed, mut aborted, mut forgotten) = (Vec::new(), Vec::new(), Vec::new());
        for (xid, owner, keys, status) in rows {
            let id = parse_xid(xid)?;
            match fate(status.as_deref()) {
                TransactionFate::InProgress => swept.waiting += keys as u64,
                TransactionFate::Committed => committed.push(id),
                TransactionFate::Aborted => aborted.push((id, owner)),
                TransactionFate::Forgotten => forgotten.push((id, owner)),
            }
        }
        if !committed.is_empty() {
            swept.committed = self.drop_committed(&committed).await?;
        }
        swept.aborted = self.resolve_all(&aborted, &mut swept.waiting).await?;
        swept.forgotten = self.resolve_all(&forgotten, &mut swept.waiting).await?;
        Ok(swept)
    }

    /// All at once; if a key of one is locked, one by one, and that one later. Each role's by itself: another
    /// role may have recorded a key that it keeps locked under the same number.
    async fn resolve_all(&self, of_roles: &[(TransactionId, String)], waiting: &mut u64) -> Result<u64> {
        if of_roles.is_empty() {
            return Ok(0);
        }
        let ids: Vec<TransactionId> = of_roles.iter().map(|(id, _)| *id).collect();
        match self.resolve_aborted(&ids).await {
            Err(error) if error.kind == Kind::Busy => {}
            other => return other,
        }
        let mut marked = 0;
        for (id, owner) in of_roles {
            match self.resolve_aborted_of(&[*id], Some(owner)).await {
                Ok(keys) => marked += keys,
                Err(error) if error.kind == Kind::Busy => *waiting += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(marked)
    }
}

fn fate(status: Option<&str>) -> TransactionFate {
    match status {
        Some("in progress") => TransactionFate::InProgress,
        Some("committed") => TransactionFate::Committed,
        Some("aborted") => TransactionFate::Aborted,
        _ => TransactionFate::Forgotten,
    }
}
