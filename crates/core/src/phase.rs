//! The phase of a migration: who is written, who is read, which store is the truth (R5).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Phase of a migration. All its tables are in the same phase, always (I5).
///
/// | phase | writes | reads | the truth |
/// |---|---|---|---|
/// | `PostgresOnly` | PostgreSQL | PostgreSQL | PostgreSQL |
/// | `DualWrite` | both | PostgreSQL | PostgreSQL |
/// | `HybridRead` | both | DynamoDB, falling back to PostgreSQL | PostgreSQL |
/// | `DynamoOnly` | DynamoDB | DynamoDB | DynamoDB |
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Phase {
    /// Everything as before the migration; capture may be on.
    PostgresOnly,
    /// Writes go to both stores; PostgreSQL decides and answers.
    DualWrite,
    /// Writes go to both stores; DynamoDB answers reads and PostgreSQL stands behind it.
    HybridRead,
    /// DynamoDB is the truth.
    DynamoOnly,
}

impl Phase {
    /// Every phase, in the order of the migration.
    pub const ALL: [Phase; 4] = [Self::PostgresOnly, Self::DualWrite, Self::HybridRead, Self::DynamoOnly];

    /// Returns the phase one step forward, if there is one.
    pub fn next(self) -> Option<Phase> {
        Self::ALL.into_iter().find(|p| *p > self)
    }

    /// Returns the phase one step back, if there is one.
    pub fn previous(self) -> Option<Phase> {
        Self::ALL.into_iter().rev().find(|p| *p < self)
    }

    /// Tells whether one step leads from this phase to `other`.
    pub fn is_next_to(self, other: Phase) -> bool {
        self.next() == Some(other) || self.previous() == Some(other)
    }

    /// Tells whether application writes go to DynamoDB as well as to PostgreSQL.
    pub fn writes_both(self) -> bool {
        matches!(self, Self::DualWrite | Self::HybridRead)
    }

    /// Tells whether reads are answered by DynamoDB.
    pub fn reads_target(self) -> bool {
        matches!(self, Self::HybridRead | Self::DynamoOnly)
    }

    /// Returns the name used in reports, in the control table and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::PostgresOnly => "PostgresOnly",
            Self::DualWrite => "DualWrite",
            Self::HybridRead => "HybridRead",
            Self::DynamoOnly => "DynamoOnly",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A phase name that nothing answers to.
#[derive(Clone, Debug, thiserror::Error)]
#[error("unknown phase `{0}`, expected PostgresOnly, DualWrite, HybridRead or DynamoOnly")]
pub struct UnknownPhase(String);

impl FromStr for Phase {
    type Err = UnknownPhase;

    /// Accepts every phase's name and its aliases, whatever the case and with or without `-` and `_`.
    fn from_str(text: &str) -> Result<Self, UnknownPhase> {
        let plain: String =
            text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
        match plain.as_str() {
            "postgresonly" | "sqlonly" | "postgresqlonly" => Ok(Self::PostgresOnly),
            "dualwrite" => Ok(Self::DualWrite),
            "hybridread" | "dualwritereaddynamo" => Ok(Self::HybridRead),
            "dynamoonly" | "dynamodbonly" => Ok(Self::DynamoOnly),
            _ => Err(UnknownPhase(text.to_owned())),
        }
    }
}

impl From<Phase> for String {
    fn from(phase: Phase) -> String {
        phase.name().to_owned()
    }
}

impl TryFrom<String> for Phase {
    type Error = UnknownPhase;
    fn try_from(text: String) -> Result<Self, UnknownPhase> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alias_of_the_requirements_is_understood() {
        for (text, phase) in [
            ("SqlOnly", Phase::PostgresOnly),
            ("PostgreSQLOnly", Phase::PostgresOnly),
            ("dual-write", Phase::DualWrite),
            ("DualWriteReadDynamo", Phase::HybridRead),
            ("DynamoDBOnly", Phase::DynamoOnly),
        ] {
            assert_eq!(text.parse::<Phase>().expect(text), phase);
        }
        assert!("Both".parse::<Phase>().is_err());
    }

    #[test]
    fn next_and_previous_are_inverse() {
        for phase in Phase::ALL {
            if let Some(next) = phase.next() {
                assert_eq!(next.previous(), Some(phase));
            }
        }
        assert_eq!(Phase::PostgresOnly.previous(), None);
        assert_eq!(Phase::DynamoOnly.next(), None);
    }
}
