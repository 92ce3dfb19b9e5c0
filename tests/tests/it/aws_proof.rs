//! The script that is run in an account runs here, so that what it costs there is not spent on its mistakes.

use std::process::Stdio;
use std::time::Duration;

use lockstep_tests::World;
use lockstep_tests::world::within;
use tokio::process::Command;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ops/aws-proof/prove");

#[tokio::test]
async fn the_proof_for_an_account_goes_there_and_back_and_says_of_each_measurement_what_came_of_it() {
    let world = World::start().await;
    // The sample makes its own tables, in a database that has none.
    let name: String = world.value("SELECT current_database()::text").await;
    world.sql(&format!("CREATE DATABASE {name}_proof")).await;
    let url = world.url().replacen(&format!("/{name}"), &format!("/{name}_proof"), 1);
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new("bash");
    command
        .arg(SCRIPT)
        .args(["--yes", "--logs", "500", "--live-writes", "5", "--folder"])
        .arg(folder.path())
        .env("LOCKSTEP", env!("CARGO_BIN_EXE_lockstep-under-test"))
        .env("LOCKSTEP_SOURCE__URL", url)
        .env("LOCKSTEP_TARGET__ENDPOINT_URL", world.target.address())
        .env("LOCKSTEP_TARGET__REGION", "eu-central-1")
        .env("LOCKSTEP_TARGET__EMULATOR_CREDENTIALS", "true")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let child = command.spawn().expect("bash starts");
    let output = within(Duration::from_secs(240), child.wait_with_output()).await.expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let results = std::fs::read_to_string(folder.path().join("results.tsv")).expect("results");
    for what in ["seed\tok", "migration\tok", "status\tok", "report\tok", "policy-operator\tok"] {
        assert!(results.contains(what), "{what}: {results}");
    }
    for what in ["one", "two", "three", "four", "five", "six", "seven", "eight"] {
        assert!(results.lines().any(|line| line.starts_with(what)), "{what}: {results}");
    }
    let migration = std::fs::read_to_string(folder.path().join("migration.json")).expect("its report");
    let migration: serde_json::Value = serde_json::from_str(&migration).expect("one JSON document");
    assert_eq!(migration["verdict"], "consistent", "{migration}");
}
