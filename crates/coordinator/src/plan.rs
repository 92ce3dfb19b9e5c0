//! The plan, decided without any I/O: how a table is cut into ranges, and how the initial load gets into the
//! target.

use lockstep_dynamo::LoadPath;
use lockstep_postgres::KeyBound;

use crate::options::LoadPathChoice;

/// A piece of a table: keys after the first bound, up to and including the second.
pub type Range = (Option<KeyBound>, Option<KeyBound>);

/// Cuts a table at `bounds`, which are sorted and without duplicates; the last is its greatest key.
///
/// Every key up to the last bound is in exactly one range. Keys after it appeared after the plan was made, so
/// capture has them (I1): a backfill of a table that grows for ever ends all the same.
pub fn split(bounds: &[KeyBound]) -> Vec<Range> {
    let lowers = std::iter::once(None).chain(bounds.iter().cloned().map(Some));
    lowers.zip(bounds.iter().cloned().map(Some)).collect()
}

/// The load path. Each yields to whatever is in the target already, so that a process that was stopped in the
/// middle and wakes hours later, with requests that it signs then, overwrites nothing.
pub fn load_path(choice: LoadPathChoice, has_partiql: bool) -> LoadPath {
    if choice == LoadPathChoice::Cold {
        tracing::warn!(
            "load path `cold` is no more: it was no faster, and not safe from a process that slept; loading guarded"
        );
    }
    if has_partiql { LoadPath::GuardedBatch } else { LoadPath::ConditionalPut }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn holds(range: &Range, key: i64) -> bool {
        let number = |bound: &KeyBound| bound[0].parse::<i64>().expect("a number");
        range.0.as_ref().is_none_or(|lower| key > number(lower))
            && range.1.as_ref().is_none_or(|upper| key <= number(upper))
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
    fn every_load_path_yields_to_what_is_there() {
        use LoadPathChoice::{Auto, Cold, Guarded};
        for choice in [Auto, Guarded, Cold] {
            assert_eq!(load_path(choice, true), LoadPath::GuardedBatch);
            assert_eq!(load_path(choice, false), LoadPath::ConditionalPut);
        }
    }
}
