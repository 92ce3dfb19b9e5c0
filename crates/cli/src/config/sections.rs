//! What can be set, section by section. Units are in the names; defaults are those of the crates that use
//! them. Where a crate writes its options as a file has them, they are the section.

use std::path::PathBuf;

use lockstep_coordinator::ImportOptions;
use lockstep_core::Phase;
use lockstep_validator::ValidateOptions;
use serde::{Deserialize, Serialize};

pub use lockstep::config::{SourceSection, TargetSection};

/// `[import]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportSection {
    /// Folder on this machine that parts are written to.
    pub folder: PathBuf,
    /// Where DynamoDB reads them: `s3://bucket/prefix`.
    pub s3: String,
    /// Megabytes of a part before it is compressed, about.
    pub part_mb: usize,
    /// A shell command that ends with 0 only if S3 has exactly the files of the folder.
    pub upload: Option<String>,
    /// Whether an operator has copied them.
    pub uploaded: bool,
}

impl ImportSection {
    /// Bucket and prefix; `None` for what is no place in S3.
    pub fn place(&self) -> Option<(&str, &str)> {
        let rest = self.s3.strip_prefix("s3://")?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        (!bucket.is_empty()).then_some((bucket, prefix))
    }
}

impl Default for ImportSection {
    fn default() -> Self {
        let options = ImportOptions::default();
        Self {
            folder: PathBuf::from(".lockstep/import"),
            s3: String::new(),
            part_mb: options.part_bytes >> 20,
            upload: None,
            uploaded: options.uploaded,
        }
    }
}

/// `[validate]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidateSection {
    /// Workers of each pass of each table.
    pub parallel: usize,
    /// Most source rows of one chunk.
    pub chunk_rows: usize,
    /// Into how many segments a target table is cut for scanning; an emulator is scanned whole.
    pub scan_segments: usize,
    /// How long a difference may be on its way before it is given up as unsettled.
    pub settle_timeout_ms: u64,
    /// By how much the counts may differ once no application writes.
    pub count_tolerance: u64,
    /// The same as a share of the rows; the greater of both counts.
    pub count_tolerance_percent: f64,
    /// Most findings listed for each table; all are counted.
    pub findings_max: usize,
    /// About how much memory a table may take while it is compared, in megabytes.
    pub memory_mb: usize,
    /// Most read units a second; 0 takes what the target gives.
    pub read_units_per_s_max: u64,
    /// Where `validate` keeps what it has read, so that it goes on after it was killed; empty keeps nothing.
    pub folder: String,
}

/// `[serve]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServeSection {
    /// Address and port that the daemon listens on.
    pub listen: String,
    /// Names that it goes by besides its addresses.
    pub hosts: Vec<String>,
    /// A file whose first line is the token that allows to act.
    pub operate_token_file: Option<PathBuf>,
    /// A file whose first line is the token that allows to look only.
    pub read_token_file: Option<PathBuf>,
    /// How often a sample of rows is compared, in seconds; 0 never.
    pub sample_every_s: u64,
    /// Rows and items of each table in one sample.
    pub sample_rows: usize,
    /// Who is told of alerts.
    pub webhook_url: Option<String>,
    /// A file whose first line signs what the webhook is sent.
    pub webhook_secret_file: Option<PathBuf>,
    /// A file with the certificate that it shows, and those that vouch for it, in PEM; with it, it speaks
    /// TLS.
    pub tls_cert: Option<PathBuf>,
    /// A file with the certificate's key, in PEM.
    pub tls_key: Option<PathBuf>,
    /// Differences in ten minutes of HybridRead after which reads go back to PostgreSQL by themselves.
    pub mismatches_max: u64,
    /// Dollars after which it stops copying and comparing; 0 never.
    pub spend_cap_usd: f64,
}

impl ServeSection {
    /// The cap, if there is one.
    pub fn spend_cap(&self) -> Option<f64> {
        Some(self.spend_cap_usd).filter(|usd| *usd > 0.0)
    }
}

/// Where the daemon listens if nothing is said.
pub const LISTEN: &str = "127.0.0.1:7420";

/// `[cleanup]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CleanupSection {
    /// A shell command that ends with 0 only if there is a backup of the source tables that can be restored.
    pub backup_check: Option<String>,
}

/// `[migrate]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigrateSection {
    /// The phase to stop in; unset: DynamoOnly on the embedded stores, DualWrite on configured ones.
    pub through: Option<Phase>,
    /// Writes a second made meanwhile; unset: 100 on the embedded stores, none on configured ones.
    pub live_writes_per_s: Option<u32>,
}

impl Default for ValidateSection {
    fn default() -> Self {
        let options = ValidateOptions::default();
        Self {
            parallel: options.parallel,
            chunk_rows: options.chunk_rows,
            scan_segments: options.scan_segments,
            settle_timeout_ms: ms(options.settle_timeout),
            count_tolerance: options.count_tolerance,
            count_tolerance_percent: options.count_tolerance_percent,
            findings_max: options.findings_max,
            memory_mb: options.memory_bytes >> 20,
            read_units_per_s_max: 0,
            folder: ".lockstep/validate".to_owned(),
        }
    }
}

impl Default for ServeSection {
    fn default() -> Self {
        Self {
            listen: LISTEN.to_owned(),
            hosts: Vec::new(),
            operate_token_file: None,
            read_token_file: None,
            sample_every_s: 300,
            sample_rows: 200,
            webhook_url: None,
            webhook_secret_file: None,
            tls_cert: None,
            tls_key: None,
            mismatches_max: 10,
            spend_cap_usd: 0.0,
        }
    }
}

/// Milliseconds, as a key has them.
pub(super) fn ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
