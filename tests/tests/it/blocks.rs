//! R55: history that is read by the blocks of a table's file, and a table that gets another file meanwhile.

use std::time::Duration;

use lockstep_coordinator::{Coordinator, MigrationContext, RangesChoice};
use lockstep_core::Window;
use lockstep_postgres::{
    HeldRange, RangePlan, RangeProgress, RangeRead, RangeRow, Registering, Source, SourceOptions,
    TableBinding,
};
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, Gate, Rule};
use lockstep_tests::world::rows::logs;
use lockstep_tests::world::{LOGS, backfill, eventually};
use sqlx::AssertSqlSafe;
use tokio_util::sync::CancellationToken;

/// Statements of pg_repack: it copies the rows, in the end under a lock what changed meanwhile, and gives the
/// table the files of the copy. No trigger of the table sees any of it.
const COPIED: &str = "CREATE TABLE repacked (LIKE integration_logs);
    INSERT INTO repacked SELECT * FROM integration_logs ORDER BY log_id DESC;";
const LOCKED: &str = "BEGIN; LOCK TABLE integration_logs IN ACCESS EXCLUSIVE MODE;";
const SWAPPED: &str = "SET LOCAL allow_system_table_mods = on;
    UPDATE pg_class c SET relfilenode = o.relfilenode, reltoastrelid = o.reltoastrelid,
        relfrozenxid = o.relfrozenxid, relminmxid = o.relminmxid
    FROM pg_class o WHERE (c.oid, o.oid) IN (('integration_logs'::regclass, 'repacked'::regclass),
        ('repacked'::regclass, 'integration_logs'::regclass));
    REINDEX TABLE integration_logs; COMMIT";

/// A migration that reads one chunk at a time.
fn one_at_a_time(world: &World, ranges: RangesChoice, ranges_per_table: usize) -> MigrationContext {
    let mut migration = world.migration();
    let backfill = &mut migration.options.backfill;
    (backfill.ranges, backfill.ranges_per_table, backfill.readers) = (ranges, ranges_per_table, 1);
    backfill.queue_bytes_max = backfill.chunk_bytes;
    migration
}

async fn ranges(world: &World) -> Vec<RangeRow> {
    world.source.ranges(LOGS).await.expect("ranges")
}

/// The one file that all ranges are of.
fn file(ranges: &[RangeRow]) -> String {
    let file = ranges.first().and_then(|range| range.file.clone()).expect("of blocks");
    assert!(ranges.iter().all(|range| range.file.as_ref() == Some(&file)), "{ranges:?}");
    file
}

/// Runs a backfill up to its `requests`th request with logs, and stops it there as a kill does.
async fn killed_after(world: &World, migration: MigrationContext, requests: u64) {
    let coordinator = world.coordinator_of(migration).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    let gate = Gate::new();
    let rule = Rule::new(Fault::Delay(gate.clone())).on("BatchExecuteStatement").table(LOGS);
    world.proxy().script(rule.after(requests));
    let never = CancellationToken::new();
    tokio::select! {
        ended = coordinator.backfill(&never) => panic!("it waits at the gate, and yet ended: {ended:?}"),
        () = gate.until_held(1) => {}
    }
    drop(coordinator);
    world.proxy().clear();
    gate.open();
}

/// The rows lie in the second half of the file; the first half is empty, so that a rewrite moves each.
async fn half_empty(world: &World) {
    world.sql(&logs(1, 2_000)).await;
    world.sql("DELETE FROM integration_logs WHERE log_id <= 1000").await;
}

/// 1. Some blocks are read, and the process is killed. 2. Rows of blocks that were read, and of others, are
///    changed, move, go and come; `VACUUM` cuts the end of the file off, and rows come there again.
/// 3. Another process, which would read by keys, goes on with the plan that there is.
#[tokio::test]
async fn a_killed_backfill_goes_on_by_blocks_while_rows_move_between_them() {
    let world = World::behind_proxy().await;
    world.sql(&logs(1, 1_500)).await;
    killed_after(&world, one_at_a_time(&world, RangesChoice::Blocks, 3), 20).await;
    let before = ranges(&world).await;
    let read: i64 = before.iter().map(|range| range.rows_read).sum();
    assert!(before.len() == 3 && (200..1_500).contains(&read), "{before:?}");
    for change in [
        "UPDATE integration_logs SET user_id = repeat('moves', 400) WHERE log_id % 10 = 0",
        "UPDATE integration_logs SET user_id = 'in its page' WHERE log_id % 10 = 1",
        "DELETE FROM integration_logs WHERE log_id > 1300 OR log_id % 10 = 2",
        "VACUUM integration_logs",
        &logs(2_001, 2_200),
    ] {
        world.sql(change).await;
    }
    let next = world.coordinator_of(one_at_a_time(&world, RangesChoice::Key, 3)).await;
    let summaries = backfill(&next).await;
    let after = ranges(&world).await;
    assert_eq!(file(&after), file(&before), "a plan that is made stands");
    assert!(after.iter().all(|range| range.done));
    let of_logs = summaries.iter().find(|summary| summary.table == LOGS).expect("of logs");
    assert_eq!(of_logs.rows_resumed as i64, read, "what was acknowledged is not read again");
    world.assert_converged().await;
}

/// 1. Some blocks are read. 2. The table is rewritten. 3. The next chunk is read.
async fn rewritten_under_way(rewrite: &str) {
    let world = World::behind_proxy().await;
    half_empty(&world).await;
    let coordinator: Coordinator = world.coordinator_of(one_at_a_time(&world, RangesChoice::Blocks, 1)).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    let gate = Gate::new();
    let rule = Rule::new(Fault::Delay(gate.clone())).on("BatchExecuteStatement").table(LOGS);
    world.proxy().script(rule.after(16));
    let (_, old) = tokio::join!(backfill(&coordinator), async {
        gate.until_held(1).await;
        let old = ranges(&world).await;
        assert!(old.len() == 1 && old[0].rows_read > 0, "some of it is acknowledged: {old:?}");
        world.sql(rewrite).await;
        world.proxy().clear();
        gate.open();
        file(&old)
    });
    let now = ranges(&world).await;
    assert_ne!(file(&now), old);
    assert!(now.iter().all(|range| range.done));
    assert_eq!(now.iter().map(|range| range.rows_read).sum::<i64>(), 1_000, "all of it, from the beginning");
    world.assert_converged().await;
}

#[tokio::test]
async fn a_table_that_vacuum_full_rewrites_between_two_chunks_is_read_again_from_the_beginning() {
    rewritten_under_way("VACUUM FULL integration_logs").await;
}

#[tokio::test]
async fn a_table_that_cluster_rewrites_between_two_chunks_is_read_again_from_the_beginning() {
    rewritten_under_way("CLUSTER integration_logs USING integration_logs_pkey").await;
}

#[tokio::test]
async fn a_table_whose_files_are_swapped_between_two_chunks_is_read_again_from_the_beginning() {
    rewritten_under_way(&[COPIED, LOCKED, SWAPPED].concat()).await;
}

/// 1. Rows are copied, and changed after that. 2. Capture begins, so these changes have no mark. 3. A chunk
///    waits for the lock, and has its snapshot by then. 4. Under the lock the copy is brought up to date, and
///    takes the place of the table. By that snapshot its rows are as they were copied.
async fn a_chunk_waits_while_files_are_swapped(choice: RangesChoice) {
    let world = World::behind_proxy().await;
    world.sql(&logs(1, 1_500)).await;
    world.sql(COPIED).await;
    world.sql("UPDATE integration_logs SET user_id = 'changed'").await;
    let coordinator: Coordinator = world.coordinator_of(one_at_a_time(&world, choice, 1)).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    // One range, so that a chunk of it is left when the first is held, and waits with rows in it.
    let heap = world.source.heap(&world.logs_table()).await.expect("looked");
    let plan = match choice {
        RangesChoice::Blocks => {
            RangePlan::Blocks { file: heap.file.expect("it has one"), ranges: vec![(0, heap.blocks)] }
        }
        _ => RangePlan::Keys(vec![(None, Some(vec!["1500".to_owned()]))]),
    };
    world.source.plan_ranges(LOGS, &Window::default(), &plan).await.expect("planned");
    let gate = Gate::new();
    let rule = Rule::new(Fault::Delay(gate.clone())).on("BatchExecuteStatement").table(LOGS);
    world.proxy().script(rule.after(16));
    let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
        AND wait_event_type = 'Lock' AND query LIKE 'COPY%')";
    tokio::join!(backfill(&coordinator), async {
        gate.until_held(1).await;
        let mut repacking = world.stranger().await;
        sqlx::raw_sql(LOCKED).execute(&mut repacking).await.expect("locked");
        world.proxy().clear();
        gate.open();
        eventually("a chunk waits for the lock", || world.value::<bool>(waits)).await;
        let changed = "UPDATE repacked SET user_id = 'changed';";
        let swapped = [changed, SWAPPED].concat();
        sqlx::raw_sql(AssertSqlSafe(swapped)).execute(&mut repacking).await.expect("swapped");
    });
    world.assert_converged().await;
}

#[tokio::test]
async fn a_chunk_of_keys_that_waited_while_files_were_swapped_is_read_again() {
    a_chunk_waits_while_files_are_swapped(RangesChoice::Key).await;
}

#[tokio::test]
async fn a_chunk_of_blocks_that_waited_while_files_were_swapped_does_not_count() {
    a_chunk_waits_while_files_are_swapped(RangesChoice::Blocks).await;
}

/// 1. Some blocks are read, and the process is killed. 2. The table is rewritten. 3. Another process begins:
///    what it was rewritten for may come every night, so it reads by keys, which stay.
#[tokio::test]
async fn a_table_that_is_rewritten_while_no_process_reads_it_begins_again_by_keys() {
    begins_again_by_keys_after("VACUUM FULL integration_logs").await;
}

/// The numbers of tables and files may be the same where a dump was restored; the server is not, and rows lie
/// in other blocks.
#[tokio::test]
async fn a_table_that_another_server_has_under_the_same_numbers_begins_again_by_keys() {
    begins_again_by_keys_after(
        "UPDATE lockstep.ranges SET file = '1/' || split_part(file, '/', 2)
        || '/' || split_part(file, '/', 3) || '/' || split_part(file, '/', 4) WHERE file IS NOT NULL",
    )
    .await;
}

async fn begins_again_by_keys_after(change: &str) {
    let world = World::behind_proxy().await;
    half_empty(&world).await;
    killed_after(&world, one_at_a_time(&world, RangesChoice::Blocks, 1), 16).await;
    file(&ranges(&world).await);
    world.sql(change).await;
    let next = world.coordinator_of(one_at_a_time(&world, RangesChoice::Auto, 4)).await;
    let summaries = backfill(&next).await;
    let of_logs = summaries.iter().find(|summary| summary.table == LOGS).expect("of logs");
    assert_eq!(of_logs.rows_resumed, 0, "it is seen before a range is taken");
    let now = ranges(&world).await;
    assert!(now.len() > 1 && now.iter().all(|range| range.done && range.file.is_none()), "{now:?}");
    assert_eq!(now.iter().map(|range| range.rows_read).sum::<i64>(), 1_000);
    world.assert_converged().await;
}

async fn held(world: &World) -> HeldRange {
    world.source.claim_range(7, &[LOGS], &Window::default()).await.expect("asked").expect("there is one")
}

#[tokio::test]
async fn a_plan_of_blocks_is_replaced_once_and_who_held_a_range_of_it_has_lost_it() {
    let world = World::start().await;
    world.sql(&logs(1, 300)).await;
    world.prepared().await.close().await;
    let (source, whole) = (&world.source, Window::default());
    let binding: TableBinding = world.tables().into_iter().find(|b| b.name() == LOGS).expect("logs");
    let heap = source.heap(&binding).await.expect("looked");
    assert!(heap.blocks > 1 && heap.unreadable.is_none(), "{heap:?}");
    let plan = |file: &str, ranges| RangePlan::Blocks { file: file.to_owned(), ranges };
    let blocks = heap.blocks;
    source.forget_ranges(LOGS).await.expect("forgotten");
    let real = heap.file.expect("it has one");
    let elsewhere = format!("1/{}", real.split_once('/').expect("of a server").1);
    source.plan_ranges(LOGS, &whole, &plan(&elsewhere, vec![(0, blocks)])).await.expect("planned");
    let who = Registering { id: 7, name: "w", coordinator: false, lease: Duration::from_secs(60) };
    source.register_worker(&who).await.expect("registered");
    let mut first = held(&world).await;

    // An earlier version makes an error of it, and never rows that it calls read.
    let after = first.range.watermark.clone().or_else(|| first.range.lower.clone());
    let earlier =
        RangeRead { after, until: first.range.upper.clone(), rows_max: 500, ..RangeRead::default() };
    assert!(source.read_chunk(&binding, &earlier).await.is_err(), "{:?}", first.range);
    assert!(world.try_sql("UPDATE lockstep.ranges SET upper = '{5}'").await.is_err(), "nor does it split it");

    assert!(source.split_blocks(&first, 1).await.expect("asked"));
    first.range.until_block = Some(1);
    let of_both: Vec<_> = ranges(&world).await.iter().map(|r| (r.lower.clone(), r.until_block)).collect();
    assert_eq!(of_both, [(Some(vec!["0".into()]), Some(1)), (Some(vec!["1".into()]), Some(blocks))]);
    let second = held(&world).await;
    let left = second.blocks_left(&whole).expect("of blocks");
    assert_eq!((left.from, left.until), (1, blocks));
    assert!(source.read_blocks(&binding, &left).await.expect("asked").is_none(), "of another server");

    let instead = plan(&real, vec![(0, 1), (1, blocks)]);
    assert!(source.plan_instead(LOGS, &elsewhere, &instead).await.expect("asked"));
    assert!(!source.plan_instead(LOGS, &elsewhere, &instead).await.expect("asked"), "once");
    for lost in [&first, &second] {
        let add = RangeProgress::default();
        let moved = source.move_watermark(lost, None, true, add).await.expect("asked");
        assert!(moved.is_none() && !source.split_blocks(lost, 1).await.expect("asked"));
    }
    let now = ranges(&world).await;
    assert_eq!((file(&now), now.len()), (real, 2));
    let mut rows = 0;
    for _ in &now {
        let left = held(&world).await.blocks_left(&whole).expect("of blocks");
        let chunk = source.read_blocks(&binding, &left).await.expect("asked").expect("of this file");
        rows += chunk.rows().count();
    }
    assert_eq!(rows, 300, "each row once");
}

#[tokio::test]
async fn what_cannot_be_read_by_blocks_says_why() {
    let world = World::start().await;
    let logs = world.logs_table();
    let why = async |source: &Source, binding: &TableBinding| {
        source.heap(binding).await.expect("looked").unreadable.unwrap_or_default()
    };
    assert_eq!(why(&world.source, &logs).await, "");
    world.sql("CREATE TABLE parted (log_id bigint PRIMARY KEY) PARTITION BY RANGE (log_id)").await;
    let parted = TableBinding { relation: "parted".parse().expect("a name"), ..world.logs_table() };
    assert!(why(&world.source, &parted).await.contains("it has partitions"));

    let database: String = world.value("SELECT current_database()::text").await;
    let role = format!("{database}_reader");
    world.sql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'role'")).await;
    world.sql(&format!("GRANT SELECT (log_id) ON integration_logs TO {role}")).await;
    let (_, place) = world.url().split_once('@').expect("a URL with a password");
    let options = SourceOptions { url: format!("postgres://{role}:role@{place}"), ..world.source_options() };
    let of_role = Source::connect(&options).await.expect("the role connects");
    assert!(why(&of_role, &logs).await.contains("not where rows lie"));
    world.sql(&format!("GRANT SELECT ON integration_logs TO {role}")).await;
    world.sql("REVOKE ALL ON FUNCTION pg_catalog.pg_control_system() FROM PUBLIC").await;
    assert!(why(&of_role, &logs).await.contains("does not tell which one it is"));

    world.sql(&format!("ALTER DATABASE {database} SET enable_tidscan = off")).await;
    assert!(why(&world.another_source().await, &logs).await.contains("enable_tidscan is off"));
    world.sql("CREATE TABLE child () INHERITS (integration_logs)").await;
    assert!(why(&world.source, &logs).await.contains("rows of other tables"));
}
