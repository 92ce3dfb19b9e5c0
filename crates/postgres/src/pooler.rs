//! Poolers between us and PostgreSQL are recognised, named and refused.
//!
//! Lockstep's own sessions hold locks (coordinator, feed), listen, and depend on settings that they make. 1.
//! A pooler in transaction mode gives each transaction another server session. 2. The coordinator's lock
//! stays behind in one that a stranger uses next. 3. Two coordinators are at work, or none ever again. A
//! pooler in session mode drops the settings of the start, row_security among them. Writes of applications
//! through a pooler are captured all the same: the trigger needs no session.

use crate::sql::{self, Run as _};
use lockstep_core::Advice::SourceUrl;
use lockstep_core::{Doing, Error, Kind, Result};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection as _, Row as _};

fn next() -> String {
    format!(
        "give {SourceUrl} the address of PostgreSQL itself: Lockstep's own sessions hold locks, listen and \
         make settings, which a pooler takes away. Applications may go on writing through it"
    )
}

/// Makes the error of a pooler that does not take what every session of ours sends first.
pub(super) fn named_by(error: &sqlx::Error, place: &str) -> Option<Error> {
    let said = error.as_database_error()?.message();
    let name = if said.contains("command-line options") {
        "RDS Proxy"
    } else if said.contains("unsupported startup parameter") {
        "PgBouncer, or a pooler like it,"
    } else {
        return None;
    };
    Some(Error::source(
        Kind::Misconfigured,
        place,
        format!("this is {name} and not PostgreSQL ({said}); {}", next()),
    ))
}

/// Refuses a session that a pooler has changed; where it is to hold locks, also one whose transactions run in
/// several sessions of the server. Without prepared statements, as the second kind would lose them.
pub(super) async fn refuse(
    first: &mut PgConnection,
    connect: &PgConnectOptions,
    place: &str,
    holds_locks: bool,
) -> Result<()> {
    let refused = |what: &str| Err(Error::source(Kind::Misconfigured, place, format!("{what}; {}", next())));
    if holds_locks && shares_sessions(first, connect).await.doing(place)? {
        return refused(
            "two transactions of one session run in two sessions of the server: a pooler in transaction mode is in between",
        );
    }
    let kept = "SELECT (pg_catalog.current_setting('row_security') OPERATOR(pg_catalog.=) 'off')::text";
    if text(first, kept).await.doing(place)? != "true" {
        return refused(
            "the settings that a session sends at its start are lost: a pooler (PgBouncer with \
             ignore_startup_parameters) is in between",
        );
    }
    Ok(())
}

/// Tells whether a transaction of another session takes the server session that `first` had a moment ago. A
/// pooler in transaction mode gives out the one that was used last.
async fn shares_sessions(
    first: &mut PgConnection,
    connect: &PgConnectOptions,
) -> std::result::Result<bool, sqlx::Error> {
    const WHICH: &str = "SELECT pg_catalog.pg_backend_pid()::text";
    // One more than the limit of the role is no reason to fail.
    let Ok(mut second) = PgConnection::connect_with(connect).await else { return Ok(false) };
    let mine = text(first, WHICH).await?;
    second.execute("BEGIN").await?;
    // With a pool of one, `first` would wait for what `second` holds: so that one is asked first.
    let shared = text(&mut second, WHICH).await? == mine || text(first, WHICH).await? != mine;
    second.execute("ROLLBACK").await?;
    second.close().await?;
    Ok(shared)
}

async fn text(connection: &mut PgConnection, sql: &'static str) -> std::result::Result<String, sqlx::Error> {
    sql::raw_sql(sql).fetch_one(connection).await?.try_get(0)
}
