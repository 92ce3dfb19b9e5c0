//! Attempts of a role with exactly the documented grants on the protocol's own tables and functions.

use lockstep_core::Phase;
use lockstep_tests::World;
use sqlx::{Connection, PgConnection};

use crate::roles::{grants, role};

mod configuration;
mod functions;
mod grants;
mod lately;
mod leases;
mod marks;
mod output;
pub(crate) mod path;
mod phases;
mod reports;
mod schema;
mod sessions;
mod strangers;
mod upgrade;
mod values;

/// PostgreSQL's code for a right that is missing; ours for what a guard refuses.
const DENIED: &str = "42501";
/// PostgreSQL's code for a CHECK.
const CHECKED: &str = "23514";

/// A session of a new role that has what the runbook grants to an application.
async fn attacker(world: &World, name: &str) -> PgConnection {
    let (name, source) = role(world, name).await;
    world.sql(&grants(&name)).await;
    PgConnection::connect(&source.url).await.expect("connects")
}

/// A world in which the schema is there and DualWrite is on.
async fn world() -> World {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    world
}

/// Returns how PostgreSQL refuses a statement.
async fn refused(connection: &mut PgConnection, sql: &str) -> String {
    let tried = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(connection).await;
    let error = tried.expect_err("it is refused").into_database_error().expect("PostgreSQL refuses it");
    error.code().expect("a code").into_owned()
}
