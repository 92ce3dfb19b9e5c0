//! Options of an initial load that goes in by DynamoDB's own import from S3.

use std::path::PathBuf;
use std::time::Duration;

use lockstep_core::written::megabytes;
use lockstep_dynamo::{SPEAKS_S3, bucket_and_prefix};
use serde::{Deserialize, Serialize};

/// Settings of the load path `import`, as a file has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportOptions {
    /// Folder on this machine that parts are written to.
    pub folder: PathBuf,
    /// Address from which DynamoDB reads them, `s3://bucket/prefix`; empty until it is used.
    pub s3: String,
    /// The account that the bucket belongs to; `None` for the one that the target is in.
    pub bucket_owner: Option<String>,
    /// Bytes of a part before it is compressed, about.
    #[serde(rename = "part_mb", with = "megabytes")]
    pub part_bytes: usize,
    /// A shell command that ends with 0 only if S3 has exactly the files of the folder.
    pub upload: Option<String>,
    /// Whether an operator copies them.
    pub by_hand: bool,
    /// Whether an operator has copied them.
    pub uploaded: bool,
    /// Pause between two looks at the job.
    #[serde(skip, default = "poll")]
    pub poll: Duration,
}

impl ImportOptions {
    /// Bucket and prefix; `None` for a URL that is none of S3.
    pub fn destination(&self) -> Option<(&str, &str)> {
        bucket_and_prefix(&self.s3)
    }

    /// Tells whether parts are put into S3 by who writes them, and into no folder.
    pub fn is_direct(&self) -> bool {
        let copied = self.upload.as_deref().is_some_and(|command| !command.trim().is_empty());
        SPEAKS_S3 && !copied && !self.by_hand && !self.uploaded
    }
}

fn poll() -> Duration {
    Duration::from_secs(5)
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self {
            folder: PathBuf::from(".lockstep/import"),
            s3: String::new(),
            bucket_owner: None,
            // 3.2 TB in the 50,000 objects that a job reads, and an upload that fails repeats little.
            part_bytes: 64 << 20,
            upload: None,
            by_hand: false,
            uploaded: false,
            poll: poll(),
        }
    }
}
