//! `[source]` and `[target]`: how to reach both stores. Units are in the names.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use lockstep_dynamo::{CONTROL_TABLE, TargetOptions};
use lockstep_postgres::{CONTROL_SCHEMA, Password, SourceOptions, Transport, transport};
use serde::{Deserialize, Serialize};

use super::{LOCK_TIMEOUT, SecretUrl};

/// The region that requests to an emulator are signed for: they look at it only to tell accounts apart.
const EMULATOR_REGION: &str = "us-east-1";

/// `[source]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSection {
    /// Address of PostgreSQL: `postgres://user:password@host:port/database?sslmode=…`.
    pub url: Option<SecretUrl>,
    /// A file whose first line is the password; it is read again when it changes.
    pub password_file: Option<PathBuf>,
    /// A shell command that prints the password, for example a token of IAM; it is run again before one
    /// expires.
    pub password_command: Option<String>,
    /// Whether a source beyond this machine is refused without `sslmode=verify-full`; else it is warned of.
    pub require_verified_tls: bool,
    /// Most connections held at once.
    pub connections_max: u32,
    /// Longest wait for a connection.
    pub connect_timeout_ms: u64,
    /// Longest wait for the barrier in one try, and so the longest stall that a step causes an application.
    pub lock_timeout_ms: u64,
    /// Schema of Lockstep's own tables, of which each migration of a database has one of its own.
    pub control_schema: String,
}

/// `[target]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetSection {
    /// Another endpoint than AWS's.
    pub endpoint_url: Option<String>,
    /// Another endpoint for DynamoDB Streams, which is a service of its own; unset: that of `endpoint_url`,
    /// or AWS's.
    pub streams_endpoint_url: Option<String>,
    /// Another endpoint for S3; unset: AWS's.
    pub s3_endpoint_url: Option<String>,
    /// Region of the buckets; unset: that of the tables.
    pub s3_region: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// A profile of the AWS configuration files.
    pub profile: Option<String>,
    /// Prefix of the names of all target tables.
    pub table_prefix: String,
    /// Name of the control table, of which each migration has one of its own; else `lockstep_control` after
    /// the prefix.
    pub control_table: Option<String>,
    /// Whether to sign with made-up keys, which emulators accept.
    pub emulator_credentials: bool,
    /// Whether tables are protected from being deleted by one call.
    pub deletion_protection: bool,
    /// Whether tables are backed up continuously.
    pub point_in_time_recovery: bool,
    /// Write units a second that a table of the migration, by its name here, is made to take at once.
    pub warm_write_units_per_s: BTreeMap<String, u64>,
    /// Longest wait for the answer to one request.
    pub request_timeout_ms: u64,
    /// Longest wait for a connection.
    pub connect_timeout_ms: u64,
    /// Time after its last possible sending for which a lost request could still be carried out.
    pub request_lifetime_s: u64,
}

impl SourceSection {
    /// Returns where the password comes from.
    pub fn password(&self) -> Password {
        match (&self.password_file, &self.password_command) {
            (Some(path), _) => Password::File(path.clone()),
            (None, Some(command)) => Password::Command(command.clone()),
            (None, None) => Password::InUrl,
        }
    }

    /// Tells whether the way to the source can be listened to, or ended by another machine.
    pub fn is_unverified(&self) -> bool {
        self.url.as_ref().is_some_and(|url| transport(url.expose()) == Transport::Unverified)
    }

    /// Returns how to reach a source at `url`, as a program that PostgreSQL shows as `application_name`.
    pub fn options_for(&self, url: String, application_name: &str) -> SourceOptions {
        SourceOptions {
            url,
            password: self.password(),
            connections_max: self.connections_max,
            connect_timeout: Duration::from_millis(self.connect_timeout_ms),
            application_name: application_name.to_owned(),
            control_schema: self.control_schema.clone(),
        }
    }
}

impl TargetSection {
    /// Returns how to reach the target.
    pub fn options(&self) -> TargetOptions {
        let emulator_region = self.emulator_credentials.then(|| EMULATOR_REGION.to_owned());
        TargetOptions {
            endpoint_url: self.endpoint_url.clone(),
            streams_endpoint_url: self.streams_endpoint_url.clone(),
            s3_endpoint_url: self.s3_endpoint_url.clone(),
            s3_region: self.s3_region.clone(),
            region: self.region.clone().or(emulator_region),
            profile: self.profile.clone(),
            emulator_credentials: self.emulator_credentials,
            connect_timeout: Duration::from_millis(self.connect_timeout_ms),
            request_timeout: Duration::from_millis(self.request_timeout_ms),
            request_lifetime: Duration::from_secs(self.request_lifetime_s),
            control_table: self.control_table(),
            deletion_protection: self.deletion_protection,
            point_in_time_recovery: self.point_in_time_recovery,
            // By names that only a program which makes tables knows.
            warm_write_units_per_s: BTreeMap::new(),
        }
    }

    /// Returns how to reach an emulator at `endpoint_url`.
    pub fn emulator_options_for(&self, endpoint_url: &str) -> TargetOptions {
        TargetOptions {
            endpoint_url: Some(endpoint_url.to_owned()),
            streams_endpoint_url: None,
            region: Some(EMULATOR_REGION.to_owned()),
            profile: None,
            emulator_credentials: true,
            ..self.options()
        }
    }

    /// Name of the control table: as it is set, or by the prefix.
    pub fn control_table(&self) -> String {
        self.control_table.clone().unwrap_or_else(|| format!("{}{CONTROL_TABLE}", self.table_prefix))
    }

    /// Tells whether anything says where the target is.
    pub fn is_named(&self) -> bool {
        self.endpoint_url.is_some() || self.region.is_some() || self.profile.is_some()
    }
}

impl Default for SourceSection {
    fn default() -> Self {
        Self {
            url: None,
            password_file: None,
            password_command: None,
            require_verified_tls: false,
            connections_max: 16,
            connect_timeout_ms: 5_000,
            lock_timeout_ms: ms(LOCK_TIMEOUT),
            control_schema: CONTROL_SCHEMA.to_owned(),
        }
    }
}

impl Default for TargetSection {
    fn default() -> Self {
        let options = TargetOptions::default();
        Self {
            endpoint_url: None,
            streams_endpoint_url: None,
            s3_endpoint_url: None,
            s3_region: None,
            region: None,
            profile: None,
            table_prefix: String::new(),
            control_table: None,
            emulator_credentials: options.emulator_credentials,
            deletion_protection: options.deletion_protection,
            point_in_time_recovery: options.point_in_time_recovery,
            warm_write_units_per_s: BTreeMap::new(),
            request_timeout_ms: ms(options.request_timeout),
            connect_timeout_ms: ms(options.connect_timeout),
            request_lifetime_s: options.request_lifetime.as_secs(),
        }
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
