//! The two manifests of an export. Pure.

use std::collections::HashSet;
use std::path::Path;

use chrono::{DateTime, Utc};
use lockstep_core::serde_words;
use serde::Deserialize;

use super::ExportFile;

/// Summary that an export gives of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportSummary {
    /// ARN of the export.
    pub arn: String,
    /// The table whose items it has.
    pub table: String,
    /// The id of that table: another one of the same name has another id.
    pub table_id: String,
    /// The moment whose items it has.
    pub at: DateTime<Utc>,
    /// Items in all files together.
    pub items: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    export_arn: String,
    table_arn: String,
    table_id: String,
    export_time: Option<DateTime<Utc>>,
    item_count: u64,
    output_format: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    item_count: u64,
    md5_checksum: String,
    data_file_s3_key: String,
}

/// Reads `manifest-summary.json`; an error says why it is none of a full export in DynamoDB's JSON.
pub(super) fn summary_of(text: &str) -> Result<ExportSummary, String> {
    let summary: serde_json::Value =
        serde_json::from_str(text).map_err(|e| format!("it is not JSON: {}", serde_words::of_json(&e)))?;
    // Asked first: an incremental one has no moment, and other fields. One of before types says nothing.
    if let Some(kind) = summary.get("exportType").and_then(serde_json::Value::as_str)
        && kind != "FULL_EXPORT"
    {
        return Err(format!(
            "it is of an export of type {kind}, which has the changes of a period and not every item; ask \
             for a FULL_EXPORT"
        ));
    }
    let summary: Summary = serde_json::from_value(summary)
        .map_err(|e| format!("it is not as DynamoDB documents it: {}", serde_words::of_json(&e)))?;
    if summary.output_format != "DYNAMODB_JSON" {
        return Err(format!("its files are {}; only DYNAMODB_JSON is read", summary.output_format));
    }
    let at = summary.export_time.ok_or("it does not say of which moment it is (exportTime)")?;
    let table = summary.table_arn.rsplit_once('/').map(|(_, name)| name.to_owned());
    let table = table.ok_or_else(|| format!("{} names no table", summary.table_arn))?;
    let (arn, table_id, items) = (summary.export_arn, summary.table_id, summary.item_count);
    Ok(ExportSummary { arn, table, table_id, at, items })
}

/// Reads `manifest-files.json`, one file a line. All together must have `items` items.
pub(super) fn files_of(text: &str, data: &Path, items: u64) -> Result<Vec<ExportFile>, String> {
    let (mut files, mut names) = (Vec::new(), HashSet::new());
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let file: File = serde_json::from_str(line).map_err(|e| {
            format!("line {} is not as DynamoDB documents it: {}", number + 1, serde_words::of_json(&e))
        })?;
        // Of the key only the last part is a name in the folder; nothing in a manifest leads out of it.
        let name = file.data_file_s3_key.rsplit('/').next().unwrap_or_default().to_owned();
        let is_name = name.ends_with(".json.gz") && !name.contains('\\');
        if !is_name || !names.insert(name.clone()) {
            return Err(format!(
                "line {} names no file of items, or one for the second time: `{}`",
                number + 1,
                file.data_file_s3_key
            ));
        }
        let (path, items, md5) = (data.join(name), file.item_count, file.md5_checksum);
        files.push(ExportFile { path, object: None, items, md5 });
    }
    let sum: u64 = files.iter().map(|file| file.items).sum();
    if sum != items {
        return Err(format!(
            "its files have {sum} items, and manifest-summary.json says {items}: the manifests are not of \
             one export, or one is cut off"
        ));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(with: &str) -> String {
        format!(
            r#"{{"version":"2020-06-30","exportArn":"arn:e","tableArn":"arn:aws:dynamodb:eu:1:table/payments",
                "tableId":"i","exportTime":"2026-01-02T03:04:05.678Z","itemCount":3,"s3Prefix":null{with}}}"#
        )
    }

    #[test]
    fn a_full_export_in_dynamodbs_json_is_taken_and_each_other_refused_by_name() {
        let taken = summary_of(&summary(r#","outputFormat":"DYNAMODB_JSON""#)).expect("of before types");
        assert_eq!((taken.table.as_str(), taken.items), ("payments", 3));
        let full = r#","outputFormat":"DYNAMODB_JSON","exportType":"FULL_EXPORT""#;
        assert_eq!(summary_of(&summary(full)), Ok(taken));
        for (text, expected) in [
            (summary(r#","outputFormat":"ION""#), "ION"),
            (summary(r#","outputFormat":"DYNAMODB_JSON","exportType":"INCREMENTAL_EXPORT""#), "INCREMENTAL"),
            (r#"{"exportType":"INCREMENTAL_EXPORT"}"#.to_owned(), "INCREMENTAL"),
            (summary(""), "outputFormat"),
            ("{".to_owned(), "JSON"),
        ] {
            let refused = summary_of(&text).expect_err(&text);
            assert!(refused.contains(expected), "{expected}: {refused}");
        }
    }

    #[test]
    fn files_are_those_of_the_manifest_once_each_and_below_the_folder() {
        let line = |items: u64, key: &str| {
            format!(
                "{{\"itemCount\":{items},\"md5Checksum\":\"x\",\"etag\":\"e\",\"dataFileS3Key\":\"{key}\"}}\n"
            )
        };
        let data = Path::new("/d");
        let files = files_of(&(line(1, "p/AWSDynamoDB/1/data/a.json.gz") + &line(2, "b.json.gz")), data, 3);
        let paths: Vec<_> = files.expect("whole").into_iter().map(|file| file.path).collect();
        assert_eq!(paths, [data.join("a.json.gz"), data.join("b.json.gz")]);
        for (text, expected) in [
            (line(2, "a.json.gz"), "2 items"),
            (line(1, "a.json.gz") + &line(2, "other/a.json.gz"), "second time"),
            (line(3, ".."), "no file of items"),
            (line(3, "a.ion.gz"), "no file of items"),
            ("{\"itemCount\":3}\n".to_owned(), "line 1"),
        ] {
            let refused = files_of(&text, data, 3).expect_err(&text);
            assert!(refused.contains(expected), "{expected}: {refused}");
        }
    }
}
