//! Changing the phase: all tables at once, no transaction in two phases, whichever process holds things up,
//! whatever breaks off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lockstep_core::{EPOCH_SHIFT, Epoch, Kind, Phase};
use lockstep_postgres::{EntryKind, IntentId, flip_phase, read_control, take_exclusive};
use lockstep_tests::world::rows::{AT, log, logs, payments};
use lockstep_tests::world::{CutShort, Notes, backfill, eventually, run, within};
use lockstep_tests::{World, WorldOptions};
use serde_json::json;

#[tokio::test]
async fn going_forward_again_needs_no_new_backfill() {
    let world = World::start().await;
    world.sql(&logs(1, 800)).await;
    world.sql(&payments(1, 200)).await;
    let coordinator = world.migrated_to(Phase::HybridRead).await;
    for back in [Phase::DualWrite, Phase::PostgresOnly] {
        assert_eq!(world.step_to(&coordinator, back).await.phase, back);
    }
    world
        .sql("UPDATE integration_logs SET user_id = 'while away' WHERE log_id % 3 = 0; DELETE FROM payments WHERE payment_id < 9")
        .await;
    world.sql(&logs(801, 850)).await;
    for summary in backfill(&coordinator).await {
        assert_eq!((summary.rows_read, summary.rows_written), (0, 0), "{}: read again", summary.table);
        assert_eq!(summary.ranges_resumed, summary.ranges);
    }
    for forward in [Phase::DualWrite, Phase::HybridRead] {
        assert_eq!(world.step_to(&coordinator, forward).await.phase, forward);
    }
    world.assert_converged().await;
}

#[tokio::test]
async fn a_step_that_is_already_taken_does_nothing() {
    let world = World::start().await;
    let coordinator = world.migrated_to(Phase::DualWrite).await;
    let before = world.source.control().await.expect("a phase");
    let outcome = coordinator.step(Phase::DualWrite, None, &()).await.expect("nothing to do");
    assert_eq!((outcome.tries, outcome.epoch), (0, before.epoch));
    assert_eq!(world.source.control().await.expect("a phase"), before);
}

#[tokio::test]
async fn an_open_transaction_delays_the_step_and_not_the_application() {
    let world = World::start().await;
    let coordinator = world.migrated_to(Phase::PostgresOnly).await;
    let mut holder = world.stranger().await;
    run(&mut holder, &format!("BEGIN; {}", log(1, "held"))).await;
    let (notes, done) = (Notes::default(), AtomicBool::new(false));
    let mut writer = world.stranger().await;
    let (outcome, (), (slow, written)) = tokio::join!(
        async {
            let outcome =
                coordinator.step(Phase::DualWrite, None, &notes).await.expect("the step succeeds in the end");
            done.store(true, Ordering::Release);
            outcome
        },
        async {
            eventually("the step has been held up a dozen times", || async { notes.all().len() >= 12 }).await;
            assert_eq!(world.source.control().await.expect("a phase").phase, Phase::PostgresOnly);
            run(&mut holder, "COMMIT").await;
        },
        async {
            let (mut slow, mut written) = (0, 1);
            while !done.load(Ordering::Acquire) {
                let begun = Instant::now();
                written += 1;
                run(&mut writer, &log(written, "meanwhile")).await;
                slow += i64::from(begun.elapsed() > Duration::from_millis(1_200));
            }
            (slow, written)
        }
    );
    assert!(outcome.tries > 12, "{outcome:?}");
    assert!(notes.all().iter().all(|note| note.contains("a write transaction is open")), "{:?}", notes.all());
    // 300 ms is the lock time-out. A machine that stands still makes one writer slow, and not each of them.
    assert!(slow * 10 < written, "{slow} of {written} writers were stalled for more than a second");
    assert!(written > 30, "writers got through between the tries: {written}");
    world.assert_converged().await;
}

#[tokio::test]
async fn a_step_that_never_gets_the_barrier_gives_up_and_changes_nothing() {
    let world = World::start().await;
    world.migrated_to(Phase::PostgresOnly).await.close().await;
    let mut migration = world.migration();
    migration.options.steps.lock_tries = 2;
    migration.options.steps.lock_timeout = Duration::from_millis(50);
    let coordinator = world.coordinator_of(migration).await;
    let mut holder = world.stranger().await;
    run(&mut holder, &format!("BEGIN; {}", log(1, "held"))).await;
    let busy = coordinator.step(Phase::DualWrite, None, &()).await.expect_err("the barrier is taken");
    assert!(
        busy.to_string().contains("in 2 tries of 50 ms") && busy.to_string().contains("pg_stat_activity"),
        "{busy}"
    );
    let control = world.source.control().await.expect("a phase");
    assert_eq!((control.phase, control.epoch), (Phase::PostgresOnly, Epoch::FIRST));
    assert_eq!(world.source.journal(1).await.expect("the journal")[0].kind, "undone");
    run(&mut holder, "COMMIT").await;
    coordinator.step(Phase::DualWrite, None, &()).await.expect("it may be tried again");
}

#[tokio::test]
async fn no_write_transaction_sees_two_phases_or_writes_in_two_epochs() {
    let world = Arc::new(World::start().await);
    let coordinator = world.migrated_to(Phase::PostgresOnly).await;
    let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let observers = [1, 2, 3].map(|observer| {
        let (world, stop, seen) = (Arc::clone(&world), Arc::clone(&stop), Arc::clone(&seen));
        tokio::spawn(async move {
            let mut session = world.stranger().await;
            let mut n = observer * 1_000_000;
            while !stop.load(Ordering::Acquire) {
                n += 1;
                run(&mut session, &format!("BEGIN; {}", log(n, "observer"))).await;
                let first = read_control(&mut session).await.expect("a phase");
                run(&mut session, &format!("SELECT pg_sleep(0.002); {}", payment_of(n))).await;
                let last = read_control(&mut session).await.expect("a phase");
                let epochs: Vec<i64> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
                    "SELECT DISTINCT version >> {EPOCH_SHIFT} FROM lockstep.pending WHERE (key->>0)::bigint = {n}"
                )))
                .fetch_all(&mut session)
                .await
                .expect("its own marks");
                run(&mut session, "COMMIT").await;
                assert_eq!(first, last, "I5: one transaction, two phases");
                assert_eq!(epochs, [first.epoch.0], "I5: both tables' versions are of the epoch that the transaction saw");
                seen.fetch_add(1, Ordering::AcqRel);
            }
        })
    });
    for to in [Phase::DualWrite, Phase::PostgresOnly].into_iter().cycle().take(8) {
        let before = seen.load(Ordering::Acquire);
        coordinator.step(to, None, &()).await.expect("nothing refuses");
        eventually("the observers go on", || async { seen.load(Ordering::Acquire) > before + 5 }).await;
    }
    stop.store(true, Ordering::Release);
    for observer in observers {
        observer.await.expect("no observer saw a mix");
    }
}

fn payment_of(n: i64) -> String {
    lockstep_tests::world::rows::payment(n, 1 + n % 50)
}

#[tokio::test]
async fn stores_that_share_the_pool_do_not_keep_the_flip_from_its_connections() {
    let world = Arc::new(World::with(WorldOptions { connections_max: 3, ..WorldOptions::default() }).await);
    world.sql(&logs(1, 40)).await;
    let coordinator = world.migrated_to(Phase::PostgresOnly).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers = [1, 2, 3, 4, 5, 6].map(|id| {
        let (store, stop) = (world.log_store(), Arc::clone(&stop));
        tokio::spawn(async move {
            let (mut slow, mut written) = (0, 0);
            while !stop.load(Ordering::Acquire) {
                let begun = Instant::now();
                store
                    .update(id, |log: &mut lockstep_integration_logs::IntegrationLog| {
                        log.user_id = Some("u".to_owned())
                    })
                    .await
                    .expect("written");
                slow += i64::from(begun.elapsed() > Duration::from_secs(3));
                written += 1;
            }
            (slow, written)
        })
    });
    for to in [Phase::DualWrite, Phase::PostgresOnly].into_iter().cycle().take(6) {
        within(Duration::from_secs(20), coordinator.step(to, None, &())).await.expect("nothing refuses");
    }
    stop.store(true, Ordering::Release);
    let (mut slow, mut written) = (0, 0);
    for writer in writers {
        let (slow_of_it, written_by_it) = writer.await.expect("no panic");
        slow += slow_of_it;
        written += written_by_it;
    }
    // Where the machine stands still, each of the six is slow once.
    assert!(slow * 10 < written, "the application was stalled for {slow} of {written} writes");
}

/// Leaves the intent of a step to DualWrite in the journal, as a process does that dies after it.
async fn intend(world: &World) -> IntentId {
    let control = world.source.control().await.expect("a phase");
    let detail = json!({ "from": control.phase, "to": Phase::DualWrite, "epoch_before": control.epoch });
    world.source.journal_intent("the dead", "change phase", &detail).await.expect("journalled")
}

async fn outcome(world: &World) -> String {
    assert!(world.source.open_intents().await.expect("the journal").is_empty());
    world
        .value("SELECT kind FROM lockstep.journal WHERE intent IS NOT NULL AND step = 'change phase' ORDER BY id DESC LIMIT 1")
        .await
}

#[tokio::test]
async fn a_crash_between_intent_and_flip_is_undone() {
    let world = World::start().await;
    world.migrated_to(Phase::PostgresOnly).await.close().await;
    intend(&world).await;
    let coordinator = world.coordinator().await;
    assert_eq!(outcome(&world).await, "undone");
    assert!(
        coordinator.recovered()[0].contains("the phase is PostgresOnly"),
        "{:?}",
        coordinator.recovered()
    );
    assert_eq!(coordinator.step(Phase::DualWrite, None, &()).await.expect("again").phase, Phase::DualWrite);
}

#[tokio::test]
async fn a_crash_after_the_flip_is_finished() {
    let world = World::start().await;
    world.migrated_to(Phase::PostgresOnly).await.close().await;
    intend(&world).await;
    let mut transaction = world.source.pool().begin().await.expect("begins");
    take_exclusive(&mut transaction, Duration::from_millis(300)).await.expect("no application writes");
    flip_phase(&mut transaction, Phase::DualWrite).await.expect("flips");
    transaction.commit().await.expect("commits");
    let coordinator = world.coordinator().await;
    assert_eq!(outcome(&world).await, "done");
    assert!(coordinator.recovered()[0].contains("the phase is DualWrite"), "{:?}", coordinator.recovered());
}

/// The commit of a process that was killed may still be on its way to PostgreSQL when the next one looks.
#[tokio::test]
async fn a_flip_still_under_way_at_recovery_is_waited_for() {
    let world = World::start().await;
    world.migrated_to(Phase::PostgresOnly).await.close().await;
    intend(&world).await;
    let mut transaction = world.source.pool().begin().await.expect("begins");
    take_exclusive(&mut transaction, Duration::from_millis(300)).await.expect("no application writes");
    flip_phase(&mut transaction, Phase::DualWrite).await.expect("flips");
    let waiting = "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted) \
                   OR EXISTS (SELECT 1 FROM lockstep.journal WHERE intent IS NOT NULL AND step = 'change phase')";
    let (coordinator, ()) = tokio::join!(world.coordinator(), async {
        eventually("recovery waits or has decided", || world.value::<bool>(waiting)).await;
        transaction.commit().await.expect("commits");
    });
    assert_eq!(outcome(&world).await, "done", "I9: the journal says what happened");
    assert!(coordinator.recovered()[0].contains("the phase is DualWrite"), "{:?}", coordinator.recovered());
}

/// So may the last that it had to say: how its step ended.
#[tokio::test]
async fn an_outcome_still_under_way_at_recovery_stands_and_its_opposite_is_refused() {
    let world = World::start().await;
    world.migrated_to(Phase::PostgresOnly).await.close().await;
    let id = intend(&world).await;
    let mut dead = world.stranger().await;
    let refused =
        "INSERT INTO lockstep.journal (actor, kind, intent, step, detail) VALUES ('the dead', 'refused'";
    run(&mut dead, &format!("BEGIN; {refused}, {}, 'change phase', '{{}}')", id.0)).await;
    let (coordinator, ()) = tokio::join!(world.coordinator(), async {
        eventually("the outcome waits", || world.is_held_up()).await;
        run(&mut dead, "COMMIT").await;
    });
    coordinator.close().await;
    assert_eq!(outcome(&world).await, "refused");
    let opposite =
        world.source.journal_outcome("another", id, EntryKind::Done, "change phase", &json!({})).await;
    let error = opposite.expect_err("it was not done");
    assert!(
        error.kind == Kind::Refused && error.message.contains("the dead has recorded it as refused"),
        "{error}"
    );
    assert_eq!(outcome(&world).await, "refused");
}

#[tokio::test]
async fn a_step_that_is_dropped_while_it_waits_is_undone_by_the_next_coordinator() {
    let world = World::start().await;
    let coordinator = world.migrated_to(Phase::PostgresOnly).await;
    let mut holder = world.stranger().await;
    run(&mut holder, &format!("BEGIN; UPDATE payments SET created_date = '{AT}'; {}", log(1, "held"))).await;
    let notes = Notes::default();
    tokio::select! {
        ended = coordinator.step(Phase::DualWrite, None, &notes) => panic!("the barrier was taken, and yet: {ended:?}"),
        () = eventually("the step waits", || async { !notes.all().is_empty() }) => {}
    }
    drop(coordinator);
    run(&mut holder, "COMMIT").await;
    let next = world.coordinator().await;
    assert_eq!(outcome(&world).await, "undone");
    assert_eq!(next.step(Phase::DualWrite, None, &()).await.expect("again").phase, Phase::DualWrite);
}

/// 1. The session with the coordinator's lock dies while a step waits for the barrier. 2. Another coordinator
///    calls the
/// step undone. 3. The barrier is free, and the first one has not looked after its lock yet.
#[tokio::test]
async fn a_step_that_another_coordinator_has_called_undone_is_not_taken() {
    let world = World::start().await;
    let coordinator = world.migrated_to(Phase::PostgresOnly).await;
    let mut holder = world.stranger().await;
    run(&mut holder, &format!("BEGIN; UPDATE payments SET created_date = '{AT}'; {}", log(1, "held"))).await;
    let notes = Notes::default();
    let (stepped, next) = tokio::join!(coordinator.step(Phase::DualWrite, None, &notes), async {
        eventually("the step waits", || async { !notes.all().is_empty() }).await;
        let of_lock = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory' AND granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND mode = 'ExclusiveLock'";
        assert!(world.value::<i64>(of_lock).await >= 1, "a session had the coordinator's lock");
        let next = world.coordinator().await;
        assert_eq!(outcome(&world).await, "undone");
        run(&mut holder, "COMMIT").await;
        next
    });
    let refused = stepped.expect_err("it is not taken").to_string();
    assert!(refused.contains("settled it meanwhile") || refused.contains("interrupted"), "{refused}");
    assert_eq!(world.source.control().await.expect("a phase").phase, Phase::PostgresOnly);
    next.close().await;
}

/// P21. 1. The session with the lock dies in a step that moves the truth. 2. Another coordinator looks at the
/// records and calls the step undone. 3. The first one has not noticed, and begins its next part. Or it had
/// begun one after the other looked, and before that recorded anything.
#[tokio::test]
async fn no_part_of_a_step_begins_once_it_is_settled_and_none_is_settled_over_one_that_has_begun() {
    let world = World::start().await;
    world.source.migrate_schema().await.expect("a schema");
    let (source, nothing) = (&world.source, serde_json::json!({}));
    let id = source.journal_intent("one", "change phase", &nothing).await.expect("an intent");
    source.journal_part("one", "a part", id).await.expect("it is open");
    let seen = source.parts_noted(id).await.expect("counted");
    assert_eq!(seen, 1);
    source.journal_part("one", "stop writes", id).await.expect("it is open yet");
    let undone = source.journal_undone("another", id, seen, "change phase", &nothing).await.expect("asked");
    assert!(!undone, "writes may be stopped by now: the records are looked at again");
    let seen = source.parts_noted(id).await.expect("counted");
    let undone = source.journal_undone("another", id, seen, "change phase", &nothing).await.expect("asked");
    assert!(undone);
    let refused = source.journal_part("one", "move the truth", id).await.expect_err("it is not its any more");
    assert!(refused.to_string().contains("another has settled it meanwhile"), "{refused}");
    assert_eq!(source.parts_noted(id).await.expect("counted"), seen);
    // The coordinator that came second settles it as well, and finds that there is nothing to add.
    assert!(
        source.journal_undone("one", id, seen, "change phase", &nothing).await.expect("the same outcome")
    );
    // Of both at once one comes first.
    for _ in 0..5 {
        let id = source.journal_intent("one", "change phase", &nothing).await.expect("an intent");
        let (noted, undone) = tokio::join!(
            source.journal_part("one", "stop writes", id),
            source.journal_undone("another", id, 0, "change phase", &nothing)
        );
        assert_ne!(noted.is_ok(), undone.expect("asked"), "{noted:?}");
    }
}

#[tokio::test]
async fn who_dies_while_it_creates_the_schema_keeps_no_other_waiting() {
    let world = World::start().await;
    let another = world.another_source().await;
    let (mut polls, mut ended) = (0, None);
    while ended.is_none() {
        polls += 1;
        ended = CutShort::after(polls, world.source.migrate_schema()).await;
        within(Duration::from_secs(20), another.migrate_schema()).await.expect("the schema is made");
    }
    assert!(polls > 1, "it was cut short");
}
