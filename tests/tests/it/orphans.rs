//! Orphans: found while nothing is pending, repaired by the relay (R17).

use lockstep_coordinator::{OnlyIn, find_orphans, repair_orphans};
use lockstep_core::{MigratableTable, Phase, Version};
use lockstep_integration_logs::IntegrationLogs;
use lockstep_tests::World;
use lockstep_tests::world::LOGS;
use lockstep_tests::world::rows::{log, log_key, logs};
use lockstep_validator::{CancellationToken, ValidateOptions};

#[tokio::test]
async fn what_is_in_one_store_only_is_found_and_brought_to_what_postgres_says() {
    let world = World::start().await;
    world.sql(&logs(1, 20)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    world.relay_until_empty().await;
    // Behind Lockstep's back: one item is gone, another is made up.
    let place = world
        .logs_table()
        .table
        .target_key(&lockstep_core::SourceKey::parse(&world_key(&world).await).expect("a key"));
    let key = place.expect("a place").to_attributes();
    world
        .plain_target
        .client()
        .delete_item()
        .table_name(LOGS)
        .set_key(Some(key))
        .send()
        .await
        .expect("deleted");
    let made_up = MigratableTable::encode(&IntegrationLogs::default(), &crate::store::row(99, "made up"))
        .expect("fits");
    world.plain_target.put_guarded(LOGS, made_up.at(Version(7)), Version(7)).await.expect("put");
    // On its way is no orphan.
    world.sql(&log(50, "a")).await;
    let migration = world.migration();
    let options = ValidateOptions { wait_for_pending: false, ..ValidateOptions::default() };
    let search =
        async || find_orphans(&migration, &options, &CancellationToken::new()).await.expect("searched");
    let orphans = search().await;
    assert_eq!(
        (orphans.only_in_source, orphans.only_in_target, orphans.failures.len()),
        (1, 1, 0),
        "{orphans:?}"
    );
    assert!(orphans.found.iter().any(|orphan| orphan.only_in == OnlyIn::Target && orphan.key[0] == "99"));
    assert_eq!(repair_orphans(&migration, &orphans.found).await.expect("marked"), 2);
    assert!(world.pending(LOGS).await.contains_key(&log_key(99, "a")), "an extra item is marked by its key");
    let orphans = search().await;
    assert_eq!((orphans.only_in_source, orphans.only_in_target), (0, 0), "marked is on its way: {orphans:?}");
    world.assert_converged().await;
}

/// The source key of log 3, as the trigger would mark it.
async fn world_key(world: &World) -> String {
    world
        .value(
            "SELECT jsonb_build_array(log_id, service_name, to_char(log_timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US'))::text
             FROM integration_logs WHERE log_id = 3",
        )
        .await
}
