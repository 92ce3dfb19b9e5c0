//! Answer that a caller gets beside the value: which store answered, and why not the other.

use serde::{Deserialize, Serialize};

/// A value and the store it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<V> {
    /// Value that was asked for.
    pub value: V,
    /// Store that answered.
    pub from: ReadFrom,
}

impl<V> Answer<V> {
    /// The same answer with another value.
    ///
    /// ```
    /// use lockstep::{Answer, ReadFrom};
    ///
    /// let answer = Answer { value: Some(42), from: ReadFrom::Target };
    /// assert_eq!(answer.map(|id| id.is_some()), Answer { value: true, from: ReadFrom::Target });
    /// ```
    pub fn map<W>(self, change: impl FnOnce(V) -> W) -> Answer<W> {
        Answer { value: change(self.value), from: self.from }
    }
}

/// The store that answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadFrom {
    /// PostgreSQL, for this reason.
    Source(SourceCause),
    /// DynamoDB, known to be within the bound of staleness, or the truth itself.
    Target,
    /// DynamoDB, while PostgreSQL did not say how far it is behind.
    TargetAlone,
}

impl ReadFrom {
    /// Whether this is an answer of a system that is not well: worth an alert where it lasts (R18).
    ///
    /// ```
    /// use lockstep::{ReadFrom, SourceCause};
    ///
    /// assert!(ReadFrom::Source(SourceCause::Stale).is_degraded());
    /// assert!(!ReadFrom::Source(SourceCause::Canary).is_degraded());
    /// ```
    pub fn is_degraded(self) -> bool {
        use SourceCause::{DeferredOverflow, Error, Stale};
        matches!(self, Self::TargetAlone | Self::Source(Error | Stale | DeferredOverflow))
    }
}

/// Reason why PostgreSQL answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceCause {
    /// The phase reads PostgreSQL.
    Phase,
    /// The key is outside the canary share.
    Canary,
    /// A write of this instance to this key, or for a query to any key, has not reached the target.
    Deferred,
    /// More writes of this instance were deferred than are remembered one by one.
    DeferredOverflow,
    /// The pending set is older than the bound of staleness.
    Stale,
    /// There are rows that the target cannot hold, so that its queries would leave them out.
    DeadLetters,
    /// The target did not have it.
    Miss,
    /// The target failed, or holds something that does not decode.
    Error,
}

impl SourceCause {
    /// Every cause, in the order of the counters.
    pub const ALL: [SourceCause; 8] = [
        Self::Phase,
        Self::Canary,
        Self::Deferred,
        Self::DeferredOverflow,
        Self::Stale,
        Self::DeadLetters,
        Self::Miss,
        Self::Error,
    ];

    /// Returns its name as a label of metrics.
    ///
    /// ```
    /// use lockstep::SourceCause;
    ///
    /// assert_eq!(SourceCause::DeadLetters.name(), "dead_letters");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Self::Phase => "phase",
            Self::Canary => "canary",
            Self::Deferred => "deferred",
            Self::DeferredOverflow => "deferred_overflow",
            Self::Stale => "stale",
            Self::DeadLetters => "dead_letters",
            Self::Miss => "miss",
            Self::Error => "error",
        }
    }
}
