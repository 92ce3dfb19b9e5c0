//! Requests of strangers, of mistaken programs, and of pages of other sites.

use std::time::Duration;

use hyper::{Method, StatusCode};
use lockstep_tests::World;
use lockstep_tests::world::{eventually, within};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::served::{OPERATE, READ, Served};

/// Paths that are routes, that could be, and that are none.
const PATHS: [&str; 17] = [
    "/v1/status",
    "/v1/health",
    "/v1/tables",
    "/v1/tables/payments",
    "/v1/events",
    "/v1/advance",
    "/v1/rollback",
    "/v1/settings",
    "/v1/plan",
    "/v1/openapi.json",
    "/v1/operations/op-1",
    "/v1",
    "/v1/",
    "/v1/no/such/route",
    "/v1/%ff",
    "/api/migration/enable-dual-write",
    "/dual-write/status",
];

#[tokio::test]
async fn without_a_token_of_ours_nothing_under_v1_is_answered_but_401() {
    let world = World::start().await;
    let served = Served::of(&world).await;
    let almost = format!("Bearer {OPERATE}x");
    for path in PATHS {
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS]
        {
            for headers in [&[][..], &[("authorization", almost.as_str())], &[("cookie", OPERATE)]] {
                let answer = served.ask(method.clone(), path, headers, "{nonsense").await;
                assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}: {}", answer.text);
                assert_eq!(answer.code(), "unauthorized");
                assert_eq!(answer.headers["www-authenticate"], "Bearer");
            }
        }
    }
    let bearer = format!("Bearer {READ}");
    for path in ["/v1/advance", "/v1/pause", "/v1/repair", "/api/migration/enable-dual-write"] {
        let answer = served.ask(Method::POST, path, &[("authorization", &bearer)], "").await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::FORBIDDEN, "forbidden"), "{path}");
    }
}

#[tokio::test]
async fn a_request_that_is_wrong_is_refused_by_name_and_never_with_5xx() {
    let world = World::start().await;
    world.prepared().await.close().await;
    let served = Served::of(&world).await;
    served
        .until("it has read the migration", |status| {
            status["installed"] == true && status["daemon"]["role"] == "leader"
        })
        .await;
    let bearer = format!("Bearer {OPERATE}");
    let json_body = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let plain = [("authorization", bearer.as_str()), ("content-type", "text/plain")];
    let large = format!("{{\"reason\":\"{}\"}}", "x".repeat(200_000));
    let key = [json_body[0], json_body[1], ("idempotency-key", "with a space")];
    for (method, path, headers, body, status) in [
        (Method::GET, "/v1/nothing", &json_body[..], "", 404),
        (Method::GET, "/v1/tables/none", &json_body, "", 404),
        (Method::GET, "/v1/operations/none", &json_body, "", 404),
        (Method::POST, "/v1/status", &json_body, "{}", 405),
        (Method::GET, "/v1/advance", &json_body, "", 405),
        (Method::POST, "/v1/advance", &json_body, "{", 400),
        (Method::POST, "/v1/advance", &key, "{}", 400),
        (Method::POST, "/v1/advance", &plain, "{}", 415),
        (Method::POST, "/v1/advance", &json_body, &large, 413),
        (Method::POST, "/v1/advance", &json_body, "[]", 422),
        (Method::POST, "/v1/advance", &json_body, "{\"to\":\"Nowhere\"}", 422),
        (Method::POST, "/v1/advance", &json_body, "{\"unknown\":1}", 422),
        (Method::POST, "/v1/advance", &json_body, "{\"reason\":\"\\u0000\"}", 422),
        (Method::POST, "/v1/advance", &json_body, "{\"wait_s\":1e9}", 422),
        (Method::POST, "/v1/validate", &json_body, "{\"mode\":\"full\",\"sample\":3}", 422),
        (Method::POST, "/v1/repair", &json_body, "{\"max\":0}", 422),
        (Method::POST, "/v1/pause", &json_body, "{\"parts\":[\"everything\"]}", 422),
        (Method::POST, "/v1/pause", &json_body, "{\"for_s\":99999999999999}", 422),
        (Method::POST, "/v1/settings", &json_body, "{\"set\":{\"no\":1}}", 422),
        (Method::POST, "/v1/rollback", &json_body, "{}", 409),
        (Method::GET, "/v1/journal?limit=0", &json_body, "", 422),
        (Method::GET, "/v1/journal?limit=x", &json_body, "", 400),
        (Method::GET, "/v1/gates?to=Nowhere", &json_body, "", 422),
        (Method::GET, "/v1/gates?to=DynamoOnly", &json_body, "", 409),
        (Method::GET, "/v1/dead-letters?table=%00", &json_body, "", 404),
        (Method::GET, "/v1/tables/%ff", &json_body, "", 400),
    ] {
        let answer = served.ask(method.clone(), path, headers, body).await;
        assert_eq!(
            answer.status.as_u16(),
            status,
            "{method} {path} {}: {}",
            &body[..body.len().min(60)],
            answer.text
        );
        assert!(!answer.code().is_empty());
    }
    assert_eq!(served.status().await["phase"], "PostgresOnly", "nothing of it acted");
}

#[tokio::test]
async fn a_name_that_is_not_ours_is_answered_nothing() {
    let world = World::start().await;
    let served = Served::of(&world).await;
    let bearer = format!("Bearer {OPERATE}");
    for path in ["/", "/healthz", "/metrics", "/v1/status"] {
        for host in ["evil.example", "evil.example:7420", "127.0.0.1.evil.example"] {
            let answer =
                served.ask(Method::GET, path, &[("host", host), ("authorization", &bearer)], "").await;
            assert_eq!(
                (answer.status.as_u16(), answer.code().as_str()),
                (421, "wrong_host"),
                "{path} {host}"
            );
        }
        let answer =
            served.ask(Method::GET, path, &[("host", "localhost:1"), ("authorization", &bearer)], "").await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_say_what_it_wants_is_hung_up_on() {
    let world = World::start().await;
    let served = Served::of(&world).await;
    let address = served.address.trim_start_matches("http://");
    let mut slow = TcpStream::connect(address).await.expect("a connection");
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHost: 127").await.expect("half a head");
    let mut answer = Vec::new();
    // It may be told 408 first; what counts is that the connection ends.
    let _ = within(Duration::from_secs(30), slow.read_to_end(&mut answer)).await;
    assert!(!String::from_utf8_lossy(&answer).contains("200 OK"));
    assert_eq!(served.open("/healthz").await.status, StatusCode::OK);
}

/// 1. More clients than there are places send request after request, and read nothing. 2. A probe of
/// `/healthz` got no place, and its daemon, which is well, was restarted.
#[tokio::test]
async fn clients_that_never_read_shut_out_no_probe_and_are_hung_up_on() {
    const CLIENTS: usize = 1_025;
    let world = World::start().await;
    let served = Served::of(&world).await;
    let address: std::net::SocketAddr =
        served.address.trim_start_matches("http://").parse().expect("an address");
    let connect = async || {
        let socket = TcpSocket::new_v4().expect("a socket");
        // So that answers wait at the daemon, and not in the system of the client.
        socket.set_recv_buffer_size(2_048).expect("a buffer");
        socket.connect(address).await
    };
    // Answers of 7 MB, of which no system keeps as much for a client.
    let pipelined = b"GET /style.css HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(400);
    // One that finds no place may be hung up on at once.
    let open = async || {
        let client = connect().await.ok()?;
        if client.writable().await.is_ok() {
            let _ = client.try_write(&pipelined);
        }
        Some(client)
    };
    let mut silent = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        silent.extend(open().await);
    }
    let asks = async |path: &str| {
        let Ok(mut client) = TcpStream::connect(address).await else { return false };
        let ask = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let _ = client.write_all(ask.as_bytes()).await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(5), client.read_to_end(&mut answer)).await;
        matches!(read, Ok(Ok(_))) && answer.starts_with(b"HTTP/1.1 200")
    };
    // Until each of them has said what it wants, the oldest makes way for another. On a busy machine the
    // first are hung up on before the last have spoken: others take their places.
    let silent = tokio::sync::Mutex::new(silent);
    eventually("the places of this address are taken", || async {
        for _ in 0..8 {
            silent.lock().await.extend(open().await);
        }
        !asks("/").await
    })
    .await;
    let probed = eventually("a probe is answered", || async { asks("/healthz").await });
    within(Duration::from_secs(45), probed).await;
    // They are hung up on, with no client having gone away.
    eventually("there are places for others again", || async { asks("/").await }).await;
    drop(silent);
}

/// 1. Two addresses hold every place, those of probes too, with connections that say nothing, or half of
/// what they want, and open more all the time. 2. The probe of a third one was hung up on, and the daemon,
/// which is well, was restarted.
#[tokio::test]
async fn two_addresses_that_hold_everything_shut_out_no_third_one() {
    const OF_EACH: usize = 700;
    let world = World::start().await;
    let served = Served::of(&world).await;
    let address: std::net::SocketAddr =
        served.address.trim_start_matches("http://").parse().expect("an address");
    let connect = async |from: [u8; 4]| {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((std::net::Ipv4Addr::from(from), 0).into()).expect("an address of this machine");
        socket.connect(address).await
    };
    let silent = async |n: usize| {
        let client = connect([127, 0, 0, 2 + (n % 2) as u8]).await.ok()?;
        if n % 4 < 2 && client.writable().await.is_ok() {
            let _ = client.try_write(b"GET /healthz HTTP/1.1\r\nHost: local");
        }
        Some(client)
    };
    let mut held = Vec::with_capacity(2 * OF_EACH);
    for n in 0..2 * OF_EACH {
        held.extend(silent(n).await);
    }
    let asks = async |path: &str| {
        let Ok(mut client) = connect([127, 0, 0, 4]).await else { return "no connection".to_owned() };
        let ask = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let _ = client.write_all(ask.as_bytes()).await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(5), client.read_to_end(&mut answer)).await;
        format!("{read:?}: {}", String::from_utf8_lossy(&answer).lines().next().unwrap_or_default())
    };
    for round in 0..20 {
        for n in 0..16 {
            held.extend(silent(n).await);
        }
        for path in ["/healthz", "/metrics", "/"] {
            let answer = asks(path).await;
            assert!(answer.ends_with("HTTP/1.1 200 OK"), "{path}, round {round}: {answer}");
        }
    }
    drop(held);
}

#[tokio::test]
async fn without_a_token_or_beyond_this_machine_it_does_not_start() {
    let world = World::start().await;
    let mut none = crate::process::command(&world, &["serve", "--listen", "127.0.0.1:0"]);
    none.env_remove("LOCKSTEP_OPERATE_TOKEN");
    let mut short = crate::process::command(&world, &["serve", "--listen", "127.0.0.1:0"]);
    short.env("LOCKSTEP_OPERATE_TOKEN", "short");
    let mut beyond = crate::process::command(&world, &["serve", "--listen", "0.0.0.0:0"]);
    beyond.env("LOCKSTEP_OPERATE_TOKEN", OPERATE);
    for (command, says) in [
        (none, "LOCKSTEP_OPERATE_TOKEN"),
        (short, "at least 16"),
        (beyond, "--i-know-that-tokens-travel-unencrypted"),
    ] {
        let output = crate::process::ended(command).await;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(says) && !stderr.contains(OPERATE), "{stderr}");
    }
}

#[tokio::test]
async fn the_document_says_what_the_router_serves() {
    let world = World::start().await;
    world.prepared().await.close().await;
    let served = Served::of(&world).await;
    served.until("it has read the migration", |status| status["installed"] == true).await;
    let document = served.get("/v1/openapi.json").await.json();
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.len() > 30, "{}", paths.len());
    let bearer = format!("Bearer {READ}");
    for (path, methods) in paths {
        let filled = path
            .replace("{name}", "payments")
            .replace("{table}", "payments")
            .replace("{id}", "x")
            .replace("{key}", "7");
        for method in methods.as_object().expect("methods").keys() {
            if path == "/v1/events" {
                continue;
            }
            let method: Method = method.to_uppercase().parse().expect("a method");
            // The read token acts nowhere, so this changes nothing.
            let answer = served.ask(method.clone(), &filled, &[("authorization", &bearer)], "").await;
            let known = answer.status != StatusCode::METHOD_NOT_ALLOWED
                && !answer.text.contains("there is no such route");
            assert!(
                known && answer.status.as_u16() < 500,
                "{method} {path}: {} {}",
                answer.status,
                answer.text
            );
        }
    }
    assert_eq!(served.status().await["phase"], json!("PostgresOnly"));
}
