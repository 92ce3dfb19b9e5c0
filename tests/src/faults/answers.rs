//! What is said instead of the emulator's answer.
//!
//! None of these answers carries `x-amz-crc32`: no checksum is allowed, a wrong one is not.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

/// An answer, whole.
pub(super) type Answer = Response<Full<Bytes>>;

/// A refusal of a whole call; nothing was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Throttled,
    ServerError,
    UnknownOperation,
    ExpiredToken,
    AccessDenied,
}

/// The code of a throttled statement in a batch: `BatchStatementErrorCodeEnum::ProvisionedThroughputExceeded`. Unlike the
/// exception of a whole call it has no `Exception` at its end.
pub(super) const STATEMENT_THROTTLED: &str = "ProvisionedThroughputExceeded";

/// The sentence DynamoDB says when it throttles.
pub(super) const THROTTLED: &str = "The level of configured provisioned throughput for the table was exceeded. Consider \
     increasing your provisioning level with the UpdateTable API.";

pub(super) fn refuse(refusal: Refusal) -> Answer {
    const DYNAMODB: &str = "com.amazonaws.dynamodb.v20120810";
    const COMMON: &str = "com.amazon.coral.service";
    let bad = StatusCode::BAD_REQUEST;
    let (status, family, code, message) = match refusal {
        Refusal::Throttled => (bad, DYNAMODB, "ProvisionedThroughputExceededException", THROTTLED),
        Refusal::ServerError => {
            (StatusCode::INTERNAL_SERVER_ERROR, DYNAMODB, "InternalServerError", "Internal server error (injected)")
        }
        Refusal::UnknownOperation => (bad, COMMON, "UnknownOperationException", "Unknown operation (injected)"),
        Refusal::ExpiredToken => (bad, COMMON, "ExpiredTokenException", "The security token included in the request is expired"),
        Refusal::AccessDenied => (bad, COMMON, "AccessDeniedException", "User is not authorized (injected)"),
    };
    json(status, serde_json::json!({ "__type": format!("{family}#{code}"), "message": message }).to_string().into())
}

/// An answer of our own.
pub(super) fn json(status: StatusCode, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.0"));
    answer
}
