//! A command says what it has found, or has not looked at: to its reader, and to the gates.

use lockstep_core::{Phase, TargetKey};
use lockstep_tests::World;
use lockstep_tests::world::PAYMENTS;
use lockstep_tests::world::rows::{logs, payment_key, payments};

use crate::new_user::said;
use crate::process::{command, ended};

/// Takes the item of a payment out of the target, past Lockstep.
async fn lose(world: &World, payment_id: i64) {
    let binding = world.payments_table();
    let item = world.live_at(&binding, &payment_key(payment_id, 1 + payment_id % 50)).await;
    let key = TargetKey::of(&item).expect("every item has a key").to_attributes();
    let deleting = world.plain_target.client().delete_item().table_name(PAYMENTS).set_key(Some(key));
    deleting.send().await.expect("deleted");
}

/// 1. A verdict is consistent. 2. An item is lost, and who looks at its key sees it. 3. The step went by the
/// verdict. A comparison of everything that agrees is the end of it, as of any finding.
#[tokio::test]
async fn what_a_comparison_of_one_key_finds_no_step_passes_over() {
    let world = World::start().await;
    world.sql(&format!("{}; {}", logs(1, 20), payments(1, 20))).await;
    let coordinator = world.migrated_to(Phase::DualWrite).await;
    world.relay_until_empty().await;
    assert!(world.record_verdict().await.verdict.is_consistent());
    let key = async || ended(command(&world, &["validate", "--no-relay", "--key", "payments/7"])).await;
    let alike = key().await;
    assert_eq!(alike.status.code(), Some(0), "{}", said(&alike));
    let newest = async || world.source.latest_verdict().await.expect("read").expect("one").consistent;
    assert!(newest().await, "that one key agrees is no verdict");

    lose(&world, 7).await;
    let differs = key().await;
    assert!(said(&differs).contains("they do NOT say the same"), "{}", said(&differs));
    assert!(!newest().await);
    let refused = coordinator.step(Phase::HybridRead, None, &()).await.expect_err("an item is missing");
    assert!(refused.to_string().contains("verdict is clean and fresh"), "{refused}");

    crate::history::repair_rows(&world).await;
    world.step_to(&coordinator, Phase::HybridRead).await;
    coordinator.close().await;
}

/// 1. The backfill has a window of days. 2. A search compares those. 3. "There are no orphans" was read as of
/// everything.
#[tokio::test]
async fn a_search_of_some_days_says_which() {
    let world = World::start().await;
    world.sql(&format!("{}; {}", logs(1, 20), payments(1, 20))).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    world.relay_until_empty().await;
    lose(&world, 7).await;
    for arguments in [&["orphans"][..], &["repair"], &["orphans", "--json"], &["repair", "--json"]] {
        let of_some_days = {
            let mut command = command(&world, arguments);
            command.env("LOCKSTEP_BACKFILL__WINDOW_END", "2026-02-01");
            said(&ended(command).await)
        };
        let named = ["before 2026-02-01 00:00:00 UTC", "2026-02-01T00:00:00Z"];
        assert!(named.iter().any(|day| of_some_days.contains(day)), "{arguments:?}: {of_some_days}");
        let whole = said(&ended(command(&world, arguments)).await);
        assert!(!whole.contains("2026-02-01"), "{arguments:?}: {whole}");
    }
}
