//! Behaviour that the migration relies on, asked over plain HTTP as the SDK would.

use std::{path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::*;

const CREATE: &str = r#"{"TableName":"items","BillingMode":"PAY_PER_REQUEST",
    "AttributeDefinitions":[{"AttributeName":"k","AttributeType":"S"}],
    "KeySchema":[{"AttributeName":"k","KeyType":"HASH"}]}"#;

/// The environment variable that turns `server_process` from nothing into a server.
const SERVER_PATH: &str = "LOCKSTEP_EMBEDDED_TEST_DYNAMO";

/// A server whose test failed ends by itself after that.
const LONGEST_TEST: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_empty_store_lists_no_tables() {
    let dynamo = Dynamo::start().await.expect("starts");
    assert_eq!(call(dynamo.endpoint_url(), "ListTables", "{}").await, r#"{"TableNames":[]}"#);
    dynamo.stop().await.expect("stops");
}

#[tokio::test]
async fn two_stores_in_memory_know_nothing_of_each_other() {
    let (one, other) = (Dynamo::start().await.expect("starts"), Dynamo::start().await.expect("starts"));
    call(one.endpoint_url(), "CreateTable", CREATE).await;
    assert_eq!(call(other.endpoint_url(), "ListTables", "{}").await, r#"{"TableNames":[]}"#);
}

/// The query is that of `dynoxide` before it writes to a table with a stream, and when a client reads one.
#[test]
fn no_record_of_a_stream_is_looked_for_among_all_of_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("dynamo.sqlite");
    let _database = open_file(&path).expect("opens");
    let connection = rusqlite::Connection::open(&path).expect("opens");
    for asked in [
        "SELECT COALESCE(MAX(CAST(sequence_number AS INTEGER)), 0) + 1 FROM _stream_records WHERE table_name = 'items'",
        "SELECT event_name FROM _stream_records
         WHERE table_name = 'items' AND shard_id = 's' AND CAST(sequence_number AS INTEGER) > 7
         ORDER BY CAST(sequence_number AS INTEGER) ASC LIMIT 9",
    ] {
        let plan = |row: &rusqlite::Row<'_>| row.get::<_, String>("detail");
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {asked}")).expect("parses");
        let plan: Vec<String> =
            statement.query_map([], plan).expect("explained").collect::<Result<_, _>>().expect("read");
        assert!(plan.len() == 1 && plan[0].contains("lockstep_stream_order"), "{asked}: {plan:?}");
    }
}

#[tokio::test]
async fn a_store_in_a_file_survives_a_stop_and_an_abort() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("dynamo.sqlite");
    let first = Dynamo::start_at(&path).await.expect("starts");
    call(first.endpoint_url(), "CreateTable", CREATE).await;
    first.stop().await.expect("stops");

    let second = Dynamo::start_at(&path).await.expect("starts again");
    put(second.endpoint_url(), "a").await;
    drop(second);

    let third = Dynamo::start_at(&path).await.expect("starts once more");
    assert_eq!(count(third.endpoint_url()).await, 1);
}

#[tokio::test]
async fn a_fixed_port_can_be_taken_again_and_not_twice() {
    let first = Dynamo::start().await.expect("starts");
    let options = DynamoOptions { path: None, port: Some(first.port()) };
    let refused = Dynamo::start_with(options.clone()).await.expect_err("the port is taken");
    assert!(matches!(refused, Error::DynamoBind { port, .. } if port == first.port()), "{refused}");

    call(first.endpoint_url(), "ListTables", "{}").await;
    first.stop().await.expect("stops");
    Dynamo::start_with(options).await.expect("takes the port again");
}

#[tokio::test]
async fn a_drop_breaks_connections_off() {
    let dynamo = Dynamo::start().await.expect("starts");
    let mut idle = TcpStream::connect(("127.0.0.1", dynamo.port())).await.expect("connects");
    drop(dynamo);
    let read = timeout(Duration::from_secs(5), idle.read(&mut [0; 1])).await.expect("does not hang");
    assert!(!matches!(read, Ok(1..)), "{read:?}");
}

#[tokio::test]
async fn a_file_that_is_no_store_is_refused_with_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "not a database, but long enough to be taken for one at first sight".repeat(50))
        .expect("written");
    let refused = Dynamo::start_at(&path).await.expect_err("not a store");
    assert!(refused.to_string().contains("notes.txt"), "{refused}");
}

#[tokio::test]
async fn a_detached_server_killed_with_sigkill_loses_nothing_it_answered() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("dynamo.sqlite");
    let server = spawn_server(&path).await;
    call(server.endpoint_url(), "CreateTable", CREATE).await;
    for key in 0..100 {
        put(server.endpoint_url(), &key.to_string()).await;
    }
    server.kill().await.expect("killed");

    let again = Dynamo::start_at(&path).await.expect("starts");
    assert_eq!(count(again.endpoint_url()).await, 100);
}

/// Not a test by itself, and nothing unless `spawn_server` starts it as a process of its own.
#[tokio::test]
async fn server_process() {
    let Some(path) = std::env::var_os(SERVER_PATH) else { return };
    let options = DynamoOptions { path: Some(path.into()), port: None };
    // The test harness has begun a line on standard output.
    let print = |endpoint_url: &str| println!("\n{endpoint_url}");
    serve_dynamo(options, print, tokio::time::sleep(LONGEST_TEST)).await.expect("serves");
}

async fn spawn_server(path: &Path) -> DetachedDynamo {
    let variable = format!("{SERVER_PATH}={}", path.display());
    let this = std::env::current_exe().expect("this test").display().to_string();
    let arguments = [&variable, &this, "--exact", "dynamo::tests::server_process", "--nocapture"];
    DetachedDynamo::spawn(Path::new("/usr/bin/env"), arguments).await.expect("starts")
}

async fn put(endpoint_url: &str, key: &str) {
    let item = format!(r#"{{"TableName":"items","Item":{{"k":{{"S":"{key}"}}}}}}"#);
    assert_eq!(call(endpoint_url, "PutItem", &item).await, "{}");
}

async fn count(endpoint_url: &str) -> usize {
    let answer = call(endpoint_url, "Scan", r#"{"TableName":"items","Select":"COUNT"}"#).await;
    let from = answer.find("\"Count\":").expect("a count") + "\"Count\":".len();
    let digits: String = answer[from..].chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

/// Sends one request, with the headers that a signed one has.
async fn call(endpoint_url: &str, operation: &str, body: &str) -> String {
    let address = endpoint_url.strip_prefix("http://").expect("an endpoint");
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let request = format!(
        "POST / HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/x-amz-json-1.0\r\n\
         X-Amz-Target: DynamoDB_20120810.{operation}\r\nX-Amz-Date: 20260101T000000Z\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/dynamodb/aws4_request, \
         SignedHeaders=host;x-amz-date;x-amz-target, Signature=00\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer with a body");
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    body.to_owned()
}

/// The requests are those of a page in a browser on a port that it guessed, and of one whose name points to
/// this machine.
#[tokio::test]
async fn a_web_page_reads_nothing_and_writes_nothing() {
    let dynamo = Dynamo::start().await.expect("starts");
    call(dynamo.endpoint_url(), "CreateTable", CREATE).await;
    put(dynamo.endpoint_url(), "a").await;
    let here = format!("127.0.0.1:{}", dynamo.port());
    let scan = r#"{"TableName":"items"}"#;
    for (host, more) in [
        (here.as_str(), "Origin: https://evil.example\r\n"),
        (here.as_str(), "Sec-Fetch-Site: cross-site\r\n"),
        ("evil.example", ""),
    ] {
        let mut page = TcpStream::connect(("127.0.0.1", dynamo.port())).await.expect("connects");
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-amz-json-1.0\r\n\
             {more}X-Amz-Target: DynamoDB_20120810.Scan\r\nX-Amz-Date: 20260101T000000Z\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/dynamodb/aws4_request, \
             SignedHeaders=host;x-amz-date;x-amz-target, Signature=00\r\n\
             Content-Length: {}\r\n\r\n{scan}",
            scan.len()
        );
        page.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        timeout(Duration::from_secs(5), page.read_to_string(&mut answer))
            .await
            .expect("the connection is closed")
            .expect("answered");
        assert!(answer.starts_with("HTTP/1.1 403") && !answer.contains("Items"), "{host} {more}: {answer}");
        assert!(!answer.to_lowercase().contains("access-control"), "{answer}");
    }
    assert_eq!(count(dynamo.endpoint_url()).await, 1, "a program reads and writes as before");
}
