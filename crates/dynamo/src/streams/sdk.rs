//! The real stream, through the AWS SDK.

use async_trait::async_trait;
use aws_sdk_dynamodbstreams::Client;
use aws_sdk_dynamodbstreams::error::ProvideErrorMetadata;
use aws_sdk_dynamodbstreams::types::{Record, ShardIteratorType};
use chrono::DateTime;
use lockstep_core::{Error, Kind};

use super::super::fault;
use super::api::{RecordsPage, Shard, StreamApi, StreamError, StreamRecord};
use super::convert::attributes;

/// Who DynamoDB says has removed an expired item (Developer Guide, "DynamoDB Streams and Time to Live").
const EXPIRY_PRINCIPAL: &str = "dynamodb.amazonaws.com";

/// The stream of one table.
#[derive(Clone, Debug)]
pub struct TableStream {
    client: Client,
    table: String,
    arn: String,
}

impl TableStream {
    pub(super) fn new(client: Client, table: &str, arn: String) -> Self {
        Self { client, table: table.to_owned(), arn }
    }

    /// Which stream: one that was ended and begun again is another.
    pub fn arn(&self) -> &str {
        &self.arn
    }

    fn doing(&self) -> String {
        format!("reading the stream of {}", self.table)
    }

    /// Tells the streams' own errors from those of any request.
    fn error<E>(&self, error: aws_sdk_dynamodbstreams::error::SdkError<E>) -> StreamError
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        match error.as_service_error().and_then(ProvideErrorMetadata::code) {
            Some("TrimmedDataAccessException") => StreamError::Trimmed,
            Some("ExpiredIteratorException") => StreamError::Expired,
            _ => StreamError::Store(fault::error(self.doing(), error)),
        }
    }

    fn record(&self, record: Record) -> Result<StreamRecord, Error> {
        let image = record.dynamodb.ok_or_else(|| self.broken("a record without its change"))?;
        Ok(StreamRecord {
            sequence: image.sequence_number.ok_or_else(|| self.broken("a record without a sequence number"))?,
            at: image.approximate_creation_date_time.and_then(|at| DateTime::from_timestamp(at.secs(), at.subsec_nanos())),
            key: attributes(image.keys.unwrap_or_default())?,
            old: image.old_image.map(attributes).transpose()?,
            new: image.new_image.map(attributes).transpose()?,
            expired: record.user_identity.is_some_and(|by| by.principal_id.as_deref() == Some(EXPIRY_PRINCIPAL)),
        })
    }

    fn broken(&self, what: &str) -> Error {
        Error::target(Kind::Invalid, self.doing(), format!("DynamoDB sent {what}"))
    }
}

#[async_trait]
impl StreamApi for TableStream {
    async fn shards(&self) -> Result<Vec<Shard>, StreamError> {
        let (mut shards, mut after) = (Vec::new(), None);
        loop {
            let page = self.client.describe_stream().stream_arn(&self.arn).set_exclusive_start_shard_id(after).send().await;
            let page = page.map_err(|e| self.error(e))?.stream_description;
            let page = page.ok_or_else(|| self.broken("no description of the stream"))?;
            for shard in page.shards.unwrap_or_default() {
                let id = shard.shard_id.ok_or_else(|| self.broken("a shard without an id"))?;
                shards.push(Shard { id, parent: shard.parent_shard_id });
            }
            after = page.last_evaluated_shard_id;
            if after.is_none() {
                return Ok(shards);
            }
        }
    }

    async fn iterator(&self, shard: &str, position: Option<&str>) -> Result<String, StreamError> {
        let start = match position {
            Some(_) => ShardIteratorType::AfterSequenceNumber,
            None => ShardIteratorType::TrimHorizon,
        };
        let request = self.client.get_shard_iterator().stream_arn(&self.arn).shard_id(shard).shard_iterator_type(start);
        let answer = request.set_sequence_number(position.map(str::to_owned)).send().await.map_err(|e| self.error(e))?;
        Ok(answer.shard_iterator.ok_or_else(|| self.broken("no iterator"))?)
    }

    async fn records(&self, iterator: &str, limit: usize) -> Result<RecordsPage, StreamError> {
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        let page = self.client.get_records().shard_iterator(iterator).limit(limit).send().await.map_err(|e| self.error(e))?;
        let records = page.records.unwrap_or_default().into_iter().map(|record| self.record(record)).collect::<Result<_, _>>()?;
        Ok(RecordsPage { records, next: page.next_shard_iterator })
    }
}
