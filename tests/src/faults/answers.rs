//! Answers that are given instead of the emulator's.
//!
//! Those that DynamoDB would give have its headers: the name of the request, and the checksum of the body.

use bytes::Bytes;
use flate2::Crc;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Map, Value};

/// An answer, whole.
pub(super) type Answer = Response<Full<Bytes>>;

/// A refusal of a whole call; nothing was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Throttled,
    ServerError,
    UnknownOperation,
    ExpiredToken,
    AccessDenied,
    /// A page of something before DynamoDB, with this status.
    Page(u16),
    /// A success with this body, of something before DynamoDB.
    Empty(&'static str),
    /// This code.
    Code(&'static str),
    /// A statement is not one that the endpoint takes.
    Statement,
    /// The items of a transaction are too large together.
    Transaction,
    /// The date of a signature is wrong, in these words.
    Signature(String),
    /// There is nothing.
    NothingFound,
    /// No refusal: this JSON.
    Answer(&'static str),
}

/// The code of a throttled statement in a batch:
/// `BatchStatementErrorCodeEnum::ProvisionedThroughputExceeded`. Unlike the exception of a whole call it has
/// no `Exception` at its end.
pub(super) const STATEMENT_THROTTLED: &str = "ProvisionedThroughputExceeded";

/// The sentence DynamoDB says when it throttles.
pub(super) const THROTTLED: &str = "The level of configured provisioned throughput for the table was exceeded. Consider \
     increasing your provisioning level with the UpdateTable API.";

pub(super) fn refuse(refusal: Refusal) -> Answer {
    const DYNAMODB: &str = "com.amazonaws.dynamodb.v20120810";
    const COMMON: &str = "com.amazon.coral.service";
    let bad = StatusCode::BAD_REQUEST;
    let (status, family, code, message) = match &refusal {
        Refusal::Page(status) => return page(*status),
        Refusal::Empty(body) => return unnamed(StatusCode::OK, Bytes::from_static(body.as_bytes())),
        Refusal::Signature(why) => (bad, COMMON, "InvalidSignatureException", why.as_str()),
        Refusal::NothingFound => {
            return json(StatusCode::OK, r#"{"Items":[],"Count":0,"ScannedCount":0}"#.into());
        }
        Refusal::Answer(said) => return json(StatusCode::OK, said.as_bytes().into()),
        Refusal::Code(code) => (bad, DYNAMODB, *code, "(injected)"),
        Refusal::Statement => (
            bad,
            COMMON,
            "ValidationException",
            "Statement wasn't well formed, can't be processed (injected)",
        ),
        Refusal::Transaction => (
            bad,
            COMMON,
            "ValidationException",
            "Collection size exceeded: the aggregate size of the items in the transaction (injected)",
        ),
        Refusal::Throttled => (bad, DYNAMODB, "ProvisionedThroughputExceededException", THROTTLED),
        Refusal::ServerError => (
            StatusCode::INTERNAL_SERVER_ERROR,
            DYNAMODB,
            "InternalServerError",
            "Internal server error (injected)",
        ),
        Refusal::UnknownOperation => {
            (bad, COMMON, "UnknownOperationException", "Unknown operation (injected)")
        }
        Refusal::ExpiredToken => {
            (bad, COMMON, "ExpiredTokenException", "The security token included in the request is expired")
        }
        Refusal::AccessDenied => (bad, COMMON, "AccessDeniedException", "User is not authorized (injected)"),
    };
    json(
        status,
        serde_json::json!({ "__type": format!("{family}#{code}"), "message": message }).to_string().into(),
    )
}

/// Answers as a proxy that wants a password, or a mesh that has nowhere to go.
fn page(status: u16) -> Answer {
    const PAGE: &[u8] = b"<html><head><title>Please wait</title></head><body><h1>Item size and empty string</h1></body></html>";
    let mut answer = Response::new(Full::new(Bytes::from_static(PAGE)));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
    answer
}

/// The answer as it is once a cable was cut and something closed what had come: without the last entry of
/// each list and map, and without the item.
pub(super) fn cut_and_closed(body: &[u8]) -> Option<Bytes> {
    let mut answer: Map<String, Value> = serde_json::from_slice(body).ok()?;
    answer.remove("Item");
    for part in answer.values_mut() {
        match part {
            Value::Array(entries) => drop(entries.pop()),
            Value::Object(entries) => {
                let last = entries.keys().next_back().cloned();
                last.and_then(|name| entries.remove(&name));
            }
            _ => {}
        }
    }
    serde_json::to_vec(&answer).ok().map(Bytes::from)
}

/// An answer of our own, as DynamoDB gives it.
pub(super) fn json(status: StatusCode, body: Bytes) -> Answer {
    let mut answer = unnamed(status, body.clone());
    name(answer.headers_mut(), &body);
    answer
}

/// Names the request, and says the checksum of `body`.
pub(super) fn name(headers: &mut HeaderMap, body: &[u8]) {
    let mut sum = Crc::new();
    sum.update(body);
    headers.insert("x-amz-crc32", HeaderValue::from(sum.sum()));
    headers.insert("x-amzn-requestid", HeaderValue::from_static("INJECTED"));
}

fn unnamed(status: StatusCode, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.0"));
    answer
}
