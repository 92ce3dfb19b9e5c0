//! A comparison with exports of the target: what it finds, what it says of itself, and what it refuses.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::{DateTime, TimeDelta, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use lockstep_core::Attributes;
use lockstep_dynamo::{ExportPlace, Target, TargetOptions};
use lockstep_tests::World;
use lockstep_tests::faults::{ObjectFault, ObjectServer};
use lockstep_tests::world::{LOGS, PAYMENTS};
use lockstep_validator::{
    CancellationToken, FindingClass, Kept, Report, ValidateOptions, ValidateSettings, ValidationProgress,
    validate,
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
    let places = exports.iter().map(|folder| ExportPlace::Folder(folder.clone()));
    compare_with(world, &world.plain_target, places.collect()).await
}

async fn compare_with(world: &World, target: &Target, exports: Vec<ExportPlace>) -> Report {
    compare_kept(world, target, exports, None).await
}

async fn compare_kept(
    world: &World,
    target: &Target,
    exports: Vec<ExportPlace>,
    kept: Option<Kept>,
) -> Report {
    let tables = world.tables();
    let options = ValidateOptions {
        settings: ValidateSettings {
            settle_timeout: std::time::Duration::from_secs(5),
            ..ValidateSettings::default()
        },
        exports,
        kept,
        wait_for_pending: false,
        ..ValidateOptions::default()
    };
    let never = CancellationToken::new();
    validate(&world.source, target, &tables, &options, &ValidationProgress::new(&tables), &never).await
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

#[tokio::test]
async fn an_export_is_read_where_it_lies_in_s3_over_its_faults_and_refused_as_in_a_folder() {
    let world = World::start().await;
    moved(&world, 17, 150, 60).await;
    let root = tempfile::tempdir().expect("a folder");
    let bucket = root.path().join("bucket");
    let at = Utc::now() - TimeDelta::minutes(5);
    for table in [LOGS, PAYMENTS] {
        export(&world, table, &bucket.join("AWSDynamoDB"), at).await;
    }
    let objects = ObjectServer::start(root.path()).await.expect("it listens");
    let options = TargetOptions { s3_endpoint_url: Some(objects.endpoint_url()), ..world.target_options() };
    let target = Target::connect(options).await;
    let places =
        || [LOGS, PAYMENTS].map(|table| ExportPlace::of(&format!("s3://bucket/AWSDynamoDB/{table}/")));
    let data = "/data/part1.json.gz";
    for (of, fault) in [
        ("manifest-files.json", ObjectFault::Refused(503, "SlowDown")),
        ("manifest-summary.json", ObjectFault::Cut),
        ("list-type=2", ObjectFault::Refused(500, "InternalError")),
        (data, ObjectFault::HalfAnAnswer),
        (data, ObjectFault::Refused(503, "SlowDown")),
        (data, ObjectFault::HalfAnAnswer),
    ] {
        objects.script("GET", of, 1, fault);
    }
    let read = compare_with(&world, &target, places().to_vec()).await;
    assert_eq!(objects.left(), 0, "each fault happened");
    assert!(read.tables.iter().all(|table| table.complete), "{read:#?}");
    assert_eq!(read.findings_total(), 0, "{read:#?}");
    let items: u64 =
        read.tables.iter().filter_map(|table| table.export.as_ref()).map(|seen| seen.items).sum();
    assert_eq!(items, items_of(&world).await.len() as u64, "each was read, and once");
    assert!(read.from_export && !read.is_whole(), "no gate takes it");

    let refused = async |expected: &str| {
        let report = compare_with(&world, &target, places().to_vec()).await;
        let said: Vec<_> = report.tables.iter().filter_map(|table| table.failure.clone()).collect();
        assert!(said.iter().any(|why| why.contains(expected)), "{expected}: {said:?}");
    };
    objects.script("GET", data, 1, ObjectFault::Refused(403, "AccessDenied"));
    refused("s3:GetObject").await;
    let file = bucket.join("AWSDynamoDB").join(PAYMENTS).join(&data[1..]);
    let mut bytes = fs::read(&file).expect("there");
    let last = bytes.len() - 9;
    bytes[last] ^= 1;
    fs::write(&file, &bytes).expect("changed");
    refused("part1.json.gz").await;
    fs::remove_file(&file).expect("removed");
    refused("there is no such object").await;
}

/// Compresses a file of an export again: its items are the same, and it is not the manifest's.
fn recompress(file: &Path) {
    let mut lines = String::new();
    let read = fs::File::open(file).expect("there");
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(read), &mut lines).expect("text");
    let mut encoder = GzEncoder::new(fs::File::create(file).expect("made"), Compression::none());
    encoder.write_all(lines.as_bytes()).expect("written");
    encoder.finish().expect("whole");
}

#[tokio::test]
async fn a_comparison_with_an_export_goes_on_with_that_export_alone_and_counts_no_item_twice() {
    let world = World::start().await;
    moved(&world, 23, 200, 40).await;
    let (root, keeping) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let bucket = root.path().join("bucket");
    let at = Utc::now() - TimeDelta::days(3);
    for table in [LOGS, PAYMENTS] {
        export(&world, table, &bucket, at).await;
    }
    let objects = ObjectServer::start(root.path()).await.expect("it listens");
    let options = TargetOptions { s3_endpoint_url: Some(objects.endpoint_url()), ..world.target_options() };
    let target = Target::connect(options).await;
    let places = || [LOGS, PAYMENTS].map(|table| ExportPlace::of(&format!("s3://bucket/{table}"))).to_vec();
    let kept = || Some(Kept { folder: keeping.path().to_owned(), restart: false });
    let run = async || compare_kept(&world, &target, places(), kept()).await;
    let of = |report: &Report| report.tables.iter().find(|table| table.name == LOGS).cloned().expect("there");
    let whole = of(&compare_with(&world, &target, places()).await);

    // 1. A file is entered to its end, and turns out not to be the manifest's; another one cannot be read.
    let data = bucket.join(LOGS).join("data");
    let right = fs::read(data.join("part1.json.gz")).expect("there");
    recompress(&data.join("part1.json.gz"));
    objects.script("GET", "integration_logs/data/part2", 1, ObjectFault::Refused(403, "AccessDenied"));
    let first = of(&run().await);
    let why = first.failure.clone().expect("it is not whole");
    assert!(!first.complete && why.contains("goes on from there"), "{why}");
    // 2. Both are put right. What was whole is not read again, and what was entered counts once.
    fs::write(data.join("part1.json.gz"), right).expect("put right");
    let before = objects.seen().len();
    let second = of(&run().await);
    let read: Vec<String> = objects.seen().split_off(before);
    assert!(second.complete && second.rows_resumed > 0, "{second:#?}");
    assert_eq!((second.target_count, second.findings_total()), (whole.target_count, 0), "{second:#?}");
    let reads = |part: &str| read.iter().filter(|asked| asked.contains(part)).count();
    let first_again = reads("integration_logs/data/part0");
    assert!(first_again <= 1 && reads("integration_logs/data/part2") == 1, "{read:?}");
    assert_eq!(second.as_of, whole.as_of, "however old the export is");

    // 3. It is broken off again, and another export is made meanwhile: nothing of the first counts.
    objects.script("GET", "integration_logs/data/part2", 1, ObjectFault::Refused(403, "AccessDenied"));
    assert!(!of(&run().await).complete);
    let summary = bucket.join(LOGS).join("manifest-summary.json");
    let text = fs::read_to_string(&summary).expect("there");
    fs::write(&summary, text.replace("0123-ab", "4567-cd")).expect("another export");
    let third = of(&run().await);
    assert_eq!((third.complete, third.rows_resumed), (true, 0), "{third:#?}");
    assert_eq!(third.target_count, whole.target_count);
}
