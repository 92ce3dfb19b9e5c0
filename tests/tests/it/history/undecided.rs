//! States that DynamoDB holds of a time that PostgreSQL lost are a person's to decide about: no mark, intent
//! or repair of before overwrites them, and none of a later repair that is of something else.

use lockstep_coordinator::{find_orphans, repair_orphans};
use lockstep_core::{SourceKey, is_tombstone};

use super::way_on::told;
use super::*;

/// Sets a world back over a key of each kind that something of before would have overwritten.
async fn set_back_over_work() -> World {
    let mut world = World::start().await;
    world.sql(&logs(1, 20)).await;
    world.sql(&payments(1, 20)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    // Waits for delivery.
    world.sql("UPDATE integration_logs SET user_id = 'waits' WHERE log_id = 7").await;
    world.sql("UPDATE payments SET loan_id = 2 WHERE payment_id = 3").await;
    // A repair that is broken off before it has marked anything.
    let payments_table = world.payments_table();
    let key = SourceKey::parse(&payment_of(1)).expect("a key");
    let literals = payments_table.table.literals_of_key(&key).expect("a key of the table");
    let batch = serde_json::json!({ "table": PAYMENTS, "keys": [literals] });
    world.source.journal_intent("the dead", "repair keys", &batch).await.expect("journalled");
    // A strict write that is under way.
    let mut writer = world.stranger().await;
    run(&mut writer, "BEGIN").await;
    let xid: String = sqlx::query_scalar("SELECT pg_current_xact_id()::text")
        .fetch_one(&mut writer)
        .await
        .expect("a number");
    world
        .sql(&format!(
            "INSERT INTO lockstep.intents (xid, table_name, key, repair_version)
             VALUES ('{xid}', 'payments', '{}', nextval('lockstep.version_seq'))",
            payment_of(6)
        ))
        .await;
    let backup = world.back_up_source().await;

    // Its commit is lost as well.
    world.sql("UPDATE payments SET loan_id = 9 WHERE payment_id = 6; DELETE FROM lockstep.intents").await;
    world.relay_until_empty().await;
    world.stepped_to(Phase::HybridRead).await;
    world.sql("UPDATE integration_logs SET user_id = 'lost' WHERE log_id = 7").await;
    world.sql("DELETE FROM payments WHERE payment_id IN (1, 3)").await;
    world.sql(&log(1_000, "lost")).await;
    world.relay_until_empty().await;
    world.restore_source(backup).await;
    world
}

fn payment_of(payment_id: i64) -> String {
    payment_key(payment_id, 1 + payment_id)
}

/// Returns what DynamoDB has of the time that is lost.
async fn lost_states(world: &World) -> Vec<String> {
    let mut there = Vec::new();
    for payment_id in [1, 3] {
        let item = world.item(&world.payments_table(), &payment_of(payment_id)).await;
        if item.as_ref().is_some_and(is_tombstone) {
            there.push(format!("the deletion of payment {payment_id}"));
        }
    }
    let item = world.live_at(&world.payments_table(), &payment_of(6)).await;
    if item.get("loan_id").and_then(|loan| loan.as_n().ok()).is_some_and(|loan| loan == "9") {
        there.push("the strict write".to_owned());
    }
    let item = world.live_at(&world.logs_table(), &log_key(7, "service-2")).await;
    if item.get("user_id").and_then(|user| user.as_s().ok()).is_some_and(|user| user == "lost") {
        there.push("log 7".to_owned());
    }
    let item = world.item(&world.logs_table(), &log_key(1_000, "lost")).await;
    if item.is_some_and(|item| !is_tombstone(&item)) {
        there.push("log 1000".to_owned());
    }
    there
}

const ALL: [&str; 5] =
    ["the deletion of payment 1", "the deletion of payment 3", "the strict write", "log 7", "log 1000"];

#[tokio::test]
async fn what_waited_when_postgres_was_set_back_overwrites_nothing_of_the_lost_time() {
    let world = set_back_over_work().await;
    let found = mended(&world).await.findings.expect("compared").repairable;
    world.source.sweep_intents(Duration::ZERO).await.expect("swept");
    world.relay_until_empty().await;
    assert_eq!(lost_states(&world).await, ALL, "{found:?}");
    let of = |class| found.iter().filter(|finding| finding.class == class).count();
    assert_eq!(
        (of(FindingClass::Missing), of(FindingClass::Different), of(FindingClass::Extra)),
        (2, 2, 1),
        "each of them is listed: {found:?}"
    );
    doctor_leads_to_a_decision(&world).await;

    // A repair that a person asks for begins with those that were broken off.
    let (migration, cancel) = (world.migration(), CancellationToken::new());
    repair(&migration, &[], &options(), &cancel).await.expect("repaired");
    assert_eq!(lost_states(&world).await, ALL);
    // Nor are those that are in one store only handed to a relay.
    let orphans = find_orphans(&migration, &options(), &cancel).await.expect("searched");
    let refused = repair_orphans(&migration, &orphans.found).await.expect_err("not decided about");
    assert!(refused.to_string().contains("may be what PostgreSQL forgot"), "{refused}");
    // A repair of something else compares as well.
    world.sql("DROP TRIGGER zz_lockstep_capture_payments ON payments").await;
    world.sql("UPDATE payments SET loan_id = 4 WHERE payment_id = 8").await;
    mended(&world).await;
    world.relay_until_empty().await;
    assert_eq!(lost_states(&world).await, ALL);

    // A row that is deleted as DynamoDB says takes none with it that no finding has named.
    world.sql("CREATE TABLE notes (of bigint REFERENCES payments ON DELETE CASCADE)").await;
    world.sql("INSERT INTO notes VALUES (1)").await;
    let chosen: Vec<_> = found.iter().filter(|finding| finding.may_be_deleted()).cloned().collect();
    let taken = take_target(&migration, &chosen).await.expect("taken");
    assert!(taken.rows == 1 && taken.left.len() == 1, "{taken:?}");
    assert!(taken.left[0].contains("public.notes refer to it"), "{taken:?}");
    assert_eq!(world.count("notes").await + world.count("payments WHERE payment_id IN (1, 3)").await, 2);
    world.sql("DROP TABLE notes").await;

    repair_rows(&world).await;
    world.relay_until_empty().await;
    world.record_verdict().await;
    assert!(!world.source.is_loss_undecided().await.expect("asked"), "both stores agree");
    goes_on(&world, Phase::DualWrite).await;
}

/// 1. A target table is the truth, and has a row that PostgreSQL refuses. 2. The table is set back, and the
/// truth returns to PostgreSQL, in DualWrite: the row is in DynamoDB alone, and listed. 3. A trigger is off.
/// 4. The comparison of `repair --state` puts a tombstone over the only copy of an acknowledged row.
#[tokio::test]
async fn what_postgres_refused_of_a_truth_that_returned_is_overwritten_by_no_repair_of_something_else() {
    let world = World::start().await;
    world.sql(&payments(1, 20)).await;
    world.migrated_to(Phase::DynamoOnly).await.close().await;
    let app =
        lockstep::migration::Migration::connect(world.production(world.url(), Duration::from_millis(1_200)));
    let app = app.await.expect("both stores are there");
    world.sql("ALTER TABLE payments ADD CONSTRAINT few CHECK (payment_id < 2000)").await;
    let row = lockstep_tests::world::rows::payment_row(2_000, 7, "acknowledged");
    told(async || app.store::<lockstep_payments::Payments>().put(&row).await).await;
    let table = world.payments_table();
    let backup = world.back_up_table(&table).await;
    let number = world.make_mark(&table).await;
    world.source.end_marks(&[(table.name(), number)]).await.expect("noted");
    world.restore_table(&table, &backup).await;
    let only_copy = async || {
        let item = world.item(&table, &payment_key(2_000, 7)).await;
        item.is_some_and(|item| !is_tombstone(&item))
    };
    let first = mended(&world).await;
    assert!(first.done.contains(&Remedy::ReturnToSource), "{:?}", first.done);
    app.shutdown().await;
    let found = first.findings.expect("compared").repairable;
    assert!(found.iter().any(|finding| finding.class == FindingClass::Extra), "{found:?}");
    assert!(only_copy().await);

    world.sql("DROP TRIGGER zz_lockstep_capture_payments ON payments").await;
    world.sql("UPDATE payments SET loan_id = 4 WHERE payment_id = 8").await;
    mended(&world).await;
    world.relay_until_empty().await;
    assert!(only_copy().await, "it was acknowledged");
    doctor_leads_to_a_decision(&world).await;

    world.sql("ALTER TABLE payments DROP CONSTRAINT few").await;
    let taken = take_target(&world.migration(), &found).await.expect("taken");
    assert_eq!(taken.rows, 1, "{taken:?}");
    repair_rows(&world).await;
    goes_on(&world, Phase::DualWrite).await;
    assert_eq!(world.count("payments WHERE payment_id = 2000").await, 1);
}

/// 1. In DynamoOnly PostgreSQL refuses an item, and an operator accepts that it stays without. 2. The
/// ordinary way back goes through: the item is in DynamoDB alone. 3. A trigger is off one day. 4. The
/// comparison of `repair --state` put a tombstone over the only copy of an acknowledged row.
#[tokio::test]
async fn what_was_accepted_to_stay_behind_is_overwritten_by_no_repair_of_something_else() {
    let world = World::start().await;
    world.sql(&payments(1, 20)).await;
    world.migrated_to(Phase::DynamoOnly).await.close().await;
    let lease = Duration::from_millis(1_200);
    let app = lockstep::migration::Migration::connect(world.production(world.url(), lease)).await;
    let app = app.expect("both stores are there");
    world.sql("CREATE UNIQUE INDEX references_once ON payments (transaction_reference)").await;
    let row = |payment_id| lockstep_tests::world::rows::payment_row(payment_id, 7, "taken");
    let store = app.store::<lockstep_payments::Payments>();
    told(async || store.put(&row(1_000)).await).await;
    world.feed_until_drained().await;
    told(async || store.put(&row(2_000)).await).await;
    crate::riders::beside_a_feed(&world, async {
        let tried = "SELECT EXISTS (SELECT FROM lockstep.reverse_again WHERE tries > 1)";
        eventually("it was tried", || world.value::<bool>(tried)).await;
    })
    .await;
    world.sql("UPDATE lockstep.reverse_again SET found_at = found_at - interval '6 minutes'").await;
    let accepted = lockstep_tests::world::acknowledge(&world.source, PAYMENTS, "an operator").await;
    assert_eq!(accepted.expect("accepted"), 1);
    let coordinator = world.coordinator().await;
    coordinator.step(Phase::HybridRead, None, &()).await.expect("nothing else is behind");
    coordinator.close().await;
    app.shutdown().await;
    let kept: String =
        world.value("SELECT detail::text FROM lockstep.journal WHERE step = 'left in DynamoDB alone'").await;
    assert!(kept.contains("2000") && !kept.contains("1000"), "{kept}");
    let only_copy = async || {
        let item = world.item(&world.payments_table(), &payment_key(2_000, 7)).await;
        item.is_some_and(|item| !is_tombstone(&item))
    };
    let (migration, cancel) = (world.migration(), CancellationToken::new());
    let orphans = find_orphans(&migration, &options(), &cancel).await.expect("searched");
    let refused = repair_orphans(&migration, &orphans.found).await.expect_err("not decided about");
    assert!(refused.to_string().contains("forgot or refused"), "{refused}");

    world.sql("DROP TRIGGER zz_lockstep_capture_payments ON payments").await;
    world.sql("UPDATE payments SET loan_id = 4 WHERE payment_id = 8").await;
    let mended = mended(&world).await;
    let found = mended.findings.expect("listed").repairable;
    world.relay_until_empty().await;
    assert!(only_copy().await, "it was acknowledged");
    let extra: Vec<_> =
        found.iter().filter(|finding| finding.class == FindingClass::Extra).cloned().collect();
    assert!(extra.len() == 1 && extra[0].key[0] == "2000", "it is listed: {found:?}");
    doctor_leads_to_a_decision(&world).await;

    world.sql("DROP INDEX references_once").await;
    assert_eq!(take_target(&migration, &extra).await.expect("taken").rows, 1);
    assert_eq!(world.count("payments WHERE payment_id = 2000").await, 1);
    repair_rows(&world).await;
    let phase = world.source.control().await.expect("a phase").phase;
    goes_on(&world, phase).await;
}

/// Checks that no command that the doctor names puts right what may be the only copy, without a word of it.
async fn doctor_leads_to_a_decision(world: &World) {
    let said = diagnosis(world).await;
    let all: Vec<&String> =
        said.next.iter().chain(said.findings.iter().map(|finding| &finding.next)).collect();
    assert!(all.iter().any(|next| next.contains("--take-target")), "{all:#?}");
    let bare = all.iter().any(|next| next.contains("repair --apply") && !next.contains("--take-target"));
    assert!(!bare, "{all:#?}");
}
