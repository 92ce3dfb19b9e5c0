//! Cost of embedding Lockstep: `connect`. The rest is there so that the example runs without anything.

use std::time::Duration;

use anyhow::Context;
use lockstep::{InstanceOptions, Migration, MigrationOptions, SourceOptions, TargetOptions};
use lockstep_embedded::{Stores, StoresOptions};
use lockstep_integration_logs::IntegrationLogs;
use lockstep_payments::Payments;
use lockstep_postgres::Source;

/// Connects to both stores and registers as an instance of the migration.
///
/// # Errors
/// When PostgreSQL does not answer, or Lockstep was never installed in it.
pub(crate) async fn connect(source_url: &str, endpoint_url: Option<String>) -> anyhow::Result<Migration> {
    let options = MigrationOptions::new(source_options(source_url), target_options(endpoint_url))
        .table(IntegrationLogs::default(), "integration_logs", "integration_logs")?
        .table(Payments::default(), "payments", "payments")?
        .instance(InstanceOptions { name: "loan-app".to_owned(), ..InstanceOptions::default() });
    Ok(Migration::connect(options).await?)
}

/// AWS, or the emulator at `endpoint_url`.
pub(crate) fn target_options(endpoint_url: Option<String>) -> TargetOptions {
    let emulated = endpoint_url.is_some();
    TargetOptions {
        region: emulated.then(|| "us-east-1".to_owned()),
        emulator_credentials: emulated,
        endpoint_url,
        ..TargetOptions::default()
    }
}

pub(crate) fn source_options(url: &str) -> SourceOptions {
    SourceOptions {
        url: url.to_owned(),
        password: lockstep::Password::InUrl,
        connections_max: 16,
        connect_timeout: Duration::from_secs(5),
        application_name: "loan-app".to_owned(),
        control_schema: lockstep::CONTROL_SCHEMA.to_owned(),
    }
}

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
    // On a source of your own the first `cargo xtask` command does this.
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
