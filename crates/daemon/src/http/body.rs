//! Bodies and query strings of requests, read within bounds.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, Uri};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::answer::Refusal;

/// Nothing that is taken is larger.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// A body that takes longer than this to come is given up.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// What is more than is taken is read up to here, and thrown away: a client that is still sending would not
/// see why it is refused.
const DISCARDED_BYTES_MAX: usize = 4 * 1024 * 1024;
const DISCARDED_WITHIN: Duration = Duration::from_secs(2);
/// Longest idempotency key.
const KEY_CHARS_MAX: usize = 128;

/// The body of a request as JSON; an empty one is an empty object.
pub(crate) async fn json_of(headers: &HeaderMap, body: Body) -> Result<Value, Refusal> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > BODY_BYTES_MAX as u64) {
        discard(body).await;
        return Err(Refusal::too_large(BODY_BYTES_MAX));
    }
    let late = |_| Refusal::bad_request("the body did not come within 10 s; send it again");
    let bytes = tokio::time::timeout(BODY_WITHIN, whole(body)).await.map_err(late)??;
    if bytes.is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !content_type
        .split(';')
        .next()
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
    {
        return Err(Refusal::unsupported_media_type());
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::bad_request(format!("the body is no JSON: {}", place_of(&error))))
}

/// Where a document stops being JSON, without what is there.
fn place_of(error: &serde_json::Error) -> String {
    format!("line {}, column {}", error.line(), error.column())
}

/// A body within the bound.
async fn whole(mut body: Body) -> Result<Bytes, Refusal> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|_| Refusal::bad_request("the body ended before it was whole; send it again"))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > BODY_BYTES_MAX {
            discard(body).await;
            return Err(Refusal::too_large(BODY_BYTES_MAX));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

/// Reads what is not wanted, within bounds.
pub(crate) async fn discard(mut body: Body) {
    let reading = async {
        let mut left = DISCARDED_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    // A client that is slower than that sees its connection end.
    let _ = tokio::time::timeout(DISCARDED_WITHIN, reading).await;
}

/// A value as what a route takes.
pub(crate) fn parsed<T: DeserializeOwned>(value: Value) -> Result<T, Refusal> {
    serde_json::from_value(value)
        .map_err(|error| Refusal::unprocessable(format!("the body is not what this route takes: {error}")))
}

/// The query string as what a route takes.
pub(crate) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Refusal> {
    axum::extract::Query::<T>::try_from_uri(uri).map(|query| query.0).map_err(|error| {
        Refusal::bad_request(format!("the query string is not what this route takes: {error}"))
    })
}

/// The idempotency key of a request, if it has one.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str() {
        Ok(key)
            if !key.is_empty() && key.len() <= KEY_CHARS_MAX && key.bytes().all(|b| b.is_ascii_graphic()) =>
        {
            Ok(Some(key.to_owned()))
        }
        _ => Err(Refusal::bad_request(format!(
            "Idempotency-Key has 1 to {KEY_CHARS_MAX} visible ASCII characters"
        ))),
    }
}

/// A sentence of a person: not longer than `most` characters, and one that every store can hold.
pub(crate) fn words(name: &str, text: Option<&str>, most: usize) -> Result<Option<String>, Refusal> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
    if text.chars().count() > most || text.chars().any(char::is_control) {
        return Err(Refusal::unprocessable(format!(
            "`{name}` has at most {most} characters, none of them a control character"
        )));
    }
    Ok(Some(text.to_owned()))
}
