//! The plan, decided without any I/O: how a table is cut into ranges, and how history gets into the target.

use lockstep_dynamo::LoadPath;
use lockstep_postgres::{KeyBound, TableState};

use crate::options::LoadPathChoice;

/// A piece of a table: keys after the first bound, up to and including the second.
pub type Range = (Option<KeyBound>, Option<KeyBound>);

/// Cuts a table at `bounds`, which are sorted and without duplicates; the last is its greatest key.
///
/// Every key up to the last bound is in exactly one range. Keys after it appeared after the plan was made, so capture has
/// them (I1): a backfill of a table that grows for ever ends all the same.
pub fn split(bounds: &[KeyBound]) -> Vec<Range> {
    let lowers = std::iter::once(None).chain(bounds.iter().cloned().map(Some));
    lowers.zip(bounds.iter().cloned().map(Some)).collect()
}

/// What decides the load path.
#[derive(Clone, Copy, Debug)]
pub struct PathFacts {
    /// Whether the endpoint knows PartiQL.
    pub partiql: bool,
    /// Whether nothing but history can have been written, or be under way, to the target; see [`provably_cold`].
    pub cold: bool,
}

/// Whether nothing else may write the target: relay and inline writes have never been enabled for it. A cold load that was
/// broken off does not spoil this, its requests were history as well.
pub fn provably_cold(state: &TableState) -> bool {
    state.relay_enabled_at.is_none() && state.target_name.is_some()
}

/// The load path, or why the chosen one is not safe.
///
/// # Errors
/// A sentence for the operator.
pub fn load_path(choice: LoadPathChoice, facts: PathFacts) -> Result<LoadPath, String> {
    match (choice, facts) {
        (LoadPathChoice::Cold, PathFacts { cold: true, .. }) => Ok(LoadPath::ColdBatch),
        (LoadPathChoice::Cold, PathFacts { cold: false, .. }) => Err(
            "changes may already be in the target, and a write without a condition could overwrite them; use the guarded path"
                .into(),
        ),
        (_, PathFacts { partiql: true, .. }) => Ok(LoadPath::GuardedBatch),
        (LoadPathChoice::Auto, PathFacts { cold: true, .. }) => Ok(LoadPath::ColdBatch),
        _ => Ok(LoadPath::ConditionalPut),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn holds(range: &Range, key: i64) -> bool {
        let number = |bound: &KeyBound| bound[0].parse::<i64>().expect("a number");
        range.0.as_ref().is_none_or(|lower| key > number(lower)) && range.1.as_ref().is_none_or(|upper| key <= number(upper))
    }

    proptest! {
        #[test]
        fn every_key_up_to_the_last_bound_is_in_exactly_one_range(
            bounds in proptest::collection::btree_set(-500_i64..500, 1..40),
            keys in proptest::collection::vec(-600_i64..600, 1..200),
        ) {
            let last = *bounds.last().expect("not empty");
            let bounds: Vec<KeyBound> = bounds.iter().map(|b| vec![b.to_string()]).collect();
            let ranges = split(&bounds);
            prop_assert_eq!(ranges.len(), bounds.len());
            for key in keys {
                let expected = usize::from(key <= last);
                prop_assert_eq!(ranges.iter().filter(|range| holds(range, key)).count(), expected, "key {}", key);
            }
        }
    }

    #[test]
    fn an_empty_table_has_no_ranges() {
        assert!(split(&[]).is_empty());
    }

    #[test]
    fn the_load_path_is_cold_only_when_that_is_safe() {
        use LoadPathChoice::{Auto, Cold, Guarded};
        let facts = |partiql, cold| PathFacts { partiql, cold };
        assert_eq!(load_path(Auto, facts(true, true)), Ok(LoadPath::GuardedBatch));
        assert_eq!(load_path(Auto, facts(false, true)), Ok(LoadPath::ColdBatch));
        assert_eq!(load_path(Auto, facts(false, false)), Ok(LoadPath::ConditionalPut));
        assert_eq!(load_path(Guarded, facts(false, true)), Ok(LoadPath::ConditionalPut));
        assert_eq!(load_path(Cold, facts(true, true)), Ok(LoadPath::ColdBatch));
        assert!(load_path(Cold, facts(true, false)).is_err());
    }
}
