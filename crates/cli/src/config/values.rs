//! The configuration as the options of the crates that use it.

use std::time::Duration;

use lockstep_coordinator::{Options, ReverseFeedOptions, StepOptions};
use lockstep_dynamo::TargetOptions;
use lockstep_postgres::{SourceOptions, Spending};
use lockstep_validator::ValidateOptions;

use super::{Config, Standing};

impl Config {
    /// Returns how to reach the source; `None` where none is configured.
    pub fn source_options(&self) -> Option<SourceOptions> {
        let url = self.source.url.as_ref()?.expose().to_owned();
        Some(self.source_options_for(url))
    }

    /// Returns how to reach a source at `url`.
    pub fn source_options_for(&self, url: String) -> SourceOptions {
        self.source.options_for(url, "lockstep")
    }

    /// Returns how to reach the target.
    pub fn target_options(&self) -> TargetOptions {
        self.warmed(self.target.options())
    }

    /// Name of the control table: as it is set, or by the prefix.
    pub fn control_table(&self) -> String {
        self.target.control_table()
    }

    /// Returns how to reach an emulator at `endpoint_url`.
    pub fn emulator_options_for(&self, endpoint_url: &str) -> TargetOptions {
        self.warmed(self.target.emulator_options_for(endpoint_url))
    }

    /// Says which tables are made to take how much at once, by their names in DynamoDB.
    fn warmed(&self, options: TargetOptions) -> TargetOptions {
        let names = self.names().into_iter();
        let warm = names.filter_map(|named| {
            let units = self.target.warm_write_units_per_s.get(named.name)?;
            Some((named.target, *units))
        });
        TargetOptions { warm_write_units_per_s: warm.collect(), ..options }
    }

    /// Returns how to migrate.
    pub fn options(&self) -> Options {
        Options {
            backfill: self.backfill.clone(),
            import: self.import.clone(),
            relay: self.relay.clone(),
            steps: StepOptions {
                lock_timeout: Duration::from_millis(self.source.lock_timeout_ms),
                ..self.steps.clone()
            },
            reverse_feed: self.reverse_feed_options(),
            spending: self.spending(),
        }
    }

    /// Returns the dollars that copying and comparing may cost.
    pub fn spending(&self) -> Spending {
        Spending {
            cap_usd: self.serve.spend_cap(),
            write_units_million_usd: self.plan.write_units_million_usd,
            read_units_million_usd: self.plan.read_units_million_usd,
        }
    }

    /// Returns how to follow streams. An emulator may be asked more often than DynamoDB, and answers at once.
    pub fn reverse_feed_options(&self) -> ReverseFeedOptions {
        let mut options = ReverseFeedOptions::default();
        if self.is_emulated() {
            options.follow.idle_pause = Duration::from_millis(25);
        }
        options
    }

    /// Returns how to compare: the days that are moved, and else what one validation is asked by default.
    pub fn validate_options(&self) -> ValidateOptions {
        let mut settings = self.validate.clone();
        if self.is_emulated() {
            settings.scan_segments = 1;
        }
        ValidateOptions { settings, window: self.backfill.window(), ..ValidateOptions::default() }
    }

    /// Tells whether the target is an emulator. Ours reads its whole table for each page of a segment, so a
    /// scan in segments takes it quadratic time.
    fn is_emulated(&self) -> bool {
        self.target.emulator_credentials || self.standing() != Ok(Standing::Configured)
    }
}
