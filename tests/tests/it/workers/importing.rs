//! Workers that write parts of one import: one is killed, one sleeps past its lease and wakes.

use lockstep_core::Phase;
use lockstep_dynamo::LoadPath;
use lockstep_tests::faults::{Gate, ObjectFault};
use lockstep_tests::world::rows::{logs, payments};
use lockstep_tests::world::{LOGS, PAYMENTS, backfill, eventually};
use tokio::process::Command;

use super::crew::{READERS, Worker};
use crate::import_direct::Direct;
use crate::process::command;

const ROWS: i64 = 2_000;

fn worker(direct: &Direct) -> Command {
    let mut command = command(&direct.world, &["worker", "--json", "--quiet"]);
    command
        .env("LOCKSTEP_TARGET__ENDPOINT_URL", direct.importer.endpoint_url())
        .env("LOCKSTEP_TARGET__S3_ENDPOINT_URL", direct.objects.endpoint_url())
        .env("LOCKSTEP_BACKFILL__LOAD_PATH", "import")
        .env("LOCKSTEP_IMPORT__S3", "s3://bucket/lockstep");
    command
}

/// Names of objects that no manifest has.
async fn strays(direct: &Direct) -> Vec<String> {
    let mut known = Vec::new();
    for table in [LOGS, PAYMENTS] {
        let prefix = direct.prefix(table).await;
        let parts = direct.world.source.import_parts(table).await.expect("read");
        known.extend(parts.iter().map(|part| format!("{prefix}{}", part.name)));
    }
    let there = direct.objects.objects("bucket");
    there.into_iter().filter(|name| name.contains("/data/") && !known.contains(name)).collect()
}

#[tokio::test]
async fn what_a_worker_puts_after_its_lease_is_no_part_and_is_not_imported() {
    let direct = Direct::start().await;
    let world = &direct.world;
    world.sql(&logs(1, ROWS)).await;
    world.sql(&payments(1, 500)).await;
    let gate = Gate::new();
    direct.objects.script("PUT", "/data/", 6, ObjectFault::Held(gate.clone()));
    // 1. Each has read a range or two, and no part of it is put yet.
    let sleeps = Worker::start(worker(&direct), "sleeps");
    gate.until_held(READERS as u64).await;
    sleeps.signal("-STOP").await;
    let killed = Worker::start(worker(&direct), "killed");
    gate.until_held(2 * READERS as u64).await;
    killed.kill().await;
    let goes_on = Worker::start(worker(&direct), "goes on");
    gate.until_held(3 * READERS as u64).await;
    // 2. The leases of two are over. 3. What they had sent arrives, and their ranges are read again.
    eventually("their leases are over", || async {
        world
            .value::<bool>(
                "SELECT NOT EXISTS (SELECT FROM lockstep.workers
                 WHERE name IN ('sleeps', 'killed') AND lease_until > clock_timestamp())",
            )
            .await
    })
    .await;
    gate.open();
    let report = goes_on.ended_well().await;
    assert!(report["tables"].as_array().is_some_and(|tables| tables.len() == 2), "{report}");
    let open: i64 = world.value("SELECT count(*) FROM lockstep.ranges WHERE NOT done").await;
    assert_eq!(open, 0, "one went on with what two had left");
    let late = strays(&direct).await;
    assert!(late.len() >= READERS as usize, "they are there whole, and no part: {late:?}");
    // 4. It wakes, and acknowledges nothing.
    sleeps.signal("-CONT").await;
    let report = sleeps.ended_well().await;
    assert!(report["leases_ended"].as_u64() >= Some(1), "it was past its lease: {report}");
    assert_eq!(strays(&direct).await, late, "none of them became a part");
    assert_eq!(direct.importer.jobs(), 0, "a worker asks for no job");
    // 5. The backfill finds everything written, removes what is no part, and has the rest imported.
    let coordinator = world.coordinator_of(direct.migration()).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    let summaries = backfill(&coordinator).await;
    assert!(summaries.iter().all(|summary| summary.load_path == LoadPath::Import), "{summaries:?}");
    assert!(
        summaries.iter().all(|summary| summary.rows_written == 0),
        "nothing was read again: {summaries:?}"
    );
    assert_eq!(direct.importer.jobs(), 2);
    for table in [LOGS, PAYMENTS] {
        direct.assert_exact(table).await;
    }
    let items: i64 = world.value("SELECT sum(items)::bigint FROM lockstep.import_parts").await;
    assert_eq!(items, ROWS + 500, "each row is in one part");
    coordinator.step(Phase::DualWrite, None, &()).await.expect("history is there");
    coordinator.close().await;
    world.assert_converged().await;
}

#[tokio::test]
async fn a_worker_of_an_import_that_is_begun_again_writes_for_the_new_one() {
    let direct = Direct::start().await;
    let world = &direct.world;
    world.sql(&logs(1, 400)).await;
    let gate = Gate::new();
    direct.objects.script("PUT", "/data/", READERS as usize, ObjectFault::Held(gate.clone()));
    let writes = Worker::start(worker(&direct), "writes");
    gate.until_held(READERS as u64).await;
    let prefix = direct.prefix(LOGS).await;
    // 1. The plan and the import are other ones by now. 2. What it holds is refused, and it must not hold
    //    ranges of the new plan for the old import.
    let coordinator = world.coordinator_of(direct.migration()).await;
    coordinator.restart_backfill().await.expect("no job is at work");
    assert_ne!(direct.prefix(LOGS).await, prefix);
    gate.open();
    let summaries = backfill(&coordinator).await;
    writes.ended_well().await;
    assert!(summaries.iter().all(|summary| summary.load_path == LoadPath::Import), "{summaries:?}");
    direct.assert_exact(LOGS).await;
    coordinator.close().await;
    world.assert_converged().await;
}
