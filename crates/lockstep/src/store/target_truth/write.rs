//! Verbs in DynamoOnly. Each reads what is there and replaces exactly that: at once, and again when another
//! writer was faster, or together with other rows.

use std::collections::HashSet;
use std::time::Duration;

use lockstep_core::{Control, Error, Kind, MigratableTable, Result};
use lockstep_dynamo::{Backoff, TargetControl};
use tokio::time::Instant;

use super::Permit;
use super::change::Change;
use super::find::Id;
use super::plan::{Planned, Wanted};
use super::send::Sent;
use crate::store::route::Sends;
use crate::store::verb::{Met, Touched, Verb};
use crate::store::{PrimaryKey, Store, Writer};

/// A write in the target. Dropped, what has not been sent has not happened.
pub(crate) struct TargetWrite {
    permit: Permit,
    sends: Sends,
    /// Changes that were read for and not sent yet, of distinct rows.
    changes: Vec<Change>,
}

/// The tries of one call.
struct Tries {
    backoff: Backoff,
    deadline: Instant,
}

impl TargetWrite {
    pub(in crate::store) fn new(permit: Permit, sends: Sends) -> Self {
        Self { permit, sends, changes: Vec::new() }
    }

    /// The phase and epoch that it goes by.
    pub(crate) fn control(&self) -> Control {
        self.permit.control
    }

    /// Sends every change that waits, all of them or none; says how many rows that changed.
    ///
    /// # Errors
    /// [`Kind::Busy`] when one of the rows was changed meanwhile, [`Kind::Invalid`] when it is too large for
    /// one transaction: nothing was written. [`Kind::Unknown`]: it is unknown whether anything was.
    pub(crate) async fn commit(self, writer: &Writer) -> Result<usize> {
        let deadline = Instant::now() + writer.options().inline_timeout();
        match writer.send_changes(&self.permit, &self.changes, deadline).await? {
            Sent::Applied => Ok(self.changes.len()),
            Sent::Raced => Err(overtaken("committing an operation")),
        }
    }

    /// Index of the change of this row so far.
    fn noted(&self, table: &str, id: Option<&Id>) -> Option<usize> {
        let id = id?;
        self.changes.iter().position(|change| change.table == table && change.id == id.text)
    }

    /// Notes the new state of a row; `noted` is the index of its change so far. Noted again, it still
    /// replaces what was read first.
    fn note(&mut self, noted: Option<usize>, change: Change) -> Result<()> {
        match noted {
            None => self.changes.push(change),
            Some(at) if change.is_of_the_same(&self.changes[at]) => self.changes[at] = change,
            Some(_) => return Err(overtaken("writing in an operation")),
        }
        Ok(())
    }
}

impl<T: MigratableTable> Store<T> {
    /// Does what `verb` says in the target: sends it, or notes it to be sent together with other rows.
    ///
    /// # Errors
    /// Nothing was written, except for [`Kind::Unknown`]: then it is unknown (I8).
    ///
    /// # Cancel safety
    /// A cancelled call is an unknown outcome where the row is sent by itself; else nothing has happened.
    pub(crate) async fn change_in_target<K: PrimaryKey, F: FnMut(&mut T::Row) -> bool>(
        &self,
        write: &mut TargetWrite,
        verb: Verb<'_, T::Row, K, F>,
    ) -> Result<Met<T::Row>> {
        let mut wanted = self.wanted(&write.permit, verb).await?;
        match write.sends {
            Sends::EachRow => self.send(&write.permit, &mut wanted).await,
            Sends::AsOne => {
                let noted = write.noted(T::NAME, wanted.id());
                let so_far = noted.map(|at| &write.changes[at]);
                match self.plan(&write.permit, &mut wanted, so_far).await? {
                    Planned::Change(row, change) => {
                        write.note(noted, change)?;
                        Ok(Met::Changed(Touched::in_target(row)))
                    }
                    Planned::Nothing => Ok(Met::Nothing),
                    Planned::Other(row) => Ok(Met::Other(row)),
                }
            }
        }
    }

    /// Sends the change of one row, and plans it once more for as long as another writer is faster. An id
    /// that another caller chose after this process had taken it is that caller's.
    async fn send<F: FnMut(&mut T::Row) -> bool>(
        &self,
        permit: &Permit,
        wanted: &mut Wanted<T::Row, F>,
    ) -> Result<Met<T::Row>> {
        let mut tries = self.tries();
        loop {
            let (row, change) = match self.plan(permit, wanted, None).await? {
                Planned::Change(row, change) => (row, change),
                Planned::Nothing => return answered(permit, Met::Nothing).await,
                Planned::Other(row) => return answered(permit, Met::Other(row)).await,
            };
            match self.shared.writer.send_changes(permit, &[change], tries.deadline).await? {
                Sent::Applied => return Ok(Met::Changed(Touched::in_target(row))),
                Sent::Raced => tries.again().await?,
            }
        }
    }

    /// Says whether no two of the rows have one primary key.
    pub(in crate::store) fn are_distinct(&self, rows: &[T::Row]) -> bool {
        let ids = rows.iter().filter_map(|row| self.id_of_row(row).ok()).map(|id| id.text);
        ids.collect::<HashSet<String>>().len() == rows.len()
    }

    pub(super) fn control(&self) -> TargetControl {
        self.shared.writer.control()
    }

    fn tries(&self) -> Tries {
        let options = self.shared.writer.options();
        let millis = |ms: u64| Duration::from_millis(ms.max(1));
        let (first, longest) = (millis(options.retry_delay_ms), millis(options.retry_delay_ms_max));
        Tries {
            backoff: Backoff::new(first, longest, options.race_tries_max),
            deadline: Instant::now() + options.inline_timeout(),
        }
    }
}

impl Tries {
    async fn again(&mut self) -> Result<()> {
        let lost = || {
            Error::target(
                Kind::Busy,
                "writing",
                "others changed the row each time; nothing was written, try again",
            )
        };
        match tokio::time::timeout_at(self.deadline, self.backoff.pause(lost())).await {
            Ok(paused) => paused,
            Err(_) => Err(lost()),
        }
    }
}

/// The error of a transaction in which a row is not as it was read.
fn overtaken(doing: &str) -> Error {
    let message = "another changed one of its rows meanwhile; nothing was written, run the operation again";
    Error::target(Kind::Busy, doing, message)
}

/// A value that was only read, and may be told only while it was the truth.
async fn answered<V>(permit: &Permit, value: V) -> Result<V> {
    if permit.is_answered_in_time().await {
        return Ok(value);
    }
    Err(Error::target(
        Kind::Fenced,
        "writing",
        "the lease was over when the row had been read; nothing was written, try again",
    ))
}
