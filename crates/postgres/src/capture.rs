//! Capture: triggers that put the key of every changed row into the pending set, in the same transaction
//! (I1).
//!
//! `AFTER`, because of this. 1. T1 deletes row k and has not committed. 2. T2 inserts k; a `BEFORE` trigger
//! would take version 10 now and then wait for T1. 3. T1's trigger takes version 11. 4. T2's row would be the
//! newer one with the older version. An `AFTER` trigger runs once the row, or the unique check, has been won.

use std::time::Duration;

use lockstep_core::Advice::{Backfill, Doctor, Migrate};
use lockstep_core::{Doing, Error, Kind, Phase, Result};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;

use super::barrier::limit_lock_waits;
use super::beside;
use super::binding::{digest_sql, quote_identifier, quote_literal};
use super::columns::{are_those_of, columns_now};
use super::lock_tries;
use super::partitions;
use super::path::{lend, take_back};
use super::recognise::{CaptureState, Triggers};
use super::reverse::lose;
use super::shape::with_leaves;
use super::stamp::STAMP;
use super::statements::Computed;
use super::trigger_names::{function_name, trigger_name, truncate_trigger_name};
use super::{Source, TableBinding, barrier, vacuum};
use crate::sql::{self, Run as _};

/// The trigger functions as this version makes them: 1 captured in every phase, 2 refuses writes in
/// DynamoOnly, 3 finds a mark by the digest of its key, 4 notes what rides along with the feed, 5 leaves
/// alone what logical replication brings to a copy. [`Source::refresh_capture`] brings a table to it; no step
/// to DynamoOnly may be taken before.
pub const CAPTURE_VERSION: i32 = 5;

/// Longest wait for the table lock in one try; writers queue behind us for no longer.
const LOCK_TIMEOUT: Duration = Duration::from_millis(300);

impl Source {
    /// Installs capture on a table, or installs it again where its triggers were dropped, disabled or
    /// replaced. `fingerprint` is that of the table as it was checked. A change made while the triggers were
    /// off stays unknown: a caller that installs them again compares both stores. In DynamoOnly the way back
    /// is closed with it, until a reverse backfill has read the whole target.
    ///
    /// When this returns, each change is either visible to every later read or in the pending set: the table
    /// lock is granted only once all earlier writers have ended.
    ///
    /// # Errors
    /// [`Kind::Busy`] when the table lock could not be acquired; [`Kind::Denied`] without the right to create
    /// triggers.
    ///
    /// # Cancel safety
    /// Nothing is installed unless the one transaction has committed.
    #[crate::boxed]
    pub async fn install_capture(&self, binding: &TableBinding, fingerprint: &str) -> Result<()> {
        self.install(binding, fingerprint, false).await
    }

    /// Installs capture again on a table whose columns are others than it was captured with, which is taken
    /// from then on as it is, with what its declaration says of them.
    ///
    /// # Errors
    /// As [`Source::install_capture`].
    ///
    /// # Cancel safety
    /// As there.
    #[crate::boxed]
    pub async fn take_columns(&self, binding: &TableBinding, fingerprint: &str) -> Result<()> {
        self.install(binding, fingerprint, true).await
    }

    async fn install(&self, binding: &TableBinding, fingerprint: &str, with_layout: bool) -> Result<()> {
        let sql = statements(binding);
        let doing = format!("installing capture on {}", binding.relation);
        let hidden = super::hides(fingerprint);
        if !hidden.is_empty() {
            return Err(Error::source(Kind::Misconfigured, doing, hidden.join("; ")));
        }
        lock_tries::TABLE.repeat(|| self.try_install(binding, (fingerprint, with_layout), &sql, &doing)).await
    }

    async fn try_install(
        &self,
        binding: &TableBinding,
        (fingerprint, with_layout): (&str, bool),
        sql: &[String],
        doing: &str,
    ) -> Result<()> {
        let mut transaction = self.begin(doing).await?;
        vacuum::hold_off(&mut transaction, &binding.relation.sql()).await?;
        limit_lock_waits(&mut transaction, LOCK_TIMEOUT).await?;
        for (n, statement) in sql.iter().enumerate() {
            transaction.execute(AssertSqlSafe(statement.clone())).await.doing(doing)?;
            if n == 0 {
                // Under the lock of the table, which the coordinator of any migration takes first.
                beside::refuse(&mut transaction, binding, doing).await?;
            }
        }
        install_calls(&mut transaction, binding, doing).await?;
        let columns = columns_now(&mut transaction, binding).await?;
        // 1. One more column is added since the table was looked at. 2. It is recorded with the others, and
        // dropped again. 3. No build knows it, none is let in, and nothing shows why.
        if !are_those_of(&columns, fingerprint) {
            let message = "its columns were changed meanwhile; run the command again";
            return Err(Error::source(Kind::Refused, doing, message));
        }
        let fingerprint = guard_partitions(&mut transaction, binding, fingerprint).await?;
        let mark = Triggers::read(&mut transaction, binding).await?.mark();
        // Installed again, over triggers that were dropped or disabled: what was concluded before then is no
        // longer true.
        sql::query(
            "INSERT INTO lockstep.tables AS t (name, relation, fingerprint, layout, capture_mark,
                capture_version, expiry, columns)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (name) DO UPDATE SET capture_mark = excluded.capture_mark, capture_version = excluded.capture_version,
                 fingerprint = excluded.fingerprint, columns = excluded.columns, captured_at =
                     pg_catalog.clock_timestamp(),
                 layout = CASE WHEN $9 THEN excluded.layout || $10 ELSE t.layout END",
        )
        .bind(binding.name())
        .bind(binding.relation.to_string())
        .bind(fingerprint)
        .bind(binding.table.layout())
        .bind(mark)
        .bind(CAPTURE_VERSION)
        .bind(binding.table.expiry())
        .bind(Json(columns))
        .bind(with_layout)
        .bind(STAMP)
        .execute(&mut *transaction)
        .await
        .doing(doing)?;
        // 1. In DynamoOnly triggers were off, and SQL changed rows. 2. A repair installs them again, and is
        // killed while it reads the target. 3. Capture is on, and the way back passes: the rows of SQL would
        // be the truth, for every key that the feed did not touch.
        let why = format!("SQL could write {} while its triggers were not all on", binding.relation);
        lose(&mut transaction, binding.name(), &why).await?;
        transaction.commit().await.doing(doing)
    }

    /// Gives a captured table the trigger functions of this version, if an earlier one installed them. The
    /// triggers stay as they are, so capture has no gap and no lock is waited for. Functions that write in
    /// one round trip are added where this program's are not there: an upgrade, or another order of columns.
    /// Says whether there was anything to do.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// All functions are replaced, or none.
    #[crate::boxed]
    pub async fn refresh_capture(&self, binding: &TableBinding) -> Result<bool> {
        let doing = format!("bringing the triggers of {} up to date", binding.relation);
        let mut transaction = self.begin(&doing).await?;
        let older = sql::query(
            "UPDATE lockstep.tables SET capture_version = $2 WHERE name = $1 AND capture_version < $2",
        )
        .bind(binding.name())
        .bind(CAPTURE_VERSION)
        .execute(&mut *transaction)
        .await
        .doing(&doing)?;
        let is_older = older.rows_affected() > 0;
        if is_older {
            for function in functions(binding) {
                transaction.execute(AssertSqlSafe(function)).await.doing(&doing)?;
            }
        }
        let are_missing = lack_calls(&mut transaction, binding, &doing).await?;
        if are_missing {
            install_calls(&mut transaction, binding, &doing).await?;
        }
        transaction.commit().await.doing(&doing)?;
        Ok(is_older || are_missing)
    }

    /// Checks whether capture is on.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn capture_state(&self, binding: &TableBinding) -> Result<CaptureState> {
        let mut connection = self.pool().acquire().await.doing("reading the state of capture")?;
        CaptureState::read(&mut connection, binding).await
    }

    /// The same of several tables, in their order, by two statements for all.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn capture_states(&self, tables: &[TableBinding]) -> Result<Vec<CaptureState>> {
        let mut connection = self.pool().acquire().await.doing("reading the state of capture")?;
        CaptureState::read_all(&mut connection, tables).await
    }
}

/// Has every partition refuse `TRUNCATE`, whose triggers are not cloned, and puts the partitions of now into
/// `fingerprint`. The lock of the table is held, and with it that of each partition.
async fn guard_partitions(
    connection: &mut PgConnection,
    binding: &TableBinding,
    fingerprint: &str,
) -> Result<String> {
    partitions::let_the_owner_make_some(connection, binding, &function_name(binding)).await?;
    for leaf in partitions::read(connection, binding).await? {
        partitions::guard(connection, binding, &leaf).await?;
    }
    let leaves = partitions::read(connection, binding).await?;
    Ok(if leaves.is_empty() { fingerprint.to_owned() } else { with_leaves(fingerprint, &leaves) })
}

async fn install_calls(connection: &mut PgConnection, binding: &TableBinding, doing: &str) -> Result<()> {
    if !binding.table.has_store() {
        return Ok(());
    }
    let computed = Computed::read(connection, binding).await?;
    // A parameter may be of a type of the application's, which the row type names without a schema. Nothing
    // is called here.
    lend(connection).await?;
    for function in super::calls::functions(binding, &computed) {
        connection.execute(AssertSqlSafe(function)).await.doing(doing)?;
    }
    take_back(connection).await
}

/// Tells whether a captured table lacks one of the functions that this program calls.
async fn lack_calls(connection: &mut PgConnection, binding: &TableBinding, doing: &str) -> Result<bool> {
    if !binding.table.has_store() {
        return Ok(false);
    }
    let names = super::calls::names(binding, &Computed::read(connection, binding).await?);
    sql::query_scalar(
        "SELECT EXISTS (SELECT FROM lockstep.tables WHERE name = $1) AND EXISTS (
             SELECT FROM pg_catalog.unnest($2::text[]) AS wanted WHERE wanted NOT IN (
                 SELECT proname::text FROM pg_proc WHERE pronamespace = 'lockstep'::regnamespace))",
    )
    .bind(binding.name())
    .bind(&names)
    .fetch_one(connection)
    .await
    .doing(doing)
}

/// Settings on which a key that is printed as text depends, as our own sessions have them. Each application
/// has its own `DateStyle`.
const KEY_SETTINGS: &str = " SET \"DateStyle\" = 'ISO, MDY' SET \"TimeZone\" = 'UTC' SET \"IntervalStyle\" = 'postgres' \
                            SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C'";

/// Begins both functions: a row that a worker of logical replication brings to a copy is neither marked nor
/// refused there (`brought.sql`). Asked in the replica role alone, so that nothing is asked of other writers.
const LEAVE_WHAT_IS_BROUGHT: &str =
    "IF pg_catalog.current_setting('session_replication_role') = 'replica' THEN
                 IF lockstep.is_brought() THEN RETURN NULL; END IF;
             END IF;";

/// Returns the functions that the triggers call.
///
/// In DynamoOnly they refuse every session but the reverse feed's. The phase is read without trusting the
/// transaction's snapshot. Because: 1. A REPEATABLE READ transaction takes its snapshot in HybridRead. 2. The
/// phase becomes DynamoOnly. 3. The transaction writes; by its snapshot it still may. A sequence has no
/// snapshot: if `frozen_seq` knows of a later DynamoOnly than the control row, the row is locked, which fails
/// such a transaction as one that cannot be serialised, and which a transaction after a flip that was rolled
/// back passes. Before the first DynamoOnly the sequence is all that is read.
///
/// Who the feed is: a transaction whose id is in `lockstep.reverse_writers`. A setting of the session could
/// be made by any role; this table can be written only by who owns the schema, and no other session ever sees
/// what is in it. A row that is changed in such a transaction and that the feed did not write itself rides
/// along: see `riders` in [`reverse`](super::reverse).
fn functions(binding: &TableBinding) -> Vec<String> {
    let function = function_name(binding);
    let name = quote_literal(binding.name());
    // Never the version that is there already. 1. A write takes version 11 and waits for the lock on the
    // mark. 2. Who holds it (a retry of dead letters, which knows no row lock) marks the key at 12, and a
    // relay delivers the old state at 12.
    // 3. Were the write to keep the 12, its newer state would be refused as delivered.
    let mark = |key: &str| {
        format!(
            "INSERT INTO lockstep.pending AS p (table_name, key, version) \
             VALUES ({name}, {key}, pg_catalog.nextval('lockstep.version_seq')) \
             ON CONFLICT (table_name, {digest}) DO UPDATE SET version = CASE WHEN excluded.version > p.version \
             THEN excluded.version ELSE pg_catalog.nextval('lockstep.version_seq') END;",
            digest = digest_sql("key")
        )
    };
    let (old_key, new_key) = (binding.key_sql("OLD"), binding.key_sql("NEW"));
    let (class, barrier) = barrier();
    let frozen = Phase::DynamoOnly.name();
    let capture = format!(
        // SECURITY DEFINER: the roles that write the table today need no new rights.
        "CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql
         SECURITY DEFINER SET search_path = pg_catalog, pg_temp{settings} AS $lockstep$
         DECLARE
             old_key jsonb;
             new_key jsonb;
             phase_now text;
             frozen_at bigint;
             out_of_date boolean;
             rides boolean;
         BEGIN
             {LEAVE_WHAT_IS_BROUGHT}
             PERFORM pg_catalog.pg_advisory_xact_lock_shared({class}, {barrier});
             SELECT f.last_value INTO frozen_at FROM lockstep.frozen_seq f;
             IF frozen_at > 0 THEN
                 SELECT c.phase, c.epoch < frozen_at INTO phase_now, out_of_date FROM lockstep.control c;
                 IF out_of_date THEN SELECT c.phase INTO phase_now FROM lockstep.control c FOR SHARE; END IF;
             END IF;
             IF phase_now = '{frozen}' THEN
                 SELECT coalesce(w.table_name <> {name}, false) OR w.notes OR pg_catalog.pg_trigger_depth()
                     > 1 INTO rides
                     FROM lockstep.reverse_writers w WHERE w.xid = pg_catalog.pg_current_xact_id();
                 IF FOUND THEN
                     IF rides THEN
                         IF TG_OP <> 'INSERT' THEN old_key := {old_key}; END IF;
                         IF TG_OP <> 'DELETE' THEN new_key := {new_key}; END IF;
                         {note_riders}
                     END IF;
                     RETURN NULL;
                 END IF;
                 PERFORM lockstep.refuse_frozen(TG_OP, TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME);
             END IF;
             IF TG_OP <> 'INSERT' THEN old_key := {old_key}; END IF;
             IF TG_OP <> 'DELETE' THEN new_key := {new_key}; END IF;
             IF old_key IS NOT NULL AND old_key IS DISTINCT FROM new_key THEN
                 {mark_old}
             END IF;
             IF new_key IS NOT NULL THEN
                 {mark_new}
             END IF;
             RETURN NULL;
         END $lockstep$",
        settings = if binding.table.key_needs_settings() { KEY_SETTINGS } else { "" },
        note_riders = super::reverse::note_riders_sql(&name),
        mark_old = mark("old_key"),
        mark_new = mark("new_key"),
    );
    vec![capture, refuse_truncate(frozen)]
}

/// Returns the function that refuses `TRUNCATE`, in DynamoOnly with the words of every write.
fn refuse_truncate(frozen: &str) -> String {
    format!(
        // SECURITY DEFINER: who truncates need have no right to look into schema lockstep.
        "CREATE OR REPLACE FUNCTION lockstep.refuse_truncate() RETURNS trigger LANGUAGE plpgsql
         SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $lockstep$
         BEGIN
             {LEAVE_WHAT_IS_BROUGHT}
             IF EXISTS (SELECT FROM lockstep.control c WHERE c.phase = '{frozen}')
                AND (TG_NARGS = 0 OR (SELECT r.relispartition FROM pg_class r WHERE r.oid = TG_RELID)) THEN
                 PERFORM lockstep.refuse_frozen('TRUNCATE', TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME);
             END IF;
             -- A partition that was detached is a table of its own, and this trigger stayed on it.
             IF TG_NARGS > 0 AND NOT (SELECT r.relispartition FROM pg_class r WHERE r.oid = TG_RELID) THEN RETURN NULL; END IF;
             RAISE EXCEPTION 'lockstep: TRUNCATE of %.% is refused while its changes are captured', TG_TABLE_SCHEMA, TG_TABLE_NAME
                 USING HINT = 'Use DELETE, which is captured row by row, or take Lockstep out first (lockstep uninstall).',
                       ERRCODE = 'object_not_in_prerequisite_state';
         END $lockstep$"
    )
}

/// A dump that was restored without its rights has given EXECUTE on our trigger functions back to every role.
const REVOKE: &str = "DO $revoke$
DECLARE
    made regprocedure;
BEGIN
    FOR made IN
        SELECT p.oid FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'lockstep'::regnamespace AND p.prorettype = 'pg_catalog.trigger'::regtype
    LOOP
        EXECUTE 'REVOKE ALL ON FUNCTION ' || made || ' FROM PUBLIC';
    END LOOP;
END $revoke$";

fn statements(binding: &TableBinding) -> Vec<String> {
    let relation = binding.relation.sql();
    let function = function_name(binding);
    let capture_trigger = quote_identifier(&trigger_name(binding));
    let truncate_trigger = quote_identifier(&truncate_trigger_name(binding));
    // The lock first: creating the functions before it would only lengthen the time they wait unused.
    let mut statements = vec![format!("LOCK TABLE {relation} IN SHARE ROW EXCLUSIVE MODE")];
    statements.extend(functions(binding));
    statements.extend([
        format!("DROP TRIGGER IF EXISTS {capture_trigger} ON {relation}"),
        format!("DROP TRIGGER IF EXISTS {truncate_trigger} ON {relation}"),
        format!(
            "CREATE TRIGGER {capture_trigger} AFTER INSERT OR UPDATE OR DELETE ON {relation}
             FOR EACH ROW EXECUTE FUNCTION {function}()"
        ),
        format!(
            "CREATE TRIGGER {truncate_trigger} BEFORE TRUNCATE ON {relation}
             FOR EACH STATEMENT EXECUTE FUNCTION lockstep.refuse_truncate()"
        ),
        // ALWAYS: a session with session_replication_role = replica is captured as well.
        format!("ALTER TABLE {relation} ENABLE ALWAYS TRIGGER {capture_trigger}"),
        format!("ALTER TABLE {relation} ENABLE ALWAYS TRIGGER {truncate_trigger}"),
        format!("REVOKE ALL ON FUNCTION {function}(), lockstep.refuse_truncate() FROM PUBLIC"),
        REVOKE.to_owned(),
    ]);
    statements
}

/// Error message helper for commands that need capture to be on.
impl CaptureState {
    /// Refuses anything but `On`.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`], with what to do.
    pub fn require_on(&self, table: &str) -> Result<()> {
        let message = match self {
            Self::On => return Ok(()),
            Self::Absent => format!(
                "capture is not installed; run `{Backfill:#}` or {Migrate}, which \
                    install it first"
            ),
            Self::Broken(how) => {
                format!(
                    "{how}: changes made since may be unknown. Run {Doctor}, which says \
                    how to repair it"
                )
            }
        };
        Err(Error::source(Kind::Misconfigured, format!("checking capture of {table}"), message))
    }
}
