//! Bodies and query strings of requests, read within bounds.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, Uri};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

use lockstep_core::serde_words;

use super::answer::Refusal;

/// Nothing that is taken is larger.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// A body that takes longer than this to come is given up.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// Most bytes of a body beyond the limit that are read and thrown away: a client that is still sending would
/// not see why it is refused.
const DISCARDED_BYTES_MAX: usize = 4 * 1024 * 1024;
const DISCARDED_WITHIN: Duration = Duration::from_secs(2);
/// Longest idempotency key.
const KEY_CHARS_MAX: usize = 128;

/// Returns the body of a request as JSON; an empty one is an empty object.
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
        .map_err(|error| Refusal::bad_request(format!("the body: {}", serde_words::of_json(&error))))
}

/// Returns a body within the bound.
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

/// Returns a value as what a route takes.
pub(crate) fn parsed<T: DeserializeOwned>(value: Value) -> Result<T, Refusal> {
    serde_json::from_value(value).map_err(|error| {
        let why = serde_words::of_json(&error);
        Refusal::unprocessable(format!("the body is not what this route takes: {why}"))
    })
}

/// Returns what is wrong with a query string, by the sentence of its parser, which may begin with the field's
/// name.
fn why(sentence: &str) -> String {
    let told = sentence.strip_prefix("Failed to deserialize query string: ").unwrap_or(sentence);
    let after = told.split_once(": ").map_or(told, |(_, after)| after);
    // A sentence of serde's has a colon of its own.
    let whole = serde_words::of_serde(told);
    if whole == serde_words::of_serde("") { serde_words::of_serde(after) } else { whole }
}

/// Returns the query string as what a route takes.
pub(crate) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Refusal> {
    axum::extract::Query::<T>::try_from_uri(uri).map(|query| query.0).map_err(|error| {
        Refusal::bad_request(format!(
            "the query string is not what this route takes: {}",
            why(&error.body_text())
        ))
    })
}

/// Returns the idempotency key of a request, if it has one.
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

/// Returns a sentence of a person: not longer than `most` characters, and one that every store can hold.
pub(crate) fn words(name: &str, text: Option<&str>, most: usize) -> Result<Option<String>, Refusal> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
    if text.chars().count() > most || text.chars().any(char::is_control) {
        return Err(Refusal::unprocessable(format!(
            "`{name}` has at most {most} characters, none of them a control character"
        )));
    }
    Ok(Some(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Asked {
        limit: u32,
    }

    #[tokio::test]
    async fn what_a_request_holds_is_not_said_back() {
        for asked in ["limit=Planted", "limit=1&Planted=2", "Planted=1", "limit=1&limit=Planted"] {
            let uri: Uri = format!("/x?{asked}").parse().expect("a URI");
            let said = format!("{:?}", query::<Asked>(&uri).expect_err("refused"));
            assert!(said.contains("the query string") && !said.contains("Planted"), "{said}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "application/json".parse().expect("a type"));
        for text in ["{\"limit\": Planted}", "\"Planted"] {
            let said = format!("{:?}", json_of(&headers, Body::from(text)).await.expect_err("refused"));
            assert!(said.contains("line 1") && !said.contains("Planted"), "{said}");
        }
        for text in ["{\"limit\": \"Planted\"}", "{\"Planted\": 1}", "\"Planted\"", "[\"Planted\"]"] {
            let value = json_of(&headers, Body::from(text)).await.expect("JSON");
            let said = format!("{:?}", parsed::<Asked>(value).expect_err("refused"));
            assert!(said.contains("the body is not") && !said.contains("Planted"), "{said}");
        }
    }
}
