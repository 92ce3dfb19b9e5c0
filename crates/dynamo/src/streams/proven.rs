//! Rights on a stream that is there, proven by reading none of it.

use aws_sdk_dynamodbstreams::types::ShardIteratorType;
use lockstep_core::{Error, Kind, Result};

use crate::proven::{Denied, judged};
use crate::{Backoff, Target, fault};

impl Target {
    /// Returns the rights of the operator that are missing on the stream of a table, where it has one. One
    /// shard is opened at its end, and asked for one record. `None` where there is no stream, or it has no
    /// shard yet: then nothing can be asked.
    ///
    /// # Errors
    /// The driver's: an outage, or a throttle, says nothing of rights.
    #[crate::boxed]
    pub async fn denied_rights_on_stream(&self, table: &str) -> Result<Option<Vec<Denied>>> {
        let there = match self.described.lately(table) {
            None => self.ask_for_description(table).await?,
            lately => lately,
        };
        let Some(arn) = there.and_then(|there| there.latest_stream_arn) else { return Ok(None) };
        let doing = |action: &str| format!("proving the right to {action} on the stream of {table}");
        let denied = |action: &str, why| {
            let (action, on) = (format!("dynamodb:{action}"), format!("table/{table}/stream"));
            Some(vec![Denied { action, on, why }])
        };
        let describe = || async {
            self.listings.turn().await;
            let sent = self.streams.describe_stream().stream_arn(&arn).limit(1).send().await;
            sent.map_err(|e| fault::error(doing("DescribeStream"), e))
        };
        let shards = match judged_of(Backoff::brief().retry(describe).await)? {
            Ok(described) => described.and_then(|found| found.stream_description?.shards).unwrap_or_default(),
            Err(why) => return Ok(denied("DescribeStream", why)),
        };
        let Some(shard) = shards.into_iter().find_map(|shard| shard.shard_id) else { return Ok(None) };
        let open = || async {
            let request = self.streams.get_shard_iterator().stream_arn(&arn).shard_id(&shard);
            let sent = request.shard_iterator_type(ShardIteratorType::Latest).send().await;
            sent.map_err(|e| fault::error(doing("GetShardIterator"), e))
        };
        let iterator = match judged_of(Backoff::brief().retry(open).await)? {
            Ok(opened) => opened.and_then(|opened| opened.shard_iterator),
            Err(why) => return Ok(denied("GetShardIterator", why)),
        };
        let Some(iterator) = iterator else { return Ok(None) };
        let read = || async {
            let sent = self.streams.get_records().shard_iterator(&iterator).limit(1).send().await;
            sent.map_err(|e| fault::error(doing("GetRecords"), e))
        };
        Ok(match judged_of(Backoff::brief().retry(read).await)? {
            Ok(_) => Some(Vec::new()),
            Err(why) => denied("GetRecords", why),
        })
    }
}

/// The answer, `None` where it is that something is wrong with the request; or why the right is missing.
fn judged_of<T>(asked: Result<T>) -> Result<std::result::Result<Option<T>, String>> {
    match asked {
        Ok(answer) => Ok(Ok(Some(answer))),
        Err(error) if is_of_an_end(&error) => Ok(Ok(None)),
        Err(error) => Ok(judged(Err(error))?.map_or(Ok(None), Err)),
    }
}

/// A shard or an iterator that has come to its end meanwhile.
fn is_of_an_end(error: &Error) -> bool {
    error.kind != Kind::Denied
        && ["TrimmedDataAccessException", "ExpiredIteratorException"]
            .iter()
            .any(|word| error.message.starts_with(word))
}
