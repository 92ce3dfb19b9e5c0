//! Settings of writes, which an application chooses once.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use lockstep_core::Phase;

/// The store that decides whether a write happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteMode {
    /// PostgreSQL's commit. The target has it at once if it can, and by a relay if it cannot.
    BestEffort,
    /// Both or neither: the target has it before PostgreSQL commits.
    Strict,
}

/// Settings of writes, the same for all stores of a migration (R15).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WriteOptions {
    /// Mode in DualWrite.
    pub dual_write: WriteMode,
    /// Mode in HybridRead. Reads are answered by the target there, so what was acknowledged should be in it.
    pub hybrid_read: WriteMode,
    /// Longest that one write waits for the target, all attempts together. A strict write holds its row locks
    /// for as long, and a phase change waits for it.
    pub inline_timeout_ms: u64,
    /// Attempts of a best-effort put. One: behind it stands the relay, which has more patience than a caller.
    pub best_effort_attempts_max: u32,
    /// Attempts of a strict put.
    pub strict_attempts_max: u32,
    /// First pause between attempts; it doubles, with jitter.
    pub retry_delay_ms: u64,
    /// Longest pause between attempts.
    pub retry_delay_ms_max: u64,
    /// Choice of a strict write whose put fails: it commits all the same, best effort, instead of failing.
    pub continue_on_write_failure: bool,
    /// Most puts of one transaction that are under way at once.
    pub puts_in_flight_max: usize,
    /// Most rows that `put_batch` writes in one transaction. A transaction holds the locks of all its rows.
    pub batch_rows_max: usize,
    /// DynamoOnly: how often a write that lost a race is tried again, all within `inline_timeout_ms`.
    pub race_tries_max: u32,
    /// DynamoOnly: ids taken at once for rows that come without one. What a process does not use is a gap.
    pub id_block: u32,
    /// Longest that a write waits while a step has paused writes (DynamoOnly), and that one which opens a
    /// transaction tries again while PostgreSQL gives no connection, in milliseconds.
    pub pause_wait_ms_max: u64,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            dual_write: WriteMode::BestEffort,
            hybrid_read: WriteMode::Strict,
            inline_timeout_ms: 2_000,
            best_effort_attempts_max: 1,
            strict_attempts_max: 3,
            retry_delay_ms: 20,
            retry_delay_ms_max: 400,
            continue_on_write_failure: false,
            puts_in_flight_max: 16,
            batch_rows_max: 100,
            race_tries_max: 20,
            id_block: 100,
            pause_wait_ms_max: 10_000,
        }
    }
}

impl WriteOptions {
    /// The mode of a phase; `None` where the target is not written beside PostgreSQL.
    ///
    /// ```
    /// use lockstep::{Phase, WriteMode, WriteOptions};
    ///
    /// let options = WriteOptions { dual_write: WriteMode::Strict, ..WriteOptions::default() };
    /// assert_eq!(options.mode(Phase::DualWrite), Some(WriteMode::Strict));
    /// assert_eq!(options.mode(Phase::DynamoOnly), None); // DynamoDB alone is written there
    /// ```
    pub fn mode(&self, phase: Phase) -> Option<WriteMode> {
        match phase {
            Phase::DualWrite => Some(self.dual_write),
            Phase::HybridRead => Some(self.hybrid_read),
            Phase::PostgresOnly | Phase::DynamoOnly => None,
        }
    }

    /// Longest wait for the target.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use lockstep::WriteOptions;
    ///
    /// let options = WriteOptions { inline_timeout_ms: 500, ..WriteOptions::default() };
    /// assert_eq!(options.inline_timeout(), Duration::from_millis(500));
    /// ```
    pub fn inline_timeout(&self) -> Duration {
        Duration::from_millis(self.inline_timeout_ms)
    }

    pub(super) fn attempts_max(&self, mode: WriteMode) -> u32 {
        match mode {
            WriteMode::BestEffort => self.best_effort_attempts_max,
            WriteMode::Strict => self.strict_attempts_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_keeps_its_default_and_a_misspelt_name_is_refused() {
        let options: WriteOptions = serde_json::from_str(r#"{"dual_write": "strict"}"#).expect("options");
        assert_eq!(options, WriteOptions { dual_write: WriteMode::Strict, ..WriteOptions::default() });
        assert_eq!(options.mode(Phase::HybridRead), Some(WriteMode::Strict));
        assert_eq!(options.mode(Phase::PostgresOnly), None);
        assert!(serde_json::from_str::<WriteOptions>(r#"{"dual_writes": "strict"}"#).is_err());
    }
}
