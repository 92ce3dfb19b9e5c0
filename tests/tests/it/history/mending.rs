//! Parts of a repair of the state, broken off or not.

use lockstep_coordinator::{Repairable, RowsTaken};
use lockstep_core::{AttributeValue, Attributes, Kind};

use super::*;

#[tokio::test]
async fn a_repair_that_is_broken_off_again_and_again_comes_to_its_end() {
    let world = set_back().await;
    let migration = world.migration();
    let polls = mended_after_many_crashes(&migration, async || {}).await;
    assert!(polls > 20, "{polls} polls");
    assert!(world.source.open_intents().await.expect("the journal").is_empty());
    // One of which nothing is left but its end keeps the way forward closed, until it has that.
    let planned = serde_json::json!({ "remedies": [] });
    world.source.journal_intent("the dead", "repair state", &planned).await.expect("journalled");
    let coordinator = world.coordinator().await;
    let refused = coordinator.step(Phase::HybridRead, None, &()).await.expect_err("it is not whole");
    assert!(refused.to_string().contains("a repair of the state was broken off"), "{refused}");
    coordinator.close().await;
    mended(&world).await;
    assert!(world.source.open_intents().await.expect("the journal").is_empty());
    repair_rows(&world).await;
    goes_on(&world, Phase::DualWrite).await;
}

/// Leaves the intent of a step in the journal, as a process does that dies after it.
#[tokio::test]
async fn a_step_of_a_dead_coordinator_is_named_and_settled() {
    let world = World::start().await;
    world.migrated_to(Phase::PostgresOnly).await.close().await;
    let control = world.source.control().await.expect("a phase");
    let detail =
        serde_json::json!({ "from": control.phase, "to": Phase::DualWrite, "epoch_before": control.epoch });
    let IntentId(id) =
        world.source.journal_intent("the dead", "change phase", &detail).await.expect("journalled");
    let alive = world.source.lock_coordinator().await.expect("no other coordinator");
    let under_way = diagnosis(&world).await;
    assert!(under_way.sound && under_way.findings[0].what.contains("is under way"), "{under_way:?}");
    alive.release().await;
    let dead = diagnosis(&world).await;
    assert!(!dead.sound && dead.findings[0].what.contains("it died"), "{dead:?}");
    let mended = mended(&world).await;
    assert_eq!(mended.done, [Remedy::SettleSteps]);
    let outcome: String =
        world.value(&format!("SELECT kind FROM lockstep.journal WHERE intent = {id}")).await;
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
        (
            Phase::PostgresOnly,
            "DROP TRIGGER zz_lockstep_truncate_payments ON payments; TRUNCATE payments",
            "SELECT 1",
        ),
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
            // An extra item can be told only where both stores are written; the gate to HybridRead asks for a
            // verdict.
            world.stepped_to(Phase::DualWrite).await;
            repair_rows(&world).await;
        }
        world.live_at(&world.payments_table(), &payment_key(1_000, 7)).await;
        goes_on(&world, Phase::DualWrite).await;
    }
}

fn payment_of(payment_id: i64) -> String {
    payment_key(payment_id, 1 + payment_id)
}

/// Puts an item behind Lockstep's back.
async fn put_item(world: &World, table: &TableBinding, item: Attributes) {
    let put = world.plain_target.client().put_item().table_name(&table.target_name).set_item(Some(item));
    put.send().await.expect("put");
}

/// Has the items of payments say something that their rows do not.
async fn make_differ(world: &World, payment_ids: &[i64]) {
    let table = world.payments_table();
    for payment_id in payment_ids {
        let mut item = world.live_at(&table, &payment_of(*payment_id)).await;
        item.insert("transaction_reference".to_owned(), AttributeValue::S("of the item".to_owned()));
        put_item(world, &table, item).await;
    }
}

async fn found(world: &World) -> Vec<Repairable> {
    let found = find_repairs(&world.migration(), &options(), &CancellationToken::new()).await;
    found.expect("searched").repairable
}

async fn take(world: &World, chosen: &[Repairable]) -> RowsTaken {
    take_target(&world.migration(), chosen).await.expect("taken")
}

/// 1. A comparison finds items that differ from their rows, and some that have none. 2. Applications write
/// those rows, and no relay has delivered it yet. 3. An operator takes the items by what was found before.
#[tokio::test]
async fn what_was_written_since_the_comparison_is_not_overwritten_by_an_item() {
    let world = World::start().await;
    world.sql(&logs(1, 3)).await;
    world.sql(&payments(1, 20)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let (of_logs, of_payments) = (world.logs_table(), world.payments_table());
    make_differ(&world, &[1, 2, 3, 5]).await;
    let extra_payment = world.live_at(&of_payments, &payment_of(4)).await;
    let extra_log = world.live_at(&of_logs, &log_key(1, "service-1")).await;
    world.sql("DELETE FROM payments WHERE payment_id = 4").await;
    world.sql("DELETE FROM integration_logs WHERE log_id = 1").await;
    world.relay_until_empty().await;
    put_item(&world, &of_payments, extra_payment).await;
    put_item(&world, &of_logs, extra_log).await;
    let chosen = found(&world).await;
    let of = |class| chosen.iter().filter(|finding| finding.class == class).count();
    assert_eq!((of(FindingClass::Different), of(FindingClass::Extra)), (4, 2), "{chosen:?}");

    // The row comes back elsewhere, where DynamoDB cannot hold it.
    world.sql(&log(1, "elsewhere")).await;
    world.sql(&lockstep_tests::world::rows::outgrow(1)).await;
    assert_eq!(world.relay_until_empty().await.dead_letters, 1);
    world.sql("UPDATE payments SET payment_method = 'newer' WHERE payment_id = 1").await;
    world.sql("DELETE FROM payments WHERE payment_id = 2").await;
    world.sql("UPDATE payments SET customer_id = 900 WHERE payment_id = 3").await;
    // Another key than the one that was found, and the same row.
    world.sql(&payment(4, 900)).await;

    let taken = take(&world, &chosen).await;
    let says = |text: &str| taken.left.iter().filter(|left| left.contains(text)).count();
    assert_eq!((taken.rows, taken.left.len()), (1, 5), "{taken:?}");
    assert_eq!((says("compare again"), says("dead letter")), (4, 1), "{taken:?}");
    let newer = "payments WHERE transaction_reference IS NULL AND
                 (payment_id = 1 AND payment_method = 'newer' OR payment_id IN (3, 4) AND customer_id = 900)";
    assert_eq!(world.count(newer).await, 3, "what was acknowledged is there");
    assert_eq!(world.count("payments WHERE payment_id = 2").await, 0, "its deletion was acknowledged");
    assert_eq!(world.count("integration_logs WHERE log_id = 1 AND service_name = 'elsewhere'").await, 1);
    let of_item = "payments WHERE payment_id = 5 AND transaction_reference = 'of the item'";
    assert_eq!(world.count(of_item).await, 1, "this one was not written since");
    let pending = world.pending(PAYMENTS).await;
    assert!(pending.contains_key(&payment_of(5)), "captured like any other write: {pending:?}");

    world.sql("UPDATE integration_logs SET error_message = NULL WHERE log_id = 1").await;
    world.relay_until_empty().await;
    // The items that are left without a row.
    repair_rows(&world).await;
    world.assert_converged().await;
}

/// Or else: 1. An application has locked the row, and we wait for it behind the closed barrier. 2. It updates
/// the row and waits for the barrier. 3. PostgreSQL finds a deadlock and may end the application's
/// transaction.
#[tokio::test]
async fn a_row_that_an_application_has_locked_is_taken_by_another_run() {
    let world = World::start().await;
    world.sql(&payments(1, 5)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    make_differ(&world, &[1]).await;
    let chosen = found(&world).await;
    let mut application = world.stranger().await;
    run(&mut application, "BEGIN; SELECT FROM payments WHERE payment_id = 1 FOR UPDATE").await;
    let busy = take_target(&world.migration(), &chosen).await.expect_err("the row is locked");
    assert!(busy.to_string().contains("run the same command again"), "{busy}");
    assert!(matches!(&busy, CoordinatorError::Store(error) if error.kind == Kind::Busy), "{busy:?}");
    run(&mut application, "COMMIT").await;
    let taken = take(&world, &chosen).await;
    assert_eq!((taken.rows, taken.left), (1, Vec::new()));
    world.assert_converged().await;
}

#[tokio::test]
async fn the_commands_say_what_is_wrong_and_mend_it() {
    use crate::process::{command, ended};
    let world = World::start().await;
    world.sql(&logs(1, 20)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let code = async |arguments: &[&str]| {
        let output = ended(command(&world, arguments)).await;
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!said.contains("panicked"), "{said}");
        (output.status.code(), said)
    };
    let (sound, said) = code(&["doctor"]).await;
    assert!(sound == Some(0) && said.contains("Nothing is wrong") && said.contains("To run next"), "{said}");
    world.sql("SELECT setval('lockstep.version_seq', 7)").await;
    let (broken, said) = code(&["doctor", "--json", "--quiet"]).await;
    let report: serde_json::Value = serde_json::from_str(&said).expect("one JSON document and nothing else");
    assert_eq!((broken, &report["remedies"][0]["do"]), (Some(1), &"raise_epoch".into()), "{said}");
    for refused in [
        &["relay", "--until-empty"][..],
        &["backfill"],
        &["advance"],
        &["rollback"],
        &["reverse-feed", "--until-empty"],
    ] {
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
    assert!(
        output.status.code() == Some(5)
            && said.contains("PostgreSQL does not answer")
            && !said.contains("secret"),
        "{said}"
    );
}
