//! Answers of Amazon's own service where the emulator says something else, or nothing: by whom an item was
//! removed, what time it is, and an index that moves while it is read.

use bytes::Bytes;
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use hyper::header::{DATE, HeaderValue};
use serde_json::{Value, json};

use super::answers::Answer;
use super::call::Call;

/// Distance that a request's date may have from the service's own.
const OFF_AT_MOST: TimeDelta = TimeDelta::minutes(15);

/// The answer to GetRecords, in which each removal says that expiry made it: with a capital letter, as Amazon
/// writes it, and not as Lambda does and the emulator after it. `None` where it does not parse.
pub(super) fn removed_by_expiry(body: &[u8]) -> Option<Bytes> {
    let mut answer: Value = serde_json::from_slice(body).ok()?;
    for record in answer["Records"].as_array_mut().into_iter().flatten() {
        if record["eventName"] == "REMOVE" {
            record["userIdentity"] = json!({ "PrincipalId": "dynamodb.amazonaws.com", "Type": "Service" });
        }
    }
    Some(answer.to_string().into())
}

/// The page of an index, in which each entry comes twice, next to one another.
pub(super) fn each_twice(body: &[u8]) -> Option<Bytes> {
    let mut answer: Value = serde_json::from_slice(body).ok()?;
    let twice: Vec<Value> =
        answer["Items"].as_array()?.iter().flat_map(|entry| [entry.clone(), entry.clone()]).collect();
    answer["Count"] = twice.len().into();
    answer["Items"] = twice.into();
    Some(answer.to_string().into())
}

/// Returns what the service says of the date that a call is signed with, when it is `now` there; `None` where
/// nothing is wrong with it.
pub(super) fn wrong_date(call: &Call, now: DateTime<Utc>) -> Option<String> {
    let date = call.parts.headers.get("x-amz-date").and_then(|date| date.to_str().ok()).unwrap_or_default();
    let signed = NaiveDateTime::parse_from_str(date, "%Y%m%dT%H%M%SZ").ok()?.and_utc();
    let (said, here) = (signed.format("%Y%m%dT%H%M%SZ"), now.format("%Y%m%dT%H%M%SZ"));
    if signed < now - OFF_AT_MOST {
        return Some(format!("Signature expired: {said} is now earlier than {here} - 15 min."));
    }
    (signed > now + OFF_AT_MOST)
        .then(|| format!("Signature not yet current: {said} is still later than {here} + 15 min."))
}

/// The answer as it was given at `now`.
pub(super) fn dated(mut answer: Answer, now: DateTime<Utc>) -> Answer {
    let date = now.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    if let Ok(date) = HeaderValue::from_str(&date) {
        answer.headers_mut().insert(DATE, date);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(date: &str) -> Call {
        let request = hyper::Request::post("/").header("x-amz-date", date);
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        Call::new(parts, Bytes::new())
    }

    #[test]
    fn a_date_is_wrong_where_it_is_more_than_a_quarter_of_an_hour_off() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::hours(12);
        let says = |date| wrong_date(&signed(date), now).unwrap_or_default();
        assert!(says("19700101T114459Z").starts_with("Signature expired: 19700101T114459Z is now earlier"));
        assert!(says("19700101T121501Z").starts_with("Signature not yet current: 19700101T121501Z"));
        assert_eq!((says("19700101T114500Z"), says("19700101T121500Z")), (String::new(), String::new()));
    }

    #[test]
    fn only_removals_are_made_expiries() {
        let body = br#"{"Records":[{"eventName":"MODIFY"},{"eventName":"REMOVE"}]}"#;
        let answer: Value = serde_json::from_slice(&removed_by_expiry(body).expect("parses")).expect("JSON");
        assert!(answer["Records"][0].get("userIdentity").is_none());
        assert_eq!(answer["Records"][1]["userIdentity"]["PrincipalId"], "dynamodb.amazonaws.com");
    }
}
