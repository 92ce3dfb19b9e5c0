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
use lockstep_tests::world::within;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::served::Served;

/// Message that came in.
struct Message {
    headers: HeaderMap,
    body: Value,
}

/// A receiver that refuses the first message it is sent; says where it is, and what comes.
async fn receiver() -> (String, mpsc::UnboundedReceiver<Message>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}/hook", listener.local_addr().expect("an address"));
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut is_first = true;
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
    let (address, mut messages) = receiver().await;
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
