//! Parts of a step that moves the truth, as against a coordinator that settles the step meanwhile.
//!
//! The lock of a coordinator is its session's, and a process goes on without it until it notices. 1. The
//! session with the lock is ended while its process sees the feed through. 2. Another coordinator finds the
//! step open, sees nothing that was changed, and calls it undone. 3. The first one pauses writes and moves
//! the truth, in a step that the journal says was not taken and whose readers are not waited for (I6). So a
//! part is noted only while the step is open, and a step is called undone only with every part in view: both
//! hold the row of its intent.

use lockstep_core::{Doing, Result};
use serde_json::{Value, json};

use super::Source;
use super::begin::{SourceTransaction, begin_with};
use super::journal::{EntryKind, IntentId, require_open};
use crate::sql;

/// Begins a transaction that holds the row of a step's intent, in one message: most parts are noted while
/// writes are paused. A coordinator that notes a part and one that settles wait for each other here; what was
/// committed meanwhile is seen by the statements after it.
async fn begin_holding(source: &Source, of: IntentId, doing: &str) -> Result<SourceTransaction> {
    let sql = format!("BEGIN; SELECT FROM lockstep.journal WHERE id = {} FOR UPDATE", of.0);
    begin_with(&source.sessions, sql, doing).await
}

const COUNT: &str = "SELECT pg_catalog.count(*) FROM lockstep.journal
     WHERE id > $1 AND kind = 'note' AND detail -> 'of' = pg_catalog.to_jsonb($1)";

impl Source {
    /// Journals a part of a step before it begins.
    ///
    /// # Errors
    /// [`lockstep_core::Kind::Refused`] where another coordinator has settled the step; the driver's.
    ///
    /// # Cancel safety
    /// Repeat it: a part that is noted twice is noted.
    #[crate::boxed]
    pub async fn journal_part(&self, actor: &str, step: &str, of: IntentId) -> Result<()> {
        let doing = "noting a part of a step";
        let mut transaction = begin_holding(self, of, doing).await?;
        let noted = sql::query(
            "INSERT INTO lockstep.journal (actor, kind, step, detail) SELECT $1, $2, $3, $4
             WHERE NOT EXISTS (SELECT FROM lockstep.journal WHERE intent = $5)",
        )
        .bind(actor)
        .bind(EntryKind::Note.name())
        .bind(step)
        .bind(json!({ "of": of }))
        .bind(of.0)
        .execute(&mut *transaction)
        .await
        .doing(doing)?;
        if noted.rows_affected() == 0 {
            require_open(&mut transaction, of).await?;
        }
        transaction.commit().await.doing(doing)
    }

    /// Counts the parts of a step that are noted.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn parts_noted(&self, of: IntentId) -> Result<i64> {
        sql::query_scalar(COUNT).bind(of.0).fetch_one(self.pool()).await.doing("counting parts of a step")
    }

    /// Records that a step was undone, if no more than `seen` parts of it are noted; says whether. Where one
    /// came since, its process goes on without its lock, and the records have to be looked at again.
    ///
    /// # Errors
    /// As [`Source::journal_outcome`].
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn journal_undone(
        &self,
        actor: &str,
        of: IntentId,
        seen: i64,
        step: &str,
        detail: &Value,
    ) -> Result<bool> {
        let doing = "recording that a step was undone";
        let mut transaction = begin_holding(self, of, doing).await?;
        let noted: i64 =
            sql::query_scalar(COUNT).bind(of.0).fetch_one(&mut *transaction).await.doing(doing)?;
        if noted > seen {
            return Ok(false);
        }
        sql::query(
            "INSERT INTO lockstep.journal (actor, kind, intent, step, detail) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (intent) WHERE intent IS NOT NULL DO NOTHING",
        )
        .bind(actor)
        .bind(EntryKind::Undone.name())
        .bind(of.0)
        .bind(step)
        .bind(detail)
        .execute(&mut *transaction)
        .await
        .doing(doing)?;
        transaction.commit().await.doing(doing)?;
        // The first outcome stands; whether it is another one is looked at there.
        self.journal_outcome(actor, of, EntryKind::Undone, step, detail).await.map(|()| true)
    }
}
