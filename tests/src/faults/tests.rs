//! The proxy against a small upstream that counts what it is asked, in the order it is asked.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::proxy::lock;
use super::*;

/// An emulator that applies nothing, remembers every body, and numbers its answers.
struct Upstream {
    url: String,
    bodies: Arc<Mutex<Vec<Value>>>,
    _tasks: JoinSet<()>,
}

impl Upstream {
    async fn start() -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let seen = Arc::clone(&bodies);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let seen = Arc::clone(&seen);
                let service = service_fn(move |request| Self::answer(Arc::clone(&seen), request));
                connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Upstream { url, bodies, _tasks: tasks }
    }

    async fn answer(
        seen: Arc<Mutex<Vec<Value>>>,
        request: Request<Incoming>,
    ) -> hyper::Result<Response<Full<Bytes>>> {
        let trace = request.headers().get("x-trace").cloned();
        let body = request.into_body().collect().await?.to_bytes();
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        let statements = body["Statements"].as_array().map_or(0, Vec::len);
        let mut seen = lock(&seen);
        seen.push(body);
        let answer = json!({ "Number": seen.len(), "Responses": vec![json!({}); statements] });
        let mut answer = Response::new(Full::new(Bytes::from(answer.to_string())));
        answer
            .headers_mut()
            .extend(trace.map(|trace| (hyper::header::HeaderName::from_static("x-trace"), trace)));
        Ok(answer)
    }

    fn bodies(&self) -> Vec<Value> {
        lock(&self.bodies).clone()
    }
}

struct World {
    upstream: Upstream,
    proxy: FaultProxy,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl World {
    async fn new(rules: impl IntoIterator<Item = Rule>) -> World {
        let upstream = Upstream::start().await;
        let proxy = FaultProxy::start(&upstream.url).await.expect("a port");
        rules.into_iter().for_each(|rule| proxy.script(rule));
        World { upstream, proxy, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// Status and body, or `None` if the connection was cut.
    async fn call(&self, operation: &str, body: &Value) -> Option<(StatusCode, Value)> {
        let request = Request::post(self.proxy.endpoint_url())
            .header("x-amz-target", format!("DynamoDB_20120810.{operation}"))
            .header("x-trace", "yes")
            .body(Full::new(Bytes::from(body.to_string())))
            .expect("a request");
        let answer = self.client.request(request).await.ok()?;
        let (status, sum) = (answer.status(), answer.headers().get("x-amz-crc32").cloned());
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        // The upstream sends none, and what is changed or made here has the right one.
        if let Some(sum) = sum {
            let mut right = flate2::Crc::new();
            right.update(&body);
            assert_eq!(sum, right.sum().to_string());
        }
        Some((status, serde_json::from_slice(&body).expect("JSON")))
    }

    async fn put(&self, n: u64) -> Option<(StatusCode, Value)> {
        self.call("PutItem", &put(n)).await
    }
}

fn put(n: u64) -> Value {
    json!({ "TableName": "logs", "Item": { "PK": { "N": n.to_string() } } })
}

fn ok(number: u64) -> Option<(StatusCode, Value)> {
    Some((StatusCode::OK, json!({ "Number": number, "Responses": [] })))
}

#[tokio::test]
async fn without_rules_everything_goes_through_unchanged() {
    let world = World::new([]).await;
    world.proxy.record(1);
    let request = Request::post(format!("{}/path?query", world.proxy.endpoint_url())).header("x-trace", "42");
    let request = request.body(Full::new(Bytes::from(put(1).to_string()))).expect("a request");
    let answer = world.client.request(request).await.expect("an answer");
    assert_eq!(answer.headers()["x-trace"], "42", "headers go through, there and back");
    assert_eq!(world.put(2).await, ok(2));
    assert_eq!(world.upstream.bodies(), [put(1), put(2)]);
    assert_eq!((world.proxy.seen("PutItem"), world.proxy.counts().seen_in_all()), (1, 2));
    let recorded = world.proxy.recorded();
    assert_eq!(recorded.len(), 1, "no more is kept than was asked for");
    assert_eq!(
        (recorded[0].table.as_deref(), &recorded[0].body[..]),
        (Some("logs"), put(1).to_string().as_bytes())
    );
}

/// A refusal reaches the client as status and code, and the emulator not at all.
#[track_caller]
fn check_refusal(fault: Fault, status: u16, code: &str) {
    let kind = fault.kind();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (answer, world) = runtime.block_on(async {
        let world = World::new([Rule::new(fault).on("ExecuteStatement").times(1)]).await;
        (world.call("ExecuteStatement", &json!({ "Statement": "INSERT INTO \"logs\" VALUE ?" })).await, world)
    });
    let (got, body) = answer.expect("an answer");
    assert_eq!(got.as_u16(), status);
    assert!(body["__type"].as_str().is_some_and(|got| got.ends_with(&format!("#{code}"))), "{body}");
    assert_eq!(world.upstream.bodies().len(), 0);
    assert_eq!(world.proxy.counts().injected_on(kind, "ExecuteStatement"), 1);
}

#[test]
fn refusals_carry_the_code_the_sdk_knows() {
    check_refusal(Fault::Throttle, 400, "ProvisionedThroughputExceededException");
    check_refusal(Fault::WriteUnits(0), 400, "ProvisionedThroughputExceededException");
    check_refusal(Fault::ServerError, 500, "InternalServerError");
    check_refusal(Fault::NoPartiQl, 400, "UnknownOperationException");
    check_refusal(Fault::ExpiredToken, 400, "ExpiredTokenException");
    check_refusal(Fault::AccessDenied, 400, "AccessDeniedException");
}

#[tokio::test]
async fn unavailable_cuts_the_connection_and_applies_nothing() {
    let world = World::new([Rule::new(Fault::Unavailable).times(1)]).await;
    assert_eq!(world.put(1).await, None);
    assert_eq!(world.put(2).await, ok(1));
    assert_eq!(world.upstream.bodies(), [put(2)]);
    assert_eq!(world.proxy.counts().injected(FaultKind::Unavailable), 1);
}

#[tokio::test]
async fn a_lost_reply_was_applied() {
    let world = World::new([Rule::new(Fault::LoseReply).after(1).times(1)]).await;
    assert_eq!(world.put(1).await, ok(1));
    assert_eq!(world.put(2).await, None);
    world.proxy.until_injected(FaultKind::LoseReply, 1).await;
    assert_eq!(world.upstream.bodies(), [put(1), put(2)]);
}

#[tokio::test]
async fn a_duplicate_is_applied_twice_and_answered_once() {
    let world = World::new([Rule::new(Fault::Duplicate).times(1)]).await;
    assert_eq!(world.put(1).await, ok(1), "the first answer");
    assert_eq!(world.put(2).await, ok(3));
    assert_eq!(world.upstream.bodies(), [put(1), put(1), put(2)]);
    assert_eq!(world.proxy.counts().forwarded, 3);
}

#[tokio::test]
async fn a_delayed_request_is_answered_when_the_gate_lets_it() {
    let gate = Gate::new();
    let world = World::new([Rule::new(Fault::Delay(gate.clone())).times(1)]).await;
    let overtake = async {
        gate.until_held(1).await;
        assert_eq!(world.put(2).await, ok(1));
        gate.release(1);
    };
    assert_eq!(tokio::join!(world.put(1), overtake).0, ok(2));
    assert_eq!(world.upstream.bodies(), [put(2), put(1)]);
}

#[tokio::test]
async fn a_delayed_request_is_applied_although_its_sender_gave_up() {
    let gate = Gate::new();
    let world = World::new([Rule::new(Fault::Delay(gate.clone())).times(1)]).await;
    tokio::select! {
        answer = world.put(1) => panic!("answered while held: {answer:?}"),
        () = gate.until_held(1) => {}
    }
    assert_eq!(world.put(2).await, ok(1));
    gate.open();
    gate.until_done(1).await;
    assert_eq!(world.upstream.bodies(), [put(2), put(1)]);
}

#[tokio::test]
async fn a_late_request_overwrites_what_came_after_it() {
    let gate = Gate::new();
    let world = World::new([Rule::new(Fault::AnswerThenApplyLate(gate.clone())).times(1)]).await;
    assert_eq!(world.put(1).await, None, "cut at once");
    assert_eq!(world.put(1).await, ok(1), "the retry");
    assert_eq!(world.put(2).await, ok(2), "something newer");
    gate.release(1);
    gate.until_done(1).await;
    assert_eq!(world.upstream.bodies(), [put(1), put(2), put(1)]);
}

#[tokio::test]
async fn statements_withheld_never_reach_the_emulator() {
    let world = World::new([Rule::new(Fault::ThrottleStatements(10)).table("logs").times(1)]).await;
    let statement = |n: u64| json!({ "Statement": "INSERT INTO \"logs\" VALUE ?", "Parameters": [{ "N": n.to_string() }] });
    let batch = json!({ "Statements": (0..25).map(statement).collect::<Vec<_>>() });
    let (status, answer) = world.call("BatchExecuteStatement", &batch).await.expect("an answer");
    assert_eq!(status, StatusCode::OK);
    let responses = answer["Responses"].as_array().expect("a list");
    let throttled = |response: &&Value| response["Error"]["Code"] == "ProvisionedThroughputExceeded";
    assert_eq!((responses.len(), responses.iter().filter(throttled).count()), (25, 10));
    assert_eq!(world.upstream.bodies()[0]["Statements"].as_array().map(Vec::len), Some(15));
    assert_eq!(world.proxy.counts().injected_on(FaultKind::ThrottleStatements, "BatchExecuteStatement"), 1);
}

#[tokio::test]
async fn a_batch_is_refused_whole_when_all_of_it_is_unprocessed() {
    let world = World::new([Rule::new(Fault::Unprocessed(2))]).await;
    let batch = |requests: &[u8]| json!({ "RequestItems": { "logs": requests } });
    let (status, answer) = world.call("BatchWriteItem", &batch(&[1, 2, 3])).await.expect("an answer");
    assert_eq!((status, &answer["UnprocessedItems"]), (StatusCode::OK, &json!({ "logs": [2, 3] })));
    let (status, _) = world.call("BatchWriteItem", &batch(&[2, 3])).await.expect("an answer");
    assert_eq!(status, StatusCode::BAD_REQUEST);
    world.proxy.clear();
    assert_eq!(world.call("BatchWriteItem", &batch(&[2, 3])).await, ok(2));
    assert_eq!(world.upstream.bodies(), [batch(&[1]), batch(&[2, 3])]);
}

#[tokio::test]
async fn an_emulator_that_is_gone_is_counted_apart_from_faults() {
    let World { upstream, proxy, client } = World::new([Rule::new(Fault::LoseReply)]).await;
    drop(upstream);
    let request = Request::post(proxy.endpoint_url()).body(Full::default()).expect("a request");
    assert!(client.request(request).await.is_err());
    let counts = proxy.counts();
    assert_eq!((counts.upstream_failures, counts.injected(FaultKind::LoseReply)), (1, 0));
}

#[tokio::test]
async fn a_stopped_proxy_answers_no_caller_and_applies_nothing_late() {
    let gate = Gate::new();
    let World { upstream, proxy, client } =
        World::new([Rule::new(Fault::AnswerThenApplyLate(gate.clone()))]).await;
    let url = proxy.endpoint_url();
    let request = || Request::post(&url).body(Full::default()).expect("a request");
    assert!(client.request(request()).await.is_err());
    gate.until_held(1).await;
    proxy.stop().await;
    gate.open();
    assert!(client.request(request()).await.is_err());
    assert_eq!(upstream.bodies().len(), 0);
}

#[tokio::test]
async fn only_plain_http_can_be_proxied() {
    for url in ["https://127.0.0.1:8000", "127.0.0.1", ""] {
        assert!(FaultProxy::start(url).await.is_err(), "{url}");
    }
}
