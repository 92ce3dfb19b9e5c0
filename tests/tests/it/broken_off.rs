//! `advance` and `rollback` without `--to`, broken off and given again: the second run ends what the first
//! began, and takes no further step. Only the one after it does.

use std::process::Output;

use lockstep_core::Phase;
use lockstep_tests::World;
use lockstep_tests::world::rows::{logs, payment, payments};
use lockstep_tests::world::{eventually, run};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::process::{command, ended};

/// A world without applications: a step waits for none.
async fn world_in(phase: Phase) -> World {
    let world = World::start().await;
    world.sql(&format!("{}; {}", logs(1, 20), payments(1, 20))).await;
    world.migrated_to(phase).await.close().await;
    world
}

fn typed(world: &World, way: &str) -> Command {
    let mut command = command(world, &[way, "--json", "--no-post-check"]);
    command.env("LOCKSTEP_STEPS__PHASE_LEASE_MS", "5").env("LOCKSTEP_STEPS__INDEX_SETTLE_MS", "1");
    command.env("LOCKSTEP_STEPS__PAUSE_MS_MAX", "20000");
    // For so long a command goes on after the way back from DynamoOnly.
    command.env("LOCKSTEP_TARGET__REQUEST_LIFETIME_S", "12");
    command
}

/// The same, which stays for a minute between the flip and its outcome.
fn lingering(world: &World, way: &str) -> Child {
    let mut command = typed(world, way);
    command.env("LOCKSTEP_STEPS__PHASE_LEASE_MS", "30000");
    command.spawn().expect("the command starts")
}

async fn phase(world: &World) -> Phase {
    world.source.control().await.expect("a phase").phase
}

async fn until(world: &World, child: &mut Child, what: &str, sql: &str) {
    eventually(what, || {
        assert!(child.try_wait().expect("it can be asked").is_none(), "it ended before {what}");
        async move { world.try_value(sql).await.unwrap_or(false) }
    })
    .await;
}

async fn until_flipped(world: &World, child: &mut Child, to: Phase) {
    eventually("the phase has changed", || {
        assert!(child.try_wait().expect("it can be asked").is_none(), "it ended before the phase changed");
        async move { phase(world).await == to }
    })
    .await;
}

/// Returns its report, and what it told.
#[track_caller]
fn done(output: &Output) -> (Value, String) {
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{told}");
    (serde_json::from_slice(&output.stdout).expect("one JSON document and nothing else"), told)
}

/// Given again, it stays in `at` and says why; given once more, it goes to `next`.
async fn ends_there_and_only_then_goes_on(world: &World, way: &str, at: Phase, next: Option<Phase>) {
    let (report, told) = done(&ended(typed(world, way)).await);
    assert_eq!((phase(world).await, &report["phase"]), (at, &at.to_string().into()), "{told}");
    assert_eq!(
        (&report["steps"], &report["finishes_earlier_run"]),
        (&Value::Array(Vec::new()), &true.into()),
        "{told}"
    );
    assert!(told.contains("takes no further step"), "{told}");
    let after = ended(typed(world, way)).await;
    let Some(next) = next else {
        assert_eq!(after.status.code(), Some(2), "there is no step further that way");
        return;
    };
    let (report, told) = done(&after);
    assert_eq!((phase(world).await, &report["finishes_earlier_run"]), (next, &false.into()), "{told}");
}

#[tokio::test]
async fn a_rollback_killed_after_its_flip_and_given_again_takes_no_further_step() {
    let world = world_in(Phase::HybridRead).await;
    let mut child = lingering(&world, "rollback");
    until_flipped(&world, &mut child, Phase::DualWrite).await;
    child.kill().await.expect("SIGKILL");
    ends_there_and_only_then_goes_on(&world, "rollback", Phase::DualWrite, Some(Phase::PostgresOnly)).await;
    // From the last phase there is no neighbour, and what was begun is ended nevertheless.
    let mut child = lingering(&world, "advance");
    until_flipped(&world, &mut child, Phase::DualWrite).await;
    child.kill().await.expect("SIGKILL");
    done(&ended(typed(&world, "advance")).await);
    assert_eq!(phase(&world).await, Phase::DualWrite);
    let mut child = lingering(&world, "rollback");
    until_flipped(&world, &mut child, Phase::PostgresOnly).await;
    child.kill().await.expect("SIGKILL");
    ends_there_and_only_then_goes_on(&world, "rollback", Phase::PostgresOnly, None).await;
}

#[tokio::test]
async fn a_step_that_was_told_to_stop_after_its_flip_is_not_followed_by_another() {
    let world = world_in(Phase::HybridRead).await;
    let mut command = typed(&world, "rollback");
    command.env("LOCKSTEP_STEPS__PHASE_LEASE_MS", "1500");
    let mut child = command.spawn().expect("the command starts");
    until_flipped(&world, &mut child, Phase::DualWrite).await;
    let id = child.id().expect("it runs").to_string();
    let told = Command::new("sh").args(["-c", &format!("kill -INT {id}")]).status().await.expect("a shell");
    assert!(told.success());
    let output = child.wait_with_output().await.expect("it ends");
    // It has settled its step itself, so the next run finds nothing open.
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(world.source.open_intents().await.expect("the journal").is_empty());
    ends_there_and_only_then_goes_on(&world, "rollback", Phase::DualWrite, Some(Phase::PostgresOnly)).await;
}

#[tokio::test]
async fn a_step_killed_before_its_flip_is_taken_once_by_the_same_command() {
    let world = world_in(Phase::HybridRead).await;
    let mut holder = world.stranger().await;
    run(&mut holder, &format!("BEGIN; {}", payment(9_001, 1))).await;
    let mut child = typed(&world, "rollback").spawn().expect("the command starts");
    let open = "SELECT EXISTS (SELECT 1 FROM lockstep.journal i WHERE kind = 'intent' AND step = 'change phase' \
                AND NOT EXISTS (SELECT 1 FROM lockstep.journal o WHERE o.intent = i.id))";
    until(&world, &mut child, "a step waits for the barrier", open).await;
    child.kill().await.expect("SIGKILL");
    run(&mut holder, "COMMIT").await;
    let (report, told) = done(&ended(typed(&world, "rollback")).await);
    assert_eq!(
        (phase(&world).await, report["steps"].as_array().map(Vec::len)),
        (Phase::DualWrite, Some(1)),
        "{told}"
    );
}

#[tokio::test]
async fn a_rollback_from_dynamo_only_killed_while_it_feeds_feeds_on_and_stays_where_it_is() {
    let world = world_in(Phase::DynamoOnly).await;
    world.feed_until_drained().await;
    let mut child = typed(&world, "rollback").spawn().expect("the command starts");
    let settled = "SELECT EXISTS (SELECT 1 FROM lockstep.journal WHERE kind = 'done' AND step = 'change phase' \
                   AND detail ->> 'from' = 'DynamoOnly')";
    until(&world, &mut child, "the way back is recorded", settled).await;
    assert_eq!(phase(&world).await, Phase::HybridRead);
    child.kill().await.expect("SIGKILL");
    let (report, told) = done(&ended(typed(&world, "rollback")).await);
    assert_eq!(
        (phase(&world).await, &report["steps"]),
        (Phase::HybridRead, &Value::Array(Vec::new())),
        "{told}"
    );
    assert!(told.contains("feeding and delivering until then"), "{told}");
    let over = "SELECT pg_catalog.now() >= (detail ->> 'late_until')::timestamptz FROM lockstep.journal \
                WHERE detail ? 'late_until' ORDER BY id DESC LIMIT 1";
    assert!(
        world.try_value(over).await.expect("the journal"),
        "it went on until nothing could land any more"
    );
    // The phase that is named is reached once, however often it is asked for.
    for _ in 0..2 {
        let mut named = typed(&world, "rollback");
        named.arg("--to=DualWrite");
        done(&ended(named).await);
        assert_eq!(phase(&world).await, Phase::DualWrite);
    }
}
