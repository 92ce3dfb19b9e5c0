//! The journal: every intent before its side effect, every outcome after it (R8, I9).

use chrono::{DateTime, Utc};
use lockstep_core::{Doing, Error, Kind, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::postgres::PgConnection;

use super::Source;
use crate::sql;

/// Number of a journalled intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IntentId(pub i64);

/// Kind of what an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// Something is about to be done.
    Intent,
    /// The step was done.
    Done,
    /// The step was not done, and everything is as before.
    Undone,
    /// A gate refused it.
    Refused,
    /// Something worth remembering.
    Note,
}

impl EntryKind {
    /// Returns the word in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Done => "done",
            Self::Undone => "undone",
            Self::Refused => "refused",
            Self::Note => "note",
        }
    }
}

/// One entry.
#[derive(Clone, Debug, Serialize, sqlx_macros::FromRow)]
pub struct Entry {
    /// Number of the entry.
    pub id: i64,
    /// Time at which it was written, by the source's clock.
    pub at: DateTime<Utc>,
    /// User and process that wrote it.
    pub actor: String,
    /// See [`EntryKind::name`].
    pub kind: String,
    /// The intent this is the outcome of.
    pub intent: Option<i64>,
    /// Name of what is being done, in words.
    pub step: String,
    /// Everything needed to finish or undo it.
    pub detail: Value,
}

/// Fails where an intent was settled, as seen by a transaction that holds the barrier exclusive.
///
/// 1. The session with the coordinator's lock dies, and its process sleeps before the next try of a flip. 2.
///    Another
/// coordinator takes the lock, calls the step undone and begins the history again. 3. The first one wakes and
/// flips, by gates that it asked long ago. One that settles later waits for this barrier, and sees the flip.
///
/// # Errors
/// [`Kind::Refused`] for one that was settled; the driver's.
#[crate::boxed]
pub async fn require_open(connection: &mut PgConnection, intent: IntentId) -> Result<()> {
    let doing = "looking whether the step is still ours";
    let settled: Option<String> = sql::query_scalar("SELECT actor FROM lockstep.journal WHERE intent = $1")
        .bind(intent.0)
        .fetch_optional(connection)
        .await
        .doing(doing)?;
    match settled {
        None => Ok(()),
        Some(actor) => {
            let message = format!(
                "{actor} has settled it meanwhile: this process lost the coordinator's lock; run it again"
            );
            Err(Error::source(Kind::Refused, doing, message))
        }
    }
}

impl Source {
    /// Makes an intent durable. Its side effect may begin when this has returned.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn journal_intent(&self, actor: &str, step: &str, detail: &Value) -> Result<IntentId> {
        self.append(actor, EntryKind::Intent, step, detail).await.map(IntentId)
    }

    /// Records how an intent ended. The first outcome stands: a coordinator that settles an intent may meet
    /// the one that its owner sent with the last of its life, and where both say that it was done, or both
    /// that nothing was changed, there is nothing to add.
    ///
    /// # Errors
    /// [`Kind::Refused`] where the opposite was recorded; the driver's.
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn journal_outcome(
        &self,
        actor: &str,
        intent: IntentId,
        kind: EntryKind,
        step: &str,
        detail: &Value,
    ) -> Result<()> {
        let doing = "recording an outcome";
        // Waits for a transaction that is about to record one.
        let added: Option<i64> = sql::query_scalar(
            "INSERT INTO lockstep.journal (actor, kind, intent, step, detail) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (intent) WHERE intent IS NOT NULL DO NOTHING RETURNING id",
        )
        .bind(actor)
        .bind(kind.name())
        .bind(intent.0)
        .bind(step)
        .bind(detail)
        .fetch_optional(self.pool())
        .await
        .doing(doing)?;
        if added.is_some() {
            return Ok(());
        }
        let found: Entry = sql::query_as("SELECT * FROM lockstep.journal WHERE intent = $1")
            .persistent(false)
            .bind(intent.0)
            .fetch_one(self.pool())
            .await
            .doing(doing)?;
        if (found.kind == EntryKind::Done.name()) == (kind == EntryKind::Done) {
            return Ok(());
        }
        let message = format!(
            "`{step}` (entry {} of the journal) is {} here, and {} has recorded it as {} in entry {}; is another coordinator at work?",
            intent.0,
            kind.name(),
            found.actor,
            found.kind,
            found.id
        );
        Err(Error::source(Kind::Refused, doing, message))
    }

    /// Records something worth remembering.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn journal_note(&self, actor: &str, step: &str, detail: &Value) -> Result<()> {
        self.append(actor, EntryKind::Note, step, detail).await.map(drop)
    }

    async fn append(&self, actor: &str, kind: EntryKind, step: &str, detail: &Value) -> Result<i64> {
        sql::query_scalar(
            "INSERT INTO lockstep.journal (actor, kind, step, detail) VALUES ($1, $2, $3, $4) RETURNING id",
        )
        .bind(actor)
        .bind(kind.name())
        .bind(step)
        .bind(detail)
        .fetch_one(self.pool())
        .await
        .doing("writing the journal")
    }

    /// Tells whether a part of an intent was noted; its detail names the intent as `of`.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn was_noted(&self, intent: IntentId, step: &str) -> Result<bool> {
        sql::query_scalar(
            "SELECT EXISTS (SELECT FROM lockstep.journal WHERE id > $1 AND kind = 'note' AND step = $2
                AND detail -> 'of' = pg_catalog.to_jsonb($1))",
        )
        .bind(intent.0)
        .bind(step)
        .fetch_one(self.pool())
        .await
        .doing("reading the journal")
    }

    /// Returns the newest note that names this idempotency key; `None` where nothing was asked under it.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn noted_under(&self, idempotency_key: &str) -> Result<Option<Entry>> {
        sql::query_as(
            "SELECT * FROM lockstep.journal WHERE kind = 'note' AND detail ->> 'idempotency_key' = $1 ORDER BY id DESC LIMIT 1",
        )
        .persistent(false)
        .bind(idempotency_key)
        .fetch_optional(self.pool())
        .await
        .doing("reading the journal")
    }

    /// Returns the newest note of this kind; `None` where there is none.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn newest_note(&self, step: &str) -> Result<Option<Entry>> {
        sql::query_as(
            "SELECT * FROM lockstep.journal WHERE kind = 'note' AND step = $1 ORDER BY id DESC LIMIT 1",
        )
        .persistent(false)
        .bind(step)
        .fetch_optional(self.pool())
        .await
        .doing("reading the journal")
    }

    /// Counts how often `step` was done since entry `id`.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn done_since(&self, id: i64, step: &str) -> Result<i64> {
        sql::query_scalar(
            "SELECT pg_catalog.count(*) FROM lockstep.journal WHERE id > $1 AND kind = 'done' AND step = $2",
        )
        .bind(id)
        .bind(step)
        .fetch_one(self.pool())
        .await
        .doing("reading the journal")
    }

    /// Intents without an outcome, oldest first: what a crash left behind.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn open_intents(&self) -> Result<Vec<Entry>> {
        sql::query_as(
            "SELECT i.* FROM lockstep.journal i WHERE i.kind = 'intent'
             AND NOT EXISTS (SELECT 1 FROM lockstep.journal o WHERE o.intent = i.id) ORDER BY i.id",
        )
        .persistent(false)
        .fetch_all(self.pool())
        .await
        .doing("reading the journal")
    }

    /// Returns the newest entries, newest first.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn journal(&self, limit: i64) -> Result<Vec<Entry>> {
        if limit < 1 {
            return Err(Error::source(Kind::Invalid, "reading the journal", "the limit must be at least 1"));
        }
        sql::query_as("SELECT * FROM lockstep.journal ORDER BY id DESC LIMIT $1")
            .persistent(false)
            .bind(limit)
            .fetch_all(self.pool())
            .await
            .doing("reading the journal")
    }
}
