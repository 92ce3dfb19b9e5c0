//! From what is known to the store that answers: pure, and the only place that decides.

use aws_sdk_dynamodb::types::AttributeValue;
use lockstep_core::{Phase, TargetKey};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::answer::{ReadFrom, SourceCause};
use super::options::Share;

/// The question of a read, as far as the route depends on it.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) enum Asked {
    /// The row of one key, by the hash of its place in the target.
    Key(u64),
    /// A query, by the hash of what it asks for; pages of one list have the same.
    Query(u64),
}

/// The store that is to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum ReadRoute {
    /// The source, for this reason.
    Source(SourceCause),
    /// The target; on a miss or an error the source is asked.
    TargetThenSource(ReadFrom),
    /// The target, which is the truth.
    TargetOnly,
}

/// Assumptions that a reader may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing pending is older than the bound.
    Fresh {
        /// There are rows that the target cannot hold.
        dead_letters: bool,
    },
    /// Something pending is older than the bound.
    Stale,
    /// The source did not answer.
    Alone,
    /// The last answer is too old to say anything.
    UsedUp,
}

/// Whether a write of this instance may not be in the target yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnWrites {
    /// Everything asked for has arrived.
    Arrived,
    /// Some of it is deferred still.
    Deferred,
    /// More keys are deferred than are remembered.
    Overflow,
}

/// The route in a phase that leaves no choice.
pub(super) fn outside_hybrid(phase: Phase) -> ReadRoute {
    match phase {
        Phase::PostgresOnly | Phase::DualWrite | Phase::HybridRead => ReadRoute::Source(SourceCause::Phase),
        Phase::DynamoOnly => ReadRoute::TargetOnly,
    }
}

/// The route in HybridRead. The order matters for the mark only: what an operator can cure comes before what
/// he chose.
pub(super) fn in_hybrid(seen: Seen, own: OwnWrites, asked: Asked, canary_points: u32) -> ReadRoute {
    let (hash, is_query) = match asked {
        Asked::Key(hash) => (hash, false),
        Asked::Query(hash) => (hash, true),
    };
    let cause = match (own, seen) {
        (OwnWrites::Overflow, _) => SourceCause::DeferredOverflow,
        (OwnWrites::Deferred, _) => SourceCause::Deferred,
        (_, Seen::Stale | Seen::UsedUp) => SourceCause::Stale,
        // A key that is missing is looked up in the source; a query would not notice that a row is missing.
        (_, Seen::Fresh { dead_letters: true }) if is_query => SourceCause::DeadLetters,
        _ if canary_points < Share::ALL.basis_points()
            && !Share::of_basis_points(canary_points).covers(hash) =>
        {
            SourceCause::Canary
        }
        (_, Seen::Alone) => return ReadRoute::TargetThenSource(ReadFrom::TargetAlone),
        (_, Seen::Fresh { .. }) => return ReadRoute::TargetThenSource(ReadFrom::Target),
    };
    ReadRoute::Source(cause)
}

/// A number that stands for a place in the target, the same on every machine and in every version since the
/// one that took XXH3: instances of two builds must agree on which keys are canaries. The specification of
/// XXH3 fixes it; the standard library does not promise that its hash stays the same. It is not stored.
pub(in crate::store) fn hash_of_place(key: &TargetKey) -> u64 {
    let partition = xxh3_64(bytes_of(&key.partition));
    key.sort.as_ref().map_or(partition, |sort| xxh3_64_with_seed(bytes_of(sort), partition))
}

/// A number that stands for a text; see [`hash_of_place`].
pub(in crate::store) fn hash_of_text(text: &str) -> u64 {
    xxh3_64(text.as_bytes())
}

/// The text of a part of a key, which is a string or a number.
fn bytes_of(value: &AttributeValue) -> &[u8] {
    match value {
        AttributeValue::S(text) | AttributeValue::N(text) => text.as_bytes(),
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Seen = Seen::Fresh { dead_letters: false };
    const LEFT_OUT: Seen = Seen::Fresh { dead_letters: true };

    #[track_caller]
    fn check(seen: Seen, own: OwnWrites, asked: Asked, canary: u32, expected: Result<ReadFrom, SourceCause>) {
        let expected = expected.map_or_else(ReadRoute::Source, ReadRoute::TargetThenSource);
        assert_eq!(in_hybrid(seen, own, asked, canary), expected, "{seen:?} {own:?} {asked:?} {canary}");
    }

    #[test]
    fn hybrid_read_reads_the_target_only_when_nothing_speaks_against_it() {
        use OwnWrites::{Arrived, Deferred, Overflow};
        let (key, query) = (Asked::Key(7), Asked::Query(7));
        check(FRESH, Arrived, key, 10_000, Ok(ReadFrom::Target));
        check(Seen::Alone, Arrived, query, 10_000, Ok(ReadFrom::TargetAlone));
        check(LEFT_OUT, Arrived, key, 10_000, Ok(ReadFrom::Target));
        check(LEFT_OUT, Arrived, query, 10_000, Err(SourceCause::DeadLetters));
        check(FRESH, Arrived, key, 0, Err(SourceCause::Canary));
        check(Seen::Stale, Arrived, key, 10_000, Err(SourceCause::Stale));
        check(Seen::UsedUp, Arrived, key, 10_000, Err(SourceCause::Stale));
        check(Seen::Stale, Deferred, key, 0, Err(SourceCause::Deferred));
        check(Seen::Alone, Overflow, query, 10_000, Err(SourceCause::DeferredOverflow));
    }

    #[test]
    fn a_canary_is_sticky_a_larger_share_keeps_it_and_the_share_is_kept_to() {
        let keys: Vec<u64> = (0..20_000).map(|n| hash_of_text(&format!("customer {n}"))).collect();
        let within = |percent: f64| {
            let share = Share::percent(percent).expect("a share");
            keys.iter().map(|key| share.covers(*key)).collect::<Vec<_>>()
        };
        assert_eq!(within(30.0), within(30.0));
        for (small, large) in within(10.0).into_iter().zip(within(11.0)) {
            assert!(!small || large, "raising the share takes no key away");
        }
        for percent in [1.0, 10.0, 50.0, 99.0] {
            let found = within(percent).into_iter().filter(|covered| *covered).count() as f64 / 200.0;
            assert!((found - percent).abs() < 1.5, "{percent} % asked for, {found} % covered");
        }
        assert!(within(0.0).into_iter().all(|covered| !covered));
        assert!(within(100.0).into_iter().all(|covered| covered));
    }

    #[test]
    fn the_hash_is_the_same_in_every_version() {
        let key = TargetKey {
            partition: AttributeValue::N("7".into()),
            sort: Some(AttributeValue::S("2026".into())),
        };
        assert_eq!(
            (hash_of_place(&key), hash_of_text("")),
            (PINNED_KEY, PINNED_EMPTY),
            "other instances count on it"
        );
    }

    const PINNED_KEY: u64 = 4_603_505_671_130_497_977;
    const PINNED_EMPTY: u64 = 3_244_421_341_483_603_138;
}
