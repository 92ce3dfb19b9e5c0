//! A nearer limit than bare TCP: the same prepared requests, sent by the SDK as it comes. Nothing is read and
//! no item is built, but each request is serialised, signed and sent as those of a backfill are.

use std::time::Instant;

use anyhow::Context;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, BatchStatementRequest};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde_json::Value;

use super::worker;

/// Number of requests that a backfill has in flight by default.
const IN_FLIGHT: usize = 16;

/// Rows a second of sending `total` of the requests, in turn, that carry `items_per_request` rows each.
///
/// # Errors
/// When a request is no batch of statements, or the null target refuses it.
pub(super) async fn sdk_replay(
    endpoint_url: &str,
    requests: &[Bytes],
    items_per_request: f64,
    total: usize,
) -> anyhow::Result<f64> {
    let prepared = requests.iter().map(statements).collect::<anyhow::Result<Vec<_>>>()?;
    anyhow::ensure!(!prepared.is_empty(), "no request was captured");
    let target = worker::target(endpoint_url).await;
    // Copied before the clock starts: a backfill hands its items over and copies none.
    let copies: Vec<_> = prepared.iter().cycle().take(total).cloned().collect();
    let started = Instant::now();
    futures::stream::iter(copies)
        .map(|statements| target.client().batch_execute_statement().set_statements(Some(statements)).send())
        .buffer_unordered(IN_FLIGHT)
        .try_for_each(|_| async { Ok(()) })
        .await
        .context("replaying prepared requests through the SDK")?;
    Ok(total as f64 * items_per_request / started.elapsed().as_secs_f64())
}

/// The statements of a request as it was on the wire.
fn statements(request: &Bytes) -> anyhow::Result<Vec<BatchStatementRequest>> {
    let body = memchr::memmem::find(request, b"\r\n\r\n").map(|at| &request[at + 4..]).context("no body")?;
    let body: Value = serde_json::from_slice(body)?;
    let one = |statement: &Value| {
        let parameters =
            statement["Parameters"].as_array().into_iter().flatten().map(value).collect::<Option<Vec<_>>>();
        BatchStatementRequest::builder()
            .statement(statement["Statement"].as_str()?)
            .set_parameters(parameters.filter(|parameters| !parameters.is_empty()))
            .build()
            .ok()
    };
    let statements = body["Statements"].as_array().context("no batch of statements")?;
    statements.iter().map(one).collect::<Option<Vec<_>>>().context("a statement that cannot be read")
}

/// An attribute's value, as the wire has it.
fn value(json: &Value) -> Option<AttributeValue> {
    let (kind, json) = json.as_object()?.iter().next()?;
    let text = || json.as_str().map(ToOwned::to_owned);
    Some(match kind.as_str() {
        "S" => AttributeValue::S(text()?),
        "N" => AttributeValue::N(text()?),
        "B" => AttributeValue::B(Blob::new(text()?)),
        "BOOL" => AttributeValue::Bool(json.as_bool()?),
        "NULL" => AttributeValue::Null(json.as_bool()?),
        "L" => AttributeValue::L(json.as_array()?.iter().map(value).collect::<Option<_>>()?),
        "M" => {
            let pairs = json.as_object()?.iter().map(|(name, json)| Some((name.clone(), value(json)?)));
            AttributeValue::M(pairs.collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_the_wire_is_read_with_every_parameter() {
        let request = Bytes::from_static(
            b"POST / HTTP/1.1\r\n\r\n{\"Statements\":[{\"Statement\":\"INSERT\",\"Parameters\":[{\"S\":\"a\"},{\"M\":{\"n\":{\"N\":\"1\"}}}]}]}",
        );
        let read = statements(&request).expect("reads");
        assert_eq!((read.len(), read[0].statement()), (1, "INSERT"));
        assert_eq!(read[0].parameters()[0], AttributeValue::S("a".to_owned()));
        assert_eq!(read[0].parameters().len(), 2);
        assert!(statements(&Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n{}")).is_err());
    }
}
