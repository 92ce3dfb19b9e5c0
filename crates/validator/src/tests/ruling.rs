//! Claims about what proves a finding.

use std::time::Duration;

use lockstep_core::{AttributeValue, Attributes, VERSION_ATTRIBUTE, Version};

use crate::diff::Class;
use crate::recheck::earlier::{Earlier, stood_at};
use crate::recheck::{Policy, Ruling, Seen, WRITE_AHEAD, rule};
use crate::table_report::FindingClass;
use crate::tally::Outcome;

const LIVE: Policy = Policy { wait_for_pending: true, pending_tells: true, writes_ahead: true };
const NO_RELAY: Policy = Policy { wait_for_pending: false, ..LIVE };
const DYNAMO_ONLY: Policy = Policy { pending_tells: false, writes_ahead: false, ..LIVE };

fn decided_as(class: Class) -> Seen {
    Seen {
        moved: false,
        earlier: false,
        pending: false,
        dead_letter: false,
        accepted: None,
        live: false,
        version: None,
        class,
        fields: Vec::new(),
    }
}

fn at(version: i64) -> Seen {
    Seen { version: Some(Version(version)), ..decided_as(Class::Different(vec!["text".to_owned()])) }
}

#[track_caller]
fn check(seen: Seen, disagreeing_for: Duration, policy: Policy, expected: Ruling) {
    assert_eq!(rule(seen, disagreeing_for, policy), expected);
}

#[track_caller]
fn check_now(seen: Seen, policy: Policy, expected: Ruling) {
    check(seen, Duration::ZERO, policy, expected);
}

fn found(class: FindingClass, columns: &[&str], compared: bool) -> Ruling {
    Ruling::Found { class, columns: columns.iter().map(|column| (*column).to_owned()).collect(), compared }
}

#[test]
fn an_item_that_moved_proves_nothing_not_even_agreement() {
    for class in [Class::Equal, Class::Absent, Class::Missing, Class::Extra] {
        check_now(Seen { moved: true, ..decided_as(class) }, LIVE, Ruling::Again);
    }
}

#[test]
fn a_key_of_several_rows_is_a_difference_whatever_is_pending() {
    for pending in [false, true] {
        let seen = Seen { pending, ..decided_as(Class::Shared(vec!["id".to_owned()])) };
        for policy in [LIVE, NO_RELAY, DYNAMO_ONLY] {
            check_now(seen.clone(), policy, found(FindingClass::Different, &["id"], true));
        }
    }
}

#[test]
fn a_pending_mismatch_is_lag_while_someone_delivers() {
    check_now(Seen { pending: true, ..decided_as(Class::Missing) }, LIVE, Ruling::Again);
    check_now(
        Seen { pending: true, ..decided_as(Class::Missing) },
        NO_RELAY,
        Ruling::Decided(Outcome::Pending),
    );
}

#[test]
fn agreement_is_agreement_also_while_pending() {
    check_now(Seen { pending: true, ..decided_as(Class::Equal) }, NO_RELAY, Ruling::Decided(Outcome::Equal));
    check_now(decided_as(Class::Absent), LIVE, Ruling::Decided(Outcome::Aside));
}

#[test]
fn every_mismatch_that_is_not_pending_is_a_finding() {
    for (class, expected) in [
        (Class::Missing, found(FindingClass::Missing, &[], true)),
        (Class::Different(vec!["text".to_owned()]), found(FindingClass::Different, &["text"], true)),
        (Class::Extra, found(FindingClass::Extra, &[], false)),
        (Class::Undecodable("tags".to_owned()), found(FindingClass::Undecodable, &["tags"], true)),
        (Class::Unholdable("author".to_owned()), found(FindingClass::Undecodable, &["author"], false)),
    ] {
        check_now(decided_as(class), LIVE, expected);
    }
}

#[test]
fn a_dead_letter_excuses_a_row_that_cannot_be_held_unless_a_newer_state_is_pending() {
    let dead = Seen { dead_letter: true, ..decided_as(Class::Unholdable("author".to_owned())) };
    check_now(dead.clone(), LIVE, Ruling::Decided(Outcome::Aside));
    check_now(Seen { pending: true, ..dead }, LIVE, Ruling::Again);
}

#[test]
fn a_dead_letter_excuses_no_live_item_in_the_place_of_its_row() {
    let class = Class::Unholdable("author".to_owned());
    let dead = Seen { dead_letter: true, live: true, ..decided_as(class) };
    check_now(dead.clone(), LIVE, found(FindingClass::Different, &["author"], true));
    check_now(Seen { pending: true, ..dead.clone() }, LIVE, Ruling::Again);
    check_now(dead, DYNAMO_ONLY, Ruling::Again);
}

#[test]
fn a_dead_letter_excuses_nothing_of_a_row_that_can_be_held() {
    for (class, expected) in [
        (Class::Missing, found(FindingClass::Missing, &[], true)),
        (Class::Different(vec!["text".to_owned()]), found(FindingClass::Different, &["text"], true)),
        (Class::Extra, found(FindingClass::Extra, &[], false)),
        (Class::Undecodable("tags".to_owned()), found(FindingClass::Undecodable, &["tags"], true)),
    ] {
        check_now(Seen { dead_letter: true, ..decided_as(class) }, LIVE, expected);
    }
}

#[test]
fn a_strict_write_may_be_ahead_of_its_commit_but_not_for_long() {
    check(at(1 << 40), Duration::ZERO, LIVE, Ruling::Again);
    check(at(1 << 40), WRITE_AHEAD, LIVE, found(FindingClass::Different, &["text"], true));
}

#[test]
fn the_initial_load_is_never_written_ahead_and_neither_is_anything_without_writers() {
    check_now(at(0), LIVE, found(FindingClass::Different, &["text"], true));
    check_now(
        at(1 << 40),
        Policy { writes_ahead: false, ..LIVE },
        found(FindingClass::Different, &["text"], true),
    );
}

#[test]
fn expiry_counts_only_once_nothing_is_pending() {
    check_now(decided_as(Class::Expired), LIVE, Ruling::Decided(Outcome::Expired));
    check_now(Seen { pending: true, ..decided_as(Class::Expired) }, LIVE, Ruling::Again);
}

#[test]
fn in_dynamo_only_a_mismatch_is_never_proven() {
    check(at(0), Duration::from_secs(60), DYNAMO_ONLY, Ruling::Again);
    check_now(decided_as(Class::Equal), DYNAMO_ONLY, Ruling::Decided(Outcome::Equal));
}

#[test]
fn in_dynamo_only_an_acceptance_excuses_the_state_that_was_accepted_and_no_other() {
    let classes = [
        Class::Missing,
        Class::Different(vec!["text".to_owned()]),
        Class::Extra,
        Class::Undecodable("tags".to_owned()),
    ];
    for class in classes {
        let seen = Seen { accepted: Some(Version(7)), version: Some(Version(7)), ..decided_as(class) };
        check_now(seen.clone(), DYNAMO_ONLY, Ruling::Decided(Outcome::Accepted));
        for version in [None, Some(Version(6)), Some(Version(8))] {
            check_now(Seen { version, ..seen.clone() }, DYNAMO_ONLY, Ruling::Again);
        }
        check_now(Seen { moved: true, ..seen.clone() }, DYNAMO_ONLY, Ruling::Again);
        check_now(Seen { accepted: None, version: None, ..seen.clone() }, DYNAMO_ONLY, Ruling::Again);
        // Where the source decides it is a difference like any other.
        let ruling = rule(seen, WRITE_AHEAD, LIVE);
        assert!(matches!(ruling, Ruling::Found { .. }), "{ruling:?}");
    }
    let equal = Seen { accepted: Some(Version(7)), version: Some(Version(7)), ..decided_as(Class::Equal) };
    check_now(equal, DYNAMO_ONLY, Ruling::Decided(Outcome::Equal));
}

#[test]
fn in_dynamo_only_a_row_that_is_what_its_item_was_a_moment_ago_agrees() {
    let seen = Seen { earlier: true, moved: true, ..at(1 << 40) };
    check_now(seen.clone(), DYNAMO_ONLY, Ruling::Decided(Outcome::Equal));
    // A newer state of it was set aside: the row will not follow by itself.
    let aside = Seen { dead_letter: true, ..seen.clone() };
    assert_ne!(rule(aside, Duration::ZERO, DYNAMO_ONLY), Ruling::Decided(Outcome::Equal));
    // Where a mark tells what is on its way, nothing but the item of this moment counts.
    check_now(seen, LIVE, Ruling::Again);
}

#[test]
fn a_row_stands_at_a_version_only_where_the_feed_said_the_same_before_and_after() {
    let (one, two) = (Version(1), Version(2));
    assert_eq!(stood_at(Some(&one), Some(&one)), Some(one));
    for (before, after) in [(Some(&one), Some(&two)), (Some(&one), None), (None, Some(&one)), (None, None)] {
        assert_eq!(stood_at(before, after), None, "{before:?} {after:?}");
    }
}

fn state(version: i64, bytes: usize) -> Attributes {
    [
        (VERSION_ATTRIBUTE.to_owned(), AttributeValue::N(version.to_string())),
        ("text".to_owned(), AttributeValue::S("x".repeat(bytes))),
    ]
    .into_iter()
    .collect()
}

#[test]
fn of_an_item_that_never_rests_the_newest_states_are_kept_and_a_bound_on_their_size() {
    let mut earlier = Earlier::default();
    for version in 1..=100 {
        earlier.keep(Some(&state(version, 10)));
        earlier.keep(None);
    }
    assert_eq!(earlier.at(Version(100)), Some(&state(100, 10)));
    assert_eq!((earlier.at(Version(76)), earlier.at(Version(101))), (None, None));
    assert!(earlier.at(Version(77)).is_some());
    for version in 101..=110 {
        earlier.keep(Some(&state(version, 400 << 10)));
    }
    assert!(earlier.at(Version(110)).is_some() && earlier.at(Version(109)).is_some());
    assert_eq!(earlier.at(Version(108)), None, "three of the largest are more than a megabyte");
}
