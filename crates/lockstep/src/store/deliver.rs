//! Puts of one transaction's changes, each under its guard, all within one deadline.

use std::time::Duration;

use futures::stream::{self, StreamExt};
use lockstep_core::{Error, Item, Kind, Result, Retry, Version};
use lockstep_dynamo::{Backoff, Landed, ReadAt, TRANSACTION_BYTES_MAX, TRANSACTION_ITEMS_MAX};
use lockstep_postgres::Mark;
use tokio::time::{Instant, timeout, timeout_at};

use super::change::{Change, Places};
use super::{Delivery, WriteMode, Writer};

/// One state on its way.
#[derive(Clone)]
pub(super) struct Put {
    /// Index of the change that it is of.
    pub(super) of: usize,
    pub(super) table: String,
    pub(super) item: Item,
    pub(super) version: Version,
}

/// Longest look at the item after the last request, beyond the time of the call: 1. A write is applied, and
/// its requests are throttled until the call has no time left. 2. Without a look nothing could be said of it.
pub(super) const LAST_LOOK: Duration = Duration::from_millis(500);

/// The end of a put.
pub(super) enum Sent {
    /// The target holds it.
    Landed,
    /// The state is not in the target and cannot arrive any more.
    Refused(Error),
    /// The same, as something else is there at a version at least as high: a newer state, one of the time
    /// that is lost, where PostgreSQL was set back, or another program's. Which of these it is the mark says,
    /// and a relay judges by it: nothing is acknowledged by a refusal.
    Outranked(Error),
    /// It was not there when it was looked for, and something between that gave up on a request and repeated
    /// it may still bring it.
    Late(Error),
    /// The state may be in the target, or arrive there yet (I8).
    Lost(Error),
}

/// Tells whether DynamoDB takes these puts in one transaction. What is too much for one goes by itself, under
/// the guard of each: sent together, it would be refused at every try, and the operation with it.
fn are_one_transaction(puts: &[Put]) -> bool {
    let bytes: usize = puts.iter().map(|put| put.item.bytes()).sum();
    puts.len() <= TRANSACTION_ITEMS_MAX && bytes <= TRANSACTION_BYTES_MAX
}

/// The deliveries of `changes` before any of them was put.
pub(super) fn not_due(changes: &[Change]) -> Vec<Delivery> {
    changes.iter().map(|_| Delivery::NotDue).collect()
}

/// The puts of `changes`, under the versions of their `marks`. A key whose row another key has brought to
/// their common place counts as delivered.
///
/// # Errors
/// The error of `unholdable`, which decides about a change that no item can hold.
pub(super) fn puts<E>(
    changes: &[Change],
    marks: &[Mark],
    deliveries: &mut [Delivery],
    unholdable: impl Fn(&Change, Error) -> Result<Delivery, E>,
) -> Result<Vec<Put>, E> {
    let places = Places::of(changes, marks);
    let mut puts = Vec::with_capacity(marks.len());
    for mark in marks {
        let (of, version, change) = (mark.of, mark.version, &changes[mark.of]);
        if places.is_outdone(change, version) {
            deliveries[of] = Delivery::Applied;
            continue;
        }
        match change.item(mark) {
            Ok(item) => puts.push(Put { of, table: change.binding.target_name.clone(), item, version }),
            Err(reason) => {
                deliveries[of] = unholdable(change, Error::unholdable(change.key.table, &reason))?;
            }
        }
    }
    Ok(puts)
}

impl Writer {
    /// Sends `puts`; the answers are in their order.
    pub(super) async fn send(
        &self,
        puts: &[Put],
        mode: WriteMode,
        together: bool,
        deadline: Instant,
    ) -> Vec<Sent> {
        // Their transaction was asked for them a moment ago.
        let read_at = self.target().reading();
        if together && puts.len() > 1 && are_one_transaction(puts) {
            let request = || {
                self.target().put_all_guarded(
                    read_at,
                    puts.iter().map(|p| (p.table.as_str(), p.item.clone(), p.version)).collect(),
                )
            };
            match self.attempt(mode, deadline, request).await {
                Ok(Landed::Applied) => return puts.iter().map(|_| Sent::Landed).collect(),
                // Some are newer there: the guard decides each.
                Ok(Landed::Superseded) => {}
                Err(failed) => return self.all_failed(puts, mode, failed).await,
            }
        }
        let inserted = match mode {
            WriteMode::BestEffort if !together => self.insert_new(read_at, puts, deadline).await,
            WriteMode::BestEffort | WriteMode::Strict => Vec::new(),
        };
        let mut is_there = vec![false; puts.len()];
        inserted.into_iter().for_each(|at| is_there[at] = true);
        let width = self.options().puts_in_flight_max.max(1);
        // Boxed and collected first: otherwise the compiler cannot see that this future may be sent to
        // another thread.
        let sending: Vec<_> = puts
            .iter()
            .zip(is_there)
            .map(|(put, is_there)| Box::pin(self.send_unless(is_there, read_at, put, mode, deadline)))
            .collect();
        stream::iter(sending).buffered(width).collect().await
    }

    async fn send_unless(
        &self,
        is_there: bool,
        read_at: ReadAt,
        put: &Put,
        mode: WriteMode,
        deadline: Instant,
    ) -> Sent {
        if is_there { Sent::Landed } else { self.send_one(read_at, put, mode, deadline).await }
    }

    async fn send_one(&self, read_at: ReadAt, put: &Put, mode: WriteMode, deadline: Instant) -> Sent {
        let request = || self.target().put_guarded_of(read_at, &put.table, put.item.clone(), put.version);
        match self.attempt(mode, deadline, request).await {
            Ok(written) if written.holds(&put.item, put.version) => Sent::Landed,
            Ok(_) => Sent::Outranked(outranked()),
            Err(failed) => self.looked_up(put, mode, failed).await,
        }
    }

    /// The end of a put whose tries are over. Any answer may be that to a repetition: 1. A mesh sends a
    /// strict put, which is applied, and loses the answer. 2. It sends it again, which is throttled, and that
    /// is our answer; so are those to our own repetitions. 3. The write is rolled back as one of which
    /// nothing left, and the row of no commit stays in the target. So its place is looked at. The mesh may
    /// also give up on a request that is still under way: that lands after the look. No header of an answer
    /// tells whether there was another, so only what DynamoDB says of the item itself is an end; after all
    /// else the key is marked, and what lands late has the truth put over it. A best-effort put has its mark,
    /// and a relay.
    async fn looked_up(&self, put: &Put, mode: WriteMode, Failed { error, lost }: Failed) -> Sent {
        match mode {
            _ if lost => Sent::Lost(error),
            WriteMode::Strict if error.kind != Kind::Fenced => {
                match timeout(LAST_LOOK, self.target().holds(&put.table, &put.item, put.version)).await {
                    Ok(Ok(true)) => Sent::Landed,
                    Ok(Ok(false)) if error.kind == Kind::Invalid => Sent::Refused(error),
                    Ok(Ok(false)) => Sent::Late(error),
                    Ok(Err(_)) | Err(_) => Sent::Lost(error),
                }
            }
            WriteMode::Strict | WriteMode::BestEffort => Sent::Refused(error),
        }
    }

    /// The same of puts that went together, of which all or none are there.
    async fn all_failed(&self, puts: &[Put], mode: WriteMode, failed: Failed) -> Vec<Sent> {
        let Some(first) = puts.first() else { return Vec::new() };
        let again = |error: &Error| Error {
            side: error.side,
            kind: error.kind,
            doing: error.doing.clone(),
            message: error.message.clone(),
            cause: None,
        };
        let end = self.looked_up(first, mode, failed).await;
        let of_each = |_: &Put| match &end {
            Sent::Landed => Sent::Landed,
            Sent::Refused(error) => Sent::Refused(again(error)),
            Sent::Outranked(error) => Sent::Outranked(again(error)),
            Sent::Late(error) => Sent::Late(again(error)),
            Sent::Lost(error) => Sent::Lost(again(error)),
        };
        puts.iter().map(of_each).collect()
    }

    /// Repeats `request` while that can help. A lost answer is looked up by repeating: the guard answers
    /// (I8).
    async fn attempt<T, F: Future<Output = Result<T>>>(
        &self,
        mode: WriteMode,
        deadline: Instant,
        request: impl Fn() -> F,
    ) -> Result<T, Failed> {
        let options = self.options();
        let (first, longest) = (options.retry_delay_ms, options.retry_delay_ms_max);
        let millis = std::time::Duration::from_millis;
        let tries = options.attempts_max(mode).saturating_sub(1);
        let mut backoff = Backoff::new(millis(first.max(1)), millis(longest.max(1)), tries);
        let mut lost = false;
        loop {
            let error = match timeout_at(deadline, request()).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(error)) => error,
                // Given up on is not undone: it may still arrive, late.
                Err(_) => return Err(Failed { error: late(Kind::Unknown), lost: true }),
            };
            lost |= error.kind == Kind::Unknown;
            if error.kind.retry() == Retry::Never {
                return Err(Failed { error, lost });
            }
            let kind = if lost { Kind::Unknown } else { error.kind };
            match timeout_at(deadline, backoff.pause(error)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(Failed { error: Error { kind, ..error }, lost }),
                Err(_) => return Err(Failed { error: late(kind), lost }),
            }
        }
    }
}

/// An error, and whether any of the attempts may have got through.
struct Failed {
    error: Error,
    lost: bool,
}

pub(super) fn late(kind: Kind) -> Error {
    Error::target(kind, "writing", "no answer within the inline time-out")
}

/// The error of a state in whose place something else is. A strict write may try again: 1. Its
/// session dies while it puts. 2. A sweep has the truth put back, under a version above its own. 3. Its put
/// arrives.
fn outranked() -> Error {
    let message = "the item there has a version at least as high, and is not this state; a relay finds out \
                   whether it is newer, or of a time that PostgreSQL has lost";
    Error::target(Kind::Unavailable, "writing", message)
}
