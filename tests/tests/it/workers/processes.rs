//! Workers as processes: one is killed, one is stopped past its lease and continued, one is cut off from both
//! stores and reached again.

use std::net::SocketAddr;

use lockstep_tests::World;
use lockstep_tests::faults::source::SourceProxy;
use lockstep_tests::faults::{Fault, FaultProxy, Rule};
use lockstep_tests::world::eventually;
use lockstep_tests::world::rows::{logs, payments};

use super::crew::{Worker, assert_moved, at_work, leases_are_over};
use crate::process::command;

const ROWS: i64 = 9_000;
/// Slow enough to be met in the middle.
const UNITS_PER_S: u32 = 1_500;

fn slow() -> Rule {
    Rule::new(Fault::WriteUnits(UNITS_PER_S)).on("BatchExecuteStatement")
}

async fn world() -> World {
    let world = World::behind_proxy().await;
    world.sql(&logs(1, ROWS - 1_000)).await;
    world.sql(&payments(1, 1_000)).await;
    world.proxy().script(slow());
    world
}

fn start(world: &World, name: &'static str) -> Worker {
    Worker::start(command(world, &["worker", "--json", "--quiet"]), name)
}

#[tokio::test]
async fn one_killed_one_stopped_and_one_cut_off_end_consistent_and_read_a_chunk_again() {
    let world = world().await;
    let server = SocketAddr::from(([127, 0, 0, 1], world.connect_options().get_port()));
    let source = SourceProxy::start(server).await.expect("the proxy starts");
    let target = FaultProxy::start(&world.plain_target.address()).await.expect("the proxy starts");
    // On a busy machine the first must not be through before the last has begun.
    let slower = || Rule::new(Fault::WriteUnits(UNITS_PER_S / 4)).on("BatchExecuteStatement");
    world.proxy().clear();
    world.proxy().script(slower());
    target.script(slower());
    let mut through = command(&world, &["worker", "--json", "--quiet"]);
    let server = format!("@127.0.0.1:{}/", server.port());
    assert!(world.url().contains(&server), "the world's server is on this machine");
    through.env("LOCKSTEP_SOURCE__URL", world.url().replace(&server, &format!("@{}/", source.address())));
    through.env("LOCKSTEP_TARGET__ENDPOINT_URL", target.endpoint_url());

    let (killed, stopped) = (start(&world, "killed"), start(&world, "stopped"));
    let cut = Worker::start(through, "cut off");
    at_work(&world, &["killed", "stopped", "cut off"]).await;
    for proxy in [world.proxy(), &target] {
        proxy.clear();
        proxy.script(slow());
    }
    killed.kill().await;
    stopped.signal("-STOP").await;
    source.down().await;
    target.script(Rule::new(Fault::Unavailable).always());
    leases_are_over(&world).await;

    // The keys they held are free; and while one is another's, they wake.
    let other = start(&world, "other");
    at_work(&world, &["other"]).await;
    stopped.signal("-CONT").await;
    target.clear();
    source.up().await;

    let (stopped, cut, other) =
        (stopped.ended_well().await, cut.ended_well().await, other.ended_well().await);
    assert!(stopped["leases_ended"].as_u64() >= Some(1), "it was past its lease: {stopped}");
    println!("stopped: {stopped}\ncut off: {cut}\nother: {other}");
    world.proxy().clear();
    assert_moved(&world, ROWS, 3).await;
}

#[tokio::test]
async fn all_killed_at_once_another_set_goes_on() {
    let world = world().await;
    let first = [start(&world, "a"), start(&world, "b"), start(&world, "c")];
    at_work(&world, &["a", "b", "c"]).await;
    for worker in first {
        worker.kill().await;
    }
    let second = [start(&world, "d"), start(&world, "e"), start(&world, "f")];
    let mut moved = 0;
    for worker in second {
        let report = worker.ended_well().await;
        for table in report["tables"].as_array().expect("tables") {
            moved += table["rows_read"].as_i64().expect("a number");
        }
    }
    assert!(moved < ROWS, "what the first had acknowledged was not read again");
    world.proxy().clear();
    assert_moved(&world, ROWS, 3).await;
}

#[tokio::test]
async fn one_that_stays_delivers_what_is_written_from_when_it_is_captured() {
    let world = World::start().await;
    world.sql(&format!("{}; {}", logs(1, 50), payments(1, 50))).await;
    let stays = Worker::start(command(&world, &["worker", "--stay", "--json", "--quiet"]), "stays");
    eventually("history was moved", || async {
        let done = "SELECT bool_and(done) FROM lockstep.ranges HAVING count(DISTINCT table_name) = 2";
        world.try_value(done).await.unwrap_or(false)
    })
    .await;
    world.sql(&payments(101, 107)).await;
    let none = "SELECT NOT EXISTS (SELECT FROM lockstep.pending)";
    eventually("no change is pending", || async { world.value::<bool>(none).await }).await;
    world.assert_converged().await;
    stays.signal("-TERM").await;
    let report = stays.ended_well().await;
    assert_eq!(report["relayed"]["delivered"].as_u64(), Some(7), "{report}");
    assert_eq!(report["relayed"]["dead_letters"].as_u64(), Some(0));
}
