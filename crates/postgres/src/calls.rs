//! Writes in one round trip: functions in the source, one a table and kind of write, that do behind the barrier what a
//! transaction of several statements would, and answer with the row and the versions of its marks.
//!
//! A statement by itself cannot: `RETURNING` is worked out before the capture trigger has marked the key. Inside a function
//! each statement has a snapshot of its own, so the phase is read after the barrier was had, and the mark after the write.
//!
//! The caller says which epoch it believes in. Behind the barrier that is either right, or the call fails before it has
//! written anything and is made again the long way. Functions are installed with capture and run with the caller's rights.

use lockstep_core::{Epoch, Error, Result, Version};
use sqlx::postgres::{PgArguments, PgConnection, PgDatabaseError, PgRow, PgSeverity};
use sqlx::{Arguments as _, AssertSqlSafe, Row as _};

use super::binding::{TableBinding, list, quote_identifier, quote_literal};
use super::intents::parse_xid;
use super::statements::RowStatements;
use super::{BARRIER, TransactionId};

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

    fn function(self, table: &str) -> String {
        let verb = match self {
            Self::Upsert => "upsert",
            Self::Insert => "insert",
            Self::Delete => "delete",
        };
        format!("lockstep.{}", quote_identifier(&format!("{verb}_{table}")))
    }
}

/// What the caller wants to hear of the marks.
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

/// What a call did.
pub struct Called {
    /// The row's columns; its key is at `key_at` of [`RowStatements`], and the key before it after that.
    pub row: PgRow,
    /// The transaction.
    pub id: TransactionId,
    /// The mark of the row's key.
    pub key: Marked,
    /// The mark of the key that the row had before, where that was another.
    pub old_key: Marked,
}

/// How a call ended.
pub enum CallEnd {
    /// It was done, and outside of a transaction it is committed.
    Done(Called),
    /// There is no such row; nothing was done.
    NoRow,
    /// The phase is another than was believed; nothing was done.
    Stale,
    /// The function is not there, or not for this role; nothing was done.
    Missing,
    /// PostgreSQL refused it; nothing was done.
    Refused(Error),
    /// The answer was lost: outside of a transaction it may have been done (I8).
    Lost(Error),
}

/// SQLSTATE of a call under an epoch that is over, or under a snapshot that would hide a later one. Class `LK` is nobody's.
const STALE: &str = "LK001";

/// The statement that calls: the write's own parameters, then epoch, whether marks and whether repairs are asked for.
pub fn call_sql(call: Call, binding: &TableBinding) -> String {
    let places = list((1..=parameters(call, binding).len() + 3).map(|place| format!("${place}")));
    format!("SELECT * FROM {}({places})", call.function(binding.name()))
}

/// Makes the call. `arguments` are those of the write.
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
        return CallEnd::Refused(Error::of_sqlx(doing, sqlx::Error::Encode(error)));
    }
    match sqlx::query_with(AssertSqlSafe(sql.to_owned()), arguments).fetch_one(connection).await {
        Ok(row) => match read(row) {
            Ok(Some(called)) => CallEnd::Done(called),
            Ok(None) => CallEnd::NoRow,
            Err(error) => CallEnd::Lost(error),
        },
        Err(error) => {
            // A fatal error may come after the commit record was written; a plain one is a rollback.
            let plain = error.as_database_error().and_then(|e| e.try_downcast_ref::<PgDatabaseError>());
            let code = plain.filter(|e| e.severity() == PgSeverity::Error).map(|e| e.code().to_owned());
            let lost = code.is_none();
            let error = Error::of_sqlx(doing, error);
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

fn read(row: PgRow) -> Result<Option<Called>> {
    let doing = "reading what a write returned";
    let marked = |version: &str, repair: &str| -> std::result::Result<Marked, sqlx::Error> {
        let (version, repair): (Option<i64>, Option<i64>) = (row.try_get(version)?, row.try_get(repair)?);
        Ok(version.map(|version| (Version(version), repair.map(Version))))
    };
    let read = || {
        let id: Option<String> = row.try_get("lockstep_xid")?;
        Ok::<_, sqlx::Error>((
            id,
            marked("lockstep_version", "lockstep_repair")?,
            marked("lockstep_old_version", "lockstep_old_repair")?,
        ))
    };
    let (id, key, old_key) = read().map_err(|error| Error::of_sqlx(doing, error))?;
    let Some(id) = id else { return Ok(None) };
    Ok(Some(Called { id: parse_xid(id)?, key, old_key, row }))
}

/// Types of the write's own parameters.
fn parameters(call: Call, binding: &TableBinding) -> Vec<&'static str> {
    match call {
        Call::Upsert | Call::Insert => binding.table.columns().iter().map(|column| column.sql_type).collect(),
        Call::Delete => binding.table.key_columns()[..binding.table.primary_key_columns()].iter().map(|c| c.sql_type).collect(),
    }
}

/// The statements that create the functions of a table.
pub(super) fn functions(binding: &TableBinding) -> Vec<String> {
    let statements = RowStatements::new(binding);
    let drop = |call: &Call| format!("DROP FUNCTION IF EXISTS {}", call.function(binding.name()));
    Call::ALL.iter().flat_map(|call| [drop(call), function(*call, &statements, binding)]).collect()
}

fn function(call: Call, statements: &RowStatements, binding: &TableBinding) -> String {
    let (class, barrier) = BARRIER;
    let table = quote_literal(binding.name());
    let own = parameters(call, binding);
    let (believed, marks, repairs) = (own.len() + 1, own.len() + 2, own.len() + 3);
    let columns = binding.table.columns().iter().map(|c| format!("OUT {} {}", quote_identifier(c.name), c.sql_type));
    let places = list(binding.table.columns().iter().map(|column| quote_identifier(column.name)));
    let (write, old_key) = match call {
        Call::Upsert => (&statements.upsert, ", lockstep_old_key"),
        Call::Insert => (&statements.insert, ""),
        Call::Delete => (&statements.delete, ""),
    };
    let mark = |key: &str, version: &str, repair: &str| {
        format!(
            "SELECT p.version, CASE WHEN ${repairs} THEN pg_catalog.nextval('lockstep.version_seq') END INTO {version}, {repair}
             FROM lockstep.pending p WHERE p.table_name = {table} AND p.key = {key}::jsonb;"
        )
    };
    format!(
        "CREATE OR REPLACE FUNCTION {function}({own}, bigint, boolean, boolean, {columns},
             OUT lockstep_key text, OUT lockstep_old_key text, OUT lockstep_xid text,
             OUT lockstep_version bigint, OUT lockstep_repair bigint,
             OUT lockstep_old_version bigint, OUT lockstep_old_repair bigint) LANGUAGE plpgsql AS $lockstep$
         #variable_conflict use_column
         BEGIN
             -- An expression costs less than a query. What it is put into, the write sets.
             lockstep_key := pg_advisory_xact_lock_shared({class}, {barrier})::text;
             IF (SELECT c.epoch FROM lockstep.control c) IS DISTINCT FROM ${believed}
                OR current_setting('transaction_isolation') <> 'read committed' THEN
                 RAISE EXCEPTION 'lockstep: the phase is another than the caller believes' USING ERRCODE = '{STALE}';
             END IF;
             {write} INTO {places}, lockstep_key{old_key};
             IF lockstep_key IS NULL THEN RETURN; END IF;
             lockstep_xid := pg_current_xact_id()::text;
             IF ${marks} THEN
                 {of_key}
                 IF lockstep_old_key IS DISTINCT FROM lockstep_key AND lockstep_old_key IS NOT NULL THEN
                     {of_old_key}
                 END IF;
             END IF;
         END $lockstep$",
        function = call.function(binding.name()),
        own = own.join(", "),
        columns = list(columns),
        of_key = mark("lockstep_key", "lockstep_version", "lockstep_repair"),
        of_old_key = mark("lockstep_old_key", "lockstep_old_version", "lockstep_old_repair"),
    )
}
