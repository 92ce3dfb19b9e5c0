//! Phase and epoch of the migration, and what is known of each table.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use lockstep_core::Advice::Backfill;
use lockstep_core::{Control, Doing, EPOCH_SHIFT, Epoch, Error, Kind, Phase, Result};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::Source;
use super::remembered::read_whose;
use super::stamp::unstamp;
use crate::sql;

/// Channel on which [`Source::tell_of_change`] tells of a new phase or setting.
pub fn phase_channel() -> String {
    format!("{}_phase", sql::control_schema())
}

/// Record of one captured table.
#[derive(Clone, Debug, sqlx_macros::FromRow)]
pub struct TableState {
    /// Table name.
    pub name: String,
    /// Relation that capture was installed on.
    pub relation: String,
    /// Columns and key as they were then.
    pub fingerprint: String,
    /// [`layout`](lockstep_core::MigratableTable::layout) as it was then.
    pub layout: String,
    /// Time at which capture was installed.
    pub captured_at: DateTime<Utc>,
    /// The same by the numbers that comparisons draw ([`Source::draw_number`]); 0 where it was before they
    /// did.
    #[sqlx(default)]
    pub captured_number: i64,
    /// Target table, once adopted.
    pub target_name: Option<String>,
    /// DynamoDB's id of it.
    pub target_id: Option<String>,
    /// Time since which anything but the initial load may be written to it.
    pub relay_enabled_at: Option<DateTime<Utc>>,
    /// Whether a cold load is under way or did not end cleanly.
    pub cold_open: bool,
    /// Time until which a lost request of a cold load could still arrive.
    pub cold_unsafe_until: Option<DateTime<Utc>>,
    /// Start of the backfill's date window.
    pub window_start: Option<DateTime<Utc>>,
    /// End of the backfill's date window.
    pub window_end: Option<DateTime<Utc>>,
    /// Time at which the ranges of the backfill were planned.
    pub planned_at: Option<DateTime<Utc>>,
    /// Whether an import makes the target: until it is there, nothing else may be written to it. A schema
    /// that is older than imports has none.
    #[sqlx(default)]
    pub importing: bool,
    /// Changes that relays have delivered.
    pub relayed: i64,
    /// Version of our trigger functions that it has; see [`CAPTURE_VERSION`](super::CAPTURE_VERSION).
    pub capture_version: i32,
}

impl TableState {
    fn unstamped(mut self) -> Self {
        unstamp(&mut self.layout);
        self
    }
}

/// Reads phase and epoch on `connection`. Inside a write transaction: after the barrier was entered.
///
/// # Errors
/// [`Kind::Misconfigured`] where Lockstep was never installed.
#[crate::boxed]
pub async fn read_control(connection: &mut PgConnection) -> Result<Control> {
    let row = sql::query("SELECT phase, epoch, changed_at FROM lockstep.control")
        .fetch_one(connection)
        .await
        .doing("reading the phase")?;
    control_of_row(&row)
}

/// Phase and epoch of a row with the columns `phase`, `epoch` and `changed_at`.
pub(crate) fn control_of_row(row: &PgRow) -> Result<Control> {
    let phase: String = row.get("phase");
    let phase: Phase =
        phase.parse().map_err(|e| Error::source(Kind::Misconfigured, "reading the phase", format!("{e}")))?;
    let writes_paused = phase == Phase::DynamoOnly;
    Ok(Control { phase, epoch: Epoch(row.get("epoch")), changed_at: row.get("changed_at"), writes_paused })
}

/// Changes the phase inside `transaction`, which holds the barrier exclusive, and returns the new epoch. The
/// caller tells of it by [`Source::tell_of_change`] once that has committed.
///
/// The epoch comes from the sequence and not from the table. 1. A step sets the sequence to epoch 5. 2. Its
/// commit fails; the sequence, which knows no rollback, stays. 3. Versions of epoch 5 are handed out in the
/// old phase.
/// 4. Were the next step to use epoch 5 again, states of two phases would share an epoch. So it takes 6.
///
/// # Errors
/// The driver's.
#[crate::boxed]
pub async fn flip_phase(transaction: &mut PgConnection, to: Phase) -> Result<Epoch> {
    flip_phase_at_least(transaction, to, Epoch::FIRST).await
}

/// Flips the phase as [`flip_phase`] does, to no lower epoch than `least`: the other store may have counted
/// further.
///
/// # Errors
/// The driver's.
#[crate::boxed]
pub async fn flip_phase_at_least(transaction: &mut PgConnection, to: Phase, least: Epoch) -> Result<Epoch> {
    let doing = "changing the phase";
    let last: i64 = sql::query_scalar("SELECT last_value FROM lockstep.version_seq")
        .fetch_one(&mut *transaction)
        .await
        .doing(doing)?;
    let epoch = Epoch((last >> EPOCH_SHIFT) + 1).max(least);
    sql::query("SELECT pg_catalog.setval('lockstep.version_seq', $1)")
        .bind(epoch.floor())
        .execute(&mut *transaction)
        .await
        .doing(doing)?;
    if to == Phase::DynamoOnly {
        // For writers whose snapshot is older than this; see `capture`.
        let freeze = sql::query("SELECT pg_catalog.setval('lockstep.frozen_seq', $1)")
            .bind(epoch.0)
            .execute(&mut *transaction);
        freeze.await.doing(doing)?;
        // For the reverse feed, which has to know it long after this epoch is over; see `reverse`.
        let note = sql::query("INSERT INTO lockstep.target_epochs VALUES ($1)")
            .bind(epoch.0)
            .execute(&mut *transaction);
        note.await.doing(doing)?;
    }
    sql::query(
        "UPDATE lockstep.control SET phase = $1, epoch = $2,
        changed_at = pg_catalog.clock_timestamp()",
    )
    .bind(to.name())
    .bind(epoch.0)
    .execute(&mut *transaction)
    .await
    .doing(doing)?;
    Ok(epoch)
}

/// Longest wait for a notification to be sent: writes of applications may wait for the caller.
const TELLING_MAX: std::time::Duration = std::time::Duration::from_secs(1);

impl Source {
    /// Tells applications that listen of a new phase or setting, which was committed before. They look within
    /// a second by themselves, so that this fails is only logged.
    ///
    /// Not in the transaction that changes it: 1. A session listens, and never reads. 2. The queue of
    /// notifications is full, and each commit that notifies fails. 3. No step is taken any more, and a way
    /// back that was decided in DynamoDB is not followed here.
    #[crate::boxed]
    pub async fn tell_of_change(&self) {
        let told = sql::query("SELECT pg_catalog.pg_notify($1, 'changed')").bind(phase_channel());
        match tokio::time::timeout(TELLING_MAX, told.execute(self.pool())).await {
            Ok(told) => {
                if let Err(error) = told.doing("telling applications of a change") {
                    tracing::warn!("{error}; they look by themselves within a second");
                }
            }
            Err(_) => tracing::warn!("applications were not told of a change: no answer"),
        }
    }

    /// Phase and epoch.
    ///
    /// # Errors
    /// See [`read_control`]; [`Kind::Refused`] where the schema is known to be another migration's by now.
    #[crate::boxed]
    pub async fn control(&self) -> Result<Control> {
        let doing = "reading the phase";
        // An earlier version's schema has no identity.
        let row = sql::query(
            "SELECT phase, epoch, changed_at, pg_catalog.to_jsonb(c) ->> 'migration_id' AS migration_id
             FROM lockstep.control c",
        )
        .fetch_one(self.pool())
        .await
        .doing(doing)?;
        self.own().require(row.get("migration_id"), Kind::Refused, doing)?;
        control_of_row(&row)
    }

    /// Returns the identity of the migration whose schema `lockstep` is; `None` where the schema is not
    /// there, or is of a version that knew none.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn migration_id(&self) -> Result<Option<String>> {
        let doing = "reading the identity of the migration";
        let mut connection = self.pool().acquire().await.doing(doing)?;
        Ok(read_whose(&mut connection).await?.id)
    }

    /// Phase and epoch, read behind the barrier: a phase change that is under way is waited for.
    ///
    /// After a crash the dead coordinator's `COMMIT` may still be on its way. It holds the barrier until it
    /// is through, so what is read here can no longer change by it.
    ///
    /// # Errors
    /// See [`read_control`].
    #[crate::boxed]
    pub async fn control_behind_barrier(&self) -> Result<Control> {
        let doing = "reading the phase behind the barrier";
        let mut transaction = self.begin(doing).await?;
        super::take_shared(&mut transaction).await?;
        let control = read_control(&mut transaction).await?;
        transaction.commit().await.doing(doing)?;
        Ok(control)
    }

    /// Returns the record of a table; `None` before capture.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn table_state(&self, name: &str) -> Result<Option<TableState>> {
        // Not kept by the session. 1. A relay has read this. 2. An upgrade adds a column. 3. PostgreSQL
        // refuses the kept statement, by that session each time ("cached plan must not change result
        // type").
        let found: Option<TableState> = sql::query_as("SELECT * FROM lockstep.tables WHERE name = $1")
            .persistent(false)
            .bind(name)
            .fetch_optional(self.pool())
            .await
            .doing("reading the state of a table")?;
        Ok(found.map(TableState::unstamped))
    }

    /// Returns the record of every table that was captured, by its name: one statement, however many there
    /// are.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn table_states(&self) -> Result<BTreeMap<String, TableState>> {
        let found: Vec<TableState> = sql::query_as("SELECT * FROM lockstep.tables")
            .persistent(false)
            .fetch_all(self.pool())
            .await
            .doing("reading the state of the tables")?;
        Ok(found.into_iter().map(|state| (state.name.clone(), state.unstamped())).collect())
    }

    /// Returns the names of the tables that were captured, in their order.
    ///
    /// # Errors
    /// The driver's.
    pub async fn recorded_tables(&self) -> Result<Vec<String>> {
        sql::query_scalar("SELECT name FROM lockstep.tables ORDER BY name")
            .fetch_all(self.pool())
            .await
            .doing("reading which tables move")
    }

    /// Records which DynamoDB table a table moves to.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn adopt_target(&self, name: &str, target_name: &str, target_id: Option<&str>) -> Result<()> {
        sql::query("UPDATE lockstep.tables SET target_name = $2, target_id = $3 WHERE name = $1")
            .bind(name)
            .bind(target_name)
            .bind(target_id)
            .execute(self.pool())
            .await
            .doing("recording the target table")?;
        Ok(())
    }

    /// Opens a table for guarded writes of changes, and with that closes the cold load path for good.
    ///
    /// # Errors
    /// [`Kind::Busy`] while a lost request of a cold load could still arrive and overwrite a newer state.
    #[crate::boxed]
    pub async fn enable_relay(&self, name: &str) -> Result<()> {
        let doing = format!("opening {name} for changes");
        let done = sql::query(
            "UPDATE lockstep.tables SET relay_enabled_at = coalesce(relay_enabled_at,
                pg_catalog.clock_timestamp())
             WHERE name = $1 AND NOT importing AND NOT cold_open
                 AND coalesce(cold_unsafe_until <= pg_catalog.clock_timestamp(), true)",
        )
        .bind(name)
        .execute(self.pool())
        .await
        .doing(&doing)?;
        if done.rows_affected() == 1 {
            return Ok(());
        }
        let message = match self.table_state(name).await? {
            None => "capture is not installed".to_owned(),
            Some(TableState { importing: true, .. }) => format!(
                "an import is making its target table: changes wait until it is \
                    there; {Backfill} goes on with it"
            ),
            Some(TableState { cold_open: true, .. }) => {
                format!("a cold load is not finished; run {Backfill} to finish it")
            }
            Some(state) => format!(
                "a request of a cold load was lost and could still arrive until {}",
                state.cold_unsafe_until.map_or_else(|| "soon".to_owned(), |at| at.to_rfc3339())
            ),
        };
        Err(Error::source(Kind::Busy, doing, message))
    }

    /// Notes that a cold load, which only earlier versions make, has ended: its requests that were lost can
    /// arrive for `unsafe_for` longer (`None`: every one was answered).
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn end_cold(&self, name: &str, unsafe_for: Option<std::time::Duration>) -> Result<()> {
        sql::query(
            "UPDATE lockstep.tables SET cold_open = false,
                 cold_unsafe_until = greatest(cold_unsafe_until,
                     pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $2)) WHERE name = $1",
        )
        .bind(name)
        .bind(unsafe_for.map(|d| d.as_secs_f64()))
        .execute(self.pool())
        .await
        .doing("ending a cold load")?;
        Ok(())
    }
}
