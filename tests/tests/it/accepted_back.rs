//! Items that PostgreSQL refuses while the way back compares, and an operator accepts to stay behind.

use lockstep_coordinator::{CoordinatorError, reverse_backfill};
use lockstep_core::Phase;
use lockstep_integration_logs::IntegrationLogs;
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, Gate, Rule};
use lockstep_tests::world::rows::{logs, payments};
use lockstep_tests::world::{LOGS, eventually, run};
use tokio_util::sync::CancellationToken;

use crate::reverse_feed::log_row;
use crate::riders::{beside_a_feed, tried};

/// Items that are changed in DynamoOnly: more than the way back lists at once.
const CHANGED: i64 = 850;

/// The log whose item the way back lists last.
const LAST: &str = "SELECT (key ->> 0)::bigint FROM lockstep.reverse_places
    WHERE table_name = 'integration_logs'
    ORDER BY pg_catalog.sha256(pg_catalog.decode(
        pg_catalog.replace(place, E'\\\\', E'\\\\\\\\'), 'escape')) DESC LIMIT 1";

/// 1. The way back compares, while applications write. 2. PostgreSQL refuses what one of them writes, and the
/// comparison keeps that item as one that differs. 3. The step fails over it, and an operator accepts it, as
/// the step says. 4. The next one went on with what was kept: the item differed, for a day, and the backfill
/// that it asked for took the acceptance back.
#[tokio::test]
async fn what_is_refused_while_the_way_back_compares_can_be_accepted() {
    let world = World::behind_proxy().await;
    let refuses = "ALTER TABLE integration_logs ADD CONSTRAINT spoken CHECK (user_id <> 'refused')";
    world.sql(&format!("{}; {}; {refuses}", logs(1, CHANGED), payments(1, 5))).await;
    world.migrated_to(Phase::DynamoOnly).await.close().await;
    let epoch = world.source.control().await.expect("a phase").epoch;
    let table = IntegrationLogs::default();
    let put = async |log_id: i64, user_id: &str| {
        let row = log_row(log_id, &format!("service-{}", log_id % 5), user_id);
        world.put_item(&table, &row, epoch).await;
    };
    for log_id in 1..=CHANGED {
        put(log_id, "in DynamoOnly").await;
    }
    world.feed_until_drained().await;
    let last: i64 = world.value(LAST).await;

    let coordinator = world.coordinator().await;
    let comparing = Gate::new();
    world.proxy().script(Rule::new(Fault::Delay(comparing.clone())).on("BatchGetItem").table(LOGS).times(1));
    let refused = async {
        comparing.until_held(1).await;
        put(last, "refused").await;
        eventually("PostgreSQL refuses it", || async { world.count("lockstep.reverse_again").await == 1 })
            .await;
        comparing.open();
    };
    let (back, ()) = tokio::join!(coordinator.step(Phase::HybridRead, None, &()), refused);
    let error = back.expect_err("PostgreSQL lacks a write");
    assert!(error.to_string().contains("would not have"), "{error}");
    let fed = world.source.fed_table(&world.logs_table()).await.expect("a table");
    let kept = world.source.compared(&fed).await.expect("read").expect("it is kept");
    assert_eq!(kept.unequal.len(), 1, "the comparison met it");

    world.sql("UPDATE lockstep.reverse_again SET found_at = found_at - interval '6 minutes'").await;
    // 1. It is listed. 2. Another program changes an item and leaves its version. 3. What was listed is
    // accepted.
    let listed = world.source.open_letters(&[LOGS]).await.expect("listed");
    world.sql("UPDATE lockstep.reverse_tables SET foreign_count = foreign_count + 1").await;
    let accepted = world.source.acknowledge_listed(&[LOGS], "an operator", &listed.mark).await;
    assert_eq!((listed.count, accepted.expect("asked")), (1, None));
    assert_eq!(
        lockstep_tests::world::acknowledge(&world.source, LOGS, "an operator").await.expect("accepted"),
        1
    );
    let migration = world.migration();
    let (logs, cancel) = (&migration.tables[0], CancellationToken::new());
    reverse_backfill(&migration, logs, false, &cancel).await.expect("reads");
    let letters = world.source.count_dead_letters(LOGS).await.expect("counted");
    assert_eq!(letters, (1, 0), "the state is the one that was accepted");
    let back: Result<_, CoordinatorError> = coordinator.step(Phase::HybridRead, None, &()).await;
    back.expect("what differs was accepted");
    assert_eq!(world.count("integration_logs WHERE user_id = 'in DynamoOnly'").await, CHANGED);
    coordinator.close().await;
}

/// Waits in the feed's transaction while a test holds an advisory lock.
const WAITS: &str = "
    CREATE FUNCTION public.wait_for_test() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(4713);
        RETURN NEW;
    END $$;
    CREATE TRIGGER wait_for_test BEFORE INSERT OR UPDATE ON integration_logs FOR EACH ROW
        WHEN (NEW.user_id = 'refused') EXECUTE FUNCTION public.wait_for_test();
    ALTER TABLE integration_logs ADD CONSTRAINT spoken CHECK (user_id <> 'refused')";

/// 1. A pass of the feed has a note in its hands. 2. An operator accepts it. 3. Each waited for the other,
/// and PostgreSQL ended one of them.
#[tokio::test]
async fn who_accepts_what_waits_and_the_feed_that_tries_it_do_not_wait_for_each_other() {
    let world = World::start().await;
    world.sql(&format!("{}; {}; {WAITS}", logs(1, 20), payments(1, 20))).await;
    world.migrated_to(Phase::DynamoOnly).await.close().await;
    let epoch = world.control().record().await.expect("read").expect("a record").epoch;
    let row = log_row(3, "service-3", "refused");
    world.put_item(&IntegrationLogs::default(), &row, epoch).await;
    let accepted = beside_a_feed(&world, async {
        tried(&world, "NOT ridden").await;
        world.sql("UPDATE lockstep.reverse_again SET found_at = found_at - interval '6 minutes'").await;
        let mut holder = world.stranger().await;
        run(&mut holder, "SELECT pg_advisory_lock(4713)").await;
        let waits = "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                     WHERE d.datname = current_database() AND NOT l.granted AND l.objid = 4713)";
        eventually("the feed tries it", || async { world.value::<bool>(waits).await }).await;
        let accepting = lockstep_tests::world::acknowledge(&world.source, LOGS, "an operator");
        let (accepted, ()) = tokio::join!(accepting, async {
            let queued = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'relation'
                          AND relation = 'lockstep.reverse_again'::regclass
                          AND database = (SELECT oid FROM pg_database
                              WHERE datname = current_database()))";
            eventually("the operator is behind it", || async { world.value::<bool>(queued).await }).await;
            // The operator who waits for the tables has neither.
            let held = "SELECT count(*) FROM pg_locks WHERE granted AND mode = 'ShareRowExclusiveLock' AND
                        relation IN ('lockstep.reverse_again'::regclass, 'lockstep.dead_letters'::regclass)
                            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
            assert_eq!(world.value::<i64>(held).await, 0);
            run(&mut holder, "SELECT pg_advisory_unlock(4713)").await;
        });
        accepted
    })
    .await;
    assert_eq!(accepted.expect("the feed was not in the way"), 1);
    assert_eq!(world.source.count_dead_letters(LOGS).await.expect("counted"), (1, 0));
}
