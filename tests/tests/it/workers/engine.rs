//! Workers inside this process: what they share, and what each of them does when another is in its way.

use std::sync::Arc;
use std::time::Duration;

use lockstep_coordinator::{
    BackfillOptions, CoordinatorError, MigrationContext, Progress, RangesChoice, WorkOptions, WorkSummary,
    work,
};
use lockstep_core::{Kind, Phase, Window};
use lockstep_postgres::{Registering, Tuning};
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, Gate, Rule};
use lockstep_tests::world::rows::{logs, payments};
use lockstep_tests::world::{LOGS, PAYMENTS, backfill, eventually, within};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

fn options(name: &str) -> WorkOptions {
    WorkOptions { name: name.to_owned(), stay: false }
}

/// A worker with a pool of its own, as another process has it.
async fn worker(
    world: &World,
    name: &str,
    backfill: impl FnOnce(&mut BackfillOptions),
    cancel: &CancellationToken,
) -> JoinHandle<Result<WorkSummary, CoordinatorError>> {
    let mut migration = MigrationContext { source: world.another_source().await, ..world.migration() };
    migration.options.backfill.lease = Duration::from_secs(10);
    backfill(&mut migration.options.backfill);
    let (options, cancel) = (options(name), cancel.clone());
    tokio::spawn(async move {
        let progress = Arc::new(Progress::new(&migration.tables));
        work(migration, &options, &progress, &(), &cancel).await
    })
}

async fn done(worker: JoinHandle<Result<WorkSummary, CoordinatorError>>) -> WorkSummary {
    let done = within(Duration::from_mins(3), worker).await.expect("no panic");
    done.unwrap_or_else(|error| panic!("the worker failed: {error}"))
}

async fn rows_read(world: &World) -> i64 {
    world.value("SELECT sum(rows_read)::bigint FROM lockstep.ranges").await
}

#[tokio::test]
async fn workers_that_begin_with_nothing_prepare_once_and_share_every_range() {
    let world = World::start().await;
    world.sql(&logs(1, 3_000)).await;
    world.sql(&payments(1, 600)).await;
    let never = CancellationToken::new();
    let crew = [worker(&world, "a", |_| {}, &never).await, worker(&world, "b", |_| {}, &never).await];
    let mut ranges = 0;
    for one in crew {
        ranges += done(one).await.tables.iter().map(|table| table.ranges).sum::<u64>();
    }
    let planned: i64 = world.value("SELECT count(*) FROM lockstep.ranges WHERE done").await;
    assert_eq!((ranges, rows_read(&world).await), (planned as u64, 3_600), "each range once, each row once");
    let plans: i64 =
        world.value("SELECT count(*) FROM lockstep.journal WHERE step LIKE 'install capture%'").await;
    assert_eq!(plans, 4, "an intent and an outcome for each of two tables");
    let left: i64 = world.value("SELECT count(*) FROM lockstep.workers").await;
    assert_eq!(left, 0, "a worker that ends gives its lease back");
    world.assert_converged().await;
}

#[tokio::test]
async fn a_backfill_and_workers_move_one_migration_together() {
    let world = World::behind_proxy().await;
    world.sql(&logs(1, 3_000)).await;
    let mut migration = world.migration();
    // One of eight ranges at once, so that there are free ones when the helper comes.
    migration.options.backfill.readers = 1;
    let coordinator = world.coordinator_of(migration).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    world.proxy().script(Rule::new(Fault::WriteUnits(600)).on("BatchExecuteStatement"));
    let never = CancellationToken::new();
    let (summaries, helper) = tokio::join!(async { backfill(&coordinator).await }, async {
        eventually("there is a plan", || async {
            world.value::<bool>("SELECT EXISTS (SELECT 1 FROM lockstep.ranges)").await
        })
        .await;
        done(worker(&world, "helper", |_| {}, &never).await).await
    });
    let helped: u64 = helper.tables.iter().map(|table| table.rows_read).sum();
    let moved: u64 = summaries.iter().map(|table| table.rows_read).sum();
    assert_eq!((helped + moved, rows_read(&world).await), (3_000, 3_000));
    assert!(helped > 0 && moved > 0, "{helped} and {moved}");
    world.proxy().clear();
    world.assert_converged().await;
}

#[tokio::test]
async fn what_a_dead_coordinator_held_is_free_at_once_for_the_next() {
    let world = World::behind_proxy().await;
    world.sql(&logs(1, 2_000)).await;
    let mut migration = world.migration();
    migration.options.backfill.lease = Duration::from_secs(600);
    let coordinator = world.coordinator_of(migration.clone()).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    let gate = Gate::new();
    world.proxy().script(Rule::new(Fault::Delay(gate.clone())).on("BatchExecuteStatement").after(30));
    let never = CancellationToken::new();
    tokio::select! {
        ended = coordinator.backfill(&never) => panic!("it waits at the gate, and yet ended: {ended:?}"),
        () = gate.until_held(1) => {}
    }
    drop(coordinator);
    world.proxy().clear();
    gate.open();
    // Its lease would last for minutes; the wait for it would be longer than this test's patience.
    let next = world.coordinator_of(migration).await;
    backfill(&next).await;
    assert_eq!(rows_read(&world).await, 2_000);
    world.assert_converged().await;
}

#[tokio::test]
async fn all_workers_together_keep_to_one_budget() {
    let world = World::start().await;
    world.sql(&logs(1, 600)).await;
    world.prepared().await.close().await;
    let never = CancellationToken::new();
    let budget = |options: &mut BackfillOptions| options.write_units_per_s_max = Some(400);
    let begun = std::time::Instant::now();
    let crew = [worker(&world, "a", budget, &never).await, worker(&world, "b", budget, &never).await];
    for one in crew {
        done(one).await;
    }
    let units: f64 = world
        .value("SELECT extract(epoch FROM spent_until - clock_timestamp())::float8 FROM lockstep.budget")
        .await;
    // 600 logs of two indexes at least are 1,800 units: 4.5 s at 400, however many there are to spend them.
    let took = begun.elapsed().as_secs_f64();
    assert!(took >= 4.0, "{took} s");
    assert!(units < 1.0, "no more was taken than could be spent: {units} s ahead");
}

#[tokio::test]
async fn blocks_of_the_budget_do_not_overlap() {
    let world = World::start().await;
    world.prepared().await.close().await;
    let mut takers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let source = world.another_source().await;
        takers.spawn(async move {
            let mut longest = Duration::ZERO;
            for _ in 0..25 {
                longest = longest.max(source.take_units(1_000.0, 1_000.0).await.expect("taken"));
            }
            longest
        });
    }
    let longest = takers.join_all().await.into_iter().max().expect("takers");
    // 200 blocks of a second each: the last one begins when all others are spent.
    assert!((150.0..=199.5).contains(&longest.as_secs_f64()), "{longest:?}");
}

#[tokio::test]
async fn what_was_reckoned_at_another_rate_or_by_another_clock_keeps_no_worker_waiting() {
    let world = World::start().await;
    world.prepared().await.close().await;
    let take = async |units, per_s| world.source.take_units(units, per_s).await.expect("taken");
    take(1_000.0, 1.0).await;
    let wait = take(1_000.0, 1.0).await;
    assert!(wait > Duration::from_secs(900), "{wait:?}");
    // An operator allows more.
    let wait = take(100.0, 40_000.0).await;
    assert!(wait < Duration::from_secs(2), "{wait:?}");
    // Workers that were told different rates still wait for each other.
    take(100_000.0, 1_000.0).await;
    let wait = take(5_000.0, 500.0).await;
    assert!(!wait.is_zero() && wait < Duration::from_secs(2), "{wait:?}");
    // The source's clock is set back by an hour.
    let sql = "UPDATE lockstep.budget SET spent_until = spent_until + interval '1 hour',
                   taken_at = taken_at + interval '1 hour'";
    world.sql(sql).await;
    let wait = take(500_000.0, 500.0).await;
    assert!(wait < Duration::from_secs(1), "{wait:?}");
    let wait = take(500.0, 500.0).await;
    assert!(wait > Duration::from_secs(900), "from then on as ever: {wait:?}");
}

/// 1. A worker waits for a block that may be spent in fifty minutes. 2. An operator allows more.
#[tokio::test]
async fn a_worker_that_waits_at_one_rate_goes_on_at_another() {
    let world = World::start().await;
    world.sql(&logs(1, 600)).await;
    world.prepared().await.close().await;
    world.source.take_units(3_000.0, 1.0).await.expect("taken");
    let reaches = "SELECT extract(epoch FROM spent_until)::float8 FROM lockstep.budget";
    let before: f64 = world.value(reaches).await;
    let slow = |options: &mut BackfillOptions| options.write_units_per_s_max = Some(1);
    let waiting = worker(&world, "a", slow, &CancellationToken::new()).await;
    eventually("it has taken a block", || async { world.value::<f64>(reaches).await > before }).await;
    let more = Tuning { write_units_per_s_max: Some(40_000), ..Tuning::default() };
    world.source.tune(more).await.expect("tuned");
    done(waiting).await;
    assert_eq!(rows_read(&world).await, 600);
    world.assert_converged().await;
}

#[tokio::test]
async fn a_long_range_is_split_for_a_worker_that_has_none() {
    is_split(RangesChoice::Key, 12_000).await;
}

#[tokio::test]
async fn a_long_range_of_blocks_is_split_for_a_worker_that_has_none() {
    is_split(RangesChoice::Blocks, 6_000).await;
}

async fn is_split(choice: RangesChoice, rows: i64) {
    let world = World::behind_proxy().await;
    world.sql(&logs(1, rows)).await;
    world.sql("ANALYZE integration_logs").await;
    world.proxy().script(Rule::new(Fault::WriteUnits(2_500)).on("BatchExecuteStatement"));
    let never = CancellationToken::new();
    let one_range = |options: &mut BackfillOptions| {
        (options.ranges, options.ranges_per_table, options.readers) = (choice, 1, 1);
        // No more than a chunk is read ahead, or the whole range is read before the other has said a word.
        options.queue_bytes_max = options.chunk_bytes;
    };
    let crew = [worker(&world, "a", one_range, &never).await, worker(&world, "b", one_range, &never).await];
    let mut with_rows = 0;
    for one in crew {
        let summary = done(one).await;
        with_rows += usize::from(summary.tables.iter().any(|table| table.rows_read > 0));
    }
    let ranges: i64 =
        world.value(&format!("SELECT count(*) FROM lockstep.ranges WHERE table_name = '{LOGS}'")).await;
    assert!(ranges > 1, "it was split");
    assert_eq!((with_rows, rows_read(&world).await), (2, rows), "both had work, and no row is in two ranges");
    world.proxy().clear();
    world.assert_converged().await;
}

/// 1. A worker has a window. 2. `backfill --restart` makes a plan without one. 3. What the worker would call
///    done is
/// its own window of it.
#[tokio::test]
async fn ranges_of_another_window_are_not_taken() {
    let world = World::start().await;
    world.sql(&logs(1, 50)).await;
    let coordinator = world.prepared().await;
    backfill(&coordinator).await;
    coordinator.close().await;
    world.sql("UPDATE lockstep.ranges SET done = false, worker = NULL").await;
    let who = Registering { id: 7, name: "w", coordinator: false, lease: Duration::from_secs(60) };
    world.source.register_worker(&who).await.expect("registered");
    let day = Window { start: Some(chrono::Utc::now()), end: None };
    assert!(world.source.claim_range(7, &[LOGS], &day).await.expect("asked").is_none());
    // An idle worker asks this, of all its tables at once: one of both has a plan for other days.
    world.sql("UPDATE lockstep.tables SET window_start = '2026-01-01' WHERE name = 'payments'").await;
    let look = world.source.look_at_plan(&[LOGS, PAYMENTS], &Window::default()).await.expect("asked");
    assert_eq!((look.planned, look.open, look.free), (2, true, true));
    assert_eq!(look.other_window.as_deref(), Some(PAYMENTS));
    let of_logs = world.source.look_at_plan(&[LOGS], &Window::default()).await.expect("asked");
    assert_eq!((of_logs.planned, of_logs.other_window), (1, None));
    world.sql("UPDATE lockstep.tables SET planned_at = NULL").await;
    let none = world.source.look_at_plan(&[LOGS, PAYMENTS], &day).await.expect("asked");
    assert_eq!((none.planned, none.other_window), (0, None), "a plan that is forgotten is for no window");
    world.sql("UPDATE lockstep.tables SET planned_at = now()").await;
    let free = async || {
        let look = world.source.look_at_plan(&[LOGS], &Window::default()).await.expect("asked");
        (look.open, look.free)
    };
    let mut held = 0;
    while free().await == (true, true) {
        let taken = world.source.claim_range(7, &[LOGS], &Window::default()).await.expect("asked");
        assert!(taken.is_some(), "what is free can be taken");
        held += 1;
    }
    assert!(held > 0);
    assert_eq!(free().await, (true, false), "what a live worker holds is not free");
    world.sql("UPDATE lockstep.workers SET lease_until = now() - interval '1 second'").await;
    assert_eq!(free().await, (true, true), "its lease is over");
}

#[tokio::test]
async fn a_worker_copies_nothing_where_postgresql_is_not_the_truth() {
    let world = World::start().await;
    world.sql(&logs(1, 50)).await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    world.sql("UPDATE lockstep.ranges SET done = false").await;
    world.flip(Phase::DynamoOnly).await;
    let refused = worker(&world, "late", |_| {}, &CancellationToken::new()).await.await.expect("no panic");
    assert!(
        matches!(&refused, Err(CoordinatorError::Store(error)) if error.kind == Kind::Refused),
        "{refused:?}"
    );
}

#[tokio::test]
async fn status_names_the_workers_what_each_holds_and_the_slowest() {
    let world = World::behind_proxy().await;
    world.sql(&logs(1, 3_000)).await;
    world.prepared().await.close().await;
    // No log is taken; what only asks, as a worker does when it begins, is answered.
    world.proxy().script(Rule::new(Fault::WriteUnits(0)).on("BatchExecuteStatement").table(LOGS));
    let stop = CancellationToken::new();
    let two = |options: &mut BackfillOptions| options.readers = 2;
    let crew = [worker(&world, "a", two, &stop).await, worker(&world, "b", two, &stop).await];
    eventually("both hold ranges", || async {
        let status =
            lockstep_coordinator::status_of_source(&world.source, &world.tables()).await.expect("a status");
        status.workers.len() == 2 && status.workers.iter().all(|worker| worker.ranges.len() == 2)
    })
    .await;
    let status =
        lockstep_coordinator::status_of_source(&world.source, &world.tables()).await.expect("a status");
    assert_eq!(status.workers.iter().map(|w| w.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(status.workers.iter().all(|w| w.is_live() && !w.idle && w.longest_s.is_some()), "{status:?}");
    assert!(matches!(status.slowest_worker.as_deref(), Some("a" | "b")), "{:?}", status.slowest_worker);
    let mut held: Vec<_> = status.workers.iter().flat_map(|worker| &worker.ranges).collect();
    held.sort();
    held.dedup();
    assert_eq!(held.len(), 4, "no range has two holders: {held:?}");
    stop.cancel();
    for one in crew {
        let ended = within(Duration::from_secs(20), one).await.expect("no panic");
        assert!(matches!(ended, Err(CoordinatorError::Interrupted)), "{ended:?}");
    }
    assert!(world.source.workers().await.expect("asked").is_empty(), "stopped ones give their leases back");
}
