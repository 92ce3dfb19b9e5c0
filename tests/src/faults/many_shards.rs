//! Streams as those of a table that has been written to for a day: most of their shards are closed, listed by
//! the hundred, and each answer takes its time.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::answers::{self, Answer};
use super::call::Call;
use super::upstream::Upstream;

/// Shards of one DescribeStream, at most. Source: Amazon DynamoDB API Reference, DescribeStream.
const SHARDS_MAX: usize = 100;
/// The emulator has no such shard, and no such iterator.
const CLOSED: &str = "shardId-closed-0000000000000-";

/// The answer to a call of a stream that has `closed` more shards, after a while; `None` where the emulator
/// has none.
pub(super) async fn answer(
    upstream: &Upstream,
    call: &Call,
    closed: usize,
    after: Duration,
) -> Option<Answer> {
    tokio::time::sleep(after).await;
    let body: Value = serde_json::from_slice(&call.body).ok()?;
    let is_closed = |name: &str| body[name].as_str().is_some_and(|text| text.starts_with(CLOSED));
    let said = match call.operation.as_str() {
        "DescribeStream" => return listing(upstream, call, &body, closed).await,
        "GetShardIterator" if is_closed("ShardId") => json!({ "ShardIterator": body["ShardId"] }),
        "GetRecords" if is_closed("ShardIterator") => json!({ "Records": [] }),
        _ => return upstream.forward(call, None).await.ok(),
    };
    Some(answers::json(StatusCode::OK, said.to_string().into()))
}

async fn listing(upstream: &Upstream, call: &Call, body: &Value, closed: usize) -> Option<Answer> {
    let whole = Bytes::from(json!({ "StreamArn": body["StreamArn"] }).to_string());
    let answer = upstream.forward(call, Some(whole)).await.ok()?;
    if answer.status() != StatusCode::OK {
        return Some(answer);
    }
    let Ok(said) = answer.into_body().collect().await;
    let mut said: Value = serde_json::from_slice(&said.to_bytes()).ok()?;
    let described = &mut said["StreamDescription"];
    let range = json!({ "StartingSequenceNumber": "1", "EndingSequenceNumber": "2" });
    let shard = |number| json!({ "ShardId": format!("{CLOSED}{number:04}"), "SequenceNumberRange": range });
    let mut shards: Vec<Value> = (0..closed).map(shard).collect();
    shards.append(described["Shards"].as_array_mut()?);
    let last = |shard: &Value| shard["ShardId"] == body["ExclusiveStartShardId"];
    let from = shards.iter().position(last).map_or(0, |at| at + 1);
    let rest = shards.split_off(from);
    let page = rest.get(..SHARDS_MAX).unwrap_or(&rest);
    if page.len() < rest.len() {
        described["LastEvaluatedShardId"] = page.last()?["ShardId"].clone();
    }
    described["Shards"] = page.into();
    Some(answers::json(StatusCode::OK, said.to_string().into()))
}
