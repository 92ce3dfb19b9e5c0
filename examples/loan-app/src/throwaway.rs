//! Stores that are there so that the example runs without anything. A service has none of this: its stores
//! are there, and the operator's first command makes schema `lockstep`.

use anyhow::Context;
use lockstep_embedded::{Stores, StoresOptions};
use lockstep_postgres::Source;

use crate::stores::source_options;

/// Starts both stores, with the platform's tables and a few customers with loans.
///
/// # Errors
/// When a store does not start.
pub(crate) async fn start_embedded() -> anyhow::Result<Stores> {
    let stores = Stores::start(StoresOptions::default()).await?;
    let source = Source::connect(&source_options(stores.postgres.url())).await?;
    sqlx::raw_sql(include_str!("schema.sql"))
        .execute(source.pool())
        .await
        .context("creating the platform's tables")?;
    source.migrate_schema().await?;
    source.close().await;
    Ok(stores)
}

/// Returns what to type in another terminal. The password is that of a throw-away cluster.
pub(crate) fn how_to_migrate(stores: &Stores) -> String {
    format!(
        "\nTo keep it busy, in another terminal:\n\n  examples/loan-app/load.sh\n\nTo migrate it meanwhile, in a third:\n\n  \
         export LOCKSTEP_SOURCE__URL='{}'\n  export LOCKSTEP_TARGET__ENDPOINT_URL={}\n  \
         export LOCKSTEP_TARGET__EMULATOR_CREDENTIALS=true\n  cargo xtask migrate --to DynamoOnly\n",
        stores.postgres.url(),
        stores.dynamo.endpoint_url()
    )
}
