//! A second server that speaks DynamoDB's protocol, dynalite: what one emulator says of conditions, orders
//! and pages is one reading of Amazon's documents, and here another one judges. `.ci/run emulator`
//! installs it; where it is not, the first one is asked alone.
//!
//! It knows no expiry, PartiQL, transactions and streams. A migration of tables whose rows stay goes up to
//! HybridRead there, and preflight says why no further.

mod asked;
mod moved;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use lockstep_coordinator::CoordinatorError;
use lockstep_tests::World;
use lockstep_tests::world::{LOGS, WorldOptions, within};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::gates::check;

/// Set by `.ci/run emulator`: there it is not left out.
const REQUIRED: &str = "EMULATOR_REQUIRED";

/// It ends with its standard input, also where this process is killed.
struct Dynalite {
    endpoint: String,
    _child: Child,
    _stdin: ChildStdin,
}

impl Dynalite {
    /// Starts one; `None` where it is not installed.
    async fn start() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let installed = root.join("target/dynalite");
        if !installed.join("node_modules/dynalite").is_dir() {
            assert!(std::env::var_os(REQUIRED).is_none(), "there is no dynalite in {}", installed.display());
            eprintln!(
                "SKIPPED: dynalite is not installed (.ci/run emulator), and one emulator is asked alone"
            );
            return None;
        }
        let mut child = Command::new("node")
            .arg(root.join("tests/dynalite/start.js"))
            .arg(&installed)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node starts");
        let stdin = child.stdin.take().expect("a pipe");
        let mut said = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let port =
            within(Duration::from_secs(30), said.next_line()).await.expect("readable").expect("a port");
        Some(Self { endpoint: format!("http://127.0.0.1:{port}"), _child: child, _stdin: stdin })
    }

    async fn world(&self) -> World {
        World::with(WorldOptions { emulator: Some(self.endpoint.clone()), ..WorldOptions::default() }).await
    }
}

#[tokio::test]
async fn another_emulator_judges_conditions_orders_and_pages_as_the_first_one_does() {
    asked::all(&World::start().await).await;
    if let Some(dynalite) = Dynalite::start().await {
        asked::all(&dynalite.world().await).await;
    }
}

#[tokio::test]
async fn another_emulator_carries_a_migration_to_hybrid_read_and_shows_an_item_that_was_changed() {
    moved::there_and_compared(&World::start().await).await;
    if let Some(dynalite) = Dynalite::start().await {
        moved::there_and_compared(&dynalite.world().await).await;
    }
}

/// A backfill would ask for an expiry that nothing switches on.
#[tokio::test]
async fn what_another_emulator_cannot_do_is_told_before_anything_is_made() {
    let Some(dynalite) = Dynalite::start().await else { return };
    let world = dynalite.world().await;
    let report = match world.coordinator().await.prepare(&()).await {
        Err(CoordinatorError::Refused(report)) => report,
        other => panic!("preparation was not refused: {other:?}"),
    };
    check(&report, Some(LOGS), "expiry", "no UpdateTimeToLive", "ttl_days = 0");
    for (gate, told) in [("streams", "knows no streams"), ("transactions", "knows no transactions")] {
        let found = report.results.iter().find(|result| result.name == gate).expect("a gate");
        assert!(found.passed && found.detail.contains(told), "{found:?}");
    }
    assert!(world.plain_target.client().list_tables().send().await.expect("asked").table_names().is_empty());
}
