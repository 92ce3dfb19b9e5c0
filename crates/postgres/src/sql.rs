//! Every statement of this crate on its way to the server, with the control schema of this process.
//!
//! Statements are written for schema `lockstep`, and so are the released schema migrations. A migration
//! beside another one has a schema of its own, `lockstep_NAME`, and the words that name the schema are
//! replaced as a statement is sent: what stands before a dot, what a literal or a statement about schemas
//! names, the archive of completions and the channel.
//!
//! With the usual schema no text is looked at or copied: the price of a statement is to compare eight bytes.
//! With another one it is a look through the text, and a copy of one that names the schema. The texts of an
//! application's stores have the name from when they are made, so a write has its statements looked through
//! and no more. A memory of texts would cost more: to find one in it is to read all of it as well.
//!
//! The name is the process's: it is fixed when the first source is opened, and another one is refused from
//! then on. Sequences, triggers and locks of a process would otherwise be of the one migration or the other
//! by which of its handles came first.
//!
//! No other file names `sqlx::query` and what is like it; a test of the house holds that.

use std::borrow::Cow;
use std::sync::OnceLock;

use lockstep_core::Advice::ControlSchema;
use lockstep_core::{Error, Kind, Result};
use sqlx::postgres::{PgArguments, PgConnection, PgQueryResult, PgRow};
use sqlx::query::{Query, QueryAs, QueryScalar};
use sqlx::{AssertSqlSafe, FromRow, IntoArguments, Postgres, RawSql, SqlSafeStr, SqlStr};

/// Schema of a migration that says nothing else.
pub const CONTROL_SCHEMA: &str = "lockstep";

/// First argument of the advisory locks of that schema: it spells "LOCK".
pub(crate) const LOCKS: i32 = 0x4C4F_434B;

/// Most bytes of a schema's name. PostgreSQL has 63 for `lockstep_NAME_archive`.
const NAME_MAX: usize = 49;

/// End of the name of the schema of completions.
const ARCHIVE: &str = "_archive";

static OWN: OnceLock<String> = OnceLock::new();

/// Returns the control schema of this process.
pub fn control_schema() -> &'static str {
    OWN.get().map_or(CONTROL_SCHEMA, String::as_str)
}

/// Returns the schema that remembers the completed migrations of this process's control schema.
pub fn archive_schema() -> String {
    format!("{}{ARCHIVE}", control_schema())
}

/// Returns why `name` cannot be that of a control schema; `None` where it can. What passes is safe in the
/// text of a statement.
pub fn wrong_control_schema(name: &str) -> Option<&'static str> {
    if name == CONTROL_SCHEMA {
        return None;
    }
    let rest = name.strip_prefix("lockstep_").filter(|rest| !rest.is_empty() && name.len() <= NAME_MAX);
    let is_legal = rest
        .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
    // The channel's name as that of a schema would be renamed once more where a text passes twice.
    let is_ours = name.ends_with(ARCHIVE) || rest == Some("phase");
    (!is_legal || is_ours).then_some(
        "must be `lockstep`, or `lockstep_` with 1 to 40 of a-z 0-9 _ after it; but not `lockstep_phase`, \
         and no name that ends in `_archive`",
    )
}

/// Makes `name` the control schema of this process.
///
/// # Errors
/// [`Kind::Misconfigured`] for a name that cannot be one, and where the process has another one already.
pub fn use_control_schema(name: &str) -> Result<()> {
    let refused =
        |message: String| Err(Error::source(Kind::Misconfigured, "choosing the control schema", message));
    if let Some(must) = wrong_control_schema(name) {
        return refused(format!("{ControlSchema} is `{name}`: it {must}"));
    }
    let own = OWN.get_or_init(|| name.to_owned());
    if own == name {
        return Ok(());
    }
    refused(format!(
        "this process is of the migration in schema {own}, and a handle on the one in schema {name} is asked \
         for: a process has one control schema. Run a process for each of the two migrations"
    ))
}

/// Returns the first argument of the advisory locks of this process's control schema.
pub(crate) fn locks() -> i32 {
    locks_of(control_schema())
}

/// The usual number for the usual schema; for another one a digest of its name (FNV-1a).
fn locks_of(schema: &str) -> i32 {
    if schema == CONTROL_SCHEMA {
        return LOCKS;
    }
    let digest =
        schema.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    // As `pg_locks` shows it, it has no sign.
    let number = (digest >> 1).cast_signed();
    if number == LOCKS { number ^ 1 } else { number }
}

/// Returns a statement as it is sent.
pub(crate) fn text(sql: impl SqlSafeStr) -> SqlStr {
    let sql = sql.into_sql_str();
    match control_schema() {
        CONTROL_SCHEMA => sql,
        schema => match renamed(sql.as_str(), schema) {
            Some(renamed) => AssertSqlSafe(renamed).into_sql_str(),
            None => sql,
        },
    }
}

/// Returns text of a statement that is not sent from here, as the same text about this process's schema.
pub(crate) fn of_this_schema(sql: &str) -> Cow<'_, str> {
    match control_schema() {
        CONTROL_SCHEMA => Cow::Borrowed(sql),
        schema => renamed(sql, schema).map_or(Cow::Borrowed(sql), Cow::Owned),
    }
}

/// Tells whether text that an application gave would be taken for the name of our schema, under any other
/// name than the usual one. Pure.
pub(crate) fn is_taken_for_the_name(text: &str) -> bool {
    // A name that no schema has.
    renamed(text, "-").is_some()
}

/// Returns `sql` with each word that names schema `lockstep`, its archive or its channel replaced; `None`
/// where there is none. Text that has passed once passes again as it is. Pure.
fn renamed(sql: &str, schema: &str) -> Option<String> {
    let is_of_a_word = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'"' | b'.') || !byte.is_ascii()
    };
    let mut renamed = String::new();
    let mut from = 0;
    for (at, word) in sql.match_indices(CONTROL_SCHEMA) {
        let (before, after) = (&sql[..at], &sql[at + word.len()..]);
        let names_it = !before.bytes().next_back().is_some_and(is_of_a_word)
            && (after.starts_with('.')
                || is_archive(after)
                || (before.ends_with('\'') && (after.starts_with('\'') || after.starts_with("_phase'")))
                || is_of_schemas(before, after));
        if names_it {
            renamed.reserve(if from == 0 { sql.len() + 64 } else { 0 });
            renamed += &sql[from..at];
            renamed += schema;
            from = at + word.len();
        }
    }
    (from > 0).then(|| renamed + &sql[from..])
}

/// Tells whether the word goes on as the archive's name, and ends with it.
fn is_archive(after: &str) -> bool {
    after.strip_prefix(ARCHIVE).is_some_and(|rest| {
        !rest.starts_with(|next: char| next.is_alphanumeric() || matches!(next, '_' | '$'))
    })
}

/// Tells whether the word is what a statement about schemas names.
fn is_of_schemas(before: &str, after: &str) -> bool {
    let ends = after.is_empty() || after.starts_with([' ', ',', ';', '\n']);
    ends && ["schema ", "SCHEMA ", "SCHEMA IF EXISTS ", "SCHEMA IF NOT EXISTS "]
        .iter()
        .any(|word| before.ends_with(word))
}

/// [`sqlx::query()`].
pub(crate) fn query<'q>(sql: impl SqlSafeStr) -> Query<'q, Postgres, PgArguments> {
    sqlx::query(text(sql))
}

/// [`sqlx::query_with()`].
pub(crate) fn query_with<'q, A: IntoArguments<Postgres>>(
    sql: impl SqlSafeStr,
    arguments: A,
) -> Query<'q, Postgres, A> {
    sqlx::query_with(text(sql), arguments)
}

/// [`sqlx::query_as()`].
pub(crate) fn query_as<'q, O>(sql: impl SqlSafeStr) -> QueryAs<'q, Postgres, O, PgArguments>
where
    O: for<'r> FromRow<'r, PgRow>,
{
    sqlx::query_as(text(sql))
}

/// [`sqlx::query_as_with()`].
pub(crate) fn query_as_with<'q, O, A>(sql: impl SqlSafeStr, arguments: A) -> QueryAs<'q, Postgres, O, A>
where
    O: for<'r> FromRow<'r, PgRow>,
    A: IntoArguments<Postgres>,
{
    sqlx::query_as_with(text(sql), arguments)
}

/// [`sqlx::query_scalar()`].
pub(crate) fn query_scalar<'q, O>(sql: impl SqlSafeStr) -> QueryScalar<'q, Postgres, O, PgArguments>
where
    (O,): for<'r> FromRow<'r, PgRow>,
{
    sqlx::query_scalar(text(sql))
}

/// [`sqlx::query_scalar_with()`].
pub(crate) fn query_scalar_with<'q, O, A>(
    sql: impl SqlSafeStr,
    arguments: A,
) -> QueryScalar<'q, Postgres, O, A>
where
    A: IntoArguments<Postgres>,
    (O,): for<'r> FromRow<'r, PgRow>,
{
    sqlx::query_scalar_with(text(sql), arguments)
}

/// [`sqlx::raw_sql()`].
pub(crate) fn raw_sql(sql: impl SqlSafeStr) -> RawSql {
    sqlx::raw_sql(text(sql))
}

/// Statements without parameters, sent as they are: what [`sqlx::Executor`] does for a connection.
pub(crate) trait Run {
    /// Runs them.
    fn execute(&mut self, sql: impl SqlSafeStr) -> impl Future<Output = sqlx::Result<PgQueryResult>> + Send;
}

impl Run for PgConnection {
    fn execute(&mut self, sql: impl SqlSafeStr) -> impl Future<Output = sqlx::Result<PgQueryResult>> + Send {
        sqlx::Executor::execute(self, text(sql))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(sql: &str, expected: &str) {
        let all = |sql: &str, schema| renamed(sql, schema).unwrap_or_else(|| sql.to_owned());
        let found = all(sql, "lockstep_b");
        assert_eq!(found, expected);
        assert_eq!(renamed(&found, "lockstep_b"), None, "a second time");
        assert_eq!(all(sql, CONTROL_SCHEMA), sql);
        assert_eq!(is_taken_for_the_name(sql), sql != expected);
    }

    #[test]
    fn what_names_the_schema_is_renamed_and_nothing_else() {
        check(
            "SELECT nextval('lockstep.version_seq') FROM lockstep.control, f(lockstep.x) AS t(lockstep_xid)",
            "SELECT nextval('lockstep_b.version_seq') FROM lockstep_b.control, f(lockstep_b.x) \
             AS t(lockstep_xid)",
        );
        check(
            "WHERE n = 'lockstep'::regnamespace AND n.nspname IN ('lockstep', 'lockstep_archive')",
            "WHERE n = 'lockstep_b'::regnamespace AND n.nspname IN ('lockstep_b', 'lockstep_b_archive')",
        );
        check(
            "CREATE SCHEMA IF NOT EXISTS lockstep_archive; DROP SCHEMA IF EXISTS lockstep CASCADE",
            "CREATE SCHEMA IF NOT EXISTS lockstep_b_archive; DROP SCHEMA IF EXISTS lockstep_b CASCADE",
        );
        check("GRANT USAGE ON SCHEMA lockstep TO", "GRANT USAGE ON SCHEMA lockstep_b TO");
        check("pg_notify('lockstep_phase', 'x')", "pg_notify('lockstep_b_phase', 'x')");
        check(
            "EXECUTE 'SELECT FROM lockstep_archive.completed c'",
            "EXECUTE 'SELECT FROM lockstep_b_archive.completed c'",
        );
        for same in [
            "zz_lockstep_capture_orders",
            "RAISE EXCEPTION 'lockstep: refused' USING HINT = '(lockstep uninstall)'",
            "AS $lockstep$ BEGIN END $lockstep$",
            "SELECT lockstep_key FROM public.\"lockstep\"",
            "SELECT \"lockstep.x\", \"shop\".lockstep.y, lockstep_archived.z FROM \"lockstep\".\"orders\"",
            "application_name NOT LIKE 'lockstep%'",
            "E'\\nlockstep shape: '",
            "\u{e9}lockstep.x",
        ] {
            check(same, same);
        }
    }

    #[test]
    fn a_name_is_one_that_is_safe_in_text_and_leaves_room_for_its_archive() {
        let longest = format!("lockstep_{}", "a".repeat(40));
        for legal in ["lockstep", "lockstep_b", "lockstep_2_of", &longest] {
            assert_eq!(wrong_control_schema(legal), None, "{legal}");
            assert!(legal.len() + ARCHIVE.len() <= 63, "{legal}");
        }
        let longer = format!("{longest}a");
        for illegal in [
            "",
            "public",
            "lockstep_",
            "lockstep-b",
            "lockstep_B",
            "lockstep_a b",
            "lockstep_a\"",
            "lockstepb",
            "lockstep_a'; --",
            "lockstep_archive",
            "lockstep_phase",
            "lockstep_b_archive",
            "lockstep_\u{e9}",
            &longer,
        ] {
            assert!(wrong_control_schema(illegal).is_some(), "{illegal}");
        }
    }

    #[test]
    fn each_schema_has_locks_of_its_own_and_the_usual_one_those_it_had() {
        assert_eq!(locks_of("lockstep"), 0x4C4F_434B);
        let numbers = ["lockstep", "lockstep_a", "lockstep_b", "lockstep_ab"].map(locks_of);
        let mut distinct = numbers.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), numbers.len());
    }
}
