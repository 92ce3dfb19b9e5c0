//! Answers: JSON that was made before, and refusals, which all have the same shape.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Response, StatusCode};
use lockstep_core::{Kind, printable_json};
use serde::Serialize;
use serde_json::{Value, json};

/// A request that is not answered as it was meant: a status, a word for programs, and a sentence for people.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// The operation that is in the way.
    operation: Option<String>,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), operation: None }
    }

    /// No token, or one that is not ours.
    pub(crate) fn unauthorized() -> Self {
        let message = "send `Authorization: Bearer TOKEN` with the read or the operate token of this daemon";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// Returns the read token, where something would be done.
    pub(crate) fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "this token reads; to act, send the operate token")
    }

    /// There is no such thing.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// The route takes another method.
    pub(crate) fn method_not_allowed() -> Self {
        let message = "this route takes another method; `Allow` says which";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    }

    /// Refuses what was sent because it does not parse.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// The body is too large.
    pub(crate) fn too_large(most: usize) -> Self {
        let message = format!("the body is larger than {most} bytes; nothing this daemon takes is");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    /// The body is not JSON by its own words.
    pub(crate) fn unsupported_media_type() -> Self {
        let message = "send the body with `Content-Type: application/json`";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    }

    /// Refuses what was sent because it parses and is not what the route takes.
    pub(crate) fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unprocessable", message)
    }

    /// The state of the migration does not allow it.
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    /// Refuses a key under which something else was asked.
    pub(crate) fn other_request() -> Self {
        Self::unprocessable("this Idempotency-Key was used for another request; take a new one")
    }

    /// Another operation is under way.
    pub(crate) fn busy(operation: String) -> Self {
        let message = format!(
            "operation {operation} is under way; look at /v1/operations/{operation} and try again when it has ended"
        );
        Self { operation: Some(operation), ..Self::new(StatusCode::CONFLICT, "busy", message) }
    }

    /// Another daemon leads.
    pub(crate) fn standby(why: &str) -> Self {
        let message = format!(
            "this daemon does not lead ({why}): send what acts to the one that does, or try again in a moment"
        );
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "standby", message)
    }

    /// Too many requests.
    pub(crate) fn rate_limited() -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limited",
            "too many requests in a second; wait for one and try again",
        )
    }

    /// A name that this daemon does not go by: a page of another site may have been led here.
    pub(crate) fn wrong_host() -> Self {
        let message = "the host name of this request is none of this daemon's; use its address, or add the name to serve.hosts";
        Self::new(StatusCode::MISDIRECTED_REQUEST, "wrong_host", message)
    }

    /// Nothing has been read since this daemon was started.
    pub(crate) fn not_read_yet() -> Self {
        Self::of_store(&lockstep_core::Error::source(
            Kind::Unavailable,
            "reading the migration",
            "PostgreSQL has not answered yet",
        ))
    }

    /// DynamoDB does not answer, and nothing was asked of it.
    pub(crate) fn target_away() -> Self {
        let message = "DynamoDB does not answer, and these gates ask it; /v1/health says since when. A step \
                       back to PostgreSQL's reads waits for it no longer than leases last";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", message)
    }

    /// The gates had no answer.
    pub(crate) fn gates_late(within: std::time::Duration) -> Self {
        let message = format!(
            "the gates were not answered within {} s; /v1/health says which store is slow",
            within.as_secs()
        );
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", message)
    }

    /// A store did not do as asked.
    pub(crate) fn of_store(error: &lockstep_core::Error) -> Self {
        match error.kind {
            Kind::Misconfigured | Kind::Refused | Kind::Busy | Kind::Fenced => {
                Self::conflict(error.to_string())
            }
            Kind::Invalid => Self::unprocessable(error.to_string()),
            _ => {
                let message = format!("{error}; it is asked again by itself, so try again in a moment");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", message)
            }
        }
    }

    /// The coordinator did not do as asked.
    pub(crate) fn of_coordinator(error: &lockstep_coordinator::CoordinatorError) -> Self {
        match error {
            lockstep_coordinator::CoordinatorError::Store(error) => Self::of_store(error),
            other => Self::conflict(other.to_string()),
        }
    }

    /// Makes the HTTP response.
    pub(crate) fn into_response(self) -> Response<Body> {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(operation) = self.operation {
            error["operation"] = Value::from(operation);
        }
        let mut response = ok_json(self.status, &json!({ "error": error }));
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert("www-authenticate", HeaderValue::from_static("Bearer"));
        }
        if matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            response.headers_mut().insert("retry-after", HeaderValue::from_static("1"));
        }
        response
    }
}

impl axum::response::IntoResponse for Refusal {
    fn into_response(self) -> Response<Body> {
        Refusal::into_response(self)
    }
}

/// Returns a value as JSON, whose strings a terminal does not act on: names and reasons are of other roles,
/// and an operator's `curl` shows them.
pub(crate) fn ok_json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    // An answer made here is of strings and numbers: it cannot fail to be written.
    let text = serde_json::to_string(value).unwrap_or_default();
    raw_json(status, printable_json(&text).into_owned())
}

/// JSON that was written before.
pub(crate) fn raw_json(status: StatusCode, json: impl Into<Body>) -> Response<Body> {
    with_type(status, HeaderValue::from_static("application/json"), json)
}

/// Returns a body of a type. None of them is kept by a cache, or taken for another type.
pub(crate) fn with_type(
    status: StatusCode,
    content_type: HeaderValue,
    body: impl Into<Body>,
) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}
