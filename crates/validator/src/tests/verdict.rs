//! Claims about the verdict: whatever is not perfect makes it not consistent (I11).

use crate::options::ValidateOptions;
use crate::settings::ValidateSettings;
use crate::table_report::TableReport;
use crate::verdict::decide;

/// A table of ten rows on which everything is as it should be.
fn clean() -> TableReport {
    TableReport {
        source_count: 10,
        target_count: 10,
        compared: 10,
        equal: 10,
        complete: true,
        ..TableReport::of("notes")
    }
}

fn live() -> ValidateOptions {
    ValidateOptions::default()
}

fn quiescent() -> ValidateOptions {
    ValidateOptions { quiescent: true, ..live() }
}

#[track_caller]
fn check(table: TableReport, options: &ValidateOptions, label: &str, reason: &str) {
    let verdict = decide(&[clean(), table], options, &[]);
    assert_eq!(verdict.label(), label, "{verdict:?}");
    assert_eq!(verdict.is_consistent(), label == "consistent");
    assert!(verdict.reasons().iter().any(|found| found.contains(reason)) || reason.is_empty(), "{verdict:?}");
    assert_eq!(verdict.is_consistent(), verdict.reasons().is_empty());
}

#[test]
fn clean_tables_are_consistent() {
    check(clean(), &live(), "consistent", "");
    check(clean(), &quiescent(), "consistent", "");
}

#[test]
fn every_nonzero_class_makes_it_not_consistent() {
    type Set = fn(&mut TableReport);
    let classes: [(Set, &str, &str); 8] = [
        (|t| t.missing = 1, "inconsistent", "notes: 1 key is missing in the target"),
        (|t| t.different = 2, "inconsistent", "notes: 2 keys are different in the target"),
        (|t| t.extra = 1, "inconsistent", "notes: 1 key is in the target only"),
        (|t| t.undecodable = 1, "inconsistent", "notes: 1 key is undecodable"),
        (|t| t.dead_letters_unacknowledged = 1, "inconsistent", "notes: 1 unacknowledged dead letter"),
        (|t| t.unsettled = 1, "incomplete", "notes: 1 key is still on the way"),
        (|t| t.complete = false, "incomplete", "notes: it was not compared to the end"),
        (|t| t.failure = Some("PostgreSQL: gone".to_owned()), "incomplete", "notes: PostgreSQL: gone"),
    ];
    for (set, label, reason) in classes {
        for options in [live(), quiescent(), ValidateOptions { wait_for_pending: false, ..live() }] {
            let mut table = clean();
            set(&mut table);
            check(table, &options, label, reason);
        }
    }
}

#[test]
fn pending_keys_are_normal_only_while_writers_go_on_and_someone_delivers() {
    let table = TableReport { pending: 3, ..clean() };
    check(table.clone(), &live(), "consistent", "");
    check(table.clone(), &quiescent(), "inconsistent", "3 keys are waiting for delivery");
    let no_relay = ValidateOptions { wait_for_pending: false, ..live() };
    check(table, &no_relay, "inconsistent", "3 keys are waiting for delivery");
}

#[test]
fn what_is_explained_does_not_count_against_a_table() {
    let table = TableReport {
        tombstones: 5,
        dead_letters: 1,
        expired: 1,
        compared: 9,
        equal: 8,
        target_count: 8,
        ..clean()
    };
    check(table.clone(), &live(), "consistent", "");
    check(table, &quiescent(), "consistent", "");
    // An item that the source stays without, and one more that no operator has accepted.
    let accepted = TableReport { dead_letters: 1, accepted: 1, target_count: 11, ..clean() };
    check(accepted.clone(), &quiescent(), "consistent", "");
    let more = TableReport { target_count: 12, ..accepted };
    check(more, &quiescent(), "inconsistent", "the source has 10 rows");
}

#[test]
fn counts_are_held_against_each_other_only_at_rest_and_within_the_tolerance() {
    for target_count in [9, 11] {
        let table = TableReport { target_count, ..clean() };
        check(table.clone(), &live(), "consistent", "");
        check(table.clone(), &quiescent(), "inconsistent", "the source has 10 rows");
        check(
            table,
            &ValidateOptions {
                settings: ValidateSettings { count_tolerance: 1, ..ValidateSettings::default() },
                ..quiescent()
            },
            "consistent",
            "",
        );
    }
}

#[test]
fn counted_rows_that_no_pass_accounts_for_make_it_incomplete() {
    let table = TableReport { compared: 7, equal: 7, ..clean() };
    check(table, &quiescent(), "incomplete", "3 of 10 counted rows were not compared");
}

#[test]
fn counts_of_a_pass_that_was_stopped_are_held_against_neither_side() {
    let table = TableReport { target_count: 4, compared: 2, equal: 2, complete: false, ..clean() };
    check(table, &quiescent(), "incomplete", "it was not compared to the end");
}

#[test]
fn no_table_at_all_is_not_consistent() {
    assert_eq!(decide(&[], &live(), &[]).label(), "incomplete");
}

#[test]
fn an_obstacle_is_never_outweighed_by_clean_tables() {
    let verdict = decide(&[clean()], &live(), &["the phase changed".to_owned()]);
    assert_eq!((verdict.label(), verdict.reasons()), ("incomplete", &["the phase changed".to_owned()][..]));
}

#[test]
fn a_finding_stays_a_finding_when_the_rest_was_not_compared() {
    let table =
        TableReport { missing: 1, complete: false, failure: Some("DynamoDB: gone".to_owned()), ..clean() };
    check(table.clone(), &live(), "inconsistent", "missing in the target");
    check(table, &live(), "inconsistent", "DynamoDB: gone");
}
