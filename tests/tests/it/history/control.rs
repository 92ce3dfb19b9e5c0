//! DynamoDB's control table was lost, or set back, while it says that DynamoDB is the truth.

use std::collections::BTreeSet;

use lockstep::migration::Migration as App;
use lockstep_core::Kind;
use lockstep_integration_logs::IntegrationLogs;
use lockstep_tests::world::rows::log_row;

use super::way_on::told;
use super::*;

const LEASE: Duration = Duration::from_millis(1_200);

async fn app(world: &World) -> App {
    App::connect(world.production(world.url(), LEASE)).await.expect("both stores are there")
}

/// Inserts a row under an id that it is given, as soon as that can be. One whose caller is not told how it
/// ended may be there as well, under an id of its own.
async fn insert(app: &App, token: &str) -> i64 {
    let logs = app.store::<IntegrationLogs>();
    let inserted = told(async || logs.insert(&log_row(0, token)).await).await;
    inserted.row.expect("the row with its key").log_id
}

/// Ids that were handed out after the moment that the table goes back to are handed out once, whichever
/// process asks next.
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
    assert!(
        remade.holds_truth() && remade.epoch > record.epoch && remade.since == record.since,
        "{remade:?}"
    );
    let after = app(&world).await;
    for (name, app) in [("before", &before), ("after", &after)] {
        assert!(ids.insert(insert(app, name).await), "an id was handed out twice: {ids:?}");
    }
    // An item that was written before the loss is found without its place.
    let (logs, first) = (after.store::<IntegrationLogs>(), *ids.first().expect("an id"));
    let changed = told(async || logs.update(first, |log| log.user_id = Some("c".to_owned())).await).await;
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
async fn a_control_table_that_was_lost_is_made_again_and_no_id_is_handed_out_twice() {
    control_is_mended("lost", "the control table was lost").await;
}

#[tokio::test]
async fn a_control_table_that_was_set_back_is_noticed_by_ids_that_are_in_use() {
    control_is_mended("set back", "ids of integration_logs that are in use").await;
}

#[tokio::test]
async fn a_record_that_is_made_again_gives_way_to_the_one_that_is_there() {
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
    world
        .drop_table(&TableBinding { target_name: world.control().table().to_owned(), ..world.logs_table() })
        .await;
    let mut migration = world.migration();
    migration.options.steps.lease_max = Duration::ZERO;
    let polls = mended_after_many_crashes(&migration, async || {}).await;
    assert!(polls > 20, "{polls}");
    assert!(world.source.open_intents().await.expect("the journal").is_empty());
    assert!(diagnosis(&world).await.sound);
}

/// The advisory lock at which a step waits in the middle of an entry of the journal.
const HOLD: i64 = 4_712;

/// Has a step to `to` die at an entry of the journal, before that entry is durable.
async fn dies_at(world: &World, to: Phase, entry: &str) {
    world
        .sql(&format!(
            "CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_advisory_xact_lock_shared({HOLD}); RETURN NULL; END $$;
             CREATE TRIGGER hold AFTER INSERT ON lockstep.journal FOR EACH ROW WHEN ({entry}) EXECUTE FUNCTION public.hold()"
        ))
        .await;
    let mut holder = world.stranger().await;
    run(&mut holder, &format!("SELECT pg_advisory_lock({HOLD})")).await;
    let waiting = format!(
        "pg_locks l JOIN pg_database d ON d.oid = l.database WHERE d.datname = current_database() AND l.locktype = 'advisory'
         AND l.objid::bigint = {HOLD} AND NOT l.granted"
    );
    let (coordinator, waits) =
        (world.coordinator().await, format!("SELECT EXISTS (SELECT 1 FROM {waiting})"));
    tokio::select! {
        taken = coordinator.step(to, None, &()) => panic!("it is over: {taken:?}"),
        () = eventually("it comes to the entry", || async { world.try_value(&waits).await.unwrap_or(false) }) => {}
    }
    drop(coordinator);
    world
        .sql(&format!("DO $$ BEGIN PERFORM pg_terminate_backend(l.pid, 10000) FROM {waiting}; END $$"))
        .await;
    world.sql("DROP TRIGGER hold ON lockstep.journal").await;
    eventually("nothing of it is at work", || async {
        world.source.at_work().await.expect("the locks") == (None, None)
    })
    .await;
}

/// A step that moves the truth dies while DynamoDB is written, and then the control table is lost: nothing of
/// the step is undone or finished over what only DynamoDB has.
async fn is_not_settled_without_its_record(from: Phase, to: Phase, entry: &str) {
    let world = World::start().await;
    world.sql(&format!("{}; {}", logs(1, 20), payments(1, 20))).await;
    world.migrated_to(from).await.close().await;
    let app = app(&world).await;
    let mut ids = BTreeSet::from([insert(&app, "a").await]);
    if from == Phase::HybridRead {
        world.relay_until_empty().await;
        assert!(world.record_verdict().await.verdict.is_consistent());
    }
    dies_at(&world, to, entry).await;
    assert!(ids.insert(insert(&app, "b").await), "written to DynamoDB, with no feed to bring it");
    let written = *ids.last().expect("an id");
    let in_source = format!("SELECT EXISTS (SELECT FROM integration_logs WHERE log_id = {written})");
    assert!(!world.value::<bool>(&in_source).await);
    world
        .drop_table(&TableBinding { target_name: world.control().table().to_owned(), ..world.logs_table() })
        .await;

    let before = world.source.control().await.expect("a phase");
    for _ in 0..2 {
        let refused =
            Coordinator::open(world.migration()).await.err().expect("it is unknown how to settle it");
        let CoordinatorError::Store(error) = &refused else { panic!("{refused:?}") };
        assert!(
            error.kind == Kind::Misconfigured && error.message.contains("control table was lost"),
            "{refused}"
        );
    }
    let now = world.source.control().await.expect("a phase");
    assert_eq!((now.phase, now.epoch), (before.phase, before.epoch));
    assert_eq!(world.control().record().await.expect("read"), None);
    let found = diagnosis(&world).await;
    assert!(found.findings[0].what.contains("the control table was lost"), "{found:?}");
    assert_eq!(lockstep_coordinator::remedies(&found.findings), [Remedy::RemakeControl, Remedy::SettleSteps]);

    let mended = mended(&world).await;
    assert_eq!(mended.done, [Remedy::RemakeControl, Remedy::SettleSteps]);
    assert!(mended.left.expect("looked at").sound);
    assert!(world.source.open_intents().await.expect("the journal").is_empty());
    assert_eq!(world.source.control().await.expect("a phase").phase, Phase::DynamoOnly);
    assert!(ids.insert(insert(&app, "c").await), "an id was handed out twice: {ids:?}");
    world.stepped_to(Phase::HybridRead).await;
    app.shutdown().await;
    let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
    let sql = format!("SELECT count(*) FROM integration_logs WHERE log_id IN ({})", ids.join(", "));
    assert_eq!(world.value::<i64>(&sql).await, 3, "I7");
    world.assert_converged().await;
}

#[tokio::test]
async fn a_step_back_that_died_is_settled_only_once_a_lost_control_table_is_made_again() {
    is_not_settled_without_its_record(
        Phase::DynamoOnly,
        Phase::HybridRead,
        "NEW.step = 'change phase: stop writes'",
    )
    .await;
}

#[tokio::test]
async fn a_step_there_that_died_after_writes_went_on_is_finished_only_once_a_lost_control_table_is_back() {
    let outcome = "NEW.step = 'change phase' AND NEW.kind = 'done'";
    is_not_settled_without_its_record(Phase::HybridRead, Phase::DynamoOnly, outcome).await;
}

/// Without its leases it is unknown which instance still writes.
#[tokio::test]
async fn the_way_back_is_refused_over_a_control_table_that_was_lost_or_set_back() {
    let world = World::start().await;
    world.sql(&logs(1, 20)).await;
    let coordinator = world.migrated_to(Phase::DynamoOnly).await;
    let table = TableBinding { target_name: world.control().table().to_owned(), ..world.logs_table() };
    let backup = world.back_up_table(&table).await;
    let app = app(&world).await;
    insert(&app, "a").await;
    world.feed_until_drained().await;
    let before = world.source.control().await.expect("a phase");
    world.set_table_back(&table, &backup).await;
    let refused = async || {
        coordinator.step(Phase::HybridRead, None, &()).await.expect_err("run the doctor").to_string()
    };
    let of_ids = refused().await;
    assert!(of_ids.contains("ids of integration_logs that are in use"), "{of_ids}");
    world.drop_table(&table).await;
    let of_loss = refused().await;
    assert!(of_loss.contains("record was lost"), "{of_loss}");
    let now = world.source.control().await.expect("a phase");
    assert_eq!((now.phase, now.epoch), (before.phase, before.epoch));
    assert!(world.source.open_intents().await.expect("the journal").is_empty(), "nothing was begun");
    coordinator.close().await;
    app.shutdown().await;
}
