//! Alerts that are sent: again until they are taken, once, and with their end.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use lockstep_core::Phase;
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, Rule};
use lockstep_tests::world::{eventually, within};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::served::Served;

/// Message that came in.
struct Message {
    headers: HeaderMap,
    body: Value,
}

/// A receiver that may refuse the first message it is sent; says where it is, and what comes.
async fn receiver(refuses_first: bool) -> (String, mpsc::UnboundedReceiver<Message>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}/hook", listener.local_addr().expect("an address"));
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut is_first = refuses_first;
        while let Ok((stream, _)) = listener.accept().await {
            let (sender, refuses) = (sender.clone(), std::mem::replace(&mut is_first, false));
            let service = service_fn(move |request: Request<Incoming>| {
                let sender = sender.clone();
                async move {
                    let (head, body) = request.into_parts();
                    let bytes = body.collect().await.expect("a body").to_bytes();
                    let body = serde_json::from_slice(&bytes).expect("JSON");
                    let _ = sender.send(Message { headers: head.headers, body });
                    let status = if refuses { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
                    let mut answer = Response::new(Full::new(Bytes::new()));
                    *answer.status_mut() = status;
                    // So that the next one comes by a connection of its own.
                    answer.headers_mut().insert("connection", "close".parse().expect("a header"));
                    Ok::<_, Infallible>(answer)
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (address, receiver)
}

#[tokio::test]
async fn an_alert_is_sent_until_it_is_taken_once_and_its_end_as_well() {
    let world = World::behind_proxy().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let (address, mut messages) = receiver(true).await;
    let variables = [
        ("LOCKSTEP_SERVE__WEBHOOK_URL", address.as_str()),
        ("LOCKSTEP_WEBHOOK_SECRET", "a-secret-of-the-tests"),
    ];
    let served = Served::with(&world, &variables).await;
    served.until("it leads", |status| status["daemon"]["role"] == "leader").await;
    world.proxy().script(Rule::new(Fault::Unavailable).always());
    let mut next = async || {
        let message = within(Duration::from_mins(3), messages.recv()).await.expect("a message");
        assert!(message.headers["lockstep-signature"].to_str().expect("text").starts_with("t="));
        message
    };
    let (refused, taken) = (next().await, next().await);
    assert_eq!(
        (&refused.body["alert"], &refused.body["event"]),
        (&"dynamodb_down".into(), &"raised".into()),
        "{}",
        refused.body
    );
    assert_eq!(
        (&refused.body, &refused.headers["lockstep-event-id"]),
        (&taken.body, &taken.headers["lockstep-event-id"])
    );
    world.proxy().clear();
    let over = loop {
        let message = next().await;
        if message.body["alert"] == "dynamodb_down" {
            break message;
        }
    };
    assert_eq!(
        (&over.body["event"], &over.body["alert_id"]),
        (&"resolved".into(), &taken.body["alert_id"]),
        "{}",
        over.body
    );
}

/// 1. PostgreSQL stops. 2. Every daemon stands by, as no lock can be held. 3. No person was told.
#[tokio::test]
async fn that_postgresql_is_away_is_told_by_every_daemon_as_one_incident() {
    let world = World::behind_both_proxies().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let (address, mut messages) = receiver(false).await;
    let url = world.source_options().url;
    let variables = [
        ("LOCKSTEP_SERVE__WEBHOOK_URL", address.as_str()),
        ("LOCKSTEP_WEBHOOK_SECRET", "a-secret-of-the-tests"),
        ("LOCKSTEP_SOURCE__URL", &url),
        ("LOCKSTEP_SOURCE__CONNECT_TIMEOUT_MS", "1000"),
    ];
    let first = Served::with(&world, &variables).await;
    first.until("it leads", |status| status["daemon"]["role"] == "leader").await;
    let second = Served::with(&world, &variables).await;
    second.until("it has read", |status| status["installed"] == true).await;
    let mut of = async |event: &str, times: usize| {
        let mut ids = Vec::new();
        while ids.len() < times {
            let message = within(Duration::from_mins(3), messages.recv()).await.expect("a message").body;
            if message["alert"] == "postgresql_down" && message["event"] == event {
                ids.push(message["alert_id"].to_string());
            }
        }
        ids
    };
    world.source_proxy().down().await;
    let raised = of("raised", 2).await;
    world.source_proxy().up().await;
    let resolved = of("resolved", 2).await;
    assert!(raised.iter().chain(&resolved).all(|id| *id == raised[0]), "{raised:?} {resolved:?}");
}

/// 1. A daemon tells of an alert, and is killed. 2. The alert is over when the next one is started. 3. Its
/// incident would stay open.
#[tokio::test]
async fn what_a_daemon_that_was_killed_has_told_of_is_ended_by_the_next() {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let (address, mut messages) = receiver(false).await;
    let variables = [
        ("LOCKSTEP_SERVE__WEBHOOK_URL", address.as_str()),
        ("LOCKSTEP_WEBHOOK_SECRET", "a-secret-of-the-tests"),
    ];
    let cap = async |usd: f64| {
        world.source.set("spend_cap_usd", &Value::from(usd), "ann", None, None).await.expect("set");
    };
    let mut served = Served::with(&world, &variables).await;
    served.until("it leads", |status| status["daemon"]["role"] == "leader").await;
    world.source.count_up(&[("payments", "spent.write_units", 2_000_000)]).await.expect("counted");
    cap(1.0).await;
    let mut next = async |event: &str| loop {
        let message = within(Duration::from_mins(3), messages.recv()).await.expect("a message").body;
        if message["alert"] == "spend_cap" && message["event"] == event {
            return message["alert_id"].clone();
        }
    };
    let raised = next("raised").await;
    let noted = "SELECT count(*) FROM lockstep.journal
         WHERE step = 'alerts told' AND detail::text LIKE '%spend_cap%'";
    eventually("it is noted", || async { world.value::<i64>(noted).await > 0 }).await;
    served.child.kill().await.expect("SIGKILL");
    cap(100.0).await;
    let after = Served::with(&world, &variables).await;
    after.until("it leads", |status| status["daemon"]["role"] == "leader").await;
    assert_eq!(next("resolved").await, raised);
}
