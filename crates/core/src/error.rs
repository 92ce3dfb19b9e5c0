//! Errors: a kind to branch on, a sentence to read.

mod withheld;

use crate::unholdable::Unholdable;
use withheld::Withheld;

/// The kind of an error, by which a caller decides what to do next. One function, [`Kind::retry`], maps it to
/// a retry policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The store is asking for fewer requests. Nothing was done.
    Throttled,
    /// The store could not be reached, or said that it does not take this now. Nothing was done.
    Unavailable,
    /// The answer was lost, or is none that is known (I18): it may have been done (I8).
    Unknown,
    /// A condition was not met; for a guarded write that is success.
    Refused,
    /// This row or request can never succeed as it is. Of DynamoDB's answers only those that are about the
    /// item.
    Invalid,
    /// Credentials missing, expired, or without the permission.
    Denied,
    /// A table, role or setting is not as it must be; a person has to act.
    Misconfigured,
    /// Could not acquire a lock before the timeout.
    Busy,
    /// The caller's lease or claim may be over, so nothing was done. An instance's lease is over: it does
    /// not know the phase and serves nothing by it (R19), and recovers by itself as soon as the source
    /// answers. The same where a range, a pending key or an import is another process's by now, and where a
    /// state was read too long ago to be written: it is read again.
    Fenced,
}

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Try again, slower.
    Slower,
    /// Try again after a pause.
    Again,
    /// Do not try again.
    Never,
}

impl Kind {
    /// Tells whether a process that runs until cancelled tries again after this error. `began_well`: it has
    /// worked before. Then rights that are missing, and a table that is not there, are outages like others: 1. A
    /// password is rotated, a role is edited, a region fails over. 2. A relay that ends there leaves
    /// everything pending.
    /// 3. It was a matter of minutes.
    pub fn may_pass(self, side: Side, began_well: bool) -> bool {
        match self {
            Self::Throttled | Self::Unavailable | Self::Unknown | Self::Busy | Self::Fenced => true,
            Self::Denied => began_well,
            Self::Misconfigured => began_well && side == Side::Target,
            Self::Refused | Self::Invalid => false,
        }
    }

    /// Returns the retry policy of this kind, for operations that may be repeated (all of ours may, I2).
    pub fn retry(self) -> Retry {
        match self {
            Self::Throttled => Retry::Slower,
            Self::Unavailable | Self::Unknown | Self::Busy | Self::Fenced => Retry::Again,
            Self::Refused | Self::Invalid | Self::Denied | Self::Misconfigured => Retry::Never,
        }
    }
}

/// The store that an error came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// PostgreSQL.
    Source,
    /// DynamoDB.
    Target,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Source => "PostgreSQL",
            Self::Target => "DynamoDB",
        })
    }
}

/// An error of one of the stores, or of what we found in it.
#[derive(Debug, thiserror::Error)]
#[error("{side}: {doing}: {message}")]
pub struct Error {
    /// Store that the error is about.
    pub side: Side,
    /// Kind of the error, for a caller to branch on.
    pub kind: Kind,
    /// Action that failed, for the reader.
    pub doing: String,
    /// Description of the failure and of what to do next, without row values (R36).
    pub message: String,
    /// Cause of the error. Of a driver's error it tells nothing: see [`Error::driver`].
    #[source]
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Shorthand of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Makes an error of PostgreSQL's side that we found ourselves.
    pub fn source(kind: Kind, doing: impl Into<String>, message: impl Into<String>) -> Self {
        Self { side: Side::Source, kind, doing: doing.into(), message: message.into(), cause: None }
    }

    /// Makes an error of DynamoDB's side that we found ourselves.
    pub fn target(kind: Kind, doing: impl Into<String>, message: impl Into<String>) -> Self {
        Self { side: Side::Target, kind, doing: doing.into(), message: message.into(), cause: None }
    }

    /// Makes the error for a row that DynamoDB cannot hold, met where there is no dead letter to write.
    pub fn unholdable(table: &str, reason: &Unholdable) -> Self {
        Self::target(Kind::Invalid, format!("converting a row of {table}"), reason.to_string())
    }

    /// Makes the error of what the driver of one `side` said while `doing` something, told as `message`,
    /// which holds no value of a row. The error itself is kept for [`Error::driver`].
    pub fn of_driver(
        side: Side,
        kind: Kind,
        doing: impl Into<String>,
        message: impl Into<String>,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::withholding(side, kind, doing.into(), message.into(), Withheld::of(error))
    }

    /// Makes the same of an error that PostgreSQL gave a SQLSTATE, if it did; see [`Error::sqlstate`].
    pub fn of_source_driver(
        kind: Kind,
        doing: impl Into<String>,
        message: impl Into<String>,
        sqlstate: Option<String>,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        let withheld = Withheld { sqlstate, ..Withheld::of(error) };
        Self::withholding(Side::Source, kind, doing.into(), message.into(), withheld)
    }

    fn withholding(side: Side, kind: Kind, doing: String, message: String, withheld: Withheld) -> Self {
        Self { side, kind, doing, message, cause: Some(Box::new(withheld)) }
    }

    /// Returns the driver's own error (`sqlx::Error`, or one of the AWS SDK), if this came from one. It may
    /// quote values of rows, also in its `Debug` and in what caused it: it is for a program that acts on what
    /// its own triggers raise, and not for a log.
    pub fn driver(&self) -> Option<&(dyn std::error::Error + Send + Sync + 'static)> {
        Some(self.withheld()?.error.as_ref())
    }

    /// Tells whether PostgreSQL knows no such table: a schema of an older Lockstep, or none.
    pub fn is_missing_table(&self) -> bool {
        self.sqlstate().as_deref() == Some("42P01")
    }

    /// Tells whether DynamoDB refused the request as invalid, whatever it was about.
    pub fn is_validation(&self) -> bool {
        self.side == Side::Target
            && (self.kind == Kind::Invalid || self.message.starts_with("ValidationException"))
    }

    /// Returns the SQLSTATE, where PostgreSQL gave one.
    pub fn sqlstate(&self) -> Option<String> {
        self.withheld()?.sqlstate.clone()
    }

    fn withheld(&self) -> Option<&Withheld> {
        self.cause.as_ref()?.downcast_ref()
    }
}

/// The text that is told of a panic of a task. Its message is not: 1. The code of a table unwraps the error
/// of a parser, which quotes what it read. 2. The message is recorded, and shown by the status.
pub const PANICKED: &str = "the output of this process says where";

/// Adds what was being done to the result of a driver. `D` stands for the driver: the crate that knows what
/// its errors mean has a type for it, and may so implement this for results that are not its own.
pub trait Doing<D> {
    /// The value of a result that is no error.
    type Done;

    /// Turns the driver's error into ours.
    ///
    /// # Errors
    /// The driver's, named.
    fn doing(self, what: &str) -> Result<Self::Done>;
}
