//! The real command as a process: killed without a word at any moment, it goes on where it was; told
//! nonsense, it says what.

use std::process::{Output, Stdio};
use std::time::Duration;

use lockstep_core::Phase;
use lockstep_postgres::RangeRow;
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, Rule};
use lockstep_tests::world::rows::{log, logs, payments};
use lockstep_tests::world::{LOGS, eventually, run, within};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::scanned::Secrets;

/// The command on the stores of a world.
pub(crate) fn command(world: &World, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep-under-test"));
    command
        .args(arguments)
        .env("LOCKSTEP_SOURCE__URL", world.url())
        .env("LOCKSTEP_TARGET__ENDPOINT_URL", world.target.address())
        .env("LOCKSTEP_TARGET__REGION", "eu-central-1")
        .env("LOCKSTEP_TARGET__EMULATOR_CREDENTIALS", "true")
        .env("LOCKSTEP_STEPS__LOCK_PAUSE_MS", "50")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

const MIGRATE: [&str; 6] = ["migrate", "--json", "--quiet", "--live-writes", "0", "--through=HybridRead"];

/// Runs it to its end. What it has said is looked through, see `scanned`.
#[track_caller]
pub(crate) fn ended(mut command: Command) -> impl Future<Output = Output> {
    let secrets = Secrets::of(&command);
    let child = command.spawn().expect("the command starts");
    within(Duration::from_mins(3), async move {
        let output = child.wait_with_output().await.expect("the command ends");
        secrets.scan(&output);
        output
    })
}

/// Starts `migrate`, waits until `moment` is true, and kills it.
async fn killed_at(world: &World, what: &str, moment: &str) {
    let mut child: Child = command(world, &MIGRATE).spawn().expect("the command starts");
    let so_far = &format!("SELECT to_regclass('lockstep.ranges') IS NOT NULL AND ({moment})");
    eventually(what, || {
        assert!(child.try_wait().expect("it can be asked").is_none(), "it ended before {what}");
        async move { world.try_value(so_far).await.unwrap_or(false) }
    })
    .await;
    child.kill().await.expect("SIGKILL");
}

#[tokio::test]
async fn killed_at_any_moment_the_same_command_finishes_and_reads_nothing_again() {
    let world = World::behind_proxy().await;
    world.sql(&logs(1, 2_500)).await;
    world.sql(&payments(1, 500)).await;
    // Slow enough to be met in the middle.
    world.proxy().script(Rule::new(Fault::WriteUnits(700)).on("BatchExecuteStatement"));
    let mut done_before: Vec<RangeRow> = Vec::new();
    for settled in [1, 700, 1_500] {
        let moment = format!("(SELECT sum(rows_read) FROM lockstep.ranges) >= {settled}");
        killed_at(&world, "rows are settled", &moment).await;
        world.sql("UPDATE integration_logs SET user_id = 'between' WHERE log_id % 11 = 0; DELETE FROM payments WHERE payment_id % 97 = 0").await;
        let ranges = world.source.ranges(LOGS).await.expect("ranges");
        for (then, now) in std::iter::zip(&done_before, &ranges) {
            assert!(
                !then.done || (now.done && now.rows_read == then.rows_read),
                "range {} was read again",
                then.number
            );
        }
        done_before = ranges;
    }
    world.proxy().clear();
    world.proxy().script(Rule::new(Fault::WriteUnits(60)).on("PutItem"));
    killed_at(&world, "changes are delivered", "(SELECT sum(relayed) FROM lockstep.tables) > 0").await;
    world.proxy().clear();
    let mut holder = world.stranger().await;
    run(&mut holder, &format!("BEGIN; {}", log(9_001, "held"))).await;
    let stepping = "EXISTS (SELECT 1 FROM lockstep.journal i WHERE kind = 'intent' AND step = 'change phase' \
                    AND NOT EXISTS (SELECT 1 FROM lockstep.journal o WHERE o.intent = i.id))";
    killed_at(&world, "a step waits for the barrier", stepping).await;
    run(&mut holder, "COMMIT").await;

    let output = ended(command(&world, &MIGRATE)).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON document and nothing else");
    assert_eq!((&report["verdict"], &report["phase"]), (&"consistent".into(), &"HybridRead".into()));
    assert_eq!(world.source.control().await.expect("a phase").phase, Phase::HybridRead);
    for table in report["tables"].as_array().expect("tables") {
        assert_eq!(table["read_again"], 0, "{table}");
        assert_eq!(
            (&table["missing"], &table["different"], &table["extra"], &table["dead_letters"]),
            (&0.into(), &0.into(), &0.into(), &0.into())
        );
        // The last validation looked at what had changed, and counted no items.
        assert_eq!((&report["incremental"], &table["target_count"]), (&true.into(), &Value::Null));
        let live = world.live_items(table["name"].as_str().expect("a name")).await;
        assert_eq!(table["source_count"], live);
    }
    let recovered = report["recovered"].as_array().expect("what was recovered");
    assert!(
        recovered
            .iter()
            .any(|what| what.as_str().is_some_and(|what| what.contains("PostgresOnly → DualWrite"))),
        "{recovered:?}"
    );
    world.assert_converged().await;
}

#[tokio::test]
async fn a_reverse_feed_that_is_killed_again_and_again_brings_everything_back() {
    let world = World::start().await;
    world.prepared().await.close().await;
    let before = ended(command(&world, &["reverse-feed", "--until-empty", "--json", "--quiet"])).await;
    assert_eq!(before.status.code(), Some(0), "{}", String::from_utf8_lossy(&before.stderr));
    let epoch = world.flip(Phase::DynamoOnly).await;
    let table = lockstep_integration_logs::IntegrationLogs::default();
    for killed_after in [1, 150, 320] {
        for id in 0..200 {
            let user = format!("after {killed_after}");
            world.put_item(&table, &super::reverse_feed::log_row(id, "service", &user), epoch).await;
            if id % 9 == 0 {
                world.delete_item(&table, &super::reverse_feed::log_at(id, "service"), epoch).await;
            }
        }
        let mut child = command(&world, &["reverse-feed", "--quiet"]).spawn().expect("the command starts");
        let so_far = &format!("SELECT sum(applied) >= {killed_after} FROM lockstep.reverse_tables");
        eventually("something came back", || {
            assert!(child.try_wait().expect("it can be asked").is_none(), "it ended by itself");
            world_says(&world, so_far)
        })
        .await;
        child.kill().await.expect("SIGKILL");
    }
    eventually("its lock is free", || async { world.source.lock_reverse_feed().await.is_ok() }).await;
    let output = ended(command(&world, &["reverse-feed", "--until-empty", "--json", "--quiet"])).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON document and nothing else");
    assert_eq!(report["tables"][0]["name"], LOGS, "{report}");
    assert_eq!(report["tables"][0]["standing"]["again"], 0, "{report}");
    world.assert_fed().await;
}

async fn world_says(world: &World, sql: &str) -> bool {
    world.try_value(sql).await.unwrap_or(false)
}

#[track_caller]
fn check(output: &Output, code: i32, says: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    for text in says {
        assert!(stderr.contains(text), "`{text}` is not in: {stderr}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[tokio::test]
async fn wrong_use_and_wrong_configuration_end_with_2() {
    let world = World::start().await;
    check(&ended(command(&world, &["migrate", "--no-such-flag"])).await, 2, &["--no-such-flag"]);
    check(&ended(command(&world, &["migrate", "--through", "Both"])).await, 2, &["Both", "HybridRead"]);
    let mut unknown_key = command(&world, &MIGRATE);
    unknown_key.env("LOCKSTEP_BACKFILL__REEDERS", "4");
    check(&ended(unknown_key).await, 2, &["reeders"]);
    let mut not_a_number = command(&world, &MIGRATE);
    not_a_number.env("LOCKSTEP_BACKFILL__READERS", "many");
    check(&ended(not_a_number).await, 2, &["readers", "a whole number"]);
    check(
        &ended(command(&world, &["relay", "--until-empty"])).await,
        2,
        &["never installed", "run `backfill`"],
    );
}

#[tokio::test]
async fn a_refusing_gate_ends_with_3_and_says_what_next() {
    let world = World::start().await;
    check(
        &ended(command(&world, &["advance"])).await,
        3,
        &["integration_logs", "payments", "never started", "run `backfill`"],
    );
    world.sql("ALTER TABLE payments RENAME TO paid").await;
    check(
        &ended(command(&world, &MIGRATE)).await,
        3,
        &["there is no table public.payments", "tables.*.source"],
    );
}

#[tokio::test]
async fn a_dry_run_of_a_step_asks_its_gates_and_takes_no_step() {
    let world = World::start().await;
    world.migrated_to(Phase::PostgresOnly).await.close().await;
    let output = ended(command(&world, &["advance", "--dry-run", "--to", "HybridRead", "-v"])).await;
    check(&output, 0, &["gate  ok", "capture is on"]);
    // One line where all pass, and none of theirs.
    let short = ended(command(&world, &["advance", "--dry-run", "--to", "HybridRead"])).await;
    check(&short, 0, &["gates pass; -v shows each"]);
    let stderr = String::from_utf8_lossy(&short.stderr);
    assert_eq!(stderr.matches("  gate  ").count(), 1, "{stderr}");
    assert!(!stderr.contains("capture is on"), "{stderr}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("The gates of PostgresOnly → DualWrite pass"), "{said}");
    check(&ended(command(&world, &["rollback", "--dry-run"])).await, 2, &["the last phase that way"]);
    world.sql("ALTER TABLE payments DISABLE TRIGGER ALL").await;
    let refused = ended(command(&world, &["advance", "--dry-run"])).await;
    check(&refused, 3, &["gate  REFUSED", "capture is on", "gates pass; -v shows each"]);
    let output = ended(command(&world, &["advance", "--dry-run", "--json"])).await;
    check(&output, 3, &[]);
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&said["passed"], &said["to"]), (&Value::from(false), &Value::from("DualWrite")), "{said}");
    assert_eq!(world.source.control().await.expect("there").phase, Phase::PostgresOnly);
}

#[tokio::test]
async fn a_store_that_cannot_be_reached_ends_with_5_and_names_it() {
    let world = World::behind_proxy().await;
    let mut no_source = command(&world, &MIGRATE);
    no_source.env("LOCKSTEP_SOURCE__URL", "postgres://lockstep:secret@127.0.0.1:1/lockstep");
    let output = ended(no_source).await;
    check(&output, 5, &["connecting to PostgreSQL at 127.0.0.1:1", "LOCKSTEP_SOURCE__URL"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("secret"), "the password is not shown");
    let mut no_target = command(&world, &MIGRATE);
    no_target.env("LOCKSTEP_TARGET__ENDPOINT_URL", "http://127.0.0.1:1");
    check(&ended(no_target).await, 5, &["DynamoDB", "http://127.0.0.1:1"]);
    world.proxy().script(Rule::new(Fault::ExpiredToken));
    check(&ended(command(&world, &MIGRATE)).await, 5, &["the credentials have expired", "aws sso login"]);
}
