//! Streams that have shards of their own, as Amazon's have.
//!
//! The emulator knows one shard a table, whatever stream is named. Here a shard's id ends in the label of its
//! stream, and an iterator begins with the stream's name, so that each request is known to be of the stream
//! that is on, or of an earlier one. Of that the shard is closed, and has no more.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde_json::{Value, json};

use super::answers::{self, Answer};
use super::call::Call;
use super::upstream::Upstream;

/// Character between the stream's name and the emulator's iterator. Neither has it.
const BETWEEN: char = '|';

/// The answer to a call of a stream; `None` where the emulator has none.
pub(super) async fn answer(upstream: &Upstream, call: &Call) -> Option<Answer> {
    let mut body: Value = serde_json::from_slice(&call.body).ok()?;
    let (status, said) = match call.operation.as_str() {
        "DescribeStream" => {
            let stream = body["StreamArn"].as_str()?;
            match listing(upstream, call, stream).await? {
                Some(listing) => (StatusCode::OK, listing),
                None => (StatusCode::OK, closed(stream)?),
            }
        }
        "GetShardIterator" => {
            let stream = body["StreamArn"].as_str()?.to_owned();
            let shard = body["ShardId"].as_str()?.strip_suffix(&suffix(&stream)?)?.to_owned();
            if listing(upstream, call, &stream).await?.is_none() {
                (StatusCode::OK, json!({ "ShardIterator": format!("{stream}{BETWEEN}") }))
            } else {
                body["ShardId"] = shard.into();
                of_stream(&stream, "ShardIterator", ask(upstream, call, "GetShardIterator", &body).await?)
            }
        }
        _ => {
            let (stream, iterator) = body["ShardIterator"].as_str()?.split_once(BETWEEN)?;
            let (stream, iterator) = (stream.to_owned(), iterator.to_owned());
            if iterator.is_empty() || listing(upstream, call, &stream).await?.is_none() {
                (StatusCode::OK, json!({ "Records": [] }))
            } else {
                body["ShardIterator"] = iterator.into();
                of_stream(&stream, "NextShardIterator", ask(upstream, call, "GetRecords", &body).await?)
            }
        }
    };
    Some(answers::json(status, said.to_string().into()))
}

/// Shards that the emulator lists of a stream, under their own names; `None` of one that is not on.
async fn listing(upstream: &Upstream, call: &Call, stream: &str) -> Option<Option<Value>> {
    let (status, mut said) = ask(upstream, call, "DescribeStream", &json!({ "StreamArn": stream })).await?;
    let described = &mut said["StreamDescription"];
    if status != StatusCode::OK || described["StreamLabel"].as_str() != label(stream) {
        return Some(None);
    }
    for shard in described["Shards"].as_array_mut()? {
        let id = format!("{}{}", shard["ShardId"].as_str()?, suffix(stream)?);
        shard["ShardId"] = id.into();
    }
    Some(Some(said))
}

/// The listing of a stream that was switched off.
fn closed(stream: &str) -> Option<Value> {
    let (_, table) = stream.split_once(":table/")?;
    let (table, _) = table.split_once('/')?;
    Some(json!({ "StreamDescription": {
        "StreamArn": stream,
        "StreamLabel": label(stream)?,
        "StreamStatus": "DISABLED",
        "StreamViewType": "NEW_AND_OLD_IMAGES",
        "TableName": table,
        "Shards": [{
            "ShardId": format!("shardId-00000001-{table}{}", suffix(stream)?),
            "SequenceNumberRange": {
                "StartingSequenceNumber": "100000000000000000001",
                "EndingSequenceNumber": "100000000000000000002",
            },
        }],
    } }))
}

fn of_stream(stream: &str, name: &str, (status, mut said): (StatusCode, Value)) -> (StatusCode, Value) {
    if let Some(iterator) = said[name].as_str() {
        said[name] = format!("{stream}{BETWEEN}{iterator}").into();
    }
    (status, said)
}

fn label(stream: &str) -> Option<&str> {
    stream.rsplit_once('/').map(|(_, label)| label)
}

fn suffix(stream: &str) -> Option<String> {
    label(stream).map(|label| format!("-{label}"))
}

/// Asks the emulator under the headers of `call`.
async fn ask(upstream: &Upstream, call: &Call, operation: &str, body: &Value) -> Option<(StatusCode, Value)> {
    let mut parts = call.parts.clone();
    let target = HeaderValue::from_str(&format!("DynamoDBStreams_20120810.{operation}")).ok()?;
    parts.headers.insert("x-amz-target", target);
    let asked = Call::new(parts, Bytes::from(body.to_string()));
    let (parts, body) = upstream.forward(&asked, None).await.ok()?.into_parts();
    let Ok(body) = body.collect().await;
    Some((parts.status, serde_json::from_slice(&body.to_bytes()).ok()?))
}
