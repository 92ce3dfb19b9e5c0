//! A page says of an item its newest state.

use lockstep_core::Version;

use super::*;

/// Checks what a page of records of one item comes to, told in words.
#[track_caller]
fn check(versions: &[(Option<i64>, bool)], expected: &str) {
    let image = |version: i64, deleted: bool| {
        let mut image = record(1, version as u32, 1).new.expect("an image");
        if deleted {
            image.insert("_deleted".to_owned(), AttributeValue::Bool(true));
        }
        image
    };
    let mut before = None;
    let records = versions.iter().map(|(version, flag)| {
        let new = version.map(|version| image(version, *flag));
        let old = std::mem::replace(&mut before, new.clone());
        StreamRecord { old, new, expired: version.is_none() && *flag, ..record(1, 1, 1) }
    });
    let folded = changes_of(records.collect());
    let items = folded.items.iter().map(|item| {
        let change = match &item.change {
            Some(Change::Put(version, _)) => format!("put {version}"),
            Some(Change::Deleted(version, old)) => format!("deleted {version} of {}", old.is_some()),
            _ => "nothing".to_owned(),
        };
        format!(
            "{}{change}{}",
            if item.gone_before { "gone, " } else { "" },
            if item.gone_after { ", gone" } else { "" }
        )
    });
    let items = items.collect::<Vec<_>>().join("; ");
    assert_eq!(format!("{items} expired {} foreign {}", folded.expired, folded.foreign), expected);
}

#[test]
fn a_page_folds_to_the_newest_state_of_each_item() {
    check(&[(Some(1), false), (Some(2), false)], "put 2 expired 0 foreign 0");
    check(&[(Some(1), false), (Some(2), true), (Some(3), true)], "deleted 3 of true expired 0 foreign 0");
    check(&[(Some(5), true)], "deleted 5 of false expired 0 foreign 0");
    check(&[(Some(7), false), (None, true)], "put 7, gone expired 1 foreign 0");
    check(&[(Some(7), false), (None, true), (Some(1), false)], "gone, put 1 expired 1 foreign 0");
    // Removed by hand, or changed by hand: it has no place in the order of versions.
    check(&[(Some(7), false), (None, false)], "put 7, gone expired 0 foreign 1");
    check(&[(Some(7), false), (Some(7), true)], "put 7 expired 0 foreign 1");
    // A purged tombstone is no news, but what comes after it counts from one again.
    check(&[(Some(7), true), (None, false), (Some(1), false)], "gone, put 1 expired 0 foreign 0");
}

/// 1. A table has a column `_mark`, or another program gives an item that attribute. 2. A write of that row
/// is acknowledged. 3. Taken for the mark of history, it would reach no source, and no comparison would
/// tell.
#[test]
fn an_item_with_the_attributes_of_a_mark_or_a_marker_is_one_of_a_row_unless_it_is_at_their_place() {
    let schema =
        lockstep_core::TargetSchema { partition: lockstep_core::KeyType::N, sort: None, indexes: &[] };
    let put = |key: Attributes, name: &str, value: AttributeValue| {
        let mut image = record(1, 5, 1).new.expect("an image");
        image.extend(key.clone());
        image.insert(name.to_owned(), value);
        changes_of(vec![StreamRecord { key, new: Some(image), ..record(1, 1, 1) }])
    };
    let mark = || ("_mark", AttributeValue::N("3".to_owned()));
    let round = "0123456789abcdef".repeat(2);
    let marker = || ("_marker", AttributeValue::S(round.clone()));
    for (name, value) in [mark(), marker()] {
        let folded = put(record(1, 1, 1).key, name, value);
        assert!(folded.marker.is_none());
        assert!(matches!(folded.items[0].change, Some(Change::Put(Version(5), _))), "{folded:?}");
    }
    let (name, value) = mark();
    let of_mark = put(super::super::super::own_place::HISTORY.key(&schema, 0).to_attributes(), name, value);
    assert!(of_mark.items.is_empty() && of_mark.foreign == 0, "{of_mark:?}");
    let (name, value) = marker();
    let of_marker = put(super::super::super::own_place::MARKER.key(&schema, 4).to_attributes(), name, value);
    assert_eq!((of_marker.items.len(), of_marker.marker.as_deref()), (0, Some(round.as_str())));
    let place = lockstep_core::place(&super::super::super::own_place::MARKER.key(&schema, 4).to_attributes());
    assert_eq!(of_marker.markers, [(round, place)]);
}
