//! Store that holds the truth, and how the truth moves from one to the other.
//!
//! The control record lives with the truth: in PostgreSQL up to HybridRead, in DynamoDB in DynamoOnly, so
//! that an application needs only the store that it works on. Each move is *decided* by one write to the
//! store that the truth leaves, and then *copied* to the other one. Epochs grow over both stores together.
//!
//! # Which record wins
//!
//! | PostgreSQL says | DynamoDB says | the truth is |
//! |---|---|---|
//! | not DynamoOnly, epoch *s* | nothing, or not DynamoOnly at an epoch ≤ *s* | in PostgreSQL |
//! | not DynamoOnly, *s* | anything at an epoch > *s* | where DynamoDB says: PostgreSQL has lost history |
//! | not DynamoOnly, *s* | DynamoOnly at an epoch ≤ *s* | not known: no order of our writes makes this |
//! | DynamoOnly, *s* | nothing, or an epoch < *s* | moving to DynamoDB: decided, not yet copied; no application writes. Once an application may have written there, it was lost |
//! | DynamoOnly, *s* | DynamoOnly at an epoch ≥ *s* | in DynamoDB |
//! | DynamoOnly, *s* | not DynamoOnly, > *s* | moving back to PostgreSQL: decided, not yet copied; no application writes |
//! | no answer | DynamoOnly | in DynamoDB: the way back is decided here first, so it has not begun |
//! | no answer | anything else | unknown until PostgreSQL answers |
//!
//! Where history was lost, or no order of our writes makes what is there, a diagnosis says what to do.
//!
//! A reader of PostgreSQL alone reads in DynamoOnly: the truth is in DynamoDB since this epoch, do not write
//! here. Pauses in DynamoDB raise its epoch further; PostgreSQL does not follow them.
//!
//! # What a crash leaves, and who repairs it
//!
//! Between decision and copy no application can write: on the way there PostgreSQL refuses and DynamoDB has
//! no record that opens it; on the way back DynamoDB's record sends every process to PostgreSQL, which still
//! refuses. The next coordinator calls `truth::settle`, which repeats the copy; both copies change nothing
//! when they are repeated or come late. Before the decision there is nothing to repair but a pause, which the
//! coordinator opens again or goes on from. A record that was lost after writes were let go on looks like one
//! that was not copied yet, and only the journal tells one from the other.
//!
//! # Writes that come late
//!
//! PostgreSQL's barrier cannot stop writes in DynamoOnly. What stops them is this: 1. A write holds a permit
//! of its epoch, and an instance acknowledges a pause when no permit of an earlier epoch is out. 2. A request
//! is sent only under a lease, waits for its answer no longer than the lease, and what is answered later is
//! not acknowledged but unknown (I8). So every *acknowledged* write was in DynamoDB before the coordinator
//! has seen the acknowledgement or waited the lease out, and with that before the reverse feed is drained
//! (I7). 3. A request that was given up may still be applied later, at most until its signature expires. It
//! is unacknowledged, and harmless where its item has moved on, for it names the version that it replaces.
//! Where it has not, it leaves a *late state* of an old epoch in DynamoDB after the flip back: no caller was
//! told of it, but the stores differ. So the reverse feed must stay open for the request lifetime after a
//! flip back, and mark the key of each record that still comes in with a version below the new epoch as
//! pending: the relay then puts the truth over it under a version that outranks it.

use crate::control::{Control, TargetRecord};
use crate::phase::Phase;
use crate::version::Epoch;

/// Store that holds the truth, by both records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// PostgreSQL is the truth.
    InSource,
    /// DynamoDB is the truth.
    InTarget,
    /// The truth is on its way to DynamoDB since this epoch: the coordinator's `truth::settle` finishes the
    /// step.
    ToTarget(Epoch),
    /// The truth is on its way back to PostgreSQL, which is to be in this phase and epoch: the coordinator's
    /// `truth::settle` finishes the step.
    ToSource(Phase, Epoch),
    /// The records contradict each other: a store has lost history.
    Lost,
}

/// Decides by the two records; see the table of this module.
pub fn truth(source: &Control, target: Option<&TargetRecord>) -> Truth {
    let moved_here = source.phase == Phase::DynamoOnly;
    match target {
        None if moved_here => Truth::ToTarget(source.epoch),
        None => Truth::InSource,
        Some(target) if moved_here => match (target.holds_truth(), target.epoch.cmp(&source.epoch)) {
            (_, std::cmp::Ordering::Less) => Truth::ToTarget(source.epoch),
            (true, _) => Truth::InTarget,
            (false, std::cmp::Ordering::Greater) => Truth::ToSource(target.phase, target.epoch),
            (false, std::cmp::Ordering::Equal) => Truth::Lost,
        },
        Some(target) if target.epoch > source.epoch || target.holds_truth() => Truth::Lost,
        Some(_) => Truth::InSource,
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::control::Writes;

    #[track_caller]
    fn check(source: (Phase, i64), target: Option<(Phase, i64)>, expected: Truth) {
        let changed_at = DateTime::UNIX_EPOCH;
        let source = Control { phase: source.0, epoch: Epoch(source.1), changed_at, writes_paused: false };
        let target = target.map(|(phase, epoch)| TargetRecord {
            phase,
            epoch: Epoch(epoch),
            writes: Writes::Paused,
            since: Epoch(epoch),
            changed_at,
            completed_at: None,
        });
        assert_eq!(truth(&source, target.as_ref()), expected);
    }

    #[test]
    fn the_two_records_say_together_where_the_truth_is() {
        use Phase::{DynamoOnly, HybridRead};
        check((HybridRead, 4), None, Truth::InSource);
        check((HybridRead, 4), Some((HybridRead, 4)), Truth::InSource);
        check((HybridRead, 9), Some((HybridRead, 4)), Truth::InSource);
        check((DynamoOnly, 5), None, Truth::ToTarget(Epoch(5)));
        check((DynamoOnly, 9), Some((HybridRead, 7)), Truth::ToTarget(Epoch(9)));
        check((DynamoOnly, 5), Some((DynamoOnly, 5)), Truth::InTarget);
        check((DynamoOnly, 5), Some((DynamoOnly, 8)), Truth::InTarget);
        check((DynamoOnly, 5), Some((HybridRead, 7)), Truth::ToSource(HybridRead, Epoch(7)));
        check((HybridRead, 4), Some((DynamoOnly, 5)), Truth::Lost);
        check((HybridRead, 4), Some((HybridRead, 7)), Truth::Lost);
        check((HybridRead, 9), Some((DynamoOnly, 5)), Truth::Lost);
        check((DynamoOnly, 7), Some((HybridRead, 7)), Truth::Lost);
    }
}
