//! Three workers, each in a network of its own: one is killed, one is stopped, one loses its link. Where this
//! machine makes no network namespaces, it says so and does nothing; where they are required, that is a
//! failure.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;

use lockstep_tests::World;
use lockstep_tests::faults::{Fault, Rule};
use lockstep_tests::world::rows::logs;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use super::crew::{Worker, assert_moved, at_work, leases_are_over};
use crate::process::command;

const ROWS: i64 = 6_000;

/// Set by `.ci/run namespaces`. 1. The workflow's tests run as a user who may make no network. 2. The test
/// is left out, and its line is lost among hundreds. 3. The workflow is green, and nothing of
/// this was ever played there. So one step of it runs this test as root, and must not be left out.
const REQUIRED: &str = "NAMESPACES_REQUIRED";

/// One network namespace, with a link to this one.
struct Network {
    name: String,
    link: String,
    /// This side of the link.
    host: Ipv4Addr,
}

async fn ip(arguments: &str) -> Result<(), String> {
    let output =
        Command::new("ip").args(arguments.split_whitespace()).output().await.map_err(|e| e.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("ip {arguments}: {said}")) }
}

impl Network {
    /// Makes it, or says why this machine does not.
    async fn make(number: u8) -> Result<Self, String> {
        let process = std::process::id();
        // Names of links have 15 characters at most.
        let (name, link) =
            (format!("lockstep-{process}-{number}"), format!("ls{number}{}", process % 1_000_000));
        // Not of a range that a machine of tests is likely to have.
        let byte = (process % 250) as u8;
        let (host, guest) =
            (Ipv4Addr::new(10, 213, byte, number * 4 + 1), Ipv4Addr::new(10, 213, byte, number * 4 + 2));
        ip(&format!("netns add {name}")).await?;
        let network = Self { name, link, host };
        let Self { name, link, .. } = &network;
        ip(&format!("link add {link} type veth peer name {link}p netns {name}")).await?;
        ip(&format!("addr add {host}/30 dev {link}")).await?;
        ip(&format!("link set {link} up")).await?;
        ip(&format!("-n {name} addr add {guest}/30 dev {link}p")).await?;
        ip(&format!("-n {name} link set {link}p up")).await?;
        ip(&format!("-n {name} link set lo up")).await?;
        Ok(network)
    }

    /// Forwards a port of this side of the link.
    async fn forward(&self, to: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind((self.host, 0)).await.expect("our own address");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(to).await {
                        // The one that ends first ends the other; either is how a connection ends.
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        address
    }

    /// A worker in it.
    async fn worker(&self, world: &World, name: &'static str) -> Worker {
        let server = SocketAddr::from(([127, 0, 0, 1], world.connect_options().get_port()));
        let source = self.forward(server).await;
        let endpoint = world.target.address().trim_start_matches("http://").parse().expect("an address");
        let target = self.forward(endpoint).await;
        let plain = command(world, &["worker", "--json", "--quiet"]);
        let plain = plain.as_std();
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &self.name]).arg(plain.get_program()).args(plain.get_args());
        for (key, value) in plain.get_envs() {
            inside.env(key, value.expect("it sets, and takes nothing away"));
        }
        // These addresses are no loopback: where the environment names a proxy for the rest of the world, it
        // would be asked for them.
        for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            inside.env_remove(proxy).env_remove(proxy.to_lowercase());
        }
        inside
            .env("LOCKSTEP_SOURCE__URL", world.url().replace(&format!("@{server}/"), &format!("@{source}/")))
            .env("LOCKSTEP_TARGET__ENDPOINT_URL", format!("http://{target}"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        Worker::start(inside, name)
    }

    async fn link(&self, state: &str) {
        ip(&format!("link set {} {state}", self.link)).await.expect("the link obeys");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // With the namespace goes its end of the link, and with that the other one.
        let _ = std::process::Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

#[tokio::test]
async fn in_networks_of_their_own_one_killed_one_stopped_and_one_cut_off_end_consistent() {
    let mut networks = Vec::new();
    for number in 0..3 {
        match Network::make(number).await {
            Ok(network) => networks.push(network),
            Err(why) => {
                assert!(std::env::var_os(REQUIRED).is_none(), "no network could be made: {why}");
                eprintln!("SKIPPED: workers in network namespaces are not tested on this machine: {why}");
                return;
            }
        }
    }
    let world = World::behind_proxy().await;
    world.sql(&logs(1, ROWS)).await;
    // On a busy machine the first must not be through before the last has begun.
    world.proxy().script(Rule::new(Fault::WriteUnits(300)).on("BatchExecuteStatement"));
    let killed = networks[0].worker(&world, "killed").await;
    let stopped = networks[1].worker(&world, "stopped").await;
    let cut = networks[2].worker(&world, "cut off").await;
    at_work(&world, &["killed", "stopped", "cut off"]).await;
    world.proxy().clear();
    world.proxy().script(Rule::new(Fault::WriteUnits(1_200)).on("BatchExecuteStatement"));
    killed.kill().await;
    stopped.signal("-STOP").await;
    // No connection is closed by it: nothing arrives any more, either way.
    networks[2].link("down").await;
    leases_are_over(&world).await;
    let other = Worker::start(command(&world, &["worker", "--json", "--quiet"]), "other");
    at_work(&world, &["other"]).await;
    stopped.signal("-CONT").await;
    networks[2].link("up").await;
    let (stopped, cut, other) =
        (stopped.ended_well().await, cut.ended_well().await, other.ended_well().await);
    assert!(stopped["leases_ended"].as_u64() >= Some(1), "it was past its lease: {stopped}");
    println!("stopped: {stopped}\ncut off: {cut}\nother: {other}");
    world.proxy().clear();
    assert_moved(&world, ROWS, 3).await;
}
