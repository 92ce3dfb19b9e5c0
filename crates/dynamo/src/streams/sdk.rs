//! The real stream, through the AWS SDK.

use async_trait::async_trait;
use aws_sdk_dynamodbstreams::Client;
use aws_sdk_dynamodbstreams::error::ProvideErrorMetadata;
use aws_sdk_dynamodbstreams::types::{Record, ShardIteratorType};
use chrono::{DateTime, Utc};
use lockstep_core::{Attributes, Error, Kind, Naming, TTL_ATTRIBUTE};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::super::{Target, fault};
use super::api::{RecordsPage, Shard, StreamApi, StreamError, StreamRecord};
use super::convert::attributes;
use super::listing::{FRESH_FOR, Listed, Listings};

/// Principal that DynamoDB says has removed an expired item (Developer Guide, "DynamoDB Streams and Time to
/// Live"). In some partitions the name goes on (`.cn`).
const EXPIRY_PRINCIPAL: &str = "dynamodb.amazonaws.com";

/// Seconds by which the clocks of DynamoDB may be apart that say when an item expires and when it was
/// removed.
const CLOCKS_APART_S: i64 = 300;

/// Whether an item was removed because its time was over: by our own attribute, and past it, whatever says
/// that it was. Then it makes no difference who was quicker, nor whether a replica's expiry, or an
/// emulator, says who it was. 1. Expiry of the table is on another attribute. 2. DynamoDB removes a row
/// that lives, and says that it has expired. 3. Taken for retention, it would be missed by no one: so it is
/// a removal by another program.
fn has_expired(old: &Attributes, at: Option<DateTime<Utc>>, by_dynamodb: bool) -> bool {
    let expires_at_s: Option<i64> = old.get(TTL_ATTRIBUTE).and_then(|at| at.as_n().ok()?.parse().ok());
    let slack_s = if by_dynamodb { CLOCKS_APART_S } else { 0 };
    match (expires_at_s, at) {
        (Some(expires_at_s), Some(at)) => expires_at_s <= at.timestamp().saturating_add(slack_s),
        (Some(_), None) => by_dynamodb,
        (None, _) => false,
    }
}

/// The stream of one table.
#[derive(Clone, Debug)]
pub struct TableStream {
    client: Client,
    table: String,
    arn: String,
    listings: Listings,
    naming: Naming,
}

impl TableStream {
    pub(super) fn new(target: &Target, table: &str, arn: String) -> Self {
        Self {
            client: target.streams.clone(),
            table: table.to_owned(),
            arn,
            listings: target.listings.clone(),
            naming: target.naming(table),
        }
    }

    /// Returns the name of the stream: one that was ended and begun again has another.
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// Every shard that the stream had at `since` or later, and when it was asked. It is asked only if no
    /// task has asked since, and only a few times a second, so it may take as long; dropped, it can be
    /// asked again.
    #[crate::boxed]
    pub async fn shards_since(&self, since: Instant) -> Result<(Instant, Vec<Shard>), StreamError> {
        let slot = self.listings.of(&self.arn);
        let mut known = slot.lock().await;
        if let Some(listed) = known.as_ref().filter(|listed| listed.begun >= since) {
            return Ok((listed.begun, listed.shards.clone()));
        }
        let begun = Instant::now();
        self.listings.turn_first().await;
        let shards = self.list().await?;
        *known = Some(Listed { begun, shards: shards.clone() });
        Ok((begun, shards))
    }

    /// Every shard that the stream has, or had a moment ago. It waits for its turn without the slot, so that
    /// one that goes first does not wait for it as well.
    async fn shards_lately(&self) -> Result<Vec<Shard>, StreamError> {
        let slot = self.listings.of(&self.arn);
        let is_fresh = |listed: &&Listed| listed.begun.elapsed() <= FRESH_FOR;
        if let Some(listed) = slot.lock().await.as_ref().filter(is_fresh) {
            return Ok(listed.shards.clone());
        }
        self.listings.turn().await;
        let mut known = slot.lock().await;
        if let Some(listed) = known.as_ref().filter(is_fresh) {
            return Ok(listed.shards.clone());
        }
        let begun = Instant::now();
        let shards = self.list().await?;
        *known = Some(Listed { begun, shards: shards.clone() });
        Ok(shards)
    }

    /// Asks for the shards, once it is its turn.
    async fn list(&self) -> Result<Vec<Shard>, StreamError> {
        let (mut shards, mut after) = (Vec::new(), None);
        loop {
            let page = self
                .client
                .describe_stream()
                .stream_arn(&self.arn)
                .set_exclusive_start_shard_id(after)
                .send()
                .await;
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
            self.listings.turn_first().await;
        }
    }

    async fn read(&self, iterator: &str, limit: usize) -> Result<RecordsPage, StreamError> {
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        let page = self
            .client
            .get_records()
            .shard_iterator(iterator)
            .limit(limit)
            .send()
            .await
            .map_err(|e| self.error(e))?;
        let records = page
            .records
            .unwrap_or_default()
            .into_iter()
            .map(|record| self.record(record))
            .collect::<Result<_, _>>()?;
        Ok(RecordsPage { records, next: page.next_shard_iterator })
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
            Some("ResourceNotFoundException") => StreamError::Gone,
            _ => StreamError::Store(fault::error(self.doing(), error)),
        }
    }

    fn record(&self, record: Record) -> Result<StreamRecord, Error> {
        let image = record.dynamodb.ok_or_else(|| self.broken("a record without its change"))?;
        let at = image
            .approximate_creation_date_time
            .and_then(|at| DateTime::from_timestamp(at.secs(), at.subsec_nanos()));
        let item = |image| attributes(image).map(|image| self.naming.receive(image));
        let old = image.old_image.map(item).transpose()?;
        let new = image.new_image.map(item).transpose()?;
        let by_dynamodb = record
            .user_identity
            .is_some_and(|by| by.principal_id.is_some_and(|id| id.starts_with(EXPIRY_PRINCIPAL)));
        Ok(StreamRecord {
            sequence: image
                .sequence_number
                .ok_or_else(|| self.broken("a record without a sequence number"))?,
            at,
            key: self.naming.receive_key(attributes(image.keys.unwrap_or_default())?),
            expired: new.is_none() && old.as_ref().is_some_and(|old| has_expired(old, at, by_dynamodb)),
            old,
            new,
        })
    }

    fn broken(&self, what: &str) -> Error {
        Error::target(Kind::Unknown, self.doing(), format!("DynamoDB sent {what}"))
    }
}

#[async_trait]
impl StreamApi for TableStream {
    async fn shards(&self) -> Result<Vec<Shard>, StreamError> {
        self.shards_lately().await
    }

    async fn iterator(&self, shard: &str, position: Option<&str>) -> Result<String, StreamError> {
        let start = match position {
            Some(_) => ShardIteratorType::AfterSequenceNumber,
            None => ShardIteratorType::TrimHorizon,
        };
        let request =
            self.client.get_shard_iterator().stream_arn(&self.arn).shard_id(shard).shard_iterator_type(start);
        let answer = request
            .set_sequence_number(position.map(str::to_owned))
            .send()
            .await
            .map_err(|e| self.error(e))?;
        Ok(answer.shard_iterator.ok_or_else(|| self.broken("no iterator"))?)
    }

    /// In a task of its own: a page of a megabyte takes tens of milliseconds to decode, and its caller takes
    /// the page before it meanwhile.
    async fn records(&self, iterator: &str, limit: usize) -> Result<RecordsPage, StreamError> {
        let (stream, iterator) = (self.clone(), iterator.to_owned());
        let reading = async move { stream.read(&iterator, limit).await };
        match AbortOnDropHandle::new(tokio::spawn(reading.in_current_span())).await {
            Ok(page) => page,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(self.broken("nothing, as the program ends").into()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw_scan::answering::{Answer, Answering};

    /// Returns what GetRecords answers with one REMOVE of an item that expires at second 1,700,000,000.
    fn removed(at_s: i64, identity: &str) -> Answer {
        Answer::page(format!(
            r#"{{"Records":[{{"eventID":"1","eventName":"REMOVE","eventVersion":"1.1","eventSource":"aws:dynamodb",{identity}
                "awsRegion":"eu-central-1","dynamodb":{{"ApproximateCreationDateTime":{at_s},"Keys":{{"PK":{{"N":"1"}}}},
                "OldImage":{{"PK":{{"N":"1"}},"ttl":{{"N":"1700000000"}}}},"SequenceNumber":"100000000003498069978",
                "SizeBytes":30,"StreamViewType":"NEW_AND_OLD_IMAGES"}}}}]}}"#
        ))
    }

    #[tokio::test]
    async fn an_expiry_is_known_by_who_removed_it_as_amazon_says_it_or_by_its_time() {
        let server = Answering::start().await;
        let stream = TableStream::new(&server.target, "t", "arn".to_owned());
        let amazon = r#""userIdentity":{"PrincipalId":"dynamodb.amazonaws.com","Type":"Service"},"#;
        let china = r#""userIdentity":{"PrincipalId":"dynamodb.amazonaws.com.cn","Type":"Service"},"#;
        let lambda = r#""userIdentity":{"principalId":"dynamodb.amazonaws.com","type":"Service"},"#;
        let (before, after) = (1_699_999_999, 1_700_000_001);
        // Rows that live, removed by expiry on an attribute that is none of ours.
        let long_before = before - 86_400;
        let expected = [
            (before, amazon, true),
            (before, china, true),
            (after, lambda, true),
            (after, "", true),
            (before, "", false),
            (before, lambda, false),
            (long_before, amazon, false),
            (long_before, china, false),
        ];
        for (at_s, identity, expired) in expected {
            server.answer(removed(at_s, identity));
            let page = stream.records("any", 10).await.expect("a page");
            assert_eq!(page.records.len(), 1);
            assert_eq!(page.records[0].expired, expired, "{at_s} {identity}");
        }
    }

    /// 1. The feed reads a page ahead, in the task that takes the one before it. 2. Taking it keeps that task
    /// busy. 3. Neither was the next page asked for meanwhile, nor an answer decoded.
    #[tokio::test]
    async fn a_page_is_read_while_its_caller_does_something_else() {
        let server = Answering::start().await;
        let stream = TableStream::new(&server.target, "t", "arn".to_owned());
        server.answer(removed(1_700_000_001, ""));
        let mut page = std::pin::pin!(stream.records("any", 10));
        assert!(futures::poll!(page.as_mut()).is_pending());
        server.asked().await;
        assert_eq!(page.await.expect("a page").records.len(), 1);
    }

    #[tokio::test]
    async fn readers_that_ask_for_the_shards_within_a_second_share_one_question() {
        let server = Answering::start().await;
        let stream = TableStream::new(&server.target, "t", "arn".to_owned());
        let one = |id: &str| {
            Answer::page(format!(r#"{{"StreamDescription":{{"Shards":[{{"ShardId":"{id}"}}]}}}}"#))
        };
        server.answer(one("first"));
        let begun = Instant::now();
        let (_, listed) = stream.shards_since(begun).await.expect("listed");
        server.answer(one("second"));
        let other = stream.clone();
        assert_eq!(other.shards().await.expect("shared"), listed);
        let (_, later) = other.shards_since(Instant::now()).await.expect("listed again");
        assert_eq!(later[0].id, "second");
    }
}
