//! DynamoDB's control table was lost, or set back, while it says that DynamoDB is the truth.

use std::collections::BTreeSet;

use lockstep_core::migration::Migration as App;
use lockstep_integration_logs::IntegrationLogs;
use lockstep_tests::world::rows::log_row;

use super::*;

const LEASE: Duration = Duration::from_millis(1_200);
/// Longest that an application takes to serve again by a record that was made anew.
const WELL_AGAIN: Duration = Duration::from_secs(20);

async fn app(world: &World) -> App {
    App::connect(world.production(world.url(), LEASE)).await.expect("both stores are there")
}

/// Inserts a row under an id that it is given, as soon as that can be.
async fn insert(app: &App, token: &str) -> i64 {
    let logs = app.store::<IntegrationLogs>();
    let inserting = async {
        loop {
            match logs.insert(&log_row(0, token)).await {
                Ok(outcome) => return outcome.row.expect("the row with its key").log_id,
                Err(error) => assert_ne!(error.kind, lockstep_core::Kind::Unknown, "{error}"),
            }
            tokio::task::yield_now().await;
        }
    };
    within(WELL_AGAIN, inserting).await
}

/// Three ids of DynamoOnly, two of them after the moment that the table goes back to, are handed out once, whoever asks next.
async fn control_is_mended(how: &str, says: &str) {
    let world = World::start().await;
    world.sql(&format!("{}; {}", logs(1, 20), payments(1, 20))).await;
    world.migrated_to(Phase::DynamoOnly).await.close().await;
    let record = world.control().record().await.expect("read").expect("a record");
    let table = TableBinding { target_name: world.control().table().to_owned(), ..world.logs_table() };
    let before = app(&world).await;
    let backup = world.back_up_table(&table).await;
    let mut ids = BTreeSet::from([insert(&before, "a").await, insert(&before, "b").await]);
    world.feed_until_drained().await;
    match how {
        "lost" => world.drop_table(&table).await,
        _ => world.set_table_back(&table, &backup).await,
    }
    let found = diagnosis(&world).await;
    assert!(!found.sound && found.findings[0].what.contains(says), "{found:?}");
    assert_eq!(lockstep_coordinator::remedies(&found.findings), [Remedy::RemakeControl]);
    let mended = mended(&world).await;
    assert!(mended.left.expect("looked at").sound);

    let remade = world.control().record().await.expect("read").expect("a record");
    assert!(remade.holds_truth() && remade.epoch > record.epoch && remade.since == record.since, "{remade:?}");
    let after = app(&world).await;
    for (name, app) in [("before", &before), ("after", &after)] {
        assert!(ids.insert(insert(app, name).await), "an id was handed out twice: {ids:?}");
    }
    // What was written before the loss is found without its place.
    let (logs, first) = (after.store::<IntegrationLogs>(), *ids.first().expect("an id"));
    let changed = logs.update(first, |log| log.user_id = Some("c".to_owned())).await.expect("written");
    assert!(changed.found);
    before.shutdown().await;
    after.shutdown().await;
    world.feed_until_drained().await;
    world.assert_fed().await;
    world.stepped_to(Phase::HybridRead).await;
    world.assert_converged().await;
    let next: i64 = world
        .value(
            "INSERT INTO integration_logs (log_type, service_name, is_success, log_timestamp) VALUES ('Check', 'a', true, now())
             RETURNING log_id",
        )
        .await;
    assert!(ids.insert(next), "an id was handed out twice: {next}");
}

#[tokio::test]
async fn a_control_table_that_was_lost_is_made_anew_and_no_id_is_handed_out_twice() {
    control_is_mended("lost", "the control table was lost").await;
}

#[tokio::test]
async fn a_control_table_that_was_set_back_is_noticed_by_ids_that_are_in_use() {
    control_is_mended("set back", "ids of integration_logs that are in use").await;
}

#[tokio::test]
async fn a_record_that_is_made_anew_gives_way_to_the_one_that_is_there() {
    let world = World::start().await.dynamo_only(&logs(1, 5)).await;
    let record = world.control().record().await.expect("read").expect("a record");
    // Of an epoch that is over: a request that comes late.
    world.control().enter_again(record.epoch, record.since).await.expect("nothing to do");
    assert_eq!(world.control().record().await.expect("read"), Some(record));
    assert!(diagnosis(&world).await.sound);
}

#[tokio::test]
async fn a_repair_of_it_that_is_broken_off_again_and_again_comes_to_its_end() {
    let world = World::start().await;
    world.sql(&logs(1, 5)).await;
    world.migrated_to(Phase::DynamoOnly).await.close().await;
    world.drop_table(&TableBinding { target_name: world.control().table().to_owned(), ..world.logs_table() }).await;
    let mut migration = world.migration();
    migration.options.steps.lease_max = Duration::ZERO;
    let polls = mended_after_many_crashes(&migration, async || {}).await;
    assert!(polls > 20, "{polls}");
    assert!(world.source.open_intents().await.expect("the journal").is_empty());
    assert!(diagnosis(&world).await.sound);
}
