//! Answers that are none.

use aws_sdk_dynamodb::operation::put_item::PutItemOutput;
use aws_smithy_types::body::SdkBody;
use lockstep_core::{Item, Kind, TargetKey, Version};

use super::*;
use crate::fence::Fence;
use crate::raw_scan::answering::{Answer, Answering};
use crate::{ConditionalPut, Expected};

/// Each operation that is sent, answered by a body that says nothing.
#[tokio::test]
async fn a_success_without_a_body_or_without_what_was_asked_for_is_an_unknown_outcome() {
    let server = Answering::start().await;
    let (tables, streams) = (&server.target.client, &server.target.streams);
    let kind = |error: lockstep_core::Error| (error.kind, error.message);
    macro_rules! asked {
        ($request:expr) => {
            $request.send().await.map(drop).map_err(|e| kind(crate::fault::error("asking", e)))
        };
    }
    for body in ["", "{}"] {
        server.answer(Answer::page(body));
        // `{}` is all that DynamoDB says to the first ones.
        let says_enough = [
            ("PutItem", asked!(tables.put_item().table_name("t"))),
            ("UpdateItem", asked!(tables.update_item().table_name("t"))),
            ("DeleteItem", asked!(tables.delete_item().table_name("t"))),
            ("GetItem", asked!(tables.get_item().table_name("t"))),
            ("TransactWriteItems", asked!(tables.transact_write_items())),
        ];
        let says_too_little = [
            ("Query", asked!(tables.query().table_name("t"))),
            ("Scan", asked!(tables.scan().table_name("t"))),
            ("BatchGetItem", asked!(tables.batch_get_item())),
            ("TransactGetItems", asked!(tables.transact_get_items())),
            ("BatchExecuteStatement", asked!(tables.batch_execute_statement())),
            ("DescribeTable", asked!(tables.describe_table().table_name("t"))),
            ("CreateTable", asked!(tables.create_table().table_name("t"))),
            ("UpdateTable", asked!(tables.update_table().table_name("t"))),
            ("DeleteTable", asked!(tables.delete_table().table_name("t"))),
            ("DescribeTimeToLive", asked!(tables.describe_time_to_live().table_name("t"))),
            ("UpdateTimeToLive", asked!(tables.update_time_to_live().table_name("t"))),
            ("DescribeContinuousBackups", asked!(tables.describe_continuous_backups().table_name("t"))),
            ("UpdateContinuousBackups", asked!(tables.update_continuous_backups().table_name("t"))),
            ("ListImports", asked!(tables.list_imports())),
            ("DescribeImport", asked!(tables.describe_import().import_arn("a"))),
            ("ImportTable", asked!(tables.import_table().client_token("a"))),
            ("GetRecords", asked!(streams.get_records())),
            ("GetShardIterator", asked!(streams.get_shard_iterator())),
            ("DescribeStream", asked!(streams.describe_stream())),
            ("ListStreams", asked!(streams.list_streams())),
        ];
        for (operation, said) in says_enough {
            assert_eq!(said.is_ok(), body == "{}", "{operation} {body}: {said:?}");
        }
        for (operation, said) in says_too_little {
            let (kind, why) = said.expect_err(operation);
            assert_eq!(kind, Kind::Unknown, "{operation} {body}: {why}");
            assert!(why.contains("is a success, and has no "), "{operation} {body}: {why}");
        }
    }
    server.answer(Answer::page(r#"{"Count":0,"ScannedCount":0}"#));
    assert_eq!(asked!(tables.query().table_name("t")), Ok(()), "a page that counts has no list");
    for body in [r#"{"TimeToLiveDescription":{}}"#, r#"{"Table":{"TableName":"t"}}"#] {
        server.answer(Answer::page(body));
        let (expiry, there) = (server.target.expiry("t").await, server.target.protection("t").await);
        assert_eq!(expiry.expect_err("no status is not that it is off").kind, Kind::Unknown);
        assert_eq!(there.expect_err("no status").kind, Kind::Unknown);
    }
    server.answer(Answer::page(r#"{"TimeToLiveDescription":{"TimeToLiveStatus":"PAUSED"}}"#));
    let expiry = server.target.expiry("t").await.expect_err("a status that is not known");
    assert_eq!(expiry.kind, Kind::Unknown, "{expiry}");
    server.answer(Answer::page(r#"{"TimeToLiveDescription":{"TimeToLiveStatus":"DISABLED"}}"#));
    assert_eq!(server.target.expiry("t").await.expect("off"), crate::TableExpiry::Off);
    server.answer(Answer::page(""));
    let put = server.target.put_guarded("t", Item::default(), Version(7)).await.expect_err("not put");
    assert_eq!(put.kind, Kind::Unknown, "{put}");
}

/// `{"Responses":{}}` would make every item absent, and a short list the last ones.
#[tokio::test]
async fn items_that_an_answer_does_not_name_are_not_absent() {
    let server = Answering::start().await;
    let key = TargetKey { partition: aws_sdk_dynamodb::types::AttributeValue::S("x".into()), sort: None };
    let brief = crate::Backoff::brief;
    server.answer(Answer::page(r#"{"Responses":{"other":[]},"UnprocessedKeys":{}}"#));
    let many = server.target.get_many("t", std::slice::from_ref(&key), brief()).await;
    assert_eq!(many.expect_err("it names another table").kind, Kind::Unknown);
    server.answer(Answer::page(r#"{"Responses":{"t":[]},"UnprocessedKeys":{}}"#));
    assert_eq!(server.target.get_many("t", std::slice::from_ref(&key), brief()).await.expect("absent"), []);
    let two = [("t", key.to_attributes()), ("t", key.to_attributes())];
    server.answer(Answer::page(r#"{"Responses":[{}]}"#));
    let short = server.target.get_together(&two).await.expect_err("one of two");
    assert_eq!(short.kind, Kind::Unknown, "{short}");
    server.answer(Answer::page(r#"{"Responses":[{},{}]}"#));
    assert_eq!(server.target.get_together(&two).await.expect("both are absent"), [None, None]);
}

/// Answers of something before DynamoDB, given in its place, to each question.
#[tokio::test]
async fn a_success_that_does_not_name_its_request_is_an_unknown_outcome() {
    let server = Answering::start().await;
    let (target, streams) = (&server.target, &server.target.streams);
    let key = TargetKey { partition: aws_sdk_dynamodb::types::AttributeValue::S("x".into()), sort: None };
    let (expected, fence) = (Expected::Absent, Fence::new(|| true));
    let put = ConditionalPut { table: "t".into(), item: key.to_attributes(), expected };
    let all_items = r#"{"Items":[],"Count":0,"Records":[],"Responses":{"t":[]},"status":"ok"}"#;
    // Each service has named a request.
    server.answer(Answer::page("{}").named("{}"));
    assert_eq!(target.get("t", &key).await.expect("an answer of DynamoDB"), None);
    let none = r#"{"Records":[]}"#;
    server.answer(Answer::page(none).named(none));
    streams.get_records().send().await.expect("an answer of its streams");
    for body in ["{}", r#"{"status":"ok"}"#, all_items] {
        server.answer(Answer::page(body));
        let puts = [put.clone(), put.clone()];
        let said = [
            ("a guarded put", target.put_guarded("t", Item::default(), Version(7)).await.err()),
            ("a put under a condition", target.put_if(&puts[..1], "token", &fence).await.err()),
            ("puts together", target.put_if(&puts, "token", &fence).await.err()),
            ("an item", target.get("t", &key).await.err()),
            ("a page of a scan", target.scan_page("t", (0, 1), None).await.err()),
            ("a page of a scan as it came", target.scan_body("t", (0, 1), None).await.err()),
            ("items", target.get_many("t", std::slice::from_ref(&key), crate::Backoff::brief()).await.err()),
            (
                "records",
                streams.get_records().send().await.map_err(|e| crate::fault::error("asking", e)).err(),
            ),
        ];
        for (what, error) in said {
            let error = error.unwrap_or_else(|| panic!("{what}, {body}: taken for an answer"));
            assert_eq!(error.kind, Kind::Unknown, "{what}, {body}: {error}");
            assert!(error.message.contains("is a success"), "{what}, {body}: {error}");
        }
    }
}

/// Cut on its way and closed: the rows that are missing would be absent.
#[tokio::test]
async fn an_answer_that_is_not_what_was_sent_is_an_unknown_outcome() {
    let server = Answering::start().await;
    let key = TargetKey { partition: aws_sdk_dynamodb::types::AttributeValue::S("x".into()), sort: None };
    let target = &server.target;
    let whole = r#"{"Items":[{"PK":{"S":"x"}},{"PK":{"S":"y"}}],"Count":2,"ScannedCount":2}"#;
    let cut = r#"{"Items":[{"PK":{"S":"x"}}],"Count":1,"ScannedCount":1}"#;
    server.answer(Answer::page(whole).named(whole));
    target.scan_page("t", (0, 1), None).await.expect("as it was sent");
    target.scan_body("t", (0, 1), None).await.expect("as it was sent");
    server.answer(Answer::page(cut).named(whole));
    let page = target.scan_page("t", (0, 1), None).await.expect_err("a page that was cut");
    let body = target.scan_body("t", (0, 1), None).await.expect_err("bytes that were cut");
    server.answer(Answer::page("{}").named(r#"{"Item":{"PK":{"S":"x"}}}"#));
    let item = target.get("t", &key).await.expect_err("an item that was cut away");
    // A refusal brings the item that is there.
    let refusal = |item: &str| {
        let code = "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException";
        format!(r#"{{"__type":"{code}","message":"no","Item":{{{item}}}}}"#)
    };
    let (all, less) = (refusal(r#""PK":{"S":"x"},"_v":{"N":"9"}"#), refusal(r#""PK":{"S":"x"}"#));
    let refused = |body: &str| Answer { status: 400, ..Answer::page(body).named(&all) };
    server.answer(refused(&all));
    let put = async || target.put_guarded("t", Item::default(), Version(7)).await;
    let standing = put().await.expect("refused").standing.expect("what is there");
    assert_eq!(lockstep_core::version_of(&standing), Some(Version(9)));
    server.answer(refused(&less));
    for error in [page, body, item, put().await.expect_err("a refusal that was cut")] {
        assert_eq!(error.kind, Kind::Unknown, "{error}");
        assert!(error.message.contains("its checksum"), "{error}");
    }
}

#[test]
fn only_an_emulators_answers_may_be_unnamed_and_only_until_one_was_named() {
    let output = Output::erase(PutItemOutput::builder().build());
    let answer = |name: Option<&'static str>| {
        let mut answer = HttpResponse::new(200.try_into().expect("a status"), SdkBody::from("{}"));
        name.map(|name| answer.headers_mut().insert(REQUEST_ID, name));
        answer
    };
    let says = |understood: &Understood, name| understood.what_is_wrong(&answer(name), Some(&output));
    let aws = Understood::new(false);
    assert!(matches!(says(&aws, None), Some(SaysNothing::Unnamed)));
    assert!(matches!(says(&aws, Some("")), Some(SaysNothing::Unnamed)));
    assert!(says(&aws, Some("A1")).is_none());
    let emulator = Understood::new(true);
    assert!(says(&emulator, None).is_none());
    assert!(says(&emulator, Some("A1")).is_none());
    assert!(matches!(says(&emulator, None), Some(SaysNothing::Unnamed)));
}
