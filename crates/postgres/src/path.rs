//! Schemas in which a session looks for names that are given without one.
//!
//! 1. A role that may create in `public` (every role, up to PostgreSQL 14) makes a function `setval(text,
//! bigint)` there, or an operator, that fits an expression of ours better than PostgreSQL's own. 2. The
//! operator's command calls it. 3. It runs with the operator's rights. So functions are called with their
//! schema, and sessions that need no other path have PostgreSQL's own.
//!
//! Applications' sessions keep theirs, and so do the statements that change rows of their tables: a trigger
//! of the application that says `INSERT INTO audit` would find no such table otherwise. But PostgreSQL's own
//! schema comes before all others in it: 1. A role's path is `public, pg_catalog`. 2. Another role makes an
//! operator `=` of two bigints in `public`. 3. Every comparison of ours is that operator.

use crate::sql::Run as _;
use lockstep_core::{Doing, Result};
use sqlx::postgres::PgConnection;

/// Path in which a session looks for names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// Path that the role's, the database's or the URL's setting gives.
    OfTheRole,
    /// Path of PostgreSQL's own schema.
    Own,
}

/// `pg_temp` by name, as it is looked into first where it is not named.
pub(super) const OWN: &str = "pg_catalog, pg_temp";

/// Path in which names are looked for, as an expression: what role, database and URL say, with PostgreSQL's
/// own schema before all others. Not named in a path, it is looked into first.
pub(super) const OF_THE_ROLE: &str = "CASE WHEN pg_catalog.array_position(pg_catalog.current_schemas(false),
        'pg_catalog'::pg_catalog.name) OPERATOR(pg_catalog.>) 1
    THEN pg_catalog.array_to_string(ARRAY(
             SELECT pg_catalog.quote_ident(s) FROM pg_catalog.unnest(pg_catalog.current_schemas(false)) AS s
             WHERE s OPERATOR(pg_catalog.<>) 'pg_catalog'::pg_catalog.name), ', ')
    ELSE pg_catalog.current_setting('search_path') END";

/// The setting in which a session keeps that: once it has a path of ours, `DEFAULT` would be as the role has
/// it.
pub(super) const KEPT_IN: &str = "lockstep.path";

/// Looks for names where the application expects it, from here to the end of the transaction, or to
/// [`take_back`].
pub(crate) async fn lend(transaction: &mut PgConnection) -> Result<()> {
    transaction
        .execute(
            "SELECT pg_catalog.set_config('search_path', pg_catalog.current_setting('lockstep.path'), true)",
        )
        .await
        .doing("giving triggers their search path")
        .map(drop)
}

/// Ends what [`lend`] began.
pub(crate) async fn take_back(transaction: &mut PgConnection) -> Result<()> {
    transaction
        .execute("SET LOCAL search_path TO pg_catalog, pg_temp")
        .await
        .doing("setting our search path")
        .map(drop)
}
