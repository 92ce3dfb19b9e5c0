//! A comparison with exports of the target: what it finds, what it says of itself, and what it refuses.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::{DateTime, TimeDelta, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use lockstep_core::Attributes;
use lockstep_tests::World;
use lockstep_tests::world::{LOGS, PAYMENTS};
use lockstep_validator::{
    CancellationToken, FindingClass, Report, ValidateOptions, ValidateSettings, ValidationProgress, validate,
};
use serde_json::{Value, json};

use crate::planted::plant::{items_of, moved};

fn json_of(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(digits) => json!({ "N": digits }),
        AttributeValue::Bool(is) => json!({ "BOOL": is }),
        AttributeValue::Null(is) => json!({ "NULL": is }),
        other => panic!("no item of these tables has {other:?}"),
    }
}

/// Exports a table as DynamoDB documents it, into a folder as `aws s3 sync` leaves it.
async fn export(world: &World, table: &str, folder: &Path, at: DateTime<Utc>) -> PathBuf {
    let folder = folder.join(table);
    fs::create_dir_all(folder.join("data")).expect("a folder");
    let items: Vec<Attributes> =
        items_of(world).await.into_iter().filter(|(b, _)| b.name() == table).map(|(_, item)| item).collect();
    let described = world.plain_target.client().describe_table().table_name(table).send().await;
    let described = described.expect("described").table.expect("there");
    let mut files = String::new();
    for (number, part) in items.chunks(items.len().div_ceil(3)).enumerate() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        for item in part {
            let members: serde_json::Map<String, Value> =
                item.iter().map(|(name, value)| (name.clone(), json_of(value))).collect();
            writeln!(encoder, "{}", json!({ "Item": members })).expect("written");
        }
        let bytes = encoder.finish().expect("whole");
        let name = format!("part{number}.json.gz");
        let md5 = <md5::Md5 as md5::Digest>::digest(&bytes);
        let md5 = aws_smithy_types::base64::encode(md5);
        fs::write(folder.join("data").join(&name), bytes).expect("written");
        let key = format!("prefix/AWSDynamoDB/0123-ab/data/{name}");
        let line = json!({
            "itemCount": part.len(), "md5Checksum": md5, "etag": "e-1", "dataFileS3Key": key
        });
        files += &format!("{line}\n");
    }
    fs::write(folder.join("manifest-files.json"), files).expect("written");
    let summary = json!({
        "version": "2020-06-30",
        "exportArn": format!("arn:aws:dynamodb:eu-central-1:000000000000:table/{table}/export/0123-ab"),
        "startTime": at, "endTime": at, "exportTime": at,
        "tableArn": format!("arn:aws:dynamodb:eu-central-1:000000000000:table/{table}"),
        "tableId": described.table_id, "s3Bucket": "b", "s3Prefix": "prefix",
        "manifestFilesS3Key": "prefix/AWSDynamoDB/0123-ab/manifest-files.json",
        "billedSizeBytes": 0, "itemCount": items.len(), "outputFormat": "DYNAMODB_JSON",
        "exportType": "FULL_EXPORT"
    });
    fs::write(folder.join("manifest-summary.json"), summary.to_string()).expect("written");
    folder
}

async fn compare(world: &World, exports: &[PathBuf]) -> Report {
    let tables = world.tables();
    let options = ValidateOptions {
        settings: ValidateSettings {
            settle_timeout: std::time::Duration::from_secs(5),
            ..ValidateSettings::default()
        },
        exports: exports.to_vec(),
        wait_for_pending: false,
        ..ValidateOptions::default()
    };
    let never = CancellationToken::new();
    validate(&world.source, &world.plain_target, &tables, &options, &ValidationProgress::new(&tables), &never)
        .await
}

/// Adds a cent to an item, past every guard.
async fn spoil(world: &World, item: &Attributes) {
    let mut item = item.clone();
    item.insert("amount".to_owned(), AttributeValue::N("123456.78".to_owned()));
    let put = world.plain_target.client().put_item().table_name(PAYMENTS).set_item(Some(item));
    put.send().await.expect("put");
}

fn payment_id(item: &Attributes) -> String {
    item["payment_id"].as_n().expect("a number").clone()
}

#[tokio::test]
async fn what_differs_from_an_export_is_judged_by_what_is_there_and_the_report_says_of_when_it_is() {
    let world = World::start().await;
    moved(&world, 13, 120, 90).await;
    let payments: Vec<Attributes> =
        items_of(&world).await.into_iter().filter(|(b, _)| b.name() == PAYMENTS).map(|(_, i)| i).collect();
    // Wrong when it is exported: one stays so, the other is put right.
    spoil(&world, &payments[0]).await;
    spoil(&world, &payments[1]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let at = DateTime::from_timestamp_millis((Utc::now() - TimeDelta::minutes(20)).timestamp_millis());
    let at = at.expect("a moment");
    let exports =
        [export(&world, LOGS, folder.path(), at).await, export(&world, PAYMENTS, folder.path(), at).await];
    let put = world.plain_target.client().put_item().table_name(PAYMENTS);
    put.set_item(Some(payments[1].clone())).send().await.expect("put");
    // Changed since, and delivered: no difference. One of them is spoilt after that.
    let id = |number: usize| payment_id(&payments[number]);
    world.sql(&format!("DELETE FROM payments WHERE payment_id = {}", id(2))).await;
    world
        .sql(&format!(
            "UPDATE payments SET transaction_reference = 'newer' WHERE payment_id IN ({}, {})",
            id(3),
            id(4)
        ))
        .await;
    world.relay_until_empty().await;
    let now: Vec<Attributes> = world.items(PAYMENTS).await;
    let changed = now.iter().find(|item| item.get("payment_id").is_some() && payment_id(item) == id(4));
    spoil(&world, changed.expect("there")).await;
    // Spoilt since, under a row that has not changed: the export has it right.
    spoil(&world, &payments[5]).await;

    let report = compare(&world, &exports).await;
    let of_payments = report.tables.iter().find(|table| table.name == PAYMENTS).expect("there");
    assert_eq!((of_payments.findings_total(), of_payments.different), (2, 2), "{report:#?}");
    let keys: Vec<&str> = of_payments.findings.iter().map(|finding| finding.key.as_str()).collect();
    for number in [0, 4] {
        let is_found = keys.iter().any(|key| key.contains(&id(number)));
        assert!(is_found && of_payments.findings[0].class == FindingClass::Different, "{keys:?}");
    }
    assert!(report.tables.iter().all(|table| table.complete && table.as_of == Some(at)), "{report:#?}");
    assert!(report.from_export && !report.is_whole(), "no gate takes it");
    let seen = of_payments.export.as_ref().expect("it is named");
    assert_eq!((seen.items, seen.at), (payments.len() as u64, at));
    let scanned = compare(&world, &[]).await;
    assert_eq!(scanned.findings_total(), 3, "a scan sees what an export cannot: {scanned:#?}");

    refuses_what_is_not_whole(&world, &exports).await;
}

async fn refuses_what_is_not_whole(world: &World, exports: &[PathBuf; 2]) {
    let [logs, payments] = exports;
    let refused = async |exports: &[PathBuf], expected: &str| {
        let report = compare(world, exports).await;
        let reasons = report.verdict.reasons();
        assert!(reasons.iter().any(|reason| reason.contains(expected)), "{expected}: {reasons:?}");
        assert!(!report.tables.iter().all(|table| table.complete));
    };
    refused(std::slice::from_ref(logs), "there is no export of payments").await;
    let part = logs.join("data/part1.json.gz");
    let bytes = fs::read(&part).expect("there");
    fs::write(&part, [&bytes[..], b"\x00"].concat()).expect("written");
    refused(exports, "part1.json.gz").await;
    fs::remove_file(&part).expect("removed");
    refused(exports, "part1.json.gz").await;
    fs::write(&part, bytes).expect("written");
    let manifest = payments.join("manifest-summary.json");
    let text = fs::read_to_string(&manifest).expect("there");
    let id = serde_json::from_str::<Value>(&text).expect("JSON")["tableId"].to_string();
    fs::write(&manifest, text.replace(&id, "\"another\"")).expect("written");
    refused(exports, "with id another").await;
    fs::write(&manifest, text.replace("FULL_EXPORT", "INCREMENTAL_EXPORT")).expect("written");
    refused(exports, "INCREMENTAL_EXPORT").await;
}
