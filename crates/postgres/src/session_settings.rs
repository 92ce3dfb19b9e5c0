//! Settings of each session of ours, whatever the defaults of the role, the database and the URL are.

use std::str::FromStr;

use lockstep_core::Advice::SourceUrl;
use lockstep_core::{Error, Kind, Result};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use super::SourceOptions;
use crate::path::{self, Path};
use crate::sql;
use crate::url;

/// Longest that a transaction of ours may do nothing. 1. A process is stopped, or cut off from the network,
/// inside a write transaction. 2. It holds the barrier, and no process will end it. 3. No step gets the
/// barrier again. So PostgreSQL ends it. A strict write waits for the target inside its transaction, within
/// this bound.
const IDLE_IN_TRANSACTION: &str = "30s";

pub(crate) fn connect_options(options: &SourceOptions) -> Result<PgConnectOptions> {
    url::check(&options.url)?;
    sql::use_control_schema(&options.control_schema)?;
    Ok(PgConnectOptions::from_str(&options.url)
        // A message of the driver may quote the URL.
        .map_err(|_| Error::source(Kind::Misconfigured, format!("reading {SourceUrl}"), url::ADVICE))?
        // Or else a statement that is slow is logged, with the keys that are spelled into it.
        .disable_statement_logging()
        .application_name(&options.application_name)
        // Not `default_transaction_read_only`: a server that was made read-only is no source, and `node` says
        // so.
        .options(SETTINGS))
}

/// Settings that are given to a session as it begins, as the server says them.
const SETTINGS: [(&str, &str); 15] = [
    // Keys and literals must read the same in every session, whatever the role's defaults are.
    ("TimeZone", "UTC"),
    ("standard_conforming_strings", "on"),
    // A RAISE WARNING of an application's trigger may hold values, and the driver logs it.
    ("client_min_messages", "error"),
    // Or else a policy hides rows, and a row that is hidden looks like one that was deleted: with it off
    // PostgreSQL refuses.
    ("row_security", "off"),
    // Text of ours is compared as text: keys, fingerprints, rows.
    ("IntervalStyle", "postgres"),
    ("bytea_output", "hex"),
    ("quote_all_identifiers", "off"),
    ("transform_null_equals", "off"),
    ("array_nulls", "on"),
    ("lc_monetary", "C"),
    ("xmloption", "content"),
    // A role's bound for its own queries would end a comparison of hours, and a wait that has a bound of its
    // own.
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    // A role may have it off; then a crash of the server would forget a flip, or an intent whose effect is in
    // the target (I9).
    ("synchronous_commit", "on"),
    ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION),
];

/// Tells whether the settings of a session are those that it was made with, and it is the role's that
/// connected. A stricter `synchronous_commit` may be the server's own.
pub(crate) async fn is_as_made(connection: &mut PgConnection) -> std::result::Result<bool, sqlx::Error> {
    let (names, values): (Vec<&str>, Vec<&str>) = SETTINGS.into_iter().unzip();
    let sql = format!(
        "SELECT current_user OPERATOR(pg_catalog.=) session_user
             AND pg_catalog.current_setting('search_path') OPERATOR(pg_catalog.=) ANY (ARRAY[$3,
                 pg_catalog.current_setting('{kept}')])
             AND pg_catalog.current_setting('default_transaction_isolation') OPERATOR(pg_catalog.=) 'read committed'
             AND (SELECT pg_catalog.bool_and(pg_catalog.current_setting(name) OPERATOR(pg_catalog.=) value
                      OR name OPERATOR(pg_catalog.=) 'synchronous_commit'
                          AND pg_catalog.current_setting(name) OPERATOR(pg_catalog.=) 'remote_apply')
                  FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS s (name, value))",
        kept = path::KEPT_IN,
    );
    sql::query_scalar(sqlx::AssertSqlSafe(sql))
        .bind(names)
        .bind(values)
        .bind(path::OWN)
        .fetch_one(connection)
        .await
}

/// Makes a session's commits durable, its isolation the one that our transactions are written for, and its
/// search path `path`, where the role's defaults say otherwise.
///
/// With `synchronous_commit` off: 1. A commit is answered before it is on disk. 2. Its version goes to the
/// target. 3. The server loses power, forgets the commit, and hands the same version out again. 4. The target
/// has it already and refuses the newer state. A stricter default (`remote_apply`) stays as it is.
///
/// A database of encoding SQL_ASCII holds any bytes. Asked for UTF-8, PostgreSQL refuses a whole statement
/// over one of them; bytes as they are show which row it is.
///
/// In REPEATABLE READ a statement that waited for the barrier would read the phase from before its wait.
pub(crate) async fn make_a_session(
    connection: &mut PgConnection,
    path: Path,
) -> std::result::Result<(), sqlx::Error> {
    // The path is still whatever the role has: here operators are named with their schema as well.
    let sql = format!(
        "SELECT pg_catalog.set_config('{kept}', {of_the_role}, false),
                      CASE WHEN $1 THEN pg_catalog.set_config('search_path', $2, false)
                           WHEN pg_catalog.current_setting('{kept}')
                               OPERATOR(pg_catalog.<>) pg_catalog.current_setting('search_path')
                           THEN pg_catalog.set_config('search_path',
                               pg_catalog.current_setting('{kept}'), false) END,
                      pg_catalog.set_config('default_transaction_isolation', 'read committed', false),
                      CASE WHEN pg_catalog.current_setting('server_encoding')
                               OPERATOR(pg_catalog.=) 'SQL_ASCII'
                           THEN pg_catalog.set_config('client_encoding', 'SQL_ASCII', false) END,
                      CASE WHEN pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off'
                           THEN pg_catalog.set_config('synchronous_commit', 'on', false) END",
        kept = path::KEPT_IN,
        of_the_role = path::OF_THE_ROLE,
    );
    sql::query(sqlx::AssertSqlSafe(sql))
        .bind(path == Path::Own)
        .bind(path::OWN)
        .execute(&mut *connection)
        .await?;
    // Not every version of PostgreSQL has these, and a setting that it does not know ends a connection.
    //
    // Our statements about all tables look costly to the planner, so that it would compile them for a second,
    // and run them for milliseconds: of seven tables each time, and in a pause while every writer waits.
    let sql = "SELECT pg_catalog.set_config(s.name, CASE s.name WHEN 'jit' THEN 'off' ELSE '0' END, false)
               FROM pg_catalog.pg_settings s
               WHERE s.name IN ('idle_session_timeout', 'transaction_timeout') AND s.setting <> '0'
                   OR s.name = 'jit' AND s.setting <> 'off'";
    sql::query(sql).execute(connection).await.map(drop)
}

/// Makes a session one that asks for tables of ours only, as those that hold a lease or listen.
///
/// # Errors
/// The driver's.
#[crate::boxed]
pub async fn make_own_session(connection: &mut PgConnection) -> std::result::Result<(), sqlx::Error> {
    make_a_session(connection, Path::Own).await
}

/// Connects a session of this kind, outside of any pool.
///
/// # Errors
/// The driver's.
#[crate::boxed]
pub async fn connect_own(options: &PgConnectOptions) -> std::result::Result<PgConnection, sqlx::Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    make_own_session(&mut connection).await?;
    Ok(connection)
}
