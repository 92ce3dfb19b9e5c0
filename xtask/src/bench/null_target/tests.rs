//! The null target over a real socket.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::bench::replay::replay;

struct World {
    address: SocketAddr,
    counters: Arc<NullCounters>,
    captured: Arc<Captured>,
    shutdown: oneshot::Sender<()>,
    server: JoinHandle<NullTotals>,
}

impl World {
    async fn new(target: NullTarget) -> World {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (shutdown, stopped) = oneshot::channel::<()>();
        let (counters, captured) = (target.counters(), target.captured());
        let server = tokio::spawn(target.serve(listener, stopped));
        World { address, counters, captured, shutdown, server }
    }

    async fn stop(self) -> NullTotals {
        drop(self.shutdown);
        self.server.await.expect("no panic")
    }
}

fn request(operation: &str, body: &Value) -> Bytes {
    let body = body.to_string();
    let length = body.len();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: x\r\nX-Amz-Target: DynamoDB_20120810.{operation}\r\nContent-Length: {length}"
    );
    format!("{head}\r\n\r\n{body}").into()
}

/// Values that look like what is counted, as often as one can put them into an item.
fn decoys() -> Value {
    json!({
        "Statement": { "S": r#"{"Statement":"x"},{"PutRequest":{"Item":{"# },
        "PutRequest": { "M": { "Item": { "S": "" }, "Statement": { "S": "x" } } },
        "DeleteRequest": { "M": { "Key": { "M": { "Statement": { "N": "1" } } } } },
    })
}

fn statements(count: usize) -> Value {
    let statement = json!({ "Statement": "INSERT INTO \"logs\" VALUE ?", "Parameters": [{ "M": decoys() }] });
    json!({ "Statements": vec![statement; count] })
}

fn body_bytes(request: &Bytes) -> u64 {
    let head = memchr::memmem::find(request, b"\r\n\r\n").expect("a head") + 4;
    (request.len() - head) as u64
}

/// Reads byte by byte, so that nothing of the next answer is read with this one.
async fn answer(stream: &mut TcpStream) -> Value {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("reads"));
    }
    let length =
        http::header(&head, "content-length").and_then(|value| str::from_utf8(value).ok()).expect("a length");
    let mut body = vec![0; length.parse().expect("a number")];
    stream.read_exact(&mut body).await.expect("reads");
    serde_json::from_slice(&body).expect("JSON")
}

async fn ask(stream: &mut TcpStream, operation: &str, body: &Value) -> Value {
    stream.write_all(&request(operation, body)).await.expect("writes");
    answer(stream).await
}

#[tokio::test]
async fn operations_are_answered_and_counted_on_one_connection() {
    let world = World::new(NullTarget::new()).await;
    let mut stream = TcpStream::connect(world.address).await.expect("connects");
    assert_eq!(ask(&mut stream, "PutItem", &json!({ "Item": decoys() })).await, json!({}));
    let table = &ask(&mut stream, "DescribeTable", &json!({ "TableName": "logs" })).await["Table"];
    assert_eq!((table["TableName"].as_str(), table["TableStatus"].as_str()), (Some("logs"), Some("ACTIVE")));
    let requests = json!([{ "PutRequest": { "Item": decoys() } }, { "DeleteRequest": { "Key": decoys() } }]);
    let requests = json!({ "RequestItems": { "logs": requests } });
    assert_eq!(ask(&mut stream, "BatchWriteItem", &requests).await, json!({ "UnprocessedItems": {} }));
    let responses = &ask(&mut stream, "BatchExecuteStatement", &statements(25)).await["Responses"];
    assert_eq!(*responses, json!(vec![json!({}); 25]));
    let unknown = ask(&mut stream, "CreateBackup", &json!({})).await;
    assert!(unknown["__type"].as_str().is_some_and(|code| code.ends_with("#UnknownOperationException")));
    let totals = world.counters.totals();
    assert_eq!((totals.requests, totals.items), (5, 1 + 2 + 25));
    assert_eq!(world.stop().await, totals);
}

#[tokio::test]
async fn items_are_counted_right_wherever_the_reads_cut_the_request() {
    let world = World::new(NullTarget::new()).await;
    let mut stream = TcpStream::connect(world.address).await.expect("connects");
    stream.set_nodelay(true).expect("set");
    // Two requests back to back in odd segments: needles are cut at the ends of some, and so is the second
    // head.
    let two =
        [request("BatchExecuteStatement", &statements(3)), request("BatchExecuteStatement", &statements(2))]
            .concat();
    for segment in [1, 7, 13, 24, 25, 26, 100, two.len()] {
        for part in two.chunks(segment) {
            stream.write_all(part).await.expect("writes");
            tokio::task::yield_now().await;
        }
        assert_eq!(answer(&mut stream).await["Responses"], json!([{}, {}, {}]), "{segment} bytes at once");
        assert_eq!(answer(&mut stream).await["Responses"], json!([{}, {}]), "{segment} bytes at once");
    }
    assert_eq!(world.stop().await.items, 8 * 5);
}

#[tokio::test]
async fn a_body_larger_than_the_buffer_goes_by() {
    let world = World::new(NullTarget::new().capture(1)).await;
    let mut stream = TcpStream::connect(world.address).await.expect("connects");
    let statement =
        json!({ "Statement": "INSERT INTO \"logs\" VALUE ?", "Parameters": [{ "S": "x".repeat(100_000) }] });
    let large = json!({ "Statements": vec![statement; 20] });
    assert_eq!(
        ask(&mut stream, "BatchExecuteStatement", &large).await["Responses"],
        json!(vec![json!({}); 20])
    );
    let captured = Arc::clone(&world.captured);
    world.stop().await;
    assert_eq!(captured.take(), [request("BatchExecuteStatement", &large)]);
}

#[tokio::test]
async fn a_table_is_described_as_the_bench_wants_it() {
    let world =
        World::new(NullTarget::new().describe_with(|table| json!({ "Mine": table }).to_string())).await;
    let mut stream = TcpStream::connect(world.address).await.expect("connects");
    let body = json!({ "TableName": "logs" });
    assert_eq!(ask(&mut stream, "DescribeTable", &body).await, json!({ "Table": { "Mine": "logs" } }));
    assert_eq!(
        ask(&mut stream, "CreateTable", &body).await,
        json!({ "TableDescription": { "Mine": "logs" } })
    );
}

#[tokio::test]
async fn what_was_captured_can_be_replayed() {
    let world = World::new(NullTarget::new().capture(1)).await;
    let mut stream = TcpStream::connect(world.address).await.expect("connects");
    let sent =
        [request("BatchExecuteStatement", &statements(25)), request("PutItem", &json!({ "Item": {} }))];
    ask(&mut stream, "DescribeTable", &json!({ "TableName": "logs" })).await;
    for request in [&sent[0], &sent[0], &sent[1], &sent[1]] {
        stream.write_all(request).await.expect("writes");
        answer(&mut stream).await;
    }
    let captured = world.captured.take();
    assert_eq!(captured, sent, "writes only, and of single ones and batches no more than asked for");

    let before = world.counters.totals();
    let report = replay(world.address, &captured, 3, 100).await.expect("replays");
    assert_eq!((report.requests, report.refused), (100, 0));
    assert_eq!(report.request_bytes, 50 * (sent[0].len() + sent[1].len()) as u64);
    assert!(report.requests_per_s() > 0.0 && report.bytes_per_s() > report.requests_per_s());
    let totals = world.stop().await;
    assert_eq!((totals.requests - before.requests, totals.items - before.items), (100, 50 * 25 + 50));
    assert_eq!(totals.body_bytes - before.body_bytes, 50 * (body_bytes(&sent[0]) + body_bytes(&sent[1])));
}

#[tokio::test]
async fn a_refused_replay_is_not_a_limit() {
    let world = World::new(NullTarget::new()).await;
    let report = replay(world.address, &[request("CreateBackup", &json!({}))], 1, 3).await.expect("replays");
    assert_eq!((report.requests, report.refused), (3, 3));
}

#[tokio::test]
async fn a_request_that_cannot_be_read_ends_the_replay() {
    let world = World::new(NullTarget::new()).await;
    let chunked = Bytes::from_static(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n");
    assert!(replay(world.address, &[chunked], 2, 3).await.is_err());
    assert!(replay(world.address, &[], 2, 3).await.is_err());
    assert!(replay(world.address, &[Bytes::new()], 0, 3).await.is_err());
}
