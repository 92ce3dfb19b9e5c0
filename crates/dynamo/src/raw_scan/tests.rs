//! The same bytes, read by the SDK and read by us.

use lockstep_core::{Attributes, Kind, Result};
use proptest::collection::vec;
use proptest::prelude::*;

use super::answering::{Answer, Answering};
use super::any_page::{Style, any_item, page};
use crate::ScanPage;

/// Reads an answer with the SDK.
async fn by_the_sdk(server: &Answering, answer: Answer) -> Result<ScanPage> {
    server.answer(answer);
    server.target.scan_page("t", (0, 1), None).await
}

/// Reads it with our own reader.
async fn by_us(server: &Answering, answer: Answer) -> Result<ScanPage> {
    server.answer(answer);
    let body = server.target.scan_body("t", (0, 1), None).await?;
    let mut items = Vec::new();
    let end = body.read(|item| items.push(item.to_attributes()))?;
    assert_eq!(body.end()?, end, "the same for who passes over the items");
    Ok(ScanPage { items, next: end.next, capacity_units: end.capacity_units })
}

/// Both, as something that can be compared: items, the next key and the units, or the kind of the error and
/// what it says.
async fn both(
    server: &Answering,
    answer: Answer,
) -> [std::result::Result<(Vec<Attributes>, Option<Attributes>, f64), Kind>; 2] {
    let known = |page: Result<ScanPage>| {
        page.map(|page| (page.items, page.next, page.capacity_units)).map_err(|error| error.kind)
    };
    [known(by_the_sdk(server, answer.clone()).await), known(by_us(server, answer).await)]
}

fn page_of(attribute: &str) -> String {
    format!(r#"{{"Items":[{{"a":{attribute}}}],"Count":1,"ScannedCount":1}}"#)
}

#[tokio::test]
async fn well_formed_pages_read_alike() {
    let server = Answering::start().await;
    let bodies = [
        r#"{"Items":null,"LastEvaluatedKey":null,"ConsumedCapacity":null}"#,
        r#"{"Items":[],"LastEvaluatedKey":{}}"#,
        r#" { "ScannedCount" : 2 , "Items" : [ { } , { "x" : { "S" : "" } } ] , "Unheard" : { "of" : [ 1 , null , "\u00e9" ] } } "#,
        r#"{"LastEvaluatedKey":{"PK":{"S":"a\"b"},"SK":{"N":"7"}},"Items":[{"a":{"BOOL":false}}],"ConsumedCapacity":{"TableName":"t","CapacityUnits":0.5,"Table":{"CapacityUnits":1}}}"#,
        r#"{"ConsumedCapacity":{"CapacityUnits":3},"Items":[],"LastEvaluatedKey":{"PK":{"S":"x"}},"LastEvaluatedKey":null}"#,
        r#"{"Items":[{"twice":{"S":"first"},"other":{"N":"1"},"twice":{"N":"2"}},{"tw\u0069ce":{"S":"a"},"twice":{"S":"b"}}]}"#,
    ];
    for body in bodies {
        let [sdk, ours] = both(&server, Answer::page(body)).await;
        assert!(sdk.is_ok(), "{body}: {sdk:?}");
        assert_eq!(ours, sdk, "{body}");
    }
}

#[tokio::test]
async fn attributes_of_every_kind_read_alike() {
    let server = Answering::start().await;
    let attributes = [
        r#"{"S":"\ud83d\ude00 \u0000\b\f\n\r\t\/\\\" \u00e9 é 😀"}"#,
        r#"{"N":"-1.50E+10"}"#,
        r#"{"N":"not a number"}"#,
        r#"{"BOOL":true}"#,
        r#"{"NULL":true}"#,
        r#"{"NULL":false}"#,
        r#"{"B":"AAEC/+8="}"#,
        r#"{"B":""}"#,
        r#"{"SS":["a","\u0062"]}"#,
        r#"{"NS":["1","1.0"]}"#,
        r#"{"BS":["AA==","AQ=="]}"#,
        r#"{"L":[{"S":"x"},{"L":[]},{"M":{"y":{"NULL":true},"y":{"N":"1"}}}]}"#,
        r#"{"M":{}}"#,
        r#"{"S":"x","N":null}"#,
        r#"{"N":null,"S":"x"}"#,
        r#"{"__type":{"any":[1]},"S":"x"}"#,
        r#"{"\u0053":"x"}"#,
    ];
    for attribute in attributes {
        let [sdk, ours] = both(&server, Answer::page(page_of(attribute))).await;
        assert!(sdk.is_ok(), "{attribute}: {sdk:?}");
        assert_eq!(ours, sdk, "{attribute}");
    }
}

#[tokio::test]
async fn what_is_no_page_is_an_error_of_the_same_kind() {
    let server = Answering::start().await;
    let attributes = [
        "null",
        "7",
        "{}",
        r#"{"S":null}"#,
        r#"{"S":7}"#,
        r#"{"N":7}"#,
        r#"{"BOOL":"true"}"#,
        r#"{"S":"x","N":"1"}"#,
        r#"{"S":"x","S":"y"}"#,
        r#"{"S":"\ud83d"}"#,
        r#"{"S":"\ude00"}"#,
        r#"{"S":"\ud83d\u0041"}"#,
        r#"{"S":"\x41"}"#,
        "{\"S\":\"a\nb\"}",
        r#"{"SS":["a",null]}"#,
        r#"{"L":[null]}"#,
        r#"{"M":{"x":null}}"#,
        r#"{"B":"A"}"#,
        r#"{"B":"AAEC\/+8="}"#,
    ];
    let pages = [
        r#"{"Items":[null]}"#.to_owned(),
        r#"{"Items":{}}"#.to_owned(),
        r#"{"Items":[]} {}"#.to_owned(),
        r#"{"Items":[],"LastEvaluatedKey":{"PK":{}}}"#.to_owned(),
        r#"{"Items":[],"ConsumedCapacity":{"CapacityUnits":"1"}}"#.to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        "<html>".to_owned(),
    ];
    let deep =
        |levels: usize| format!("{}{}{}", r#"{"L":["#.repeat(levels), r#"{"S":"x"}"#, "]}".repeat(levels));
    let attributes = attributes.iter().map(|attribute| page_of(attribute)).chain([page_of(&deep(200))]);
    for body in attributes.chain(pages) {
        let [sdk, ours] = both(&server, Answer::page(body.as_str())).await;
        assert!(sdk.is_err(), "{body}: {sdk:?}");
        assert_eq!(ours, sdk, "{body}");
    }
    let [sdk, ours] = both(&server, Answer::page(b"{\"Items\":[{\"a\":{\"S\":\"\xff\"}}]}")).await;
    assert!(sdk.is_err() && ours == sdk, "bytes that are not UTF-8: {ours:?}");
    // As deep as DynamoDB allows, and deeper.
    let [sdk, ours] = both(&server, Answer::page(page_of(&deep(40)))).await;
    assert!(sdk.is_ok() && ours == sdk, "{ours:?}");
}

/// Ours refuses where the two differ: a page with two lists, an attribute of a type that is not known.
#[tokio::test]
async fn what_only_the_sdk_would_make_sense_of_is_refused() {
    let server = Answering::start().await;
    for body in [r#"{"Items":[{"a":{"S":"x"}}],"Items":[]}"#.to_owned(), page_of(r#"{"X":"y"}"#)] {
        assert_eq!(both(&server, Answer::page(body)).await[1], Err(Kind::Unknown));
    }
}

/// 1. A proxy answers a page with 200 and an empty body. 2. To the SDK that is an empty page, and the last
/// one. 3. The rest of the segment is never read.
#[tokio::test]
async fn what_has_no_list_of_items_is_no_page_of_a_scan() {
    let server = Answering::start().await;
    for body in
        ["", "{}", r#"{"ConsumedCapacity":{"CapacityUnits":3}}"#, r#"{"LastEvaluatedKey":{"PK":{"S":"x"}}}"#]
    {
        let [sdk, ours] = both(&server, Answer::page(body)).await;
        assert_eq!([sdk, ours], [Err(Kind::Unknown), Err(Kind::Unknown)], "{body}");
    }
}

#[tokio::test]
async fn errors_are_the_sdks() {
    let server = Answering::start().await;
    let error = |status, code: &str| Answer {
        status,
        ..Answer::page(format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"why"}}"#))
    };
    let page = page_of(r#"{"S":"x"}"#);
    let expected = [
        (error(400, "ProvisionedThroughputExceededException"), Kind::Throttled),
        (error(400, "ThrottlingException"), Kind::Throttled),
        (error(400, "ValidationException"), Kind::Misconfigured),
        (error(400, "ResourceNotFoundException"), Kind::Misconfigured),
        (error(400, "ExpiredTokenException"), Kind::Unavailable),
        (error(500, "InternalServerError"), Kind::Unknown),
        (error(503, "ServiceUnavailable"), Kind::Unknown),
        (Answer { status: 502, ..Answer::page("<html>") }, Kind::Unknown),
        (Answer { status: 400, ..Answer::page(page.as_str()) }, Kind::Unknown),
        (Answer { cut: Some(0), ..Answer::page(page.as_str()) }, Kind::Unknown),
        (Answer { cut: Some(20), ..Answer::page(page.as_str()) }, Kind::Unknown),
        (Answer { cut: Some(page.len() - 1), ..Answer::page(page.as_str()) }, Kind::Unknown),
    ];
    for (answer, kind) in expected {
        let sdk = by_the_sdk(&server, answer.clone()).await.expect_err("an error");
        let ours = by_us(&server, answer.clone()).await.expect_err("an error");
        assert_eq!((ours.kind, &ours.message), (sdk.kind, &sdk.message), "{answer:?}");
        assert_eq!(ours.kind, kind, "{answer:?}: {ours}");
    }
}

proptest! {
    #[test]
    fn any_items_read_alike_however_they_are_written(items in vec(any_item(), 0..4), style in any::<u64>()) {
        let written = page(&items, &mut Style(style));
        let (sdk, ours) = read_both(Answer::page(written.as_str()));
        prop_assert_eq!(sdk.as_ref().map(|page| &page.0), Ok(&items), "{}", &written);
        prop_assert_eq!(ours, sdk, "{}", written);
    }

    #[test]
    fn a_garbled_page_is_refused_or_read_alike(
        items in vec(any_item(), 0..3), style in any::<u64>(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        let mut written = page(&items, &mut Style(style)).into_bytes();
        let at = at.index(written.len());
        if cut { written.truncate(at) } else { written[at] = byte }
        let (sdk, ours) = read_both(Answer::page(written.clone()));
        if ours.is_ok() {
            prop_assert_eq!(ours, sdk, "{}", String::from_utf8_lossy(&written));
        }
    }
}

type Known = std::result::Result<(Vec<Attributes>, Option<Attributes>, f64), Kind>;

/// Starts one server for all cases.
fn read_both(answer: Answer) -> (Known, Known) {
    use std::sync::{LazyLock, Mutex, PoisonError};
    static SERVER: LazyLock<Mutex<(tokio::runtime::Runtime, Answering)>> = LazyLock::new(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let server = runtime.block_on(Answering::start());
        Mutex::new((runtime, server))
    });
    let held = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    let [sdk, ours] = held.0.block_on(both(&held.1, answer));
    (sdk, ours)
}
