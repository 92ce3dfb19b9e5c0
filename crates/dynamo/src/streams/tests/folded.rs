//! What a page says of an item is its newest state.

use super::*;

/// What a page of records of one item comes to, told in words.
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
    let folded = changes_of(&records.collect::<Vec<_>>());
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
