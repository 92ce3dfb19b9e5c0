//! Many states, and what is said of each.

use chrono::DateTime;
use lockstep_core::{Advice, Epoch, Phase, TargetRecord, Version, Writes};
use lockstep_postgres::reverse::FeedStanding;
use lockstep_postgres::{Completed, Entry, KnownMarks, SourceContinuity, VerdictWord};

use super::*;
use crate::loss::{Continuity, Found, TableContinuity};

fn table() -> TableSeen {
    TableSeen {
        name: "payments".to_owned(),
        relation: "public.payments".to_owned(),
        target_name: "payments".to_owned(),
        capture: CaptureSeen::On,
        target: TargetSeen::There { active: true, mismatches: Vec::new(), marked: true },
        planned: true,
        ranges: (8, 8),
        ..TableSeen::default()
    }
}

fn record(phase: Phase, epoch: i64) -> Option<TargetRecord> {
    let (epoch, changed_at) = (Epoch(epoch), DateTime::UNIX_EPOCH);
    Some(TargetRecord { phase, epoch, writes: Writes::Open, since: epoch, changed_at, completed_at: None })
}

fn seen(phase: Phase) -> Observation {
    Observation {
        target_record: if phase == Phase::DynamoOnly { record(phase, 4) } else { None },
        installed: true,
        control: Some((phase, Epoch(4), DateTime::UNIX_EPOCH)),
        at_work: AtWork { coordinator: None, reverse_feed: (phase == Phase::DynamoOnly).then_some(7) },
        tables: vec![table()],
        ..Observation::default()
    }
}

fn with_table(phase: Phase, table: TableSeen) -> Observation {
    Observation { tables: vec![table], ..seen(phase) }
}

fn open(step: &str) -> Entry {
    let (kind, detail) = ("intent".to_owned(), serde_json::json!({}));
    Entry {
        id: 1,
        at: DateTime::UNIX_EPOCH,
        actor: "the dead".to_owned(),
        kind,
        intent: None,
        step: step.to_owned(),
        detail,
    }
}

fn lost(phase: Phase, now: i64, found: Found) -> Observation {
    let server = Some("7/1".to_owned());
    let source = SourceContinuity {
        known_server: server.clone(),
        server,
        known_version: Version(1),
        version: Version(now),
        contradicted: Vec::new(),
    };
    let known = KnownMarks { marking: 3, marked: 3 };
    let name = "payments".to_owned();
    let of_table = TableContinuity { name: name.clone(), target_name: name, known, known_id: None, found };
    Observation { histories: Continuity { source: Some(source), tables: vec![of_table] }, ..seen(phase) }
}

/// Checks what is found, whether all is sound, and what `repair --state` would do.
#[track_caller]
fn check(seen: &Observation, sound: bool, says: &[&str], remedies: &[Remedy]) -> Diagnosis {
    let said = examine(seen);
    assert_eq!(said.sound, sound, "{said:#?}");
    assert_eq!(said.findings.len(), says.len(), "{said:#?}");
    for (finding, says) in said.findings.iter().zip(says) {
        assert!(finding.what.contains(says), "{finding:?} for {says}");
        assert!(!finding.means.is_empty() && !finding.next.is_empty(), "{finding:?}");
    }
    assert_eq!(plan(&said.findings), remedies);
    assert!(!said.next.is_empty(), "it always says what to run");
    assert_eq!(
        said.next.iter().any(|next| next.contains(&Advice::RepairState.to_string())),
        !remedies.is_empty(),
        "{:?}",
        said.next
    );
    said
}

#[test]
fn a_migration_without_faults_is_sound_in_every_phase_and_what_comes_next_is_said() {
    for phase in Phase::ALL {
        let said = check(&seen(phase), true, &[], &[]);
        assert!(
            said.state.contains(phase.name()) && said.state.contains("Nothing is wrong"),
            "{}",
            said.state
        );
    }
    let never = Observation { tables: vec![TableSeen::default()], ..Observation::default() };
    assert!(check(&never, true, &[], &[]).state.contains("never installed"));
}

#[test]
fn a_source_that_is_away_or_is_another_one_is_said_so() {
    let away = Observation {
        source_error: Some("refused".to_owned()),
        installed: false,
        control: None,
        ..seen(Phase::DualWrite)
    };
    check(&away, false, &["PostgreSQL does not answer"], &[]);
    let another = Observation { installed: false, control: None, ..seen(Phase::DualWrite) };
    check(&another, false, &["was written by a migration"], &[]);
    // There the only copy is in DynamoDB, and nothing may advise to delete it.
    let of_truth = Observation { target_record: record(Phase::DynamoOnly, 4), ..another };
    let said = examine(&of_truth);
    assert!(said.findings.iter().all(|finding| !finding.next.contains("delete the table")), "{said:?}");
    assert!(said.next.iter().any(|next| next.contains("restore a backup of PostgreSQL")), "{said:?}");
}

#[test]
fn a_target_that_is_away_is_no_loss() {
    let away = TableSeen { target: TargetSeen::Unknown("no answer".to_owned()), ..table() };
    for phase in Phase::ALL {
        check(&with_table(phase, away.clone()), false, &["could not be asked"], &[]);
    }
}

#[test]
fn a_source_that_lost_history_is_outranked_and_what_differs_is_only_listed() {
    let mark = lockstep_dynamo::ContinuityMark {
        number: 3,
        version: Version(9),
        server: None,
        at: DateTime::UNIX_EPOCH,
    };
    let found = Found::There { id: None, mark: Some(mark) };
    let remedies = [Remedy::RaiseEpoch, Remedy::List];
    check(&lost(Phase::DualWrite, 5, found.clone()), false, &["PostgreSQL was set back"], &remedies);
    let said =
        check(&lost(Phase::HybridRead, 5, found.clone()), false, &["PostgreSQL was set back"], &remedies);
    assert!(said.safe.iter().any(|safe| safe.contains("NOT safe")), "{:?}", said.safe);
    // There the source is not the truth, and no epoch of it outranks anything.
    let follows = [Remedy::FollowTarget, Remedy::ReverseBackfill];
    check(&lost(Phase::DynamoOnly, 5, found.clone()), false, &["PostgreSQL was set back"], &follows);
    check(&lost(Phase::DualWrite, 9, found), true, &[], &[]);
}

#[test]
fn a_target_that_lost_history_is_filled_and_compared_unless_it_was_the_truth() {
    let table = || "payments".to_owned();
    let remedies =
        [Remedy::AdoptTarget { table: table() }, Remedy::RaiseEpoch, Remedy::Backfill, Remedy::Compare];
    check(&lost(Phase::HybridRead, 5, Found::Gone), false, &["is gone"], &remedies);
    check(
        &lost(Phase::DualWrite, 5, Found::There { id: None, mark: None }),
        false,
        &["was set back"],
        &remedies,
    );
    // What PostgreSQL has by the feed, and what is left of the table, is brought together in PostgreSQL.
    let remedies =
        [Remedy::AdoptTarget { table: table() }, Remedy::ReturnToSource, Remedy::Backfill, Remedy::List];
    check(&lost(Phase::DynamoOnly, 5, Found::Gone), false, &["is gone"], &remedies);
}

#[test]
fn triggers_that_were_off_are_put_back_unless_the_columns_are_unknown() {
    let broken = TableSeen { capture: CaptureSeen::Broken("dropped".to_owned()), ..table() };
    let remedies = [
        Remedy::Recapture { table: "payments".to_owned() },
        Remedy::RaiseEpoch,
        Remedy::Backfill,
        Remedy::Compare,
    ];
    check(&with_table(Phase::HybridRead, broken.clone()), false, &["not all captured"], &remedies);
    let and_changed = TableSeen { fingerprint_changed: true, ..broken };
    check(&with_table(Phase::DualWrite, and_changed), false, &["not all captured", "the key of"], &[]);
    let elsewhere = TableSeen { capture: CaptureSeen::Elsewhere("public.paid".to_owned()), ..table() };
    check(&with_table(Phase::DualWrite, elsewhere), false, &["installed on public.paid"], &[]);
}

#[test]
fn columns_that_are_others_are_taken_where_postgresql_is_the_truth_and_no_key_is_made_of_them() {
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    let of = |came: &[&str], gone: &[&str], added: &[&str]| ColumnsSeen {
        came: texts(came),
        gone: texts(gone),
        added: texts(added),
        ..ColumnsSeen::default()
    };
    let with = |columns: &ColumnsSeen| TableSeen { columns: columns.clone(), ..table() };
    let taken = |columns: &[&str], whole: bool| {
        let (table, columns) = ("payments".to_owned(), texts(columns));
        [
            Remedy::TakeColumns { table: table.clone(), columns: columns.clone(), whole },
            Remedy::RaiseEpoch,
            Remedy::BringColumns { table, columns, whole },
            Remedy::Compare,
        ]
    };
    let added = of(&["note text"], &[], &["note"]);
    let went = of(&[], &["note text"], &[]);
    let other = of(&["amount bigint"], &["amount integer"], &["amount"]);
    for phase in [Phase::PostgresOnly, Phase::DualWrite, Phase::HybridRead] {
        let check = |columns: &ColumnsSeen, says: &str, remedies: &[Remedy]| {
            check(&with_table(phase, with(columns)), false, &[says], remedies);
        };
        check(&added, "a column was added", &taken(&["note"], false));
        check(&went, "was dropped: note text", &taken(&[], true));
        check(&other, "amount integer went, amount bigint came", &taken(&["amount"], true));
        let unknown = texts(&["column `note` is missing"]);
        check(&ColumnsSeen { unknown, ..went.clone() }, "This build does not know it", &[]);
        let of_key = texts(&["amount was text and is integer"]);
        check(&ColumnsSeen { of_key, ..other.clone() }, "The key is made of them: amount was text", &[]);
    }
    for columns in [&added, &went, &other] {
        check(&with_table(Phase::DynamoOnly, with(columns)), false, &["payments"], &[]);
    }
}

#[test]
fn the_record_of_another_migration_is_told_of_and_nothing_is_proposed() {
    for phase in Phase::ALL {
        let foreign_control_table = Some("it was made for another database".to_owned());
        let foreign = Observation { foreign_control_table, target_record: None, ..seen(phase) };
        check(&foreign, false, &["the control table belongs to another migration"], &[]);
    }
}

#[test]
fn where_the_source_lost_something_as_well_nothing_of_the_target_is_overwritten_unasked() {
    let mark = lockstep_dynamo::ContinuityMark {
        number: 3,
        version: Version(9),
        server: None,
        at: DateTime::UNIX_EPOCH,
    };
    let mut both = lost(Phase::DualWrite, 5, Found::There { id: None, mark: Some(mark) });
    both.tables[0].capture = CaptureSeen::Broken("dropped".to_owned());
    let remedies = [
        Remedy::Recapture { table: "payments".to_owned() },
        Remedy::RaiseEpoch,
        Remedy::Backfill,
        Remedy::List,
    ];
    check(&both, false, &["set back", "not all captured"], &remedies);
}

#[test]
fn what_was_left_open_is_under_way_dead_or_to_be_run_again() {
    let with = |step: &str, coordinator| Observation {
        open_steps: vec![open(step)],
        at_work: AtWork { coordinator, reverse_feed: None },
        ..seen(Phase::DualWrite)
    };
    check(&with("change phase", Some(7)), true, &["backend 7 is the coordinator"], &[]);
    check(&with("change phase", None), false, &["it died"], &[Remedy::SettleSteps]);
    check(&with("backfill", None), true, &["was broken off"], &[Remedy::SettleSteps]);
    check(&with("repair keys", None), true, &["before the keys were read again"], &[]);
    let said = examine(&with("repair state", None));
    assert!(
        !said.sound && said.findings[0].next.contains(&Advice::RepairStateAtOnce.to_string()),
        "{said:?}"
    );
}

#[test]
fn what_waits_is_named_with_the_command_that_serves_it() {
    let waits = TableSeen { pending: (3, 120.0), dead_letters: (2, 1), cold_open: true, ..table() };
    let said =
        check(&with_table(Phase::DualWrite, waits), true, &["no relay", "cannot be held", "cold load"], &[]);
    for advice in [Advice::Relay, Advice::DeadLetters, Advice::Backfill] {
        let command = advice.to_string();
        assert!(said.next.iter().any(|next| next.contains(&command)), "{command} in {:?}", said.next);
    }
    let verdict =
        Some(VerdictSeen { consistent: false, incomplete: false, age_s: 1.0, epoch: 4, later: None });
    check(&Observation { verdict, ..seen(Phase::HybridRead) }, false, &["NOT consistent"], &[]);
    check(&Observation { verdict, ..seen(Phase::DualWrite) }, true, &["NOT consistent"], &[]);
    let of_before =
        Some(VerdictSeen { consistent: false, incomplete: false, age_s: 1.0, epoch: 3, later: None });
    check(&Observation { verdict: of_before, ..seen(Phase::HybridRead) }, true, &[], &[]);
    let verdict =
        Some(VerdictSeen { consistent: false, incomplete: true, age_s: 1.0, epoch: 4, later: None });
    let said =
        check(&Observation { verdict, ..seen(Phase::HybridRead) }, true, &["verdict is incomplete"], &[]);
    assert!(said.next.iter().all(|next| !next.contains("repair")), "{:?}", said.next);
    let no_feed = Observation { at_work: AtWork::default(), ..seen(Phase::DynamoOnly) };
    check(&no_feed, true, &["no reverse feed"], &[]);
    let writes = Observation { open_writes: (2, 300.0), ..seen(Phase::HybridRead) };
    check(&writes, true, &["strict writes"], &[]);
}

/// 1. A comparison of everything finds something. 2. One of some days, or an incremental one, finds nothing.
/// 3. The first stands, and the second is not as if it had not been.
#[test]
fn a_finding_that_stands_is_told_with_the_verdict_after_it() {
    let of = |later| {
        let verdict = VerdictSeen { consistent: false, incomplete: false, age_s: 9.0, epoch: 4, later };
        Observation { verdict: Some(verdict), ..seen(Phase::DualWrite) }
    };
    check(
        &of(Some(VerdictWord::Consistent)),
        true,
        &["one after it was consistent, and does not answer"],
        &[],
    );
    let alone = examine(&of(None));
    assert!(alone.findings.iter().all(|finding| !finding.what.contains("after it")), "{alone:?}");
}

/// 1. A way back is refused, after a pause that was an epoch of DynamoDB's own. 2. `status` says that epoch,
/// and the doctor the one before it.
#[test]
fn the_epoch_that_is_said_is_the_one_that_instances_acknowledge() {
    let paused_once = Observation { target_record: record(Phase::DynamoOnly, 6), ..seen(Phase::DynamoOnly) };
    assert!(
        examine(&paused_once).state.starts_with("DynamoOnly (epoch 6)"),
        "{}",
        examine(&paused_once).state
    );
    let back = Observation { target_record: record(Phase::DualWrite, 3), ..seen(Phase::DualWrite) };
    assert!(examine(&back).state.starts_with("DualWrite (epoch 4)"), "{}", examine(&back).state);
}

#[test]
fn rows_that_postgresql_does_not_take_yet_are_told_of_at_once_and_as_no_dead_letters() {
    let waits = |again, given_up| TableSeen {
        reverse: Some(FeedStanding {
            again,
            again_why: Some("a foreign key (SQLSTATE 23503)".to_owned()),
            ..FeedStanding::default()
        }),
        dead_letters: (given_up, given_up),
        ..table()
    };
    let said = check(
        &with_table(Phase::DynamoOnly, waits(2, 0)),
        true,
        &["2 rows wait, as PostgreSQL does not take them now: a foreign key"],
        &[],
    );
    assert!(said.findings.iter().all(|finding| !finding.what.contains("cannot be held")), "{said:?}");
    check(&with_table(Phase::DynamoOnly, waits(2, 2)), true, &["2 rows cannot be held"], &[]);
    let both =
        check(&with_table(Phase::DynamoOnly, waits(3, 2)), true, &["2 rows cannot", "1 rows wait"], &[]);
    assert_eq!(both.findings.len(), 2, "{both:?}");
    check(&with_table(Phase::HybridRead, waits(2, 0)), true, &[], &[]);
}

#[test]
fn two_records_that_contradict_each_other_are_repaired_by_the_store_that_knows_more() {
    let with = |phase, target_record| Observation { target_record, ..seen(phase) };
    let follows = [Remedy::FollowTarget, Remedy::ReverseBackfill];
    check(&with(Phase::HybridRead, record(Phase::DynamoOnly, 6)), false, &["contradict"], &follows);
    let raises = [Remedy::RaiseEpoch, Remedy::List];
    check(&with(Phase::HybridRead, record(Phase::HybridRead, 6)), false, &["contradict"], &raises);
    let closes = [Remedy::CloseRecord, Remedy::RaiseEpoch, Remedy::List];
    check(&with(Phase::HybridRead, record(Phase::DynamoOnly, 3)), false, &["contradict"], &closes);
    check(&with(Phase::HybridRead, record(Phase::HybridRead, 3)), true, &[], &[]);
    check(
        &with(Phase::DynamoOnly, record(Phase::HybridRead, 5)),
        false,
        &["restored to before the way back"],
        &[Remedy::ReturnToSource, Remedy::List],
    );
    check(&with(Phase::DynamoOnly, None), false, &["the control table was lost"], &[Remedy::RemakeControl]);
    let remembers = |newest, ids: &[&str]| Observation {
        newest_target_epoch: Some(Epoch(newest)),
        ids_set_back: ids.iter().map(|table| (*table).to_owned()).collect(),
        ..seen(Phase::DynamoOnly)
    };
    check(&remembers(5, &[]), true, &[], &[]);
    check(&remembers(6, &[]), false, &["epoch 6 has been there"], &[Remedy::RemakeControl]);
    let said = check(
        &remembers(4, &["payments"]),
        false,
        &["ids of payments that are in use"],
        &[Remedy::RemakeControl],
    );
    assert!(said.safe[0].contains("NOT safe"), "{:?}", said.safe);
    let at_work = AtWork { coordinator: Some(7), reverse_feed: Some(8) };
    let moving =
        Observation { open_steps: vec![open("change phase")], at_work, ..with(Phase::DynamoOnly, None) };
    check(&moving, true, &["is under way"], &[]);
}

#[test]
fn a_control_table_that_was_lost_under_a_dead_step_is_made_again_before_the_step_is_settled() {
    let dead = |target_written, target_record| Observation {
        open_steps: vec![open("change phase")],
        target_written,
        target_record,
        at_work: AtWork { coordinator: None, reverse_feed: Some(8) },
        ..seen(Phase::DynamoOnly)
    };
    let both = [Remedy::RemakeControl, Remedy::SettleSteps];
    let said = check(&dead(true, None), false, &["the control table was lost", "it died"], &both);
    assert!(said.safe[0].contains("NOT safe"), "{:?}", said.safe);
    check(
        &dead(true, record(Phase::DynamoOnly, 3)),
        false,
        &["the control table was lost", "it died"],
        &both,
    );
    let set_back =
        Observation { newest_target_epoch: Some(Epoch(6)), ..dead(true, record(Phase::DynamoOnly, 4)) };
    check(&set_back, false, &["epoch 6 has been there", "it died"], &both);
    // Decided and not copied yet: no application has written there.
    check(&dead(false, None), false, &["it died"], &[Remedy::SettleSteps]);
    check(&dead(true, record(Phase::DynamoOnly, 4)), false, &["it died"], &[Remedy::SettleSteps]);
    check(&dead(true, record(Phase::HybridRead, 5)), false, &["it died"], &[Remedy::SettleSteps]);
    let at_work = AtWork { coordinator: Some(7), reverse_feed: Some(8) };
    check(&Observation { at_work, ..dead(true, None) }, true, &["is under way"], &[]);
}

#[test]
fn a_source_that_was_set_back_before_dynamo_only_is_judged_by_what_dynamodb_says() {
    let mark = lockstep_dynamo::ContinuityMark {
        number: 3,
        version: Version(9),
        server: None,
        at: DateTime::UNIX_EPOCH,
    };
    let lost = lost(Phase::HybridRead, 5, Found::There { id: None, mark: Some(mark) });
    let lost = Observation { target_record: record(Phase::DynamoOnly, 6), ..lost };
    let said = check(
        &lost,
        false,
        &["contradict", "PostgreSQL was set back"],
        &[Remedy::FollowTarget, Remedy::ReverseBackfill],
    );
    assert!(!said.safe.iter().any(|safe| safe.contains("PostgreSQL is the truth")), "{:?}", said.safe);
}

#[test]
fn the_end_is_told_before_and_after_what_it_leaves_is_taken_out() {
    let target_record = record(Phase::DynamoOnly, 5)
        .map(|record| TargetRecord { completed_at: Some(DateTime::UNIX_EPOCH), ..record });
    // Its marks are gone already, and that is no loss.
    let tidying =
        Observation { target_record, ..lost(Phase::DynamoOnly, 5, Found::There { id: None, mark: None }) };
    let said = check(&tidying, true, &["PostgreSQL still has"], &[]);
    assert!(
        said.state.starts_with("Complete since") && said.next[0].contains(&Advice::Complete.to_string()),
        "{said:?}"
    );
    let completed = Completed {
        completed_at: DateTime::UNIX_EPOCH,
        epoch: 5,
        actor: "test".to_owned(),
        journal_file: "end.jsonl".to_owned(),
        control_table: None,
        migration_id: None,
        tables: Vec::new(),
    };
    let tables = vec![TableSeen::default()];
    let left = vec!["public.payments".to_owned()];
    let over =
        Observation { target_record, completed: Some(completed), left, tables, ..Observation::default() };
    let said = check(&over, true, &["the migration is complete"], &[]);
    assert!(
        said.state.starts_with("Complete since") && said.next[0].contains(&Advice::DropSource.to_string()),
        "{said:?}"
    );
    let dropped =
        check(&Observation { left: Vec::new(), ..over.clone() }, true, &["the migration is complete"], &[]);
    assert_eq!(dropped.next, ["nothing has to be done"]);
    let followed = Observation { followed: true, ..over.clone() };
    let said = check(&followed, true, &["the migration is complete"], &[]);
    assert!(said.findings[0].means.contains("another migration"), "{said:?}");
    // The same PostgreSQL, asked by the configuration of the next one.
    let next =
        Observation { earlier: vec!["the one of control table c".to_owned()], ..Observation::default() };
    let said = check(&next, true, &[], &[]);
    assert!(said.state.contains("has not begun") && said.state.contains("control table c"), "{said:?}");
    assert_eq!(said.next, [format!("{:#}", Advice::Migrate)]);
    // One of other tables is under way there.
    let beside =
        Observation { other_under_way: Some("end that of payments".to_owned()), ..Observation::default() };
    let said = check(&beside, false, &["that of a migration of other tables"], &[]);
    assert_eq!(said.next, ["end that of payments"]);
    check(&Observation { completed: None, ..over }, false, &["knows nothing of it"], &[]);
}

/// V36: dead marks that autovacuum may not take out make each look of the relay slower, and nothing told of
/// it.
#[test]
fn many_marks_that_are_kept_for_an_old_session_are_told_of_with_its_name() {
    let held = |dead, live| lockstep_postgres::HeldBack {
        dead,
        live,
        by: Some("session 7 of role nightly".to_owned()),
        for_s: Some(5_000.0),
    };
    let said = |held| {
        let seen = Observation { held_back: Some(held), ..seen(Phase::DualWrite) };
        examine(&seen).findings.iter().map(|finding| finding.what.clone()).collect::<Vec<_>>()
    };
    let many = said(held(900_000, 12));
    assert!(
        many.iter().any(|what| what.contains("for session 7 of role nightly, open for 5000 s")),
        "{many:?}"
    );
    assert_eq!((said(held(900_000, 400_000)), said(held(199_999, 0))), (Vec::<String>::new(), Vec::new()));
}
