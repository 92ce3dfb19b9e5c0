//! What the ledger says of two sides equals what was planted, whatever the order.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::ledger::{Difference, Entry, Ledger, Side, Standing};
use crate::print::Print;

fn entry(place: u64, state: u64, standing: Standing) -> Entry {
    // Both are hashes, as those of a printer are: places spread over all buckets, and sums of states do not meet by chance.
    let hash = |parts: [u64; 2]| xxhash_rust::xxh3::xxh3_128(&parts.map(u64::to_le_bytes).concat());
    let (place, state) = (hash([place, 0]), hash([place, state + 1]));
    Entry { print: Print { place, state }, standing, name: place.to_string().into_bytes() }
}

fn name(place: u64) -> Vec<u8> {
    entry(place, 0, Standing::Live).name
}

fn difference(ledger: &Ledger) -> Difference {
    let mut all = Difference::default();
    for partition in 0..ledger.partitions() {
        let one = ledger.compare(partition).expect("a temporary file");
        all.equal += one.equal;
        all.expired += one.expired;
        all.buckets_differing += one.buckets_differing;
        all.rows.extend(one.rows);
        all.items.extend(one.items);
    }
    all.rows.sort();
    all.items.sort();
    all
}

#[test]
fn equal_sides_read_no_bucket_again_and_k_differences_at_most_k() {
    let rows: Vec<Entry> = (0..20_000).map(|place| entry(place, place + 1, Standing::Live)).collect();
    let planted = [(17, 0), (4_711, 1), (19_999, 2)];
    for differences in 0..=planted.len() {
        let ledger = Ledger::new(20_000);
        ledger.enter(Side::Source, &rows).expect("written");
        let mut items = rows.clone();
        for (place, state) in &planted[..differences] {
            items[*place as usize] = entry(*place, *state, Standing::Live);
        }
        items.reverse();
        ledger.enter(Side::Target, &items).expect("written");
        let found = difference(&ledger);
        assert_eq!(found.rows.len(), differences);
        assert!(found.items.is_empty());
        assert_eq!(found.equal as usize, rows.len() - differences);
        assert!(found.buckets_differing as usize <= differences, "{} of {}", found.buckets_differing, ledger.buckets());
    }
}

#[test]
fn of_two_rows_in_one_bucket_only_the_one_that_differs_is_found() {
    let ledger = Ledger::new(2);
    let at = |place: u128, state| Entry { print: Print { place, state }, standing: Standing::Live, name: vec![place as u8] };
    ledger.enter(Side::Source, &[at(1, 10), at(2, 20)]).expect("written");
    ledger.enter(Side::Target, &[at(1, 11), at(2, 20)]).expect("written");
    let found = difference(&ledger);
    assert_eq!((found.equal, found.rows, found.items.len(), found.buckets_differing), (1, vec![vec![1]], 0, 1));
}

#[test]
fn a_row_past_its_expiry_may_be_gone_but_not_deleted() {
    let ledger = Ledger::new(2);
    ledger
        .enter(Side::Source, &[entry(1, 1, Standing::Expired), entry(2, 2, Standing::Expired), entry(3, 3, Standing::Expired)])
        .expect("written");
    ledger.enter(Side::Target, &[entry(2, 9, Standing::Tombstone), entry(3, 3, Standing::Live)]).expect("written");
    let found = difference(&ledger);
    assert_eq!((found.equal, found.expired, found.rows, found.items), (1, 1, vec![name(2)], vec![]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// One side is a map from places to states; so is the other; the ledger finds exactly where they differ.
    #[test]
    fn findings_equal_the_plant(
        source in proptest::collection::btree_map(0_u64..400, 0_u64..3, 0..300),
        target in proptest::collection::btree_map(0_u64..400, 0_u64..3, 0..300),
        tombstones in proptest::collection::btree_set(400_u64..500, 0..50),
    ) {
        let ledger = Ledger::new(0);
        let entries = |side: &BTreeMap<u64, u64>| -> Vec<Entry> {
            side.iter().map(|(place, state)| entry(*place, *state, Standing::Live)).collect()
        };
        ledger.enter(Side::Source, &entries(&source)).expect("written");
        ledger.enter(Side::Target, &entries(&target)).expect("written");
        let deleted: Vec<Entry> = tombstones.iter().map(|place| entry(*place, 0, Standing::Tombstone)).collect();
        ledger.enter(Side::Target, &deleted).expect("written");
        let found = difference(&ledger);
        let mut rows: Vec<_> = source.iter().filter(|(place, state)| target.get(place) != Some(state)).map(|(place, _)| name(*place)).collect();
        let mut items: Vec<_> = target.keys().filter(|place| !source.contains_key(place)).map(|place| name(*place)).collect();
        rows.sort();
        items.sort();
        prop_assert_eq!(found.equal as usize + rows.len(), source.len());
        prop_assert_eq!(found.rows, rows);
        prop_assert_eq!(found.items, items);
    }
}
