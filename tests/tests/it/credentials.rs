//! Ways to DynamoDB that no emulator has: credentials that are fetched, and a proxy that the environment
//! names. By the real command and the SDK's own chain.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{SecondsFormat, TimeDelta, Utc};
use lockstep_core::Phase;
use lockstep_tests::World;
use lockstep_tests::world::rows::log;
use lockstep_tests::world::{LOGS, eventually, within};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::process::{command, ended};

/// Variables in which a process reads this machine's own credentials.
const OF_THE_MACHINE: [&str; 5] =
    ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "HTTPS_PROXY"];

/// The command without this machine's credentials, and without ours for emulators.
fn bare(world: &World, arguments: &[&str]) -> Command {
    let mut command = command(world, arguments);
    for name in OF_THE_MACHINE {
        command.env_remove(name);
    }
    command
        .env("LOCKSTEP_TARGET__EMULATOR_CREDENTIALS", "false")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    command
}

/// The head of a request.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { break };
        head.push(byte);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// The body in which an endpoint gives credentials.
fn given(ends: &str) -> String {
    json!({ "AccessKeyId": "lockstep", "SecretAccessKey": "lockstep", "Token": "t", "Expiration": ends })
        .to_string()
}

/// Answers the one request of a connection.
async fn answer(stream: &mut TcpStream, status: &str, body: &str) {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}");
    let answer = format!("{head}\r\nconnection: close\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).await.expect("answered");
}

/// V5: 1. A task gets its role's credentials from an endpoint. 2. The endpoint fails, more often than the SDK
/// asks by itself. 3. A relay that is to run for weeks goes on when it answers.
#[tokio::test]
async fn a_relay_outlives_an_endpoint_of_credentials_that_fails() {
    const FAILURES: usize = 9;
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    world.sql(&log(1, "u")).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            head(&mut stream).await;
            let (status, body) = match counted.fetch_add(1, Ordering::Relaxed) {
                n if n < FAILURES => ("503 Service Unavailable", "{}".to_owned()),
                _ => ("200 OK", given("2126-01-01T00:00:00Z")),
            };
            answer(&mut stream, status, &body).await;
        }
    });
    let mut relay = bare(&world, &["relay", "--until-empty", "--quiet"]);
    relay.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{address}/role"));
    let output = ended(relay).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(asked.load(Ordering::Relaxed) > FAILURES, "it failed, and was asked again");
    assert_eq!(world.live_items(LOGS).await, 1);
    serving.abort();
}

/// V5, of a run that has begun well. 1. A role's credentials end in an hour. 2. Once they are to be asked for
/// again, STS fails more often than the SDK asks by itself. 3. The relay is to run for weeks.
#[tokio::test]
async fn a_relay_outlives_credentials_that_cannot_be_had_again_for_a_while() {
    const FAILURES: usize = 9;
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    world.sql(&log(1, "u")).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            head(&mut stream).await;
            // The SDK asks again ten seconds before they end: at once, but for the requests of the beginning.
            let ends = match counted.fetch_add(1, Ordering::Relaxed) {
                0 => Some((Utc::now() + TimeDelta::seconds(12)).to_rfc3339_opts(SecondsFormat::Secs, true)),
                n if n <= FAILURES => None,
                _ => Some("2126-01-01T00:00:00Z".to_owned()),
            };
            let status = if ends.is_some() { "200 OK" } else { "500 Internal Server Error" };
            let body = ends.map_or("{}".to_owned(), |ends| given(&ends));
            answer(&mut stream, status, &body).await;
        }
    });
    let mut relay = bare(&world, &["relay", "--quiet"]);
    relay.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{address}/role"));
    let mut child = relay.spawn().expect("the command starts");
    let changes = AtomicUsize::new(0);
    eventually("they were asked for again, refused, and given at last", || async {
        // Something to deliver, so that requests are signed all the time.
        let n = changes.fetch_add(1, Ordering::Relaxed);
        world.sql(&format!("UPDATE integration_logs SET user_id = 'change {n}'")).await;
        asked.load(Ordering::Relaxed) > FAILURES + 1
    })
    .await;
    eventually("the relay goes on", || async { world.pending(LOGS).await.is_empty() }).await;
    assert!(child.try_wait().expect("it can be asked").is_none(), "the same process");
    child.kill().await.expect("SIGKILL");
    assert_eq!(world.disagreements().await, Vec::<String>::new());
    serving.abort();
}

/// V22: the environment names a proxy, and DynamoDB is reached through a tunnel of it and by no other way.
#[tokio::test]
async fn dynamodb_is_reached_through_a_tunnel_of_the_proxy_that_the_environment_names() {
    let world = World::start().await;
    let proxy = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = proxy.local_addr().expect("an address");
    let mut doctor = bare(&world, &["doctor"]);
    doctor
        .env_remove("LOCKSTEP_TARGET__ENDPOINT_URL")
        .env("AWS_ACCESS_KEY_ID", "a")
        .env("AWS_SECRET_ACCESS_KEY", "b")
        .env("HTTPS_PROXY", format!("http://{address}"));
    let mut child = doctor.spawn().expect("the command starts");
    let through = async {
        loop {
            let (mut stream, _) = proxy.accept().await.expect("a client");
            let asked = head(&mut stream).await;
            // The account's id is asked of STS, in whatever order.
            if !asked.starts_with("CONNECT dynamodb.eu-central-1.amazonaws.com:443 ") {
                continue;
            }
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.expect("told");
            let (kind, version) = (stream.read_u8().await, stream.read_u8().await);
            break (kind.expect("a byte"), version.expect("a byte"));
        }
    };
    // A handshake of TLS, by the first two bytes of its record.
    assert_eq!(within(Duration::from_secs(60), through).await, (0x16, 0x03));
    child.kill().await.expect("SIGKILL");
}
