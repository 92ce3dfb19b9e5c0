//! The outcome of a write in each store.

use std::fmt;
use std::sync::Arc;

use lockstep_core::{Control, Error, Kind};

/// The outcome of a write in one store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Delivery {
    /// This phase does not write the store.
    NotDue,
    /// The store holds this state, or a newer one.
    Applied,
    /// It will be delivered by a relay; the reason is why it could not be delivered at once. An answer that
    /// was lost is deferred as well: repeating the write is harmless (I2), and the key stays pending until
    /// one was answered (I8).
    Deferred(Arc<Error>),
    /// The store does not hold it, or will not once the relay has put the truth back.
    Failed(Arc<Error>),
    /// It is not known yet (I8). In the target, it is resolved later: an intent or a mark stands for it
    /// (I10).
    Unknown(Arc<Error>),
}

impl Delivery {
    /// A state that a relay delivers, because of `error`.
    pub(super) fn deferred(error: Error) -> Self {
        tracing::debug!(kind = ?error.kind, "deferred to the relay: {error}");
        Self::Deferred(Arc::new(error))
    }
}

/// The outcome of a write. That there is one at all means that the store that decides has committed.
#[derive(Debug)]
#[non_exhaustive]
pub struct WriteOutcome<R> {
    /// The row as PostgreSQL holds it, defaults and other triggers included; `None` after a delete, or where
    /// no row was. What AFTER triggers did is in it where a call takes one round trip and both stores are
    /// written; elsewhere it is the row as the statement returned it. The item has it all in every case.
    pub row: Option<R>,
    /// Presence of a row to write to.
    pub found: bool,
    /// The phase that the write happened in.
    pub control: Control,
    /// Delivery to the target.
    pub target: Delivery,
}

impl<R> WriteOutcome<R> {
    /// Says whether the target has it too, or need not.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Result, Store};
    /// # async fn example<Payments: MigratableTable>(
    /// #     payments: Store<Payments>, payment: Payments::Row,
    /// # ) -> Result<()> {
    /// if !payments.put(&payment).await?.is_delivered() {
    ///     println!("PostgreSQL has it; a relay brings it to DynamoDB");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_delivered(&self) -> bool {
        !matches!(self.target, Delivery::Deferred(_))
    }
}

/// The outcome of a transaction that committed, for each of its changes.
pub(crate) struct Written {
    pub(crate) control: Control,
    pub(crate) deliveries: Vec<Delivery>,
}

/// The outcome in each store of a write that has no [`WriteOutcome`]; see [`WriteFailed::of`].
#[derive(Clone, Debug)]
pub struct WriteFailed {
    /// Outcome in PostgreSQL: failed, or unknown.
    pub source: Delivery,
    /// Outcome in the target.
    pub target: Delivery,
}

impl WriteFailed {
    /// Reads the outcome in each store off a write's error; `None` where the write got no further than
    /// PostgreSQL, and nothing of it is anywhere.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Store, WriteFailed};
    /// # async fn example<Payments: MigratableTable>(payments: Store<Payments>, payment: Payments::Row) {
    /// if let Err(error) = payments.put(&payment).await {
    ///     match WriteFailed::of(&error) {
    ///         // As in "PostgreSQL: failed, DynamoDB: unknown".
    ///         Some(failed) => eprintln!("{failed}: {error}"),
    ///         None => eprintln!("nothing was written: {error}"),
    ///     }
    /// }
    /// # }
    /// ```
    pub fn of(error: &Error) -> Option<&Self> {
        error.cause.as_ref()?.downcast_ref()
    }

    /// The error of a write that was rolled back because of `reason`, the target's.
    pub(super) fn rolled_back(reason: Error, may_have_landed: bool) -> Error {
        let kind = if reason.kind == Kind::Unknown { Kind::Unavailable } else { reason.kind };
        let (side, doing) = (reason.side, reason.doing.clone());
        let message = format!("{}; the strict write was rolled back, nothing was written", reason.message);
        let reason = Arc::new(reason);
        let target = if may_have_landed {
            Delivery::Unknown(reason.clone())
        } else {
            Delivery::Failed(reason.clone())
        };
        let failed = Self { source: Delivery::Failed(reason), target };
        Error { side, kind, doing, message, cause: Some(Box::new(failed)) }
    }

    /// The error of a write that is committed, and whose row could not be read back.
    pub(super) fn unread(reason: Error) -> Error {
        let (side, doing) = (reason.side, reason.doing.clone());
        let message =
            format!("it is committed, and the row as it is now could not be read: {}", reason.message);
        let failed = Self { target: Delivery::NotDue, source: Delivery::Applied };
        Error { side, kind: Kind::Unknown, doing, message, cause: Some(Box::new(failed)) }
    }

    /// The error of a write whose commit was lost and could not be looked up.
    pub(super) fn unknown(reason: Error, target: fn(Arc<Error>) -> Delivery) -> Error {
        let (side, doing) = (reason.side, reason.doing.clone());
        let message = format!("{}; whether it was committed could not be looked up", reason.message);
        let reason = Arc::new(reason);
        let failed = Self { target: target(reason.clone()), source: Delivery::Unknown(reason) };
        Error { side, kind: Kind::Unknown, doing, message, cause: Some(Box::new(failed)) }
    }
}

impl fmt::Display for WriteFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |delivery: &Delivery| match delivery {
            Delivery::NotDue => "not due",
            Delivery::Applied => "applied",
            Delivery::Deferred(_) => "deferred",
            Delivery::Failed(_) => "failed",
            Delivery::Unknown(_) => "unknown",
        };
        write!(f, "PostgreSQL: {}, DynamoDB: {}", word(&self.source), word(&self.target))
    }
}

impl std::error::Error for WriteFailed {}
