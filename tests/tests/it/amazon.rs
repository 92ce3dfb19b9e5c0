//! Differences of Amazon's service from the emulator: its clock is another, and it says in its own words who
//! removed an item.

use lockstep_core::{MigratableTable, Phase, Version};
use lockstep_integration_logs::{IntegrationLog, IntegrationLogs};
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, FaultKind, Rule};
use lockstep_tests::world::LOGS;
use lockstep_tests::world::rows::{log_row, logs, payments};

/// V33: requests signed by a clock that is off were refused until it was set right, and what was tried
/// again was signed by the same clock.
#[tokio::test]
async fn a_clock_that_is_twenty_minutes_off_costs_one_answer_and_no_row() {
    for ahead_s in [1_200, -1_200] {
        let world = World::behind_proxy().await;
        world.proxy().script(Rule::new(Fault::ClockAhead(ahead_s)));
        let coordinator = world.prepared().await;
        world.sql(&format!("{}; {}", logs(1, 60), payments(1, 20))).await;
        lockstep_tests::world::backfill(&coordinator).await;
        coordinator.close().await;
        world.sql("UPDATE integration_logs SET user_id = 'later'").await;
        world.relay_until_empty().await;
        let refused = world.proxy().counts().injected(FaultKind::ClockAhead);
        let asked = world.proxy().counts().seen_in_all();
        assert!(refused >= 1 && refused * 4 < asked, "{ahead_s} s: {refused} of {asked} were refused");
        assert_eq!(world.source.count_dead_letters(LOGS).await.expect("counts"), (0, 0));
        world.assert_converged().await;
    }
}

/// V42: Amazon says with capital letters who has removed an item, as the emulator does not.
#[tokio::test]
async fn a_removal_that_amazon_calls_an_expiry_is_one_and_any_other_is_not() {
    let world = World::behind_proxy().await;
    world.prepared().await.close().await;
    world.feed_until_drained().await;
    let epoch = world.flip(Phase::DynamoOnly).await;
    let table = IntegrationLogs::default();
    // Its time is over in two minutes: by Amazon's clock it is, and by ours not yet.
    let at = chrono::Utc::now() + chrono::TimeDelta::minutes(2) - chrono::TimeDelta::days(90);
    let row = |id: i64| IntegrationLog { log_timestamp: at, ..log_row(id, "u") };
    for id in [1, 2] {
        // Past our own client, which puts off an expiry that is as near as this.
        let item = MigratableTable::encode(&table, &row(id)).expect("fits").at(Version(epoch.floor() + id));
        let request = world.plain_target.client().put_item().table_name(LOGS);
        request.set_item(Some(item.into_attributes())).send().await.expect("put");
    }
    world.feed_until_drained().await;
    let remove = async |id: i64| {
        let key = table.target_key(&IntegrationLogs::key(&row(id))).expect("a key");
        let request = world.plain_target.client().delete_item().table_name(LOGS);
        request.set_key(Some(key.to_attributes())).send().await.expect("removed");
    };
    let standing = async || {
        let standing = world.source.reverse_standing(LOGS).await.expect("read").expect("it is fed");
        (standing.expired, standing.foreign_count)
    };
    world.proxy().script(Rule::new(Fault::RemovedByExpiry));
    remove(1).await;
    world.feed_until_drained().await;
    assert!(world.proxy().counts().injected(FaultKind::RemovedByExpiry) > 0);
    assert_eq!(standing().await, (1, 0), "its row stays, as its time is over");
    assert_eq!(world.count(LOGS).await, 2);
    world.proxy().clear();
    remove(2).await;
    world.feed_until_drained().await;
    assert_eq!(standing().await, (1, 1), "said of no caller, it is another program's");
}

/// An expiry by another attribute than ours removes rows that live, and Amazon calls it by the same name.
#[tokio::test]
async fn a_removal_of_a_row_that_lives_is_no_expiry_whatever_amazon_calls_it() {
    let world = World::behind_proxy().await;
    world.prepared().await.close().await;
    world.feed_until_drained().await;
    let epoch = world.flip(Phase::DynamoOnly).await;
    let table = IntegrationLogs::default();
    for id in [1, 2] {
        world.put_item(&table, &log_row(id, "u"), epoch).await;
    }
    world.feed_until_drained().await;
    let remove = async |id: i64| {
        let key = table.target_key(&IntegrationLogs::key(&log_row(id, "u"))).expect("a key");
        let request = world.plain_target.client().delete_item().table_name(LOGS);
        request.set_key(Some(key.to_attributes())).send().await.expect("removed");
    };
    let standing = async || {
        let standing = world.source.reverse_standing(LOGS).await.expect("read").expect("it is fed");
        (standing.expired, standing.foreign_count)
    };
    world.proxy().script(Rule::new(Fault::RemovedByExpiry));
    remove(1).await;
    world.feed_until_drained().await;
    assert!(world.proxy().counts().injected(FaultKind::RemovedByExpiry) > 0);
    // Its own expiry lies in the year 2099, so another attribute's has removed it.
    assert_eq!(standing().await, (0, 1));
    world.proxy().clear();
    remove(2).await;
    world.feed_until_drained().await;
    assert_eq!(standing().await, (0, 2), "said of no caller, it is another program's");
}
