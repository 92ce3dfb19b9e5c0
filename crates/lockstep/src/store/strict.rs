//! Writing, `strict`: the target has it before PostgreSQL commits, or neither has it.
//!
//! 1. The transaction writes, and reads what it left with the versions of its marks.
//! 2. Its intents become durable on another connection (I9); where several statements wrote, meanwhile.
//! 3. The puts leave; meanwhile the transaction takes its own marks and intents out.
//! 4. It commits.
//!
//! Whatever happens between 2 and 4 (a lost reply, a crash, a commit that fails) leaves the intents behind,
//! and a sweep makes the relay put the truth back over what may have landed. Taking marks and intents out
//! inside the transaction makes both as true as the commit.

use std::time::Instant;

use lockstep_core::{Error, Kind, Result, Version};
use lockstep_postgres::{Mark, MarkedKey, TransactionId, resolve_in_transaction};

use super::acknowledge::{Held, Started};
use super::change::Change;
use super::commit::Commit;
use super::counters::{count, label_of};
use super::deliver::{Put, Sent, not_due, puts};
use super::outcome::Written;
use super::transaction::{WriteTransaction, read_left};
use super::{Delivery, WriteFailed, WriteMode, Writer};

/// The state that a strict write goes on with.
struct Marked {
    id: TransactionId,
    marks: Vec<Mark>,
    /// Durability of the intents of all its keys: recorded already, or to be recorded.
    recorded: bool,
}

impl Writer {
    /// Puts, then commits. While it reads what it left, its intents become durable: which keys it changed is
    /// known by then, and so is its number.
    pub(super) async fn strict(&self, mut write: WriteTransaction) -> Result<Written> {
        // Without a change of a row, or without a number, there is nothing to put.
        if write.changes.is_empty() {
            return self.best_effort(write, true, None).await;
        }
        let Some(id) = write.number().await? else { return self.best_effort(write, true, None).await };
        let keys = write.keys();
        let intents: Vec<(&MarkedKey, Option<Version>)> = keys.iter().map(|key| (key, None)).collect();
        let (marks, recorded) = tokio::join!(
            read_left(&mut write.sql, &mut write.changes),
            self.source().record_intents(id, &intents)
        );
        // Any failure drops the transaction, and nothing has left. Intents without it are the sweeper's.
        recorded?;
        self.put_beside(write, Marked { id, marks: marks?, recorded: true }).await
    }

    /// The same, with its number and marks at hand.
    pub(super) async fn strict_of(
        &self,
        write: WriteTransaction,
        id: TransactionId,
        marks: Vec<Mark>,
    ) -> Result<Written> {
        self.put_beside(write, Marked { id, marks, recorded: false }).await
    }

    async fn put_beside(&self, mut write: WriteTransaction, marked: Marked) -> Result<Written> {
        let (mut started, mut beside) = (std::mem::take(&mut write.beside), Vec::new());
        let written = self.put_then_commit(write, marked, &mut started, &mut beside).await;
        if written.is_err() {
            // The row beside it was committed by itself.
            beside.extend(started.delivered().await);
            self.acknowledge(beside);
        }
        written
    }

    /// Takes what was delivered beside it out of the pending set with its own keys.
    async fn put_then_commit(
        &self,
        mut write: WriteTransaction,
        Marked { id, marks, recorded }: Marked,
        started: &mut Started,
        beside: &mut Vec<Held>,
    ) -> Result<Written> {
        let keys = write.keys();
        let mut deliveries = not_due(&write.changes);
        // Nothing of a key that is gone ever was in the target; the relay takes its mark out.
        let unholdable = |change: &Change, error| match change.is_gone() {
            true => Ok(Delivery::deferred(error)),
            false => Err(error),
        };
        let puts = match puts(&write.changes, &marks, &mut deliveries, unholdable) {
            Ok(puts) => puts,
            Err(error) => return self.unholdable(write, recorded.then_some(id), error).await,
        };
        // Any failure up to here drops the transaction, and nothing has left.
        if !recorded {
            let is_put = |mark: &&Mark| puts.iter().any(|put| put.of == mark.of);
            let intents = marks.iter().filter(is_put).map(|mark| (&keys[mark.of], mark.repair));
            self.source().record_intents(id, &intents.collect::<Vec<_>>()).await?;
        }
        // Dropped unpaid, these keys are read from the source until nothing of them is pending: a phantom is
        // not to be met.
        let owed = self.owe(marks.iter().map(|mark| &write.changes[mark.of]));
        let (sent, taken_out) = self.put_and_take_out(&mut write, &keys, &puts, started, beside).await;
        let failure = self.judged(&puts, sent, &mut deliveries);
        if let Some(error) = failure.error {
            if failure.left < Left::Late {
                owed.paid_but(|_| false);
            }
            return Err(self.roll_back(write, id, error, failure.left).await);
        }
        let taken_out = match taken_out {
            Some(taken_out) => taken_out,
            None => {
                let landed = puts.iter().filter(|put| matches!(deliveries[put.of], Delivery::Applied));
                let own = landed.map(|put| (&keys[put.of], put.version));
                let held: Vec<(&MarkedKey, Version)> = marked(beside).chain(own).collect();
                resolve_in_transaction(&mut write.sql, &held).await
            }
        };
        if let Err(error) = taken_out {
            return Err(self.roll_back(write, id, error, Left::Phantom).await);
        }
        let control = write.control;
        self.commit_put(write, id, failure.continued).await?;
        owed.paid_but(|place| !matches!(deliveries[marks[place].of], Delivery::Applied));
        Ok(Written { control, deliveries })
    }

    /// Sends the puts, and takes marks and intents out of the transaction meanwhile: all or nothing, so what
    /// to take out is known before the answer is, and is only taken out by the commit. A write that goes on
    /// without some of its puts takes them out once it knows which; `None` says so.
    async fn put_and_take_out(
        &self,
        write: &mut WriteTransaction,
        keys: &[MarkedKey],
        puts: &[Put],
        started: &mut Started,
        beside: &mut Vec<Held>,
    ) -> (Vec<Sent>, Option<Result<()>>) {
        let deadline = tokio::time::Instant::now() + self.options().inline_timeout();
        let sending = self.send(puts, WriteMode::Strict, write.calling.is_together(), deadline);
        if self.options().continue_on_write_failure {
            let sent = sending.await;
            *beside = started.delivered().await;
            return (sent, None);
        }
        let taking_out = async {
            *beside = started.delivered().await;
            let own = puts.iter().map(|put| (&keys[put.of], put.version));
            let all: Vec<(&MarkedKey, Version)> = own.chain(marked(beside)).collect();
            resolve_in_transaction(&mut write.sql, &all).await
        };
        let (sent, taken_out) = tokio::join!(sending, taking_out);
        (sent, Some(taken_out))
    }

    /// Notes how each put ended, and says what that means for the write.
    fn judged(&self, puts: &[Put], sent: Vec<Sent>, deliveries: &mut [Delivery]) -> Failure {
        let mut failure = Failure::default();
        for (put, sent) in puts.iter().zip(sent) {
            deliveries[put.of] = match sent {
                Sent::Landed => {
                    failure.left = Left::Phantom;
                    Delivery::Applied
                }
                Sent::Refused(error) | Sent::Outranked(error) | Sent::Late(error) | Sent::Lost(error)
                    if self.options().continue_on_write_failure =>
                {
                    failure.continued = true;
                    Delivery::deferred(error)
                }
                Sent::Refused(error) => failure.because(error, Left::Nothing),
                Sent::Outranked(error) => failure.because(error, Left::Another),
                Sent::Late(error) => failure.because(error, Left::Late),
                Sent::Lost(error) => failure.because(error, Left::Phantom),
            };
        }
        failure
    }

    /// Commits what the target has; `continued` says that it lacks some of it.
    async fn commit_put(&self, write: WriteTransaction, id: TransactionId, continued: bool) -> Result<()> {
        let (control, asked_at, counters) = (write.control, Instant::now(), self.counters());
        let table = label_of(&write.changes);
        match self.commit(write.sql, Some(id), table).await {
            Commit::Committed => {
                self.phase().learn(control, asked_at);
                let counter = if continued { &counters.strict_continued } else { &counters.strict_committed };
                count(counter, table, 1);
                Ok(())
            }
            Commit::RolledBack(error) => {
                self.undo(id, Left::Phantom, table).await;
                count(&counters.strict_failed, table, 1);
                Err(WriteFailed::rolled_back(error, true))
            }
            // Intents and marks say by themselves which of both it was, once it is over.
            Commit::Unknown(error) => Err(WriteFailed::unknown(error, Delivery::Unknown)),
        }
    }

    /// A row that no item can hold: fails before anything has left, or is PostgreSQL's alone. Intents that
    /// were recorded under `recorded` have no use then; any that stay are the sweeper's.
    async fn unholdable(
        &self,
        write: WriteTransaction,
        recorded: Option<TransactionId>,
        error: Error,
    ) -> Result<Written> {
        let table = label_of(&write.changes);
        let written = if self.options().continue_on_write_failure {
            count(&self.counters().strict_continued, table, 1);
            self.best_effort(write, true, None).await
        } else {
            count(&self.counters().strict_failed, table, 1);
            // A rollback that fails is one all the same: no commit was sent.
            let _ = write.sql.rollback().await;
            Err(WriteFailed::rolled_back(error, false))
        };
        if let Some(id) = recorded {
            self.undo(id, Left::Nothing, table).await;
        }
        written
    }

    async fn roll_back(&self, write: WriteTransaction, id: TransactionId, error: Error, left: Left) -> Error {
        let table = label_of(&write.changes);
        count(&self.counters().strict_failed, table, 1);
        match write.sql.rollback().await {
            Ok(()) => self.undo(id, left, table).await,
            // Not over yet as far as the server knows: the sweeper will see.
            Err(error) => tracing::debug!("left to the sweeper: {error}"),
        }
        WriteFailed::rolled_back(error, left == Left::Phantom)
    }

    /// After a rollback that was confirmed: makes the relay put the truth back, if there is anything to put
    /// it over. What cannot be done now the sweeper does.
    async fn undo(&self, id: TransactionId, left: Left, table: &'static str) {
        if left == Left::Phantom {
            count(&self.counters().phantoms_possible, table, 1);
        }
        let done = match left {
            Left::Nothing => self.source().drop_intents(id).await,
            Left::Another | Left::Late | Left::Phantom => self.source().resolve_aborted(&[id]).await,
        };
        if let Err(error) = done {
            tracing::debug!(kind = ?error.kind, "left to the sweeper: {error}");
        }
    }
}

fn marked(held: &[Held]) -> impl Iterator<Item = (&MarkedKey, Version)> {
    held.iter().map(|held| (&held.marked, held.delivered.version))
}

/// The failure among the puts.
#[derive(Default)]
struct Failure {
    error: Option<Error>,
    left: Left,
    continued: bool,
}

/// The state that a write that is rolled back leaves in the target, the worst of its puts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Left {
    /// Nothing of it, and nothing that was in its way.
    #[default]
    Nothing,
    /// Nothing of it, and something that refused it. 1. PostgreSQL was set back, and nothing shows it. 2. A
    /// state of the time that is lost refuses each write of its row, and each is rolled back, its mark with
    /// it. 3. No relay ever meets what is there, and the row can be written no more. So its key is marked.
    Another,
    /// Nothing of it now, and a request for it that something between has repeated may still be under way.
    /// Its key is marked and read from the source, so that DynamoDB does not hold it, or will not for long.
    Late,
    /// A state that no commit stands behind, perhaps.
    Phantom,
}

impl Failure {
    fn because(&mut self, error: Error, left: Left) -> Delivery {
        self.left = self.left.max(left);
        // An error that will not pass by itself is told before one that will.
        if self.error.as_ref().is_none_or(|known| known.kind == Kind::Unknown) {
            self.error = Some(error);
        }
        Delivery::NotDue
    }
}
