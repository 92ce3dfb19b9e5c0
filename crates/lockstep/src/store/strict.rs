//! Writing, `strict`: the target has it before PostgreSQL commits, or neither has it.
//!
//! 1. The transaction writes, and reads what it left with the versions of its marks.
//! 2. Its intents become durable on another connection (I9).
//! 3. The puts leave; meanwhile the transaction takes its own marks and intents out.
//! 4. It commits.
//!
//! Whatever happens between 2 and 4 (a lost reply, a crash, a commit that fails) leaves the intents behind,
//! and a sweep makes the relay put the truth back over what may have landed. Taking marks and intents out
//! inside the transaction makes both as true as the commit.

use std::time::Instant;

use lockstep_core::{Error, Kind, Result, Version};
use lockstep_postgres::{Mark, MarkedKey, TransactionId, settle_in_transaction};

use super::acknowledge::Held;
use super::best_effort::deferred;
use super::commit::Commit;
use super::counters::count;
use super::deliver::{Put, Sent};
use super::transaction::{WriteTransaction, Written, read_left};
use super::{Delivery, WriteFailed, WriteMode, Writer};

impl Writer {
    /// Puts, then commits.
    pub(super) async fn strict(&self, mut write: WriteTransaction) -> Result<Written> {
        let marks = read_left(&mut write.sql, &mut write.changes, true).await?;
        self.strict_of(write, marks).await
    }

    /// The same, with the marks at hand.
    pub(super) async fn strict_of(&self, mut write: WriteTransaction, marks: Vec<Mark>) -> Result<Written> {
        let beside = std::mem::take(&mut write.held);
        let written = self.put_then_commit(write, marks, &beside).await;
        if written.is_err() {
            // That was committed by itself.
            self.acknowledge(beside);
        }
        written
    }

    /// Takes what was delivered `beside` it out of the pending set with its own keys.
    async fn put_then_commit(
        &self,
        mut write: WriteTransaction,
        marks: Vec<Mark>,
        beside: &[Held],
    ) -> Result<Written> {
        let keys = write.keys();
        let mut deliveries: Vec<Delivery> = write.changes.iter().map(|_| Delivery::NotDue).collect();
        let mut puts = Vec::with_capacity(marks.len());
        let mut intents: Vec<(&MarkedKey, Version)> = Vec::with_capacity(marks.len());
        for mark in &marks {
            let change = &write.changes[mark.of];
            if change.is_put_by_another(&write.changes) {
                deliveries[mark.of] = Delivery::Applied;
                continue;
            }
            match change.item(mark) {
                Ok(item) => {
                    puts.push(Put {
                        of: mark.of,
                        table: change.binding.target_name.clone(),
                        item,
                        version: mark.version,
                    });
                    intents.push((&keys[mark.of], mark.repair.unwrap_or(mark.version)));
                }
                // Nothing of this key ever was in the target; the relay takes the mark out.
                Err(reason) if change.is_gone() => {
                    deliveries[mark.of] = deferred(Error::unholdable(change.key.table, &reason));
                }
                Err(reason) => {
                    let error = Error::unholdable(change.key.table, &reason);
                    return self.unholdable(write, error).await;
                }
            }
        }
        // Any failure up to here drops the transaction, and nothing has left.
        self.source().record_intents(write.id, &intents).await?;
        // Dropped unpaid, these keys are read from the source until nothing of them is pending: a phantom is
        // not to be met.
        let owed = self.owe(marks.iter().map(|mark| &write.changes[mark.of]));
        let deadline = tokio::time::Instant::now() + self.options().inline_timeout();
        let sending = self.send(&puts, WriteMode::Strict, write.together, deadline);
        let beside = || beside.iter().map(|held| (&held.marked, held.delivered.version));
        let all: Vec<(&MarkedKey, Version)> =
            puts.iter().map(|put| (&keys[put.of], put.version)).chain(beside()).collect();
        // All or nothing: what to take out is known before the answer is, and is only taken out by the
        // commit.
        let (sent, settled) = if self.options().continue_on_write_failure {
            (sending.await, None)
        } else {
            let (sent, settled) = tokio::join!(sending, settle_in_transaction(&mut write.sql, &all));
            (sent, Some(settled))
        };
        let mut held: Vec<(&MarkedKey, Version)> = beside().collect();
        let mut failure = Failure::default();
        for (put, sent) in puts.iter().zip(sent) {
            deliveries[put.of] = match sent {
                Sent::Landed => {
                    failure.may_have_landed = true;
                    held.push((&keys[put.of], put.version));
                    Delivery::Applied
                }
                Sent::Refused(error) | Sent::Lost(error) if self.options().continue_on_write_failure => {
                    failure.continued = true;
                    deferred(error)
                }
                Sent::Refused(error) => failure.because(error, false),
                Sent::Lost(error) => failure.because(error, true),
            };
        }
        if let Some(error) = failure.error {
            if !failure.may_have_landed {
                owed.paid_but(|_| false);
            }
            return Err(self.roll_back(write, error, failure.may_have_landed).await);
        }
        let settled = match settled {
            Some(settled) => settled,
            None => settle_in_transaction(&mut write.sql, &held).await,
        };
        if let Err(error) = settled {
            return Err(self.roll_back(write, error, true).await);
        }
        let (control, id, asked_at) = (write.control, write.id, Instant::now());
        match self.commit(write.sql, id).await {
            Commit::Committed => {
                self.phase().learn(control, asked_at);
                owed.paid_but(|place| !matches!(deliveries[marks[place].of], Delivery::Applied));
                let counters = self.counters();
                count(
                    if failure.continued { &counters.strict_continued } else { &counters.strict_committed },
                    1,
                );
                Ok(Written { control, deliveries })
            }
            Commit::RolledBack(error) => {
                self.undo(id, true).await;
                count(&self.counters().strict_failed, 1);
                Err(WriteFailed::rolled_back(error, true))
            }
            // Intents and marks say by themselves which of both it was, once it is over.
            Commit::Unknown(error) => Err(WriteFailed::unknown(error, Delivery::Unknown)),
        }
    }

    /// A row that no item can hold: fails before anything has left, or is PostgreSQL's alone.
    async fn unholdable(&self, write: WriteTransaction, error: Error) -> Result<Written> {
        if self.options().continue_on_write_failure {
            count(&self.counters().strict_continued, 1);
            return self.best_effort(write, None).await;
        }
        count(&self.counters().strict_failed, 1);
        // A rollback that fails is one all the same: no commit was sent.
        let _ = write.sql.rollback().await;
        Err(WriteFailed::rolled_back(error, false))
    }

    async fn roll_back(&self, write: WriteTransaction, error: Error, may_have_landed: bool) -> Error {
        count(&self.counters().strict_failed, 1);
        let id = write.id;
        match write.sql.rollback().await {
            Ok(()) => self.undo(id, may_have_landed).await,
            // Not over yet as far as the server knows: the sweeper will see.
            Err(error) => tracing::debug!("left to the sweeper: {error}"),
        }
        WriteFailed::rolled_back(error, may_have_landed)
    }

    /// After a rollback that was confirmed: makes the relay put the truth back, if there is anything to put
    /// it over. What cannot be done now the sweeper does.
    async fn undo(&self, id: TransactionId, may_have_landed: bool) {
        let done = if may_have_landed {
            count(&self.counters().phantoms_possible, 1);
            self.source().settle_aborted(&[id]).await
        } else {
            self.source().drop_intents(&[id]).await
        };
        if let Err(error) = done {
            tracing::debug!(kind = ?error.kind, "left to the sweeper: {error}");
        }
    }
}

/// What went wrong among the puts.
#[derive(Default)]
struct Failure {
    error: Option<Error>,
    may_have_landed: bool,
    continued: bool,
}

impl Failure {
    fn because(&mut self, error: Error, lost: bool) -> Delivery {
        self.may_have_landed |= lost;
        // Of several, one that will not pass by itself is the one to tell.
        if self.error.as_ref().is_none_or(|known| known.kind == Kind::Unknown) {
            self.error = Some(error);
        }
        Delivery::NotDue
    }
}
