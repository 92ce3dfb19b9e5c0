//! Checks of the stores, the tables, and how both are used that no type can make: bounds, and keys that must
//! agree.

use figment::Figment;
use lockstep_postgres::{Relation, wrong_control_schema};

use super::{Names, SourceSection, TargetSection, origin};
use crate::store::{ReadOptions, WriteOptions};

/// Collects what is wrong, each with its key and where its value came from.
pub struct Check<'a> {
    figment: &'a Figment,
    /// One sentence each.
    pub problems: Vec<String>,
}

impl<'a> Check<'a> {
    /// Nothing is wrong yet. `figment` says where values came from.
    pub fn of(figment: &'a Figment) -> Self {
        Self { figment, problems: Vec::new() }
    }

    /// Notes that `key` must be otherwise, unless it `holds`.
    pub fn require(&mut self, holds: bool, key: &str, must: &str) {
        if !holds {
            self.problems.push(format!("`{key}` ({}) {must}", origin(self.figment, key)));
        }
    }

    /// Checks how both stores are reached.
    pub fn stores(&mut self, source: &SourceSection, target: &TargetSection) {
        let mut require = |holds, key: &str, must: &str| self.require(holds, key, must);
        if let Some(url) = &source.url {
            let scheme = url.expose().starts_with("postgres://") || url.expose().starts_with("postgresql://");
            require(scheme, "source.url", "must begin with postgres:// or postgresql://");
        }
        if let Some(must) = wrong_control_schema(&source.control_schema) {
            require(false, "source.control_schema", must);
        }
        let verified = !source.require_verified_tls || !source.is_unverified();
        require(
            verified,
            "source.url",
            "must have sslmode=verify-full, as source.require_verified_tls is set",
        );
        require(
            source.password_file.is_none() || source.password_command.is_none(),
            "source.password_command",
            "and source.password_file exclude each other: set one of them",
        );
        if let Some(url) = &target.streams_endpoint_url {
            let scheme = url.starts_with("http://") || url.starts_with("https://");
            require(scheme, "target.streams_endpoint_url", "must begin with http:// or https://");
        }
        if let Some(url) = &target.s3_endpoint_url {
            let scheme = url.starts_with("http://") || url.starts_with("https://");
            require(scheme, "target.s3_endpoint_url", "must begin with http:// or https://");
        }
        if let Some(url) = &target.endpoint_url {
            let scheme = url.starts_with("http://") || url.starts_with("https://");
            require(scheme, "target.endpoint_url", "must begin with http:// or https://");
        }
        require(
            !target.emulator_credentials || target.endpoint_url.is_some(),
            "target.emulator_credentials",
            "is for endpoints of emulators: set target.endpoint_url as well, or use real credentials",
        );
        for (key, value) in [
            ("source.connect_timeout_ms", source.connect_timeout_ms),
            ("target.request_timeout_ms", target.request_timeout_ms),
            ("target.connect_timeout_ms", target.connect_timeout_ms),
        ] {
            require(value > 0, key, "must be 1 or more");
        }
    }

    /// Checks how an application writes and reads.
    pub fn calls(&mut self, writes: &WriteOptions, reads: &ReadOptions) {
        let mut require = |holds, key: &str, must: &str| self.require(holds, key, must);
        // Behind it PostgreSQL ends transactions that do nothing, and a strict write waits inside its own.
        const INLINE_TIMEOUT_MS_MAX: u64 = 25_000;
        require(
            writes.inline_timeout_ms <= INLINE_TIMEOUT_MS_MAX,
            "writes.inline_timeout_ms",
            &format!(
                "must be {INLINE_TIMEOUT_MS_MAX} or less: a strict write holds its row locks for as long"
            ),
        );
        require(
            writes.retry_delay_ms <= writes.retry_delay_ms_max,
            "writes.retry_delay_ms_max",
            &format!("must not be below writes.retry_delay_ms ({})", writes.retry_delay_ms),
        );

        for (key, value) in [
            ("writes.inline_timeout_ms", writes.inline_timeout_ms),
            ("writes.best_effort_attempts_max", u64::from(writes.best_effort_attempts_max)),
            ("writes.strict_attempts_max", u64::from(writes.strict_attempts_max)),
            ("writes.puts_in_flight_max", writes.puts_in_flight_max as u64),
            ("writes.batch_rows_max", writes.batch_rows_max as u64),
            ("reads.max_staleness_ms", reads.max_staleness_ms),
            ("reads.standing_poll_ms", reads.standing_poll_ms),
        ] {
            require(value > 0, key, "must be 1 or more");
        }
    }

    /// Checks the names of the tables and where they are.
    pub fn tables(&mut self, names: &[Names<'_>], target: &TargetSection) {
        let mut require = |holds, key: &str, must: &str| self.require(holds, key, must);
        for named in names {
            if let Err(error) = named.source.parse::<Relation>() {
                require(false, &format!("tables.{}.source", named.name), &error.message);
            }
            let legal =
                named.target.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
            require(
                legal && (3..=255).contains(&named.target.len()),
                &format!("tables.{}.target", named.name),
                &format!(
                    "makes the table name `{}`; DynamoDB allows 3 to 255 of a-z A-Z 0-9 _ - .",
                    named.target
                ),
            );
        }
        if let Some(control) = &target.control_table {
            let legal = control.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
            let free = names.iter().all(|named| named.target != *control);
            let must = "must be 3 to 255 of a-z A-Z 0-9 _ - . and no table's target";
            require(legal && free && (3..=255).contains(&control.len()), "target.control_table", must);
        }
        for (n, one) in names.iter().enumerate() {
            if let Some(other) = names[..n].iter().find(|other| other.target == one.target) {
                let must = format!("is also the target of {}; two tables cannot share one", other.name);
                require(false, &format!("tables.{}.target", one.name), &must);
            }
        }
    }
}
