//! The configuration as the options of the crates that use it.

use std::time::Duration;

use lockstep_coordinator::{ImportOptions, Options, ReverseFeedOptions, StepOptions};
use lockstep_dynamo::TargetOptions;
use lockstep_postgres::SourceOptions;
use lockstep_validator::ValidateOptions;

use super::{Config, Standing};

impl Config {
    /// How to reach the source; `None` where none is configured.
    pub fn source_options(&self) -> Option<SourceOptions> {
        let url = self.source.url.as_ref()?.expose().to_owned();
        Some(self.source_options_for(url))
    }

    /// How to reach a source at `url`.
    pub fn source_options_for(&self, url: String) -> SourceOptions {
        self.source.options_for(url, "lockstep")
    }

    /// How to reach the target.
    pub fn target_options(&self) -> TargetOptions {
        self.target.options()
    }

    /// Name of the control table: as it is set, or by the prefix.
    pub fn control_table(&self) -> String {
        self.target.control_table()
    }

    /// How to reach an emulator at `endpoint_url`.
    pub fn emulator_options_for(&self, endpoint_url: &str) -> TargetOptions {
        self.target.emulator_options_for(endpoint_url)
    }

    fn import_options(&self) -> ImportOptions {
        let (bucket, prefix) = self.import.place().unwrap_or_default();
        ImportOptions {
            folder: self.import.folder.clone(),
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            part_bytes: self.import.part_mb << 20,
            upload: self.import.upload.clone(),
            uploaded: self.import.uploaded,
            ..ImportOptions::default()
        }
    }

    /// How to migrate.
    pub fn options(&self) -> Options {
        Options {
            backfill: self.backfill.clone(),
            import: self.import_options(),
            relay: self.relay.clone(),
            steps: StepOptions {
                lock_timeout: Duration::from_millis(self.source.lock_timeout_ms),
                ..self.steps.clone()
            },
            reverse_feed: self.reverse_feed_options(),
        }
    }

    /// How to follow streams. An emulator may be asked more often than DynamoDB, and answers at once.
    pub fn reverse_feed_options(&self) -> ReverseFeedOptions {
        let mut options = ReverseFeedOptions::default();
        if self.is_emulated() {
            options.follow.idle_pause = Duration::from_millis(25);
        }
        options
    }

    /// How to compare. `wait_for_pending`, `quiescent` and `kept` are the command's to say.
    pub fn validate_options(&self) -> ValidateOptions {
        let validate = &self.validate;
        ValidateOptions {
            window: self.backfill.window(),
            parallel: validate.parallel,
            chunk_rows: validate.chunk_rows,
            scan_segments: if self.is_emulated() { 1 } else { validate.scan_segments },
            settle_timeout: Duration::from_millis(validate.settle_timeout_ms),
            count_tolerance: validate.count_tolerance,
            count_tolerance_percent: validate.count_tolerance_percent,
            findings_max: validate.findings_max,
            memory_bytes: validate.memory_mb << 20,
            read_units_per_s_max: Some(validate.read_units_per_s_max as f64).filter(|units| *units > 0.0),
            ..ValidateOptions::default()
        }
    }

    /// Whether the target is an emulator. Ours reads its whole table for each page of a segment, so a scan in
    /// segments takes it quadratic time.
    fn is_emulated(&self) -> bool {
        self.target.emulator_credentials || self.standing() != Ok(Standing::Configured)
    }
}
