//! Differences that the ledger finds of two sides equal those planted, whatever the order.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::ledger::{Batch, Begun, Counted, Difference, Entry, Folder, Ledger, Piece, Side, Standing};
use crate::print::Print;

const MEMORY_BYTES: usize = 64 << 20;

fn ledger(rows: i64) -> Ledger {
    Ledger::new(rows, MEMORY_BYTES, (vec![Piece::default()], vec![Piece::default()]), None, None)
        .expect("nothing is kept")
}

fn enter(ledger: &Ledger, side: Side, entries: &[Entry]) {
    ledger.enter(side, Batch { entries: entries.to_vec(), ..Batch::default() }).expect("written");
}

fn entry(place: u64, state: u64, standing: Standing) -> Entry {
    // Both are hashes, as those of a printer are: places spread over all buckets, and sums of states do not
    // meet by chance.
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
        all.twins.extend(one.twins);
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
        let ledger = ledger(20_000);
        enter(&ledger, Side::Source, &rows);
        let mut items = rows.clone();
        for (place, state) in &planted[..differences] {
            items[*place as usize] = entry(*place, *state, Standing::Live);
        }
        items.reverse();
        enter(&ledger, Side::Target, &items);
        let found = difference(&ledger);
        assert_eq!(found.rows.len(), differences);
        assert!(found.items.is_empty());
        assert_eq!(found.equal as usize, rows.len() - differences);
        assert!(
            found.buckets_differing as usize <= differences,
            "{} of {}",
            found.buckets_differing,
            ledger.buckets()
        );
    }
}

#[test]
fn of_two_rows_in_one_bucket_only_the_one_that_differs_is_found() {
    let ledger = ledger(2);
    let at = |place: u128, state| Entry {
        print: Print { place, state },
        standing: Standing::Live,
        name: vec![place as u8],
    };
    enter(&ledger, Side::Source, &[at(1, 10), at(2, 20)]);
    enter(&ledger, Side::Target, &[at(1, 11), at(2, 20)]);
    let found = difference(&ledger);
    assert_eq!(
        (found.equal, found.rows, found.items.len(), found.buckets_differing),
        (1, vec![vec![1]], 0, 1)
    );
}

#[test]
fn a_row_past_its_expiry_may_be_gone_but_not_deleted() {
    let ledger = ledger(2);
    let expired =
        [entry(1, 1, Standing::Expired), entry(2, 2, Standing::Expired), entry(3, 3, Standing::Expired)];
    enter(&ledger, Side::Source, &expired);
    enter(&ledger, Side::Target, &[entry(2, 9, Standing::Tombstone), entry(3, 3, Standing::Live)]);
    let found = difference(&ledger);
    assert_eq!((found.equal, found.expired, found.rows, found.items), (1, 1, vec![name(2)], vec![]));
}

#[test]
fn two_rows_at_one_place_are_one_row_too_many_and_each_names_the_other() {
    let named =
        |name: &str, state| Entry { name: name.as_bytes().to_vec(), ..entry(7, state, Standing::Live) };
    let bytes = |name: &str| name.as_bytes().to_vec();
    // Of two keys: whichever of them the item is of, and whichever is read first.
    for (rows, others) in
        [([named("a", 1), named("b", 2)], vec![]), ([named("b", 2), named("a", 1)], vec!["b"])]
    {
        let ledger = ledger(2);
        enter(&ledger, Side::Source, &rows);
        enter(&ledger, Side::Target, &[named("", 1)]);
        let found = difference(&ledger);
        let expected: Vec<_> =
            ["a", "b"].into_iter().filter(|name| *name == "b" || !others.is_empty()).map(bytes).collect();
        assert_eq!(found.rows, expected);
        assert_eq!(
            (found.twins[&bytes("a")].clone(), found.twins[&bytes("b")].clone()),
            (bytes("b"), bytes("a"))
        );
    }
    // Of one key, and the same in every column.
    let ledger = ledger(2);
    enter(&ledger, Side::Source, &[named("a", 1), named("a", 1)]);
    enter(&ledger, Side::Target, &[named("", 1)]);
    let found = difference(&ledger);
    assert_eq!(
        (found.equal, found.rows, found.twins[&bytes("a")].clone()),
        (1, vec![bytes("a")], bytes("a"))
    );
}

/// An entry at a place of its own in the first bucket.
fn at(place: u128, state: u128) -> Entry {
    Entry { print: Print { place, state }, standing: Standing::Live, name: vec![place as u8] }
}

fn found_between(rows: &[Entry], items: &[Entry]) -> Vec<Vec<u8>> {
    let ledger = ledger(2);
    enter(&ledger, Side::Source, rows);
    enter(&ledger, Side::Target, items);
    let found = difference(&ledger);
    assert_eq!(found.equal as usize + found.rows.len(), rows.len());
    found.rows
}

#[test]
fn a_sum_has_128_bits_and_goes_with_a_count() {
    let high = 1 << 127;
    assert_eq!(found_between(&[at(1, 7)], &[at(1, 7 | high)]), vec![vec![1]]);
    // Together they sum up to nothing at all, but there are two of them.
    assert_eq!(found_between(&[at(1, high), at(2, high)], &[]), vec![vec![1], vec![2]]);
    assert_eq!(found_between(&[at(1, 0)], &[]), vec![vec![1]]);
}

#[test]
fn two_sets_of_equal_sum_and_count_are_taken_for_one_which_is_why_states_are_hashes_of_whole_items() {
    // By construction: this takes knowledge of the seed.
    assert!(found_between(&[at(1, 10), at(2, 20)], &[at(1, 11), at(2, 19)]).is_empty());
    // Two rows that swap everything but their keys are the natural way to such a pair, so a state covers its
    // key.
    let of = |key: &str, text: &str| {
        let string = |text: &str| lockstep_core::AttributeValue::S(text.to_owned());
        let item = [("PK", string(key)), ("text", string(text))];
        let print =
            crate::print::Printer::new(7).print(item.iter().map(|(name, value)| (*name, value.into())));
        // Into one bucket, whatever the key.
        Entry {
            print: Print { place: print.place >> 20, ..print },
            standing: Standing::Live,
            name: key.as_bytes().to_vec(),
        }
    };
    let mut found = found_between(&[of("a", "x"), of("b", "y")], &[of("a", "y"), of("b", "x")]);
    found.sort();
    assert_eq!(found, vec![b"a".to_vec(), b"b".to_vec()]);
}

/// Makes a ledger that is kept in `folder`, with two pieces of rows and one of items.
fn kept(folder: &std::path::Path) -> Ledger {
    let folder = Folder::take(folder).expect("a folder").expect("it is free");
    let begun = Begun { as_of: chrono::Utc::now(), pass: None, number: None };
    let kept = Some((folder, "same".to_owned(), begun));
    Ledger::new(0, MEMORY_BYTES, (vec![Piece::default(); 2], vec![Piece::default()]), None, kept)
        .expect("a folder")
}

fn resumed(path: &std::path::Path) -> Ledger {
    let folder = Folder::take(path).expect("a folder").expect("it is free");
    let manifest = folder.read().expect("a manifest");
    assert_eq!(manifest.identity, "same");
    Ledger::resume(folder, manifest).expect("reads back")
}

#[test]
fn a_ledger_goes_on_from_its_checkpoint_and_what_came_after_it_never_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let batch = |piece, after: Option<&str>, places: std::ops::Range<u64>| Batch {
        piece,
        after: after.map(|after| vec![after.to_owned()]),
        entries: places.clone().map(|place| entry(place, 1, Standing::Live)).collect(),
        aside: vec![format!("aside {piece}").into_bytes()],
        counted: Counted { read: places.end - places.start, ..Counted::default() },
    };
    let ledger = kept(folder.path());
    ledger.enter(Side::Source, batch(0, None, 0..100)).expect("written");
    ledger.enter(Side::Source, batch(1, Some("half"), 100..150)).expect("written");
    ledger.enter(Side::Target, batch(0, Some("some"), 0..120)).expect("written");
    ledger.checkpoint().expect("synced");
    // Not vouched for, though it may well be on the disk.
    ledger.enter(Side::Source, batch(1, None, 150..200)).expect("written");
    ledger.enter(Side::Target, batch(0, None, 120..199)).expect("written");
    assert!(Folder::take(folder.path()).expect("a folder").is_none(), "another run has it");
    drop(ledger);

    let ledger = resumed(folder.path());
    let pass = ledger.pass(Side::Source);
    assert_eq!((pass.counted.read, pass.left().len()), (150, 1));
    assert_eq!(pass.left()[0], (1, Piece { after: Some(vec!["half".to_owned()]), until: None, done: false }));
    ledger.enter(Side::Source, batch(1, None, 150..200)).expect("written");
    ledger.enter(Side::Target, batch(0, None, 120..199)).expect("written");
    ledger.checkpoint().expect("synced");
    drop(ledger);

    let ledger = resumed(folder.path());
    assert!(ledger.pass(Side::Source).left().is_empty() && ledger.pass(Side::Target).left().is_empty());
    let found = difference(&ledger);
    assert_eq!(
        (found.equal, found.rows, found.items.len(), found.buckets_differing),
        (199, vec![name(199)], 0, 1)
    );
    let mut asides = Vec::new();
    ledger
        .asides(Side::Source, |name| asides.push(String::from_utf8(name).expect("text")))
        .expect("reads back");
    assert_eq!(asides, ["aside 0", "aside 1", "aside 1"]);
    ledger.forget().expect("removed");
    // One that was under way when the run came to its end.
    ledger.checkpoint().expect("nothing to do");
    drop(ledger);
    assert!(Folder::take(folder.path()).expect("a folder").expect("it is free").read().is_none());
}

#[test]
fn files_that_lost_what_was_vouched_for_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = kept(folder.path());
    enter(&ledger, Side::Source, &(0..500).map(|place| entry(place, 1, Standing::Live)).collect::<Vec<_>>());
    ledger.checkpoint().expect("synced");
    drop(ledger);
    let spool = folder.path().join("source-0003.spool");
    std::fs::OpenOptions::new().write(true).open(&spool).expect("a spool").set_len(10).expect("cut");
    let taken = Folder::take(folder.path()).expect("a folder").expect("it is free");
    let manifest = taken.read().expect("a manifest");
    assert!(Ledger::resume(taken, manifest).is_err());
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
        let ledger = ledger(0);
        let entries = |side: &BTreeMap<u64, u64>| -> Vec<Entry> {
            side.iter().map(|(place, state)| entry(*place, *state, Standing::Live)).collect()
        };
        enter(&ledger, Side::Source, &entries(&source));
        enter(&ledger, Side::Target, &entries(&target));
        let deleted: Vec<Entry> = tombstones.iter().map(|place| entry(*place, 0, Standing::Tombstone)).collect();
        enter(&ledger, Side::Target, &deleted);
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
