//! Workers as processes, and what can happen to one.

use std::process::Output;
use std::time::Duration;

use lockstep_tests::World;
use lockstep_tests::world::{eventually, within};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::scanned::Secrets;

/// Time for which a worker is believed here: long enough for a busy machine to renew it.
pub(super) const LEASE_MS: u64 = 3_000;
/// Ranges that each worker has at once.
pub(super) const READERS: i64 = 2;
/// Rows of the largest chunk: the first one of a range, before the size of a row is known.
pub(super) const CHUNK_ROWS: i64 = 500;

/// Sets what a worker of these tests takes, as the environment tells it.
pub(super) fn settings(command: &mut Command, name: &str) {
    command
        .env("LOCKSTEP_WORKER_NAME", name)
        .env("LOCKSTEP_BACKFILL__LEASE_MS", LEASE_MS.to_string())
        .env("LOCKSTEP_BACKFILL__READERS", READERS.to_string())
        .env("LOCKSTEP_BACKFILL__RANGES_PER_TABLE", "10")
        // One chunk a range is under way, and no more.
        .env("LOCKSTEP_BACKFILL__CHUNK_BYTES", "32768")
        .env("LOCKSTEP_BACKFILL__QUEUE_BYTES_MAX", "65536")
        .env("LOCKSTEP_TARGET__REQUEST_TIMEOUT_MS", "2000")
        .env("LOCKSTEP_TARGET__CONNECT_TIMEOUT_MS", "1000");
}

/// A worker's process.
pub(super) struct Worker {
    pub(super) name: &'static str,
    child: Child,
    secrets: Secrets,
}

impl Worker {
    /// Starts `lockstep worker` as `command` says.
    pub(super) fn start(mut command: Command, name: &'static str) -> Self {
        settings(&mut command, name);
        let secrets = Secrets::of(&command);
        Self { name, child: command.spawn().expect("the command starts"), secrets }
    }

    /// Kills it without a word.
    pub(super) async fn kill(mut self) {
        self.child.kill().await.expect("SIGKILL");
    }

    /// Stops it, or lets it go on.
    pub(super) async fn signal(&self, signal: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().await.expect("kill starts");
        assert!(sent.success(), "{signal} to {}", self.name);
    }

    /// Returns what it reports at its end, which must be a good one.
    pub(super) async fn ended_well(self) -> Value {
        let output: Output =
            within(Duration::from_secs(120), self.child.wait_with_output()).await.expect("it ends");
        self.secrets.scan(&output);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{}: {said}", self.name);
        serde_json::from_slice(&output.stdout).expect("one JSON document and nothing else")
    }
}

/// Waits until each of these holds a range, and rows have been acknowledged.
pub(super) async fn at_work(world: &World, names: &[&str]) {
    eventually("every worker holds a range, and rows are acknowledged", || async {
        let Ok(workers) = world.source.workers().await else { return false };
        let at_work = |name: &&str| workers.iter().any(|w| w.name == *name && !w.ranges.is_empty());
        names.iter().all(at_work)
            && world
                .try_value("SELECT coalesce(sum(rows_read), 0) > 300 FROM lockstep.ranges")
                .await
                .unwrap_or(false)
    })
    .await;
}

/// Waits until no lease lasts, by the source's clock.
pub(super) async fn leases_are_over(world: &World) {
    eventually("no lease lasts", || async {
        world
            .value::<bool>(
                "SELECT NOT EXISTS (SELECT 1 FROM lockstep.workers WHERE lease_until > clock_timestamp())",
            )
            .await
    })
    .await;
}

/// Everything was moved, each row was acknowledged once, and of what was lost no more than the chunks under
/// way was read again.
pub(super) async fn assert_moved(world: &World, rows: i64, lost: i64) {
    let (read, written, present): (i64, i64, i64) = sqlx::query_as(
        "SELECT sum(rows_read)::bigint, sum(rows_written)::bigint, sum(rows_present)::bigint FROM
            lockstep.ranges WHERE done",
    )
    .fetch_one(world.strangers())
    .await
    .expect("ranges");
    assert_eq!((read, written + present), (rows, rows), "each row is acknowledged once");
    assert!(
        present <= lost * READERS * CHUNK_ROWS,
        "{present} rows were moved again, by {lost} workers lost"
    );
    let open: i64 = world.value("SELECT count(*) FROM lockstep.ranges WHERE NOT done").await;
    assert_eq!(open, 0);
    world.assert_converged().await;
    assert!(world.record_verdict().await.verdict.is_consistent());
}
