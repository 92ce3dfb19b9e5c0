//! Settings that hold for every process of the migration (R49): a name, a value, and until when.

use std::time::Duration;

use chrono::{DateTime, Utc};
use lockstep_core::{Doing, Error, Kind, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;

use super::Source;
use crate::sql;

const DOING: &str = "turning a setting";

/// The settings in force, with the columns of [`SettingRow`]: of one whose time is over, what it was laid
/// over. A schema of before has no such column.
pub(crate) const IN_FORCE: &str = "(
     SELECT s.name, CASE WHEN t.is_over THEN t.former -> 'value' ELSE s.value END AS value,
         CASE WHEN t.is_over THEN t.former ->> 'actor' ELSE s.actor END AS actor,
         CASE WHEN t.is_over THEN t.former ->> 'reason' ELSE s.reason END AS reason,
         CASE WHEN NOT t.is_over THEN s.until END AS until
     FROM lockstep.settings s CROSS JOIN LATERAL (
         SELECT pg_catalog.to_jsonb(s) -> 'former' AS former,
             coalesce(s.until <= pg_catalog.clock_timestamp(), false) AS is_over) t
     WHERE NOT t.is_over OR pg_catalog.jsonb_typeof(t.former) = 'object')";

/// One setting.
#[derive(Clone, Debug, PartialEq, serde::Serialize, sqlx_macros::FromRow)]
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
#[derive(Clone, Copy, Debug, Default)]
pub struct Turn<'a> {
    /// Name of the setting.
    pub name: &'a str,
    /// Value to set; `None` takes it back.
    pub value: Option<&'a Value>,
    /// Time from now on for which it counts; for good where it is `None`. After that time counts again what
    /// had counted for good.
    pub during: Option<Duration>,
    /// Whether the value is laid over what there is, which counts again when this is taken back: so does
    /// what a daemon sets by itself. Without a value, what the one in force was laid over counts again.
    pub lays_over: bool,
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
        let mut transaction = self.pool().begin().await.doing(DOING)?;
        // Before any setting is looked at, for a setting that is not there has no row that could be locked.
        // Other statements that change settings take it first as well, in a trigger.
        sql::query("SELECT 1 FROM lockstep.control FOR UPDATE")
            .execute(&mut *transaction)
            .await
            .doing(DOING)?;
        for turn in turns {
            let Some(expected) = turn.expect else { continue };
            // One whose time is over is none, as for those who read the settings.
            let found = in_force(&mut transaction, turn.name).await?.map(|found| (found.value, found.actor));
            if found != expected.map(|row| (row.value.clone(), row.actor.clone())) {
                transaction.rollback().await.doing(DOING)?;
                return Ok(false);
            }
        }
        let mut is_noted = false;
        for turn in turns {
            let was = in_force(&mut transaction, turn.name).await?;
            let next = turn.next(was.as_ref(), actor, reason);
            if next.is_none() && was.is_none() {
                continue;
            }
            let detail = json!({
                "name": turn.name, "value": next.as_ref().map(|next| &next.value),
                "was": was.map(|was| was.value), "reason": reason,
                "for_s": turn.during.map(|during| during.as_secs()),
            });
            let verb = if next.is_some() { "set" } else { "take back" };
            note(&mut transaction, actor, &format!("{verb} {}", turn.name), detail, more).await?;
            is_noted = true;
            put(&mut transaction, turn.name, next, turn.during).await?;
        }
        // 1. A resume is asked for under a key, and nothing is paused. 2. An operator pauses. 3. The answer
        // was lost, and the request comes again: it would lift that pause, if it were not known.
        if !is_noted && more.get("idempotency_key").is_some_and(|key| !key.is_null()) {
            let detail = json!({ "reason": reason });
            note(&mut transaction, actor, "asked to turn settings that are so already", detail, more).await?;
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
        let sql = format!("SELECT name, value, actor, reason, until FROM {IN_FORCE} s ORDER BY name");
        sql::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(self.pool()).await.doing("reading the settings")
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
        let turn = Turn { name, value: Some(value), during, ..Turn::default() };
        self.turn(&[turn], actor, reason, &json!({})).await.map(drop)
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
        let done = sql::query("DELETE FROM lockstep.settings WHERE name = $1")
            .bind(name)
            .execute(self.pool())
            .await
            .doing("taking a setting back")?;
        Ok(done.rows_affected() > 0)
    }
}

/// A setting as its row keeps it, and what it was laid over.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept {
    value: Value,
    actor: String,
    reason: Option<String>,
    until: Option<DateTime<Utc>>,
    former: Option<Box<Kept>>,
}

impl Turn<'_> {
    /// Returns what counts after this turn; `None` where nothing is set then.
    fn next(&self, was: Option<&Kept>, actor: &str, reason: Option<&str>) -> Option<Kept> {
        let Some(value) = self.value else {
            return was.filter(|_| self.lays_over).and_then(|was| was.former.as_deref().cloned());
        };
        let former = match (self.lays_over, self.during) {
            (true, _) => was.cloned(),
            // Of several that each hold for a while, the one below all of them counts again.
            (_, Some(_)) => std::iter::successors(was, |kept| kept.former.as_deref())
                .find(|kept| kept.until.is_none())
                .cloned(),
            _ => None,
        };
        let (value, actor, reason) = (value.clone(), actor.to_owned(), reason.map(str::to_owned));
        Some(Kept { value, actor, reason, until: None, former: former.map(Box::new) })
    }
}

/// Returns the setting that counts now, whose row is locked from here on.
async fn in_force(connection: &mut PgConnection, name: &str) -> Result<Option<Kept>> {
    let row: Option<(Value, bool)> = sql::query_as(
        "SELECT pg_catalog.to_jsonb(s), coalesce(s.until <= pg_catalog.clock_timestamp(), false)
         FROM lockstep.settings s WHERE s.name = $1 FOR UPDATE",
    )
    .bind(name)
    .fetch_optional(connection)
    .await
    .doing(DOING)?;
    let Some((row, is_over)) = row else { return Ok(None) };
    let kept: Kept = serde_json::from_value(row)
        .map_err(|error| Error::source(Kind::Invalid, DOING, format!("setting {name}: {error}")))?;
    Ok(if is_over { kept.former.map(|former| *former) } else { Some(kept) })
}

async fn note(
    connection: &mut PgConnection,
    actor: &str,
    step: &str,
    mut detail: Value,
    more: &Value,
) -> Result<()> {
    if let (Some(detail), Some(more)) = (detail.as_object_mut(), more.as_object()) {
        detail.extend(more.clone());
    }
    sql::query("INSERT INTO lockstep.journal (actor, kind, step, detail) VALUES ($1, 'note', $2, $3)")
        .bind(actor)
        .bind(step)
        .bind(detail)
        .execute(connection)
        .await
        .doing(DOING)
        .map(drop)
}

/// Writes a setting, or takes it out. What it was laid over is kept where the schema can: an operator who
/// turns something by a new program while an old one runs is not refused.
async fn put(
    connection: &mut PgConnection,
    name: &str,
    next: Option<Kept>,
    during: Option<Duration>,
) -> Result<()> {
    let Some(next) = next else {
        let taken = sql::query("DELETE FROM lockstep.settings WHERE name = $1").bind(name);
        return taken.execute(connection).await.doing(DOING).map(drop);
    };
    sql::query(
        "INSERT INTO lockstep.settings AS s (name, value, actor, reason, until)
         VALUES ($1, $2, $3, $4,
             coalesce($5, pg_catalog.clock_timestamp() + $6::float8 * interval '1 second'))
         ON CONFLICT (name) DO UPDATE SET value = excluded.value, actor = excluded.actor,
             reason = excluded.reason, until = excluded.until, changed_at = pg_catalog.clock_timestamp()",
    )
    .bind(name)
    .bind(next.value)
    .bind(next.actor)
    .bind(next.reason)
    .bind(next.until)
    .bind(during.map(|during| during.as_secs_f64()))
    .execute(&mut *connection)
    .await
    .doing(DOING)?;
    let keeps: bool = sql::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute
             WHERE attrelid = 'lockstep.settings'::pg_catalog.regclass AND attname = 'former')",
    )
    .fetch_one(&mut *connection)
    .await
    .doing(DOING)?;
    if !keeps {
        return Ok(());
    }
    sql::query("UPDATE lockstep.settings SET former = $2 WHERE name = $1")
        .bind(name)
        .bind(next.former.map(|former| json!(former)))
        .execute(connection)
        .await
        .doing(DOING)
        .map(drop)
}
