//! Stores that lose history: noticed by whoever starts and by whoever runs, explained, mended, and equal again.

use std::time::Duration;

use lockstep_coordinator::{
    Coordinator, Diagnosis, Error, FeedUntil, Mended, RelayUntil, Remedy, examine, find_repairs, mend, observe, relay, repair,
    status, take_target,
};
use lockstep_core::source::{EntryKind, IntentId, TableBinding};
use lockstep_core::{Epoch, Phase, version_of};
use lockstep_tests::World;
use lockstep_tests::world::rows::{log, log_key, logs, payment, payment_key, payments};
use lockstep_tests::world::{CutShort, LOGS, PAYMENTS, within};
use lockstep_validator::{CancellationToken, FindingClass, ValidateOptions};

fn options() -> ValidateOptions {
    ValidateOptions { wait_for_pending: false, scan_segments: 2, ..ValidateOptions::default() }
}

pub(crate) async fn diagnosis(world: &World) -> Diagnosis {
    examine(&observe(&world.source, &world.plain_target, &world.tables()).await.expect("observed"))
}

pub(crate) async fn mended(world: &World) -> Mended {
    let migration = world.migration();
    let mending = async { mend(&migration, &options(), &(), &CancellationToken::new()).await };
    within(Duration::from_secs(60), mending).await.expect("mended")
}

/// What each of those who move something says.
async fn refusals(world: &World) -> Vec<String> {
    let migration = world.migration();
    let cancel = CancellationToken::new();
    let progress = lockstep_coordinator::Progress::new(&migration.tables);
    let said = [
        Coordinator::open(migration.clone()).await.err(),
        relay(&migration, RelayUntil::Empty, &progress, &cancel).await.err(),
        world.feed(FeedUntil::Drained, &cancel).await.err(),
        repair(&migration, &[], &options(), &cancel).await.err(),
    ];
    said.into_iter()
        .map(|error| match error {
            Some(error @ Error::HistoryLost(_)) => error.to_string(),
            other => panic!("it went on, or failed at something else: {other:?}"),
        })
        .collect()
}

/// Everyone refuses, with `says`; the doctor says so as well, and what would be done.
async fn check(world: &World, says: &str, plan: &[Remedy]) {
    for refusal in refusals(world).await {
        assert!(refusal.contains(says) && refusal.contains("run `doctor`"), "{says}? {refusal}");
    }
    let status = status(&world.source, &world.plain_target, &world.tables()).await.expect("status only reads");
    assert!(status.lost.iter().any(|lost| lost.contains(says)), "{:?}", status.lost);
    let diagnosis = diagnosis(world).await;
    assert!(!diagnosis.sound);
    assert!(diagnosis.findings[0].what.contains(says), "{:?}", diagnosis.findings);
    assert_eq!(lockstep_coordinator::remedies(&diagnosis.findings), plan);
}

/// After a repair: whole, in `phase`, and the way forward is open again once it was proven.
async fn goes_on(world: &World, phase: Phase) {
    assert_eq!(world.source.control().await.expect("a phase").phase, phase);
    world.assert_converged().await;
    let diagnosis = diagnosis(world).await;
    assert!(diagnosis.sound, "{:#?}", diagnosis.findings);
    let coordinator = world.coordinator().await;
    for to in Phase::ALL.into_iter().filter(|to| *to > phase && *to <= Phase::HybridRead) {
        world.step_to(&coordinator, to).await;
    }
    coordinator.close().await;
    world.sql("UPDATE integration_logs SET user_id = 'afterwards' WHERE log_id % 2 = 0; UPDATE payments SET loan_id = 3").await;
    world.sql(&log(9_001, "afterwards")).await;
    world.assert_converged().await;
}

/// A source that goes back to a moment in DualWrite, with a step, changes of each kind and deliveries after it.
async fn set_back() -> World {
    let mut world = World::start().await;
    world.sql(&logs(1, 60)).await;
    world.sql(&payments(1, 60)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    world.sql("UPDATE integration_logs SET user_id = 'waits' WHERE log_id = 7").await;
    let backup = world.back_up_source().await;
    world.relay_until_empty().await;
    let coordinator = world.coordinator().await;
    world.step_to(&coordinator, Phase::HybridRead).await;
    coordinator.close().await;
    world.sql("UPDATE integration_logs SET user_id = 'lost' WHERE log_id <= 7; DELETE FROM payments WHERE payment_id <= 5").await;
    world.sql(&log(1_000, "lost")).await;
    world.sql(&payment(1_000, 3)).await;
    world.relay_until_empty().await;
    world.restore_source(backup).await;
    world
}

#[tokio::test]
async fn a_source_that_was_set_back_stops_everything_until_a_new_epoch_outranks_what_was_lost() {
    let world = set_back().await;
    check(&world, "PostgreSQL was set back", &[Remedy::RaiseEpoch, Remedy::List]).await;
    let before = world.source.control().await.expect("a phase");
    let lost = version_of(&world.live_at(&world.logs_table(), &log_key(1_000, "lost")).await).expect("a version");

    let mended = mended(&world).await;
    let now = world.source.control().await.expect("a phase");
    assert_eq!((before.phase, now.phase), (Phase::DualWrite, Phase::DualWrite));
    assert!(now.epoch > lost.epoch() && lost.epoch() > before.epoch, "{now:?} after {lost:?}");
    // What differs is listed and left: DynamoDB may be the only one that has it.
    let found = mended.findings.expect("compared").repairable;
    let of = |class| found.iter().filter(|finding| finding.class == class).count();
    // Log 7 waits for delivery under a fresh version, so it is on its way and no finding.
    assert_eq!((of(FindingClass::Extra), of(FindingClass::Missing), of(FindingClass::Different)), (2, 5, 6), "{found:?}");
    assert_eq!(mended.repaired.marked, 0);

    // Somebody decides: this row is right in DynamoDB, the others in PostgreSQL.
    let chosen: Vec<_> =
        found.iter().filter(|finding| finding.table == LOGS && finding.class == FindingClass::Extra).cloned().collect();
    let taken = take_target(&world.migration(), &chosen).await.expect("taken");
    assert_eq!((taken.rows, taken.left), (1, Vec::new()));
    assert_eq!(world.value::<i64>("SELECT count(*) FROM integration_logs WHERE log_id = 1000").await, 1);
    let rest = find_repairs(&world.migration(), &options(), &CancellationToken::new()).await.expect("searched").repairable;
    repair(&world.migration(), &rest, &options(), &CancellationToken::new()).await.expect("repaired");
    world.relay_until_empty().await;
    let brought_back = world.live_at(&world.logs_table(), &log_key(1_000, "lost")).await;
    assert!(version_of(&brought_back) > Some(lost), "I2: it outranks the lost state");
    goes_on(&world, Phase::DualWrite).await;
    assert_eq!(world.value::<i64>("SELECT count(*) FROM payments WHERE payment_id IN (1, 1000)").await, 1);
}

/// Without the epoch: 1. A lost state has version 12. 2. The source hands 12 out again. 3. The newer state is refused as delivered.
#[tokio::test]
async fn a_version_sequence_that_was_set_back_is_noticed_by_what_the_target_has_seen() {
    let world = World::start().await;
    world.sql(&logs(1, 40)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    world.sql("UPDATE integration_logs SET user_id = 'seen'").await;
    world.relay_until_empty().await;
    // A step makes marks.
    let coordinator = world.coordinator().await;
    world.step_to(&coordinator, Phase::HybridRead).await;
    coordinator.close().await;
    world.sql("SELECT setval('lockstep.version_seq', (1::bigint << 40) + 5)").await;
    // The source itself knows better as well.
    check(&world, "had seen version", &[Remedy::RaiseEpoch, Remedy::List]).await;
    let mended = mended(&world).await;
    assert!(mended.findings.expect("compared").repairable.is_empty());
    goes_on(&world, Phase::DualWrite).await;
}

#[tokio::test]
async fn a_source_that_failed_over_is_noticed_by_its_timeline() {
    let world = World::start().await;
    world.sql(&logs(1, 10)).await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    world.sql("UPDATE lockstep.history SET server = '1/00000001'").await;
    check(&world, "it was restored or failed over", &[Remedy::RaiseEpoch, Remedy::List]).await;
    let mended = mended(&world).await;
    assert!(mended.left.expect("looked at").sound);
    // Reads go to the truth until there is a verdict.
    goes_on(&world, Phase::DualWrite).await;
}

#[tokio::test]
async fn a_relay_that_runs_notices_it_as_well() {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let migration = world.migration();
    let progress = lockstep_coordinator::Progress::new(&migration.tables);
    let cancel = CancellationToken::new();
    let running = relay(&migration, RelayUntil::Cancelled, &progress, &cancel);
    let set_back = async {
        world.sql(&log(1, "a")).await;
        lockstep_tests::world::eventually("it relays", || async { world.live_items(LOGS).await == 1 }).await;
        world.sql("UPDATE lockstep.history SET server = '1/00000001'").await;
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = within(Duration::from_secs(60), running) => ended,
        () = set_back => unreachable!("it waits for ever"),
    };
    assert!(matches!(ended, Err(Error::HistoryLost(_))), "{ended:?}");
}

/// A target of which one table goes back to before changes of each kind. HybridRead, so that its answers would count.
async fn target_set_back(how: &str) -> World {
    let world = World::start().await;
    world.sql(&logs(1, 60)).await;
    world.sql(&payments(1, 60)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let table = world.payments_table();
    let backup = world.back_up_table(&table).await;
    world.sql("UPDATE payments SET loan_id = 2 WHERE payment_id <= 9; DELETE FROM payments WHERE payment_id > 50").await;
    world.sql(&payments(101, 110)).await;
    world.relay_until_empty().await;
    let coordinator = world.coordinator().await;
    world.step_to(&coordinator, Phase::HybridRead).await;
    coordinator.close().await;
    match how {
        "restored" => world.restore_table(&table, &backup).await,
        "set back" => world.set_table_back(&table, &backup).await,
        _ => world.drop_table(&table).await,
    }
    world
}

async fn target_is_mended(how: &str, says: &str) {
    let world = target_set_back(how).await;
    let table = PAYMENTS.to_owned();
    check(&world, says, &[Remedy::AdoptTarget { table }, Remedy::RaiseEpoch, Remedy::Backfill, Remedy::Compare]).await;
    let mended = mended(&world).await;
    assert!(mended.repaired.unverified.is_empty(), "{:?}", mended.repaired);
    assert!(mended.left.expect("looked at").sound);
    goes_on(&world, Phase::DualWrite).await;
}

#[tokio::test]
async fn a_target_table_that_was_restored_is_filled_and_compared() {
    target_is_mended("restored", "it was restored, as of about").await;
}

#[tokio::test]
async fn a_target_table_that_was_set_back_in_place_is_filled_and_compared() {
    target_is_mended("set back", "was set back").await;
}

#[tokio::test]
async fn a_target_table_that_is_gone_is_made_and_filled() {
    target_is_mended("dropped", "is gone").await;
}

#[tokio::test]
async fn a_mark_that_was_broken_off_is_no_loss() {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    // Begun, and never made; begun and made, and never noted.
    for (binding, made) in world.tables().iter().zip([false, true]) {
        let begun =
            world.source.begin_mark(binding.name(), Duration::ZERO, Duration::ZERO).await.expect("begun").expect("a mark");
        if made {
            let mark = lockstep_core::target::HistoryMark {
                number: begun.number,
                version: begun.version,
                server: begun.server,
                at: chrono::Utc::now(),
            };
            let schema = binding.table.target();
            world.plain_target.set_history_mark(&binding.target_name, &schema, &mark).await.expect("made");
        }
    }
    world.coordinator().await.close().await;
    assert!(diagnosis(&world).await.sound);
    world.assert_converged().await;
}

/// Whoever asks must not hold what it read first against what others have written since.
#[tokio::test]
async fn marks_that_others_make_meanwhile_are_no_loss() {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let done = CancellationToken::new();
    let marking = async {
        let mut id = 0;
        while !done.is_cancelled() {
            id += 1;
            world.sql(&log(id, "a")).await;
            for binding in world.tables() {
                let begun = world
                    .source
                    .begin_mark(binding.name(), Duration::ZERO, Duration::ZERO)
                    .await
                    .expect("begun")
                    .expect("a mark");
                let at = chrono::Utc::now();
                let (number, version, server) = (begun.number, begun.version, begun.server);
                let mark = lockstep_core::target::HistoryMark { number, version, server, at };
                let schema = binding.table.target();
                world.plain_target.set_history_mark(&binding.target_name, &schema, &mark).await.expect("made");
                world.source.end_mark(binding.name(), number).await.expect("noted");
            }
        }
    };
    let asking = async {
        for _ in 0..60 {
            let lost = status(&world.source, &world.plain_target, &world.tables()).await.expect("read").lost;
            assert!(lost.is_empty(), "{lost:?}");
        }
        done.cancel();
    };
    tokio::join!(marking, asking);
}

#[tokio::test]
async fn going_back_to_postgresql_does_not_depend_on_a_target_that_is_away() {
    let mut world = World::start().await;
    let coordinator = world.migrated_to(Phase::HybridRead).await;
    coordinator.close().await;
    drop(world.dynamo.take());
    let coordinator = world.coordinator().await;
    assert_eq!(coordinator.step(Phase::DualWrite, None, &()).await.expect("goes back").phase, Phase::DualWrite);
    let diagnosis = diagnosis(&world).await;
    assert!(diagnosis.findings.iter().any(|finding| finding.what.contains("DynamoDB could not be asked")), "{diagnosis:?}");
}

#[tokio::test]
async fn a_repair_that_is_broken_off_again_and_again_comes_to_its_end() {
    let world = set_back().await;
    let migration = world.migration();
    let (mut polls, mut ended, mut broken_off) = (1, None, 0);
    while ended.is_none() {
        let mending = async { mend(&migration, &options(), &(), &CancellationToken::new()).await };
        ended = CutShort::after(polls, mending).await;
        if ended.as_ref().is_some_and(|ended| matches!(ended, Err(Error::Store(e)) if e.kind == lockstep_core::Kind::Busy)) {
            // The one before is not quite gone.
            ended = None;
            continue;
        }
        let open = world.source.open_intents().await.expect("the journal");
        if ended.is_none() && open.iter().any(|entry| entry.step == "repair state") && diagnosis(&world).await.findings.len() == 1
        {
            broken_off += 1;
            // What is broken off keeps the way forward closed.
            let coordinator = world.coordinator().await;
            let refused = coordinator.step(Phase::HybridRead, None, &()).await.expect_err("it is not whole");
            assert!(refused.to_string().contains("a repair of the state was broken off"), "{refused}");
            coordinator.close().await;
        }
        polls += 1 + polls / 6;
    }
    ended.expect("it ended").expect("it ended well");
    assert!(polls > 20 && broken_off > 0, "{polls} polls, {broken_off} times in the middle");
    assert!(world.source.open_intents().await.expect("the journal").is_empty());
    let rest = find_repairs(&migration, &options(), &CancellationToken::new()).await.expect("searched").repairable;
    repair(&migration, &rest, &options(), &CancellationToken::new()).await.expect("repaired");
    goes_on(&world, Phase::DualWrite).await;
}

#[tokio::test]
async fn a_state_that_nobody_may_decide_is_left_as_it_is() {
    let world = World::start().await;
    world.sql(&logs(1, 10)).await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    let epoch = world.truth_in_target().await;
    let table: TableBinding = world.logs_table();
    world.drop_table(&table).await;
    let diagnosis = diagnosis(&world).await;
    assert!(!diagnosis.sound && diagnosis.findings[0].next.contains("restore the table from a backup"), "{diagnosis:?}");
    let mended = mended(&world).await;
    assert!(mended.done.is_empty());
    assert_eq!(world.source.control().await.expect("a phase").epoch, epoch);
    assert!(epoch > Epoch::FIRST);
}

/// Leaves the intent of a step in the journal, as a process does that dies after it.
#[tokio::test]
async fn a_step_of_a_dead_coordinator_is_named_and_settled() {
    let world = World::start().await;
    world.migrated_to(Phase::PostgresOnly).await.close().await;
    let control = world.source.control().await.expect("a phase");
    let detail = serde_json::json!({ "from": control.phase, "to": Phase::DualWrite, "epoch_before": control.epoch });
    let IntentId(id) = world.source.journal_intent("the dead", "change phase", &detail).await.expect("journalled");
    let alive = world.source.lock_coordinator().await.expect("nobody else");
    let under_way = diagnosis(&world).await;
    assert!(under_way.sound && under_way.findings[0].what.contains("is under way"), "{under_way:?}");
    alive.release().await;
    let dead = diagnosis(&world).await;
    assert!(!dead.sound && dead.findings[0].what.contains("it died"), "{dead:?}");
    let mended = mended(&world).await;
    assert_eq!(mended.done, [Remedy::SettleSteps]);
    let outcome: String = world.value(&format!("SELECT kind FROM lockstep.journal WHERE intent = {id}")).await;
    assert_eq!(outcome, EntryKind::Undone.name());
    assert!(mended.left.expect("looked at").sound);
}

#[tokio::test]
async fn triggers_that_were_off_are_put_back_and_what_they_missed_is_found() {
    for (phase, off, on) in [
        (
            Phase::HybridRead,
            "ALTER TABLE payments DISABLE TRIGGER zz_lockstep_capture_payments",
            "ALTER TABLE payments ENABLE ALWAYS TRIGGER zz_lockstep_capture_payments",
        ),
        (Phase::DualWrite, "DROP TRIGGER zz_lockstep_capture_payments ON payments", "SELECT 1"),
        (Phase::PostgresOnly, "DROP TRIGGER zz_lockstep_truncate_payments ON payments; TRUNCATE payments", "SELECT 1"),
    ] {
        let world = World::start().await;
        world.sql(&logs(1, 20)).await;
        world.sql(&payments(1, 60)).await;
        world.migrated_to(phase).await.close().await;
        world.sql(off).await;
        world.sql("UPDATE payments SET loan_id = 2 WHERE payment_id <= 9; DELETE FROM payments WHERE payment_id > 50").await;
        world.sql(&payment(1_000, 7)).await;
        world.sql(on).await;
        let found = diagnosis(&world).await;
        assert!(!found.sound && found.findings[0].what.contains("not all captured"), "{found:?}");
        let mended = mended(&world).await;
        assert!(mended.left.expect("looked at").sound);
        if phase == Phase::PostgresOnly {
            // What is extra can be told only where both stores are written; the gate to HybridRead asks for a verdict.
            let coordinator = world.coordinator().await;
            world.step_to(&coordinator, Phase::DualWrite).await;
            coordinator.close().await;
            let found =
                find_repairs(&world.migration(), &options(), &CancellationToken::new()).await.expect("searched").repairable;
            repair(&world.migration(), &found, &options(), &CancellationToken::new()).await.expect("repaired");
        }
        world.live_at(&world.payments_table(), &payment_key(1_000, 7)).await;
        goes_on(&world, Phase::DualWrite).await;
    }
}

#[tokio::test]
async fn the_commands_say_what_is_wrong_and_mend_it() {
    use super::process::{command, ended};
    let world = World::start().await;
    world.sql(&logs(1, 20)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let code = async |arguments: &[&str]| {
        let output = ended(command(&world, arguments)).await;
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!said.contains("panicked"), "{said}");
        (output.status.code(), said)
    };
    let (sound, said) = code(&["doctor"]).await;
    assert!(sound == Some(0) && said.contains("Nothing is wrong") && said.contains("To run next"), "{said}");
    world.sql("SELECT setval('lockstep.version_seq', 7)").await;
    let (broken, said) = code(&["doctor", "--json"]).await;
    let report: serde_json::Value = serde_json::from_str(&said).expect("one JSON document and nothing else");
    assert_eq!((broken, &report["remedies"][0]["do"]), (Some(1), &"raise_epoch".into()), "{said}");
    for refused in
        [&["relay", "--until-empty"][..], &["backfill"], &["advance"], &["rollback"], &["reverse-feed", "--until-empty"]]
    {
        let (code, said) = code(refused).await;
        assert!(code == Some(3) && said.contains("run `doctor`"), "{refused:?}: {said}");
    }
    let (listed, said) = code(&["repair", "--state"]).await;
    assert!(listed == Some(1) && said.contains("in this order:\n  1. begin a new epoch"), "{said}");
    let (mended, said) = code(&["repair", "--state", "--apply", "--quiet"]).await;
    assert!(mended == Some(0) && said.contains("Done:"), "{said}");
    assert_eq!(code(&["doctor"]).await.0, Some(0));
    assert_eq!(code(&["relay", "--until-empty"]).await.0, Some(0));
    let mut away = command(&world, &["doctor"]);
    away.env("LOCKSTEP_SOURCE__URL", "postgres://lockstep:secret@127.0.0.1:1/lockstep")
        .env("LOCKSTEP_SOURCE__CONNECT_TIMEOUT_MS", "300");
    let output = ended(away).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.code() == Some(5) && said.contains("PostgreSQL does not answer") && !said.contains("secret"), "{said}");
}

#[tokio::test]
async fn a_source_that_was_set_back_to_before_dynamo_only_is_made_to_follow_again() {
    use lockstep_payments::Payments;
    use lockstep_tests::world::rows::payment_row;
    let mut world = World::start().await;
    world.sql(&logs(1, 40)).await;
    world.sql(&payments(1, 60)).await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    world.sql("UPDATE payments SET loan_id = 4 WHERE payment_id = 9").await;
    let backup = world.back_up_source().await;
    world.sql("UPDATE payments SET loan_id = 2 WHERE payment_id <= 5; DELETE FROM payments WHERE payment_id = 50").await;
    world.relay_until_empty().await;
    world.record_verdict().await;
    let coordinator = world.coordinator().await;
    coordinator.step(Phase::DynamoOnly, None, &()).await.expect("nothing refuses");
    coordinator.close().await;
    let app = lockstep_core::migration::Migration::connect(world.production(world.url(), Duration::from_secs(5)))
        .await
        .expect("connects");
    let store = app.store::<Payments>();
    store.put(&payment_row(6, 7, "in DynamoOnly")).await.expect("written");
    store.put(&payment_row(2_000, 7, "in DynamoOnly")).await.expect("written");
    store.delete(51).await.expect("deleted");
    world.feed_until_drained().await;
    world.restore_source(backup).await;

    assert_eq!(world.source.control().await.expect("a phase").phase, Phase::HybridRead, "it knows nothing of DynamoOnly");
    for refusal in refusals(&world).await {
        assert!(refusal.contains("PostgreSQL was set back"), "{refusal}");
    }
    let found = diagnosis(&world).await;
    assert!(found.findings[0].what.contains("the control records contradict each other"), "{found:?}");
    assert_eq!(lockstep_coordinator::remedies(&found.findings), [Remedy::FollowTarget, Remedy::ReverseBackfill]);
    let mended = mended(&world).await;
    assert_eq!(mended.done, [Remedy::FollowTarget, Remedy::ReverseBackfill]);
    assert!(mended.left.as_ref().is_some_and(|left| left.sound), "{:#?}", mended.left);
    store.put(&payment_row(7, 8, "afterwards")).await.expect("applications went on all the time");
    world.feed_until_drained().await;
    world.assert_fed().await;
    let coordinator = world.coordinator().await;
    coordinator.step(Phase::HybridRead, None, &()).await.expect("the way back is open again");
    coordinator.close().await;
    app.shutdown().await;
    world.assert_converged().await;
    let there: i64 = world.value("SELECT count(*) FROM payments WHERE payment_id IN (7, 50, 51, 2000)").await;
    assert_eq!(there, 2, "what was written and deleted in DynamoOnly has come back");
}
