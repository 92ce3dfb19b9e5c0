//! Cost of embedding Lockstep: `connect`.

use std::time::Duration;

use lockstep::{InstanceOptions, Migration, MigrationOptions, SourceOptions, TargetOptions};
use lockstep_integration_logs::IntegrationLogs;
use lockstep_payments::Payments;

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
