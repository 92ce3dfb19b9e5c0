//! Writes in one round trip: functions in the source, one a table and kind of write, that do behind the
//! barrier what a transaction of several statements would, and answer with the row and the versions of its
//! marks.
//!
//! A statement by itself cannot: `RETURNING` is worked out before the capture trigger has marked the key.
//! Inside a function each statement has a snapshot of its own, so the phase is read after the barrier was
//! had, and the mark after the write.
//!
//! A function reads the row and its mark together, in one statement after the write and what its triggers and
//! cascades did (I14). Because: 1. `RETURNING` says Pending. 2. An AFTER trigger makes the row Completed, and
//! its mark newer. 3. Pending would leave under the newer version, and be acknowledged. A trigger that is
//! deferred to the commit marks the key once more, so what left before it is not acknowledged, and a relay
//! brings the rest.
//!
//! A function is named by a digest of its whole text, the columns in their order among it. Because: 1. A
//! program of last week installs functions. 2. The next one has two text columns in another order; by a name
//! alone it would call the same function by position, and swap their values. 3. As it is, it finds none of
//! its own, goes the long way, which names columns, and
//! [`Source::refresh_capture`](super::Source::refresh_capture) adds its own beside the others.
//!
//! The caller says which epoch it believes in. Behind the barrier that is either right, or the call fails
//! before it has written anything and is made again the long way. Functions are installed with capture and
//! run with the caller's rights.

use lockstep_core::{Epoch, Error, Result, Version};
use sqlx::postgres::{PgArguments, PgConnection, PgDatabaseError, PgRow, PgSeverity};
use sqlx::{Arguments as _, AssertSqlSafe, Row as _};

use super::binding::{TableBinding, digest_sql, list, quote_identifier, quote_literal};
use super::intents::parse_xid;
use super::statements::{Computed, RowStatements};
use super::{TransactionId, barrier};
use crate::fault::of_sqlx;
use crate::sql;

/// A kind of write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Inserts, or replaces the row with the same primary key.
    Upsert,
    /// Inserts under a primary key that PostgreSQL gives.
    Insert,
    /// Deletes by primary key.
    Delete,
}

impl Call {
    const ALL: [Self; 3] = [Self::Upsert, Self::Insert, Self::Delete];

    fn verb(self) -> &'static str {
        match self {
            Self::Upsert => "upsert",
            Self::Insert => "insert",
            Self::Delete => "delete",
        }
    }

    /// Returns the name that earlier versions gave the function.
    fn former_name(self, table: &str) -> String {
        format!("{}.{}", sql::control_schema(), quote_identifier(&format!("{}_{table}", self.verb())))
    }
}

/// Marks that the caller wants to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// Nothing: the target is not written.
    Unasked,
    /// Their versions.
    Versions,
    /// A repair version reserved for each as well, as a strict write needs it.
    WithRepairs,
}

/// The version of a mark, and the one reserved for its repair.
pub type Marked = Option<(Version, Option<Version>)>;

/// Outcome of a call.
pub struct Called {
    /// The row's columns as they are after all that the write set off, where there is a row still; the key
    /// that the write gave it is at `key_at` of [`RowStatements`], and the key before it after that.
    pub row: PgRow,
    /// The source key that the row has after all that; `None` where it is gone. Another one than the write
    /// gave it, or no row where one was written, or a row where one was deleted, is the work of a trigger.
    pub now: Option<String>,
    /// The transaction.
    pub id: TransactionId,
    /// The mark of the row's key.
    pub key: Marked,
    /// The mark of the key that the row had before, where that was another.
    pub old_key: Marked,
}

/// End of a call.
pub enum CallEnd {
    /// The call was made, and outside of a transaction it is committed.
    Done(Called),
    /// There is no such row. The work of triggers in its place is in the transaction, where one is named.
    NoRow(Option<TransactionId>),
    /// The phase is another than was believed; nothing was done.
    Stale,
    /// The function is not there, or not for this role; nothing was done.
    Missing,
    /// PostgreSQL refused it; nothing was done.
    Refused(Error),
    /// The answer was lost: outside of a transaction it may have been done (I8).
    Lost(Error),
}

/// SQLSTATE of a call under an epoch that is over, or under a snapshot that would hide a later one. Class
/// `LK` is not in use elsewhere.
const STALE: &str = "LK001";

/// Returns the statement that calls: the write's own parameters, then epoch, whether marks and whether
/// repairs are asked for.
pub fn call_sql(call: Call, binding: &TableBinding, statements: &RowStatements) -> String {
    let places = list((1..=parameters(call, binding).len() + 3).map(|place| format!("${place}")));
    let name = name_of(call, binding, &text_of(call, statements, binding));
    format!("SELECT * FROM {}.{}({places})", sql::control_schema(), quote_identifier(&name))
}

/// Makes the call. `arguments` are those of the write.
#[crate::boxed]
pub async fn call(
    connection: &mut PgConnection,
    sql: &str,
    mut arguments: PgArguments,
    believed: Epoch,
    marks: Marks,
    doing: &str,
) -> CallEnd {
    let added = arguments.add(believed.0).and_then(|()| arguments.add(marks != Marks::Unasked));
    let added = added.and_then(|()| arguments.add(marks == Marks::WithRepairs));
    if let Err(error) = added {
        return CallEnd::Refused(of_sqlx(doing, sqlx::Error::Encode(error)));
    }
    match sql::query_with(AssertSqlSafe(sql.to_owned()), arguments).fetch_one(connection).await {
        Ok(row) => match read(row) {
            Ok(end) => end,
            Err(error) => CallEnd::Lost(error),
        },
        Err(error) => {
            // A fatal error may come after the commit record was written; a plain one is a rollback.
            let plain = error.as_database_error().and_then(|e| e.try_downcast_ref::<PgDatabaseError>());
            let code = plain.filter(|e| e.severity() == PgSeverity::Error).map(|e| e.code().to_owned());
            let lost = code.is_none();
            let error = of_sqlx(doing, error);
            match code.as_deref() {
                Some(STALE) => CallEnd::Stale,
                // No such function; no such schema; no right to something. The long way will say which.
                Some("42883" | "3F000" | "42501") => CallEnd::Missing,
                _ if lost => CallEnd::Lost(error),
                _ => CallEnd::Refused(error),
            }
        }
    }
}

fn read(row: PgRow) -> Result<CallEnd> {
    let doing = "reading what a write returned";
    let marked = |version: &str, repair: &str| -> std::result::Result<Marked, sqlx::Error> {
        let (version, repair): (Option<i64>, Option<i64>) = (row.try_get(version)?, row.try_get(repair)?);
        Ok(version.map(|version| (Version(version), repair.map(Version))))
    };
    let read = || {
        let key: Option<String> = row.try_get("lockstep_key")?;
        let id: Option<String> = row.try_get("lockstep_xid")?;
        let now: Option<String> = row.try_get("lockstep_now")?;
        Ok::<_, sqlx::Error>((
            key.is_some(),
            id,
            now,
            marked("lockstep_version", "lockstep_repair")?,
            marked("lockstep_old_version", "lockstep_old_repair")?,
        ))
    };
    let (found, id, now, key, old_key) = read().map_err(|error| of_sqlx(doing, error))?;
    let id = id.map(parse_xid).transpose()?;
    match id {
        Some(id) if found => Ok(CallEnd::Done(Called { id, now, key, old_key, row })),
        id => Ok(CallEnd::NoRow(id)),
    }
}

/// Types of the write's own parameters.
fn parameters(call: Call, binding: &TableBinding) -> Vec<&'static str> {
    match call {
        Call::Upsert | Call::Insert => binding.table.columns().iter().map(|column| column.sql_type).collect(),
        Call::Delete => binding.table.key_columns()[..binding.table.primary_key_columns()]
            .iter()
            .map(|c| c.sql_type)
            .collect(),
    }
}

/// Returns the names of a table's functions.
pub(super) fn names(binding: &TableBinding, computed: &Computed) -> Vec<String> {
    let statements = RowStatements::new(binding, computed);
    Call::ALL.iter().map(|call| name_of(*call, binding, &text_of(*call, &statements, binding))).collect()
}

/// Returns the statements that create the functions of a table. Those of other programs, with other columns,
/// stay beside them.
pub(super) fn functions(binding: &TableBinding, computed: &Computed) -> Vec<String> {
    let statements = RowStatements::new(binding, computed);
    let one = |call: &Call| {
        let text = text_of(*call, &statements, binding);
        let name = quote_identifier(&name_of(*call, binding, &text));
        let former = format!("DROP FUNCTION IF EXISTS {}", call.former_name(binding.name()));
        [former, format!("CREATE OR REPLACE FUNCTION lockstep.{name}{text}")]
    };
    Call::ALL.iter().flat_map(one).collect()
}

/// Bytes of the table's name in the name of a function: with verb and digest below the 63 that PostgreSQL
/// keeps of a name.
const NAME_BYTES: usize = 36;

fn name_of(call: Call, binding: &TableBinding, text: &str) -> String {
    let table = binding.name();
    let short = (0..=table.len().min(NAME_BYTES))
        .rev()
        .find(|at| table.is_char_boundary(*at))
        .map_or("", |at| &table[..at]);
    format!("{}_{short}_{:016x}", call.verb(), digest(text))
}

/// FNV-1a, the same in every build and on every machine: programs of one version must find each other's
/// functions.
fn digest(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Returns a function from its parameters on: all but its name.
fn text_of(call: Call, statements: &RowStatements, binding: &TableBinding) -> String {
    let (class, barrier) = barrier();
    let table = quote_literal(binding.name());
    let own = parameters(call, binding);
    let (believed, marks, repairs) = (own.len() + 1, own.len() + 2, own.len() + 3);
    let columns =
        binding.table.columns().iter().map(|c| format!("OUT {} {}", quote_identifier(c.name), c.sql_type));
    let places = list(binding.table.columns().iter().map(|column| quote_identifier(column.name)));
    let (write, old_key, now) = match call {
        Call::Upsert => (&statements.upsert, ", lockstep_old_key", "lockstep_key"),
        Call::Insert => (&statements.insert, "", "lockstep_key"),
        Call::Delete => (&statements.delete, "", "NULL"),
    };
    format!(
        "({own}, bigint, boolean, boolean, {columns},
             OUT lockstep_key text, OUT lockstep_old_key text, OUT lockstep_now text, OUT lockstep_xid text,
             OUT lockstep_version bigint, OUT lockstep_repair bigint,
             OUT lockstep_old_version bigint, OUT lockstep_old_repair bigint) LANGUAGE plpgsql AS $lockstep$
         #variable_conflict use_column
         BEGIN
             -- An expression costs less than a query. What it is put into, the write sets.
             lockstep_key := pg_catalog.pg_advisory_xact_lock_shared({class}, {barrier})::text;
             IF (SELECT c.epoch FROM lockstep.control c) IS DISTINCT FROM ${believed}
                OR pg_catalog.current_setting('transaction_isolation') <> 'read committed' THEN
                 RAISE EXCEPTION 'lockstep: the phase is another than the caller believes' USING ERRCODE = '{STALE}';
             END IF;
             {write} INTO {places}, lockstep_key{old_key};
             lockstep_xid := pg_catalog.pg_current_xact_id_if_assigned()::text;
             IF lockstep_key IS NULL THEN RETURN; END IF;
             lockstep_now := {now};
             IF ${marks} THEN
                 SELECT {row}, CASE WHEN s.{first_key} IS NOT NULL THEN {row_key}::text END,
                        p.version, CASE WHEN p.version IS NOT NULL AND ${repairs} THEN pg_catalog.nextval('lockstep.version_seq') END
                 INTO {places}, lockstep_now, lockstep_version, lockstep_repair
                 FROM (SELECT lockstep_key::jsonb AS key) AS d
                 LEFT JOIN lockstep.pending p ON p.table_name = {table} AND {stored} = {of_new}
                 LEFT JOIN {relation} AS s ON {same_row};
                 IF lockstep_old_key IS DISTINCT FROM lockstep_key AND lockstep_old_key IS NOT NULL THEN
                     SELECT p.version, CASE WHEN ${repairs} THEN pg_catalog.nextval('lockstep.version_seq') END
                     INTO lockstep_old_version, lockstep_old_repair
                     FROM lockstep.pending p WHERE p.table_name = {table} AND {stored} = {of_old};
                 END IF;
             END IF;
         END $lockstep$",
        own = own.join(", "),
        columns = list(columns),
        row = binding.columns_sql("s"),
        first_key = quote_identifier(binding.table.key_columns()[0].name),
        row_key = binding.key_sql("s"),
        relation = binding.relation.sql(),
        same_row = binding.row_of_primary_key_sql("s", "d.key"),
        stored = digest_sql("p.key"),
        of_new = digest_sql("d.key"),
        of_old = digest_sql("lockstep_old_key::jsonb"),
    )
}
