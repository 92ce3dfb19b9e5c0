//! Settings that hold for every process of the migration (R49): a name, a value, and until when.

use std::time::Duration;

use chrono::{DateTime, Utc};
use lockstep_core::{Doing, Result};
use serde_json::Value;

use super::Source;

const SET: &str = "INSERT INTO lockstep.settings AS s (name, value, actor, reason, until)
     VALUES ($1, $2, $3, $4, pg_catalog.clock_timestamp() + $5::float8 * interval '1 second')
     ON CONFLICT (name) DO UPDATE SET value = excluded.value, actor = excluded.actor, reason = excluded.reason,
         until = excluded.until, changed_at = pg_catalog.clock_timestamp()";

/// One setting.
#[derive(Clone, Debug, PartialEq, serde::Serialize, sqlx::FromRow)]
pub struct SettingRow {
    /// Name of the setting.
    pub name: String,
    /// Value that it is set to.
    pub value: Value,
    /// Operator or process that set it.
    pub actor: String,
    /// Reason that was given.
    pub reason: Option<String>,
    /// Time until which it counts, by the source's clock; for good where it is `None`.
    pub until: Option<DateTime<Utc>>,
}

/// One change of a setting.
#[derive(Clone, Copy, Debug)]
pub struct Turn<'a> {
    /// Name of the setting.
    pub name: &'a str,
    /// Value to set; `None` takes it back.
    pub value: Option<&'a Value>,
    /// Time from now on for which it counts; for good where it is `None`.
    pub during: Option<Duration>,
    /// Setting that was read where the change was decided, or that there was none. `None` changes whatever
    /// there is.
    pub expect: Option<Option<&'a SettingRow>>,
}

impl Source {
    /// Turns several settings at once, each with a line in the journal that says from what to what: all of
    /// it, or nothing. Applications follow within a second.
    ///
    /// 1. The daemon reads that a ramp is due. 2. An operator sets its share to 0, as answers are wrong. 3.
    /// The daemon takes the step that it has decided on. So who decides by what was read says what that was
    /// ([`Turn::expect`]): where one of them has another value or another actor by now, is there no more, or
    /// is there at last, nothing is turned, and `false` says so. The caller looks again. One call turns after
    /// the other, so nothing changes between the comparison and the turn.
    ///
    /// # Errors
    /// The driver's; then nothing is turned.
    ///
    /// # Cancel safety
    /// Dropped before the commit was sent, nothing is turned. Repeat it; what expects something reads again
    /// before that.
    #[crate::boxed]
    pub async fn turn(
        &self,
        turns: &[Turn<'_>],
        actor: &str,
        reason: Option<&str>,
        more: &Value,
    ) -> Result<bool> {
        const DOING: &str = "turning a setting";
        let mut transaction = self.pool().begin().await.doing(DOING)?;
        // Before any setting is looked at, for a setting that is not there has no row that could be locked.
        // Other statements that change settings take it first as well, in a trigger.
        sqlx::query("SELECT 1 FROM lockstep.control FOR UPDATE")
            .execute(&mut *transaction)
            .await
            .doing(DOING)?;
        for turn in turns {
            let Some(expected) = turn.expect else { continue };
            // One whose time is over is none, as for those who read the settings.
            let found: Option<(Value, String)> = sqlx::query_as(
                "SELECT value, actor FROM lockstep.settings
                 WHERE name = $1 AND (until IS NULL OR until > pg_catalog.clock_timestamp()) FOR UPDATE",
            )
            .bind(turn.name)
            .fetch_optional(&mut *transaction)
            .await
            .doing(DOING)?;
            if found != expected.map(|row| (row.value.clone(), row.actor.clone())) {
                transaction.rollback().await.doing(DOING)?;
                return Ok(false);
            }
        }
        for turn in turns {
            let was: Option<Value> =
                sqlx::query_scalar("SELECT value FROM lockstep.settings WHERE name = $1 FOR UPDATE")
                    .bind(turn.name)
                    .fetch_optional(&mut *transaction)
                    .await
                    .doing(DOING)?;
            let (value, for_s) = (turn.value, turn.during.map(|during| during.as_secs()));
            if value.is_none() && was.is_none() {
                continue;
            }
            let mut detail = serde_json::json!({
                "name": turn.name, "value": value, "was": was, "reason": reason, "for_s": for_s,
            });
            if let (Some(detail), Some(more)) = (detail.as_object_mut(), more.as_object()) {
                detail.extend(more.clone());
            }
            let verb = if value.is_some() { "set" } else { "take back" };
            sqlx::query(
                "INSERT INTO lockstep.journal (actor, kind, step, detail) VALUES ($1, 'note', $2, $3)",
            )
            .bind(actor)
            .bind(format!("{verb} {}", turn.name))
            .bind(detail)
            .execute(&mut *transaction)
            .await
            .doing(DOING)?;
            let turned = match value {
                None => sqlx::query("DELETE FROM lockstep.settings WHERE name = $1").bind(turn.name),
                Some(value) => sqlx::query(SET)
                    .bind(turn.name)
                    .bind(value)
                    .bind(actor)
                    .bind(reason)
                    .bind(turn.during.map(|during| during.as_secs_f64())),
            };
            turned.execute(&mut *transaction).await.doing(DOING)?;
        }
        transaction.commit().await.doing(DOING)?;
        self.tell_of_change().await;
        Ok(true)
    }

    /// Returns the settings that count now.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn settings(&self) -> Result<Vec<SettingRow>> {
        sqlx::query_as(
            "SELECT name, value, actor, reason, until FROM lockstep.settings
             WHERE until IS NULL OR until > pg_catalog.clock_timestamp() ORDER BY name",
        )
        .fetch_all(self.pool())
        .await
        .doing("reading the settings")
    }

    /// Sets one, for good or for a while.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn set(
        &self,
        name: &str,
        value: &Value,
        actor: &str,
        reason: Option<&str>,
        during: Option<Duration>,
    ) -> Result<()> {
        sqlx::query(SET)
            .bind(name)
            .bind(value)
            .bind(actor)
            .bind(reason)
            .bind(during.map(|during| during.as_secs_f64()))
            .execute(self.pool())
            .await
            .doing("changing a setting")
            .map(drop)
    }

    /// Takes one back; says whether it was there.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn unset(&self, name: &str) -> Result<bool> {
        let done = sqlx::query("DELETE FROM lockstep.settings WHERE name = $1")
            .bind(name)
            .execute(self.pool())
            .await
            .doing("taking a setting back")?;
        Ok(done.rows_affected() > 0)
    }
}
