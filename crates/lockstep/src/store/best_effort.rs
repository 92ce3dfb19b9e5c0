//! Writing, `best_effort`: commit in PostgreSQL, then put inline; the acknowledgement follows by itself.
//!
//! A crash anywhere after the commit changes nothing: the key is pending, and a relay delivers it (I1, I7).

use std::convert::Infallible;
use std::time::Instant;

use lockstep_core::{Control, Result};
use lockstep_postgres::{Delivered, Mark};

use super::acknowledge::{Beside, Held};
use super::change::Change;
use super::commit::Commit;
use super::counters::{count, label_of};
use super::deliver::{Sent, not_due, puts};
use super::outcome::Written;
use super::reads::Owed;
use super::transaction::{WriteTransaction, read_left};
use super::{Delivery, WriteFailed, WriteMode, Writer};

/// Changes that have committed, and are to be delivered.
pub(super) struct Committed {
    pub(super) control: Control,
    pub(super) changes: Vec<Change>,
    pub(super) marks: Vec<Mark>,
    /// Debt of the target for each of `marks`.
    pub(super) owed: Owed,
    /// Visibility of the changes in the target: all at one time, or each by itself.
    pub(super) together: bool,
}

impl Writer {
    /// Commits, then delivers if the phase writes both stores (`then_put`).
    pub(super) async fn best_effort(
        &self,
        mut write: WriteTransaction,
        then_put: bool,
        beside: Option<&Beside>,
    ) -> Result<Written> {
        let id = write.number().await?;
        let WriteTransaction { mut sql, control, mut changes, calling, beside: mut started, .. } = write;
        // A deferred trigger that writes at the commit marks its keys once more: they stay pending for
        // the relay.
        let marks = match then_put && !changes.is_empty() {
            true => read_left(&mut sql, &mut changes).await?,
            false => Vec::new(),
        };
        // From here on, unless the target gets them inline, this handle reads these keys from the source.
        let owed = self.owe(marks.iter().map(|mark| &changes[mark.of]));
        // Behind the barrier the phase cannot have changed: it is known as of now.
        let asked_at = Instant::now();
        let table = label_of(&changes);
        match self.commit(sql, id, table).await {
            Commit::Committed => {}
            Commit::RolledBack(error) => {
                owed.paid_but(|_| false);
                return Err(error);
            }
            Commit::Unknown(error) => return Err(WriteFailed::unknown(error, |_| Delivery::NotDue)),
        }
        self.phase().learn(control, asked_at);
        let committed = Committed { control, changes, marks, owed, together: calling.is_together() };
        let written = self.after_commit(committed, beside).await;
        self.acknowledge(started.delivered().await);
        Ok(written)
    }

    /// Delivers what has committed. Beside an operation that is done by a task of its own, and what is said
    /// is that nothing was due.
    ///
    /// # Cancel safety
    /// The keys are pending. A task goes on.
    pub(super) async fn after_commit(&self, committed: Committed, beside: Option<&Beside>) -> Written {
        let Some(beside) = beside.filter(|_| !committed.marks.is_empty()) else {
            let (written, held) = self.deliver(committed).await;
            self.acknowledge(held);
            return written;
        };
        let (control, writer, way) = (committed.control, self.clone(), beside.way());
        let deliveries = not_due(&committed.changes);
        let table = label_of(&committed.changes);
        tokio::spawn(async move {
            let (written, held) = writer.deliver(committed).await;
            let deferred = written.deliveries.iter().filter(|d| matches!(d, Delivery::Deferred(_))).count();
            count(&writer.counters().deferred, table, deferred);
            let held = match way {
                // It comes back where the operation has ended meanwhile.
                Some(way) => way.send(held).err().unwrap_or_default(),
                None => held,
            };
            writer.acknowledge(held);
        });
        Written { control, deliveries }
    }

    async fn deliver(&self, committed: Committed) -> (Written, Vec<Held>) {
        let Committed { control, changes, marks, owed, together } = committed;
        let mut held = Vec::new();
        let mut deliveries = not_due(&changes);
        // A row that no item can hold is the relay's: it knows what to do about dead letters.
        let Ok::<_, Infallible>(puts) =
            puts(&changes, &marks, &mut deliveries, |_, error| Ok(Delivery::deferred(error)));
        let deadline = tokio::time::Instant::now() + self.options().inline_timeout();
        let sent = self.send(&puts, WriteMode::BestEffort, together, deadline).await;
        for (put, sent) in puts.iter().zip(sent) {
            deliveries[put.of] = match sent {
                Sent::Landed => {
                    let change = &changes[put.of];
                    let delivered = Delivered { key: change.source_key.clone(), version: put.version };
                    held.push(Held { marked: change.key.clone(), delivered });
                    Delivery::Applied
                }
                Sent::Refused(error) | Sent::Outranked(error) | Sent::Late(error) | Sent::Lost(error) => {
                    Delivery::deferred(error)
                }
            };
        }
        owed.paid_but(|place| !matches!(deliveries[marks[place].of], Delivery::Applied));
        (Written { control, deliveries }, held)
    }
}
