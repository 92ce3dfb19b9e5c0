//! Conditions behind a pause are looked at behind it: not before, and not because they nearly always hold by
//! then.

use std::time::Duration;

use lockstep_coordinator::{Coordinator, CoordinatorError, StepOptions};
use lockstep_core::Phase;
use lockstep_integration_logs::IntegrationLogs;
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, Gate, Rule};
use lockstep_tests::world::rows::{log_key, logs, payments};
use lockstep_tests::world::{LOGS, eventually, run};

use crate::reverse_feed::log_row;

pub(crate) async fn coordinator(world: &World, at: Phase, lock_tries: u32) -> Coordinator {
    world.sql(&format!("{}; {}", logs(1, 20), payments(1, 20))).await;
    world.migrated_to(at).await.close().await;
    if at == Phase::HybridRead {
        // The next step asks for these.
        world.relay_until_empty().await;
        assert!(world.record_verdict().await.verdict.is_consistent());
    }
    let mut migration = world.migration();
    migration.options.steps = StepOptions {
        pause_max: Duration::from_secs(10),
        lock_pause: Duration::from_millis(1),
        lock_tries,
        ..migration.options.steps
    };
    world.coordinator_of(migration).await
}

/// Makes the note with which writes are about to be stopped wait for a lock.
const STOPPER: &str = "
    CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(4712);
        RETURN NULL;
    END $$;
    CREATE TRIGGER hold AFTER INSERT ON lockstep.journal FOR EACH ROW
                 WHEN (NEW.step LIKE '%stop writes')
        EXECUTE FUNCTION public.hold()";

/// Steps back while the feed does not bring what was written last before writes are stopped.
pub(crate) async fn step_past_the_feed(
    world: &World,
    coordinator: &Coordinator,
) -> Result<(), CoordinatorError> {
    world.sql(STOPPER).await;
    let mut holder = world.stranger().await;
    run(&mut holder, "SELECT pg_advisory_lock(4712)").await;
    let gate = Gate::new();
    let write_behind_the_feed = async {
        let waits = "SELECT EXISTS (SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE
            NOT l.granted
                     AND d.datname = current_database() AND l.locktype = 'advisory' AND l.objid::bigint =
                         4712)";
        eventually("the feed was seen through", || async { world.try_value(waits).await.unwrap_or(false) })
            .await;
        world.proxy().script(Rule::new(Fault::Delay(gate.clone())).on("GetRecords"));
        // One of each table.
        gate.until_held(2).await;
        let epoch = world.control().record().await.expect("read").expect("it holds the truth").epoch;
        world.put_item(&IntegrationLogs::default(), &log_row(9_001, "a", "acknowledged"), epoch).await;
        run(&mut holder, "SELECT pg_advisory_unlock(4712)").await;
    };
    let (stepped, ()) = tokio::join!(coordinator.step(Phase::HybridRead, None, &()), write_behind_the_feed);
    world.proxy().clear();
    gate.open();
    stepped.map(drop)
}

#[tokio::test]
async fn a_write_that_the_feed_has_not_brought_when_writes_are_stopped_misses_the_way_back() {
    let world = World::behind_proxy().await;
    let coordinator = coordinator(&world, Phase::DynamoOnly, 60).await;
    let error = step_past_the_feed(&world, &coordinator).await.expect_err("the feed is not through");
    let told = error.to_string();
    assert!(
        matches!(error, CoordinatorError::PauseMissed { .. })
            && told.contains("the reverse feed is not through"),
        "{told}"
    );
    assert_eq!(world.source.control().await.expect("a phase").phase, Phase::DynamoOnly);
    coordinator.step(Phase::HybridRead, None, &()).await.expect("the feed is through");
    assert_eq!(world.count("integration_logs WHERE user_id = 'acknowledged'").await, 1, "I7");
}

#[tokio::test]
async fn an_intent_that_is_open_behind_the_barrier_keeps_the_truth_where_it_is() {
    let world = World::start().await;
    let coordinator = coordinator(&world, Phase::HybridRead, 3).await;
    // A transaction without the barrier, which is still under way: no sweep can settle what is of it.
    let mut holder = world.stranger().await;
    run(&mut holder, "BEGIN; SELECT pg_current_xact_id()").await;
    let intent = format!(
        "INSERT INTO lockstep.intents (xid, table_name, key, repair_version)
         SELECT backend_xid::text::xid8, '{LOGS}', '{}', nextval('lockstep.version_seq') FROM pg_stat_activity
         WHERE datname = current_database() AND state = 'idle in transaction' AND backend_xid IS NOT NULL",
        log_key(9_001, "a")
    );
    assert_eq!(world.sql(&intent).await, 1);
    let error = coordinator.step(Phase::DynamoOnly, None, &()).await.expect_err("an intent is open");
    assert!(
        matches!(error, CoordinatorError::BarrierBusy { to: Phase::DynamoOnly, tries: 3, .. }),
        "{error}"
    );
    assert_eq!(world.source.control().await.expect("a phase").phase, Phase::HybridRead);
    assert_eq!(world.intents().await, 1);
    run(&mut holder, "ROLLBACK").await;
    // Rolled back, it is settled, and its key delivered, before the truth moves.
    coordinator.step(Phase::DynamoOnly, None, &()).await.expect("nothing is open any more");
    assert_eq!((world.intents().await, world.pending(LOGS).await.len()), (0, 0));
}
