//! Settings of all validations of a migration.

use std::path::PathBuf;
use std::time::Duration;

use lockstep_core::written::{megabytes, ms, zero_is_none};
use serde::{Deserialize, Serialize};

/// Settings of every validation, as a file has them. [`ValidateOptions`](crate::ValidateOptions) are those of
/// one of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidateSettings {
    /// Workers of each pass of each table. Also the most connections to the source used at once, and half the
    /// most requests to the target in flight, all tables together.
    pub parallel: usize,
    /// Most source rows of one chunk. Large rows make chunks smaller by themselves.
    pub chunk_rows: usize,
    /// Into how many segments a target table is cut for scanning.
    pub scan_segments: usize,
    /// Time for which a suspect may be on its way before it is given up as unsettled.
    #[serde(rename = "settle_timeout_ms", with = "ms")]
    pub settle_timeout: Duration,
    /// Difference that the counts of a table may have when quiescent, dead letters and expired rows aside.
    pub count_tolerance: u64,
    /// The same in percent of the rows; the greater of both counts.
    pub count_tolerance_percent: f64,
    /// Most findings listed for each table; all are counted.
    pub findings_max: usize,
    /// About how much memory a table may take while it is compared, in bytes. Entries beyond that go to
    /// files; rows and pages under way come on top with `parallel`.
    #[serde(rename = "memory_mb", with = "megabytes")]
    pub memory_bytes: usize,
    /// Most read units a second taken from the target, all tables together, on average; `None`, in a file 0,
    /// takes what it gives.
    #[serde(with = "zero_is_none")]
    pub read_units_per_s_max: Option<u64>,
    /// Folder that an unfinished run is kept in, if its caller has it kept; empty keeps nothing.
    pub folder: PathBuf,
}

/// Folder in which an unfinished run is kept, and how.
#[derive(Clone, Debug)]
pub struct Kept {
    /// A folder; each table has one of its own in it. No other account should be able to write there.
    pub folder: PathBuf,
    /// Whether to begin again, whatever an earlier run has left.
    pub restart: bool,
}

impl ValidateSettings {
    /// Returns where an unfinished run is kept, and whether it is to begin again; `None` where nothing is.
    pub fn kept(&self, restart: bool) -> Option<Kept> {
        (!self.folder.as_os_str().is_empty()).then(|| Kept { folder: self.folder.clone(), restart })
    }

    /// Returns the bytes that one chunk aims at, so that those under way and what they are decoded to stay
    /// within the memory.
    pub(crate) fn chunk_bytes(&self) -> usize {
        (self.memory_bytes / 64 / self.parallel.max(1)).clamp(64 << 10, 4 << 20)
    }

    /// Returns by how much the count of the target may differ from this count of rows. The share is rounded
    /// down: a hundredth of nothing excuses nothing.
    pub(crate) fn tolerance_of(&self, rows: u64) -> u64 {
        let share = (rows as f64 * self.count_tolerance_percent / 100.0).floor() as u64;
        self.count_tolerance.max(share)
    }
}

impl Default for ValidateSettings {
    fn default() -> Self {
        Self {
            parallel: 4,
            chunk_rows: 1_000,
            scan_segments: 8,
            settle_timeout: Duration::from_secs(30),
            count_tolerance: 0,
            count_tolerance_percent: 0.0,
            findings_max: 100,
            memory_bytes: 256 << 20,
            read_units_per_s_max: None,
            folder: PathBuf::from(".lockstep/validate"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys are what operators have in their files.
    #[test]
    fn settings_are_written_under_the_keys_of_the_configuration_and_read_back() {
        let mut written = serde_json::to_value(ValidateSettings::default()).expect("serialises");
        let of = |key: &str| written[key].as_u64();
        assert_eq!((of("settle_timeout_ms"), of("memory_mb")), (Some(30_000), Some(256)));
        assert_eq!(of("read_units_per_s_max"), Some(0));
        let read: ValidateSettings = serde_json::from_value(written.clone()).expect("reads");
        assert_eq!(read, ValidateSettings::default());
        written["folder"] = "".into();
        written["read_units_per_s_max"] = 25.into();
        let read: ValidateSettings = serde_json::from_value(written.clone()).expect("reads");
        assert!((read.kept(true).is_none(), read.read_units_per_s_max) == (true, Some(25)));
        written["quiescent"] = true.into();
        let asked_of_one = serde_json::from_value::<ValidateSettings>(written);
        assert!(asked_of_one.is_err(), "what one run is asked is configured for none");
    }
}
