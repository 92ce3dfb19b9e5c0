//! One table's task.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use lockstep_core::Retry;
use lockstep_dynamo::Target;
use lockstep_dynamo::streams::{StreamApi as _, TableStream, follow};
use lockstep_postgres::TableBinding;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::again::settle_again;
use super::progress::FeedTableProgress;
use super::sink::TableSink;
use crate::error::Result;
use crate::feed_options::ReverseFeedOptions;
use crate::options::Migration;

/// How often it is asked whether the stream is still the one that is followed, while no shard of it ends.
const ASKED_EVERY: Duration = Duration::from_secs(60);
/// Longest wait after a shard has ended: many split at once.
const ASKED_AFTER: Duration = Duration::from_secs(1);

/// Feeds one table until told to stop. Calls `opened` when its stream has answered.
pub(super) async fn feed(
    migration: &Migration,
    binding: &TableBinding,
    options: &ReverseFeedOptions,
    progress: &FeedTableProgress,
    opened: impl Fn(),
    stop: &CancellationToken,
) -> Result<()> {
    let (source, target) = (&migration.source, &migration.target);
    let table = source.fed_table(binding).await?;
    // It was switched on a moment ago. Were it switched off and on since, its shards would be closed, as at
    // any time, or gone.
    let mut stream = target.enable_stream_lately(&binding.target_name).await?;
    let mut listed = stream.shards().await;
    if listed.is_err() {
        stream = target.enable_stream(&binding.target_name).await?;
        listed = stream.shards().await;
    }
    // Fails here, with its name, if the role may not read it.
    listed.map_err(|error| match error {
        lockstep_dynamo::streams::StreamError::Store(error) => error,
        other => lockstep_core::Error::target(
            lockstep_core::Kind::Unavailable,
            "listing shards",
            other.to_string(),
        ),
    })?;
    opened();
    loop {
        let (noted, ended, touched) = (Notify::new(), Notify::new(), Mutex::new(HashMap::new()));
        let sink = TableSink {
            source,
            table: &table,
            stream: stream.arn(),
            progress,
            again: &noted,
            ended: &ended,
            touched,
        };
        let following = follow(&stream, &sink, options.follow, stop);
        let settling = settle_again(source, target, &table, &noted, options.again_every, stop);
        // Either ends by itself only when told to stop; the first error ends both.
        let feeding = async { tokio::try_join!(following, settling) };
        let another = tokio::select! {
            fed = feeding => {
                fed?;
                return Ok(());
            }
            another = another_stream(target, &binding.target_name, &stream, &ended) => another?,
        };
        // What was written between the two is in neither, and that is noted as it is opened.
        tracing::warn!(
            table = binding.name(),
            "the stream was ended and begun again; the new one is followed"
        );
        stream = another;
    }
}

/// Waits until a table has another stream than `known`, and returns it; one that is off is switched on.
///
/// DynamoDB keeps a stream that was switched off readable for a day, with every shard closed. 1. In
/// DynamoOnly it is switched off and on. 2. The feed has read the old one to its end, and lists it again and
/// again. 3. Nothing that is written since comes through, and no step leads back.
async fn another_stream(
    target: &Target,
    table: &str,
    known: &TableStream,
    ended: &Notify,
) -> lockstep_core::Result<TableStream> {
    loop {
        if tokio::time::timeout(ASKED_EVERY, ended.notified()).await.is_ok() {
            tokio::time::sleep(ASKED_AFTER).await;
        }
        match target.enable_stream(table).await {
            Ok(found) if found.arn() != known.arn() => return Ok(found),
            Ok(_) => {}
            Err(error) if error.kind.retry() == Retry::Never => return Err(error),
            Err(error) => tracing::debug!(table, "which stream the table has is not known: {error}"),
        }
    }
}
