//! DynamoDB's import from S3: a job that makes a new table and loads the objects under a prefix into it.
//!
//! While it runs the table is CREATING and takes no other write; the last of two items with one key stays, in
//! no order; an item that the table does not take is left out and counted. A job that fails may leave a table
//! with a part of the items behind.
//!
//! Source: Amazon DynamoDB Developer Guide, "Importing and exporting data using Amazon S3"; API Reference,
//! ImportTable and DescribeImport.

use aws_sdk_dynamodb::types::{
    BillingMode, ImportStatus, ImportTableDescription, InputCompressionType, InputFormat, S3BucketSource,
    TableCreationParameters,
};
use lockstep_core::{Error, Kind, Result, TargetSchema};
use serde::Serialize;

use super::tables::Definition;
use super::{Target, fault};

/// Most objects that one job reads (DynamoDB Developer Guide, "Quotas").
pub const IMPORT_OBJECTS_MAX: u64 = 50_000;

/// Objects that a job reads.
#[derive(Clone, Debug)]
pub struct ImportSource {
    /// The bucket.
    pub bucket: String,
    /// Every object whose name begins so is read. All are compressed by gzip.
    pub prefix: String,
    /// The account that the bucket must belong to; `None` asks nothing. 1. A bucket is deleted, or its name
    /// has a slip. 2. A bucket of that name is made in another account, whose owner lets us read it. 3. The
    /// import is then of another owner's objects.
    pub owner: Option<String>,
}

/// State of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportState {
    /// The job is at work.
    Running,
    /// The job ended, and says that nothing failed.
    Completed,
    /// The job ended otherwise: failed, or cancelled.
    Failed,
}

/// A job, as DynamoDB describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImportJob {
    /// ARN of the job.
    pub arn: String,
    /// State of the job.
    pub state: ImportState,
    /// The id of the table that it makes.
    pub table_id: Option<String>,
    /// Items that it has read.
    pub processed: i64,
    /// Items that it has put.
    pub imported: i64,
    /// Items, or files, that it could not read or put.
    pub errors: i64,
    /// Reason why it failed: DynamoDB's code and sentence.
    pub failure: Option<String>,
    /// The log group that has a line for each of up to 10,000 errors.
    pub log_group: Option<String>,
}

impl Target {
    /// Begins a job, or finds the one that was begun under the same token: the token is what makes a call
    /// repeatable whose answer was lost.
    ///
    /// DynamoDB knows a token for eight hours. After that the table of the first call is in the way of a
    /// second one, so this looks for a job with that token first wherever the table is there.
    ///
    /// # Errors
    /// The driver's; [`Kind::Refused`] where a table of that name is there that no job of this token makes.
    ///
    /// # Cancel safety
    /// A cancelled call is an unknown outcome; repeat it with the same token.
    pub async fn begin_import(
        &self,
        table: &str,
        schema: &TargetSchema,
        from: &ImportSource,
        token: &str,
    ) -> Result<ImportJob> {
        let doing = format!("importing {table} from s3://{}/{}", from.bucket, from.prefix);
        let found = self.ask_for_description(table).await?;
        if let Some(table_arn) = found.and_then(|found| found.table_arn) {
            let mine = self.import_of_token(&table_arn, token).await?;
            let why = "a table of that name is there already, and an import makes a new one";
            return mine.ok_or_else(|| Error::target(Kind::Refused, doing, why));
        }
        let Definition { attributes, key, indexes } = Definition::of(schema, &self.naming(table), None);
        let invalid =
            |e: aws_sdk_dynamodb::error::BuildError| Error::target(Kind::Invalid, &doing, e.to_string());
        let made = TableCreationParameters::builder()
            .table_name(table)
            .set_attribute_definitions(Some(attributes))
            .set_key_schema(Some(key))
            .set_global_secondary_indexes(indexes)
            .billing_mode(BillingMode::PayPerRequest)
            .build()
            .map_err(invalid)?;
        let source = S3BucketSource::builder()
            .s3_bucket(&from.bucket)
            .s3_key_prefix(&from.prefix)
            .set_s3_bucket_owner(from.owner.clone())
            .build()
            .map_err(invalid)?;
        let sent = self
            .client
            .import_table()
            .client_token(token)
            .s3_bucket_source(source)
            .input_format(InputFormat::DynamodbJson)
            .input_compression_type(InputCompressionType::Gzip)
            .table_creation_parameters(made)
            .send()
            .await
            .map_err(|e| fault::error(&doing, e))?;
        job(sent.import_table_description, &doing)
    }

    /// Returns how far a job is; asked for as often as you like. `None` where DynamoDB knows no job of that
    /// name.
    ///
    /// # Errors
    /// The driver's.
    pub async fn import_job(&self, arn: &str) -> Result<Option<ImportJob>> {
        let doing = format!("asking how far import {arn} is");
        let sent = self.client.describe_import().import_arn(arn).send().await;
        match sent.map_err(|e| fault::error(&doing, e)) {
            Err(error) if error.message.starts_with("ImportNotFoundException") => Ok(None),
            sent => job(sent?.import_table_description, &doing).map(Some),
        }
    }

    async fn import_of_token(&self, table_arn: &str, token: &str) -> Result<Option<ImportJob>> {
        let doing = format!("looking for the import that made {table_arn}");
        let mut next = None;
        loop {
            let page = self.client.list_imports().table_arn(table_arn).set_next_token(next).send().await;
            let page = page.map_err(|e| fault::error(&doing, e))?;
            for arn in page.import_summary_list().iter().filter_map(|summary| summary.import_arn()) {
                let sent = self.client.describe_import().import_arn(arn).send().await;
                let found = sent.map_err(|e| fault::error(&doing, e))?.import_table_description;
                if found.as_ref().and_then(|found| found.client_token()) == Some(token) {
                    return job(found, &doing).map(Some);
                }
            }
            next = page.next_token;
            if next.is_none() {
                return Ok(None);
            }
        }
    }
}

fn job(found: Option<ImportTableDescription>, doing: &str) -> Result<ImportJob> {
    let garbled = |what: &str| Error::target(Kind::Unknown, doing, format!("the answer has no {what}"));
    let found = found.ok_or_else(|| garbled("description"))?;
    let state = match found.import_status() {
        Some(ImportStatus::InProgress | ImportStatus::Cancelling) => ImportState::Running,
        Some(ImportStatus::Completed) => ImportState::Completed,
        Some(ImportStatus::Failed | ImportStatus::Cancelled) => ImportState::Failed,
        // Of a state that is not known nothing is concluded (I18).
        _ => return Err(garbled("state that is known")),
    };
    let words: Vec<&str> = [found.failure_code(), found.failure_message()].into_iter().flatten().collect();
    Ok(ImportJob {
        arn: found.import_arn.clone().ok_or_else(|| garbled("name of the job"))?,
        state,
        table_id: found.table_id.clone(),
        processed: found.processed_item_count,
        imported: found.imported_item_count,
        errors: found.error_count,
        failure: (!words.is_empty()).then(|| words.join(": ")),
        log_group: found.cloud_watch_log_group_arn.clone(),
    })
}
