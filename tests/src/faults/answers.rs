//! Answers that are given instead of the emulator's.
//!
//! None of these answers carries `x-amz-crc32`: no checksum is allowed, a wrong one is not.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

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
    /// A success with this body.
    Empty(&'static str),
    /// This code.
    Code(&'static str),
    /// A statement is not one that the endpoint takes.
    Statement,
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
        Refusal::Empty(body) => return json(StatusCode::OK, Bytes::from_static(body.as_bytes())),
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

/// An answer of our own.
pub(super) fn json(status: StatusCode, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.0"));
    answer
}
