//! Sending changes, and telling right how it ended.

use std::time::Duration;

use lockstep_core::{
    Attributes, Error, Kind, Result, Retry, TTL_ATTRIBUTE, TargetKey, attributes_bytes, version_of,
};
use lockstep_dynamo::{Backoff, ConditionalPut, TRANSACTION_BYTES_MAX, TRANSACTION_ITEMS_MAX, TargetControl};
use tokio::time::{Instant, timeout, timeout_at};

use super::Permit;
use super::change::{Base, Change, Trace};
use crate::store::Writer;
use crate::store::counters::{count, label};
use crate::store::deliver::LAST_LOOK;

/// Signs of the requests of a sending so far.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    /// One may have been carried out: its answer is missing, or a refusal, which an earlier one may have
    /// caused.
    lost: bool,
    /// One left, and something answered.
    answered: bool,
}

/// Sender, by the name that an item keeps, and the label that it is counted under.
#[derive(Clone, Copy)]
struct By<'a> {
    writer: &'a str,
    table: &'static str,
}

/// The end of a sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// All of it is in the target.
    Applied,
    /// None of it is: something is not as it was read.
    Raced,
}

/// Longest wait for a connection's worth of peace after a failure; the deadline bounds how often.
const TRIES_MAX: u32 = 16;

impl Writer {
    /// The control table.
    pub(super) fn control(&self) -> TargetControl {
        self.target().control()
    }

    /// Sends changes of distinct rows, all of them or none.
    ///
    /// # Errors
    /// [`Kind::Unknown`] when it is unknown how it ended, or it was answered too late to be told (I8);
    /// otherwise nothing was written.
    ///
    /// # Cancel safety
    /// A cancelled call is an unknown outcome.
    pub(super) async fn send_changes(
        &self,
        permit: &Permit,
        changes: &[Change],
        deadline: Instant,
    ) -> Result<Sent> {
        let writer = format!("{:012x}", rand::random::<u64>() >> 16);
        let epoch = permit.control.epoch;
        let goes_at_s = match changes.iter().any(Change::leaves_a_tombstone) {
            true => self.tombstones_go_at_s(epoch, deadline).await,
            false => None,
        };
        let mut puts = Vec::with_capacity(changes.len());
        for change in changes {
            puts.extend(change.puts(epoch, &writer, &self.control(), goes_at_s)?);
        }
        let Some((first, base)) = puts.first().zip(changes.iter().find_map(Change::base)) else {
            return Ok(Sent::Applied);
        };
        check_limits(&puts)?;
        let table = label(changes.iter().map(|change| change.table));
        let by = By { writer: &writer, table };
        let sent = self.send_puts(permit, &puts, (first, base), by, deadline).await;
        changes.iter().for_each(|change| self.reads().wrote(change.table));
        let counters = self.counters();
        match sent {
            Ok(Sent::Applied) if !permit.is_answered_in_time().await => {
                count(&counters.unknown, table, 1);
                Err(too_late())
            }
            Ok(Sent::Applied) => {
                count(&counters.target_written, table, 1);
                Ok(Sent::Applied)
            }
            Ok(Sent::Raced) => {
                count(&counters.target_races_lost, table, 1);
                Ok(Sent::Raced)
            }
            Err(error) => {
                if error.kind == Kind::Unknown {
                    count(&counters.unknown, table, 1);
                }
                Err(error)
            }
        }
    }

    async fn send_puts(
        &self,
        permit: &Permit,
        puts: &[ConditionalPut],
        (first, base): (&ConditionalPut, &Base),
        by: By<'_>,
        deadline: Instant,
    ) -> Result<Sent> {
        let options = self.options();
        let millis = |ms: u64| Duration::from_millis(ms.max(1));
        let mut backoff =
            Backoff::new(millis(options.retry_delay_ms), millis(options.retry_delay_ms_max), TRIES_MAX);
        // Longer than the writer's name: 48 bits of it would come twice within the ten minutes of a token
        // once in some days.
        let token = format!("{:032x}", rand::random::<u128>());
        let mut heard = Heard::default();
        let end = |error, heard| self.end(error, heard, first, base, by);
        loop {
            let limit = match permit.covers().await {
                Ok(left) => deadline.min(Instant::now() + left),
                Err(error) => return end(error, heard).await,
            };
            let fence = permit.fence();
            let answer = timeout_at(limit, self.target().put_if(puts, &token, &fence)).await;
            heard.answered |= fence.was_answered();
            let error = match answer {
                Ok(Ok(())) => return Ok(Sent::Applied),
                // It did not leave: whether the lease can be had again, the next round asks.
                Ok(Err(error)) if error.kind == Kind::Fenced && Instant::now() < deadline => continue,
                Ok(Err(error)) => error,
                Err(_) => Error::target(Kind::Unknown, "writing", "no answer in time"),
            };
            // A refusal says no more than a lost reply until the item has been read. 1. Something between
            // repeats a request whose answer it lost. 2. The first one was applied, so that the second is
            // refused, and that is our answer. 3. Taken for a lost race, a function that adds one is called
            // again, on its own result. The same where the item does not name all who have written since, or
            // could not be read.
            heard.lost |= matches!(error.kind, Kind::Unknown | Kind::Refused);
            if error.kind.retry() == Retry::Never && error.kind != Kind::Refused {
                return end(error, heard).await;
            }
            if heard.lost {
                count(&self.counters().target_looked_up, by.table, 1);
                match timeout_at(deadline, self.trace(first, base, by.writer)).await {
                    Ok(Ok(Trace::Applied)) => return Ok(Sent::Applied),
                    Ok(Ok(Trace::Never)) => return Ok(Sent::Raced),
                    // Another item of the transaction is not as it was read, and never will be again.
                    Ok(Ok(Trace::NotYet)) if error.kind == Kind::Refused => return Ok(Sent::Raced),
                    Ok(Ok(Trace::Unknown)) => return Err(not_looked_up(error)),
                    // Sent again under the same conditions, at most one of both can happen.
                    Ok(Ok(Trace::NotYet) | Err(_)) | Err(_) => {}
                }
            }
            match timeout_at(deadline, backoff.pause(error)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return end(error, heard).await,
                Err(_) => {
                    let error = Error::target(Kind::Unavailable, "writing", "no answer in time");
                    return end(error, heard).await;
                }
            }
        }
    }

    /// Ends a sending by `error`. Any answer may be that to a repetition: 1. A mesh sends a put, which is
    /// applied, and loses the answer. 2. It sends the put again, which is throttled, and that is our answer;
    /// so are those to our own repetitions until there is no time left. 3. The caller hears that nothing was
    /// done, and adds one once more. So the item is looked at before that is said.
    async fn end(
        &self,
        error: Error,
        heard: Heard,
        first: &ConditionalPut,
        base: &Base,
        by: By<'_>,
    ) -> Result<Sent> {
        if !heard.lost && !heard.answered {
            return Err(error);
        }
        count(&self.counters().target_looked_up, by.table, 1);
        match timeout(LAST_LOOK, self.trace(first, base, by.writer)).await {
            Ok(Ok(trace)) => told(trace, error, heard.lost, self.target().may_be_repeated_between()),
            _ => Err(not_looked_up(error)),
        }
    }

    /// Looks a lost reply up in the item itself.
    async fn trace(&self, put: &ConditionalPut, base: &Base, writer: &str) -> Result<Trace> {
        let (Some(key), Some(version)) = (TargetKey::of(&put.item), version_of(&put.item)) else {
            return Ok(Trace::Unknown);
        };
        let now = self.target().get(&put.table, &key).await?;
        // Also what stands there now may go: 1. An insert meets an item past its expiry, and is refused.
        // 2. The item goes. 3. A late repetition of the insert lands.
        let may_be_gone = may_have_expired(&put.item) || now.as_ref().is_some_and(may_have_expired);
        Ok(base.trace(writer, version.epoch(), &Base::of(now.as_ref())?, may_be_gone))
    }
}

/// Tells whether DynamoDB may have removed an item that was put a moment ago, by this machine's clock or one
/// that is an hour ahead of it.
fn may_have_expired(item: &Attributes) -> bool {
    let expires_at_s = item.get(TTL_ATTRIBUTE).and_then(|value| value.as_n().ok());
    let hour_from_now = chrono::Utc::now().timestamp() + 3_600;
    expires_at_s.is_some_and(|at_s| at_s.parse().is_ok_and(|at_s: i64| at_s < hour_from_now))
}

/// The end of a sending by `error`, once its item was looked at.
///
/// 1. A mesh gives up on a put that is still under way, and repeats it. 2. The repetition is throttled, and
/// that is our answer. 3. The item is as it was. 4. The put lands: what was told as undone is done. Nothing
/// in an answer tells it from that to a first attempt, but over TLS up to Amazon's own endpoint nothing
/// between can repeat what it does not read: there a throttle is the end, as mostly. Elsewhere it is unknown.
fn told(trace: Trace, error: Error, lost: bool, may_be_repeated: bool) -> Result<Sent> {
    match trace {
        Trace::Applied => Ok(Sent::Applied),
        Trace::Never if !lost => Err(error),
        Trace::Never => Ok(Sent::Raced),
        // What DynamoDB says of the item itself it says of each of its attempts.
        Trace::NotYet if !lost && (!may_be_repeated || error.kind == Kind::Invalid) => Err(error),
        Trace::NotYet if !lost => {
            let message = format!(
                "{}; something between this process and DynamoDB may have repeated it, and an attempt before \
                    that may still land",
                error.message
            );
            Err(Error { kind: Kind::Unknown, message, ..error })
        }
        Trace::NotYet | Trace::Unknown => Err(not_looked_up(error)),
    }
}

/// DynamoDB would refuse it as well, in other words.
fn check_limits(puts: &[ConditionalPut]) -> Result<()> {
    let bytes: usize = puts.iter().map(|put| attributes_bytes(&put.item)).sum();
    if puts.len() > TRANSACTION_ITEMS_MAX || (puts.len() > 1 && bytes > TRANSACTION_BYTES_MAX) {
        let message = format!(
            "it would put {} items of {bytes} bytes together; DynamoDB takes {TRANSACTION_ITEMS_MAX} items and \
             {TRANSACTION_BYTES_MAX} bytes in one transaction (a new or moved row is two or three items): make it smaller",
            puts.len()
        );
        return Err(Error::target(Kind::Invalid, "writing together", message));
    }
    Ok(())
}

fn not_looked_up(error: Error) -> Error {
    let message = format!("{}; whether it was written could not be looked up", error.message);
    Error { kind: Kind::Unknown, message, ..error }
}

fn too_late() -> Error {
    let message = "it was answered after the lease of this instance was over, so it may be undone by a step; look it up";
    Error::target(Kind::Unknown, "writing", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_still_land_is_told_as_undone_only_where_nothing_between_can_repeat_it() {
        let kind = |trace, kind, lost, repeated| {
            let error = Error::target(kind, "writing", "refused");
            told(trace, error, lost, repeated).map_err(|error| error.kind)
        };
        for of in [Kind::Throttled, Kind::Unavailable, Kind::Denied] {
            assert_eq!(kind(Trace::NotYet, of, false, false), Err(of), "straight to Amazon");
            assert_eq!(kind(Trace::NotYet, of, false, true), Err(Kind::Unknown), "a mesh between");
            assert_eq!(kind(Trace::Never, of, false, true), Err(of), "another was first");
            assert_eq!(kind(Trace::NotYet, of, true, false), Err(Kind::Unknown), "an answer was lost");
            assert_eq!(kind(Trace::Applied, of, true, true), Ok(Sent::Applied));
        }
        assert_eq!(
            kind(Trace::NotYet, Kind::Invalid, false, true),
            Err(Kind::Invalid),
            "no attempt can land"
        );
        assert_eq!(kind(Trace::Never, Kind::Throttled, true, false), Ok(Sent::Raced));
        assert_eq!(kind(Trace::Unknown, Kind::Throttled, false, false), Err(Kind::Unknown));
    }
}
