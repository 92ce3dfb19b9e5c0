//! One table's task.

use std::time::Duration;

use lockstep_core::Retry;
use lockstep_dynamo::Target;
use lockstep_dynamo::streams::{StreamApi as _, TableStream, follow};
use lockstep_postgres::TableBinding;
use lockstep_postgres::reverse::FedTable;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::again::read_again;
use super::progress::FeedTableProgress;
use super::rounds::Rounds;
use super::sink::TableSink;
use crate::error::Result;
use crate::feed_options::ReverseFeedOptions;
use crate::options::MigrationContext;

/// Interval at which the feed asks whether the stream is still the one that it follows, while no shard ends.
const ASKED_EVERY: Duration = Duration::from_secs(60);
/// Pause between the end of a shard and that question: many shards split at once.
const ASKED_AFTER: Duration = Duration::from_secs(1);

/// Feeds one table until told to stop. Calls `opened` when its stream has answered.
pub(super) async fn feed(
    migration: &MigrationContext,
    binding: &TableBinding,
    options: &ReverseFeedOptions,
    progress: &FeedTableProgress,
    rounds: &Rounds,
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
        let another = until_another(migration, &table, &stream, options, progress, rounds, stop).await?;
        let Some(another) = another else { return Ok(()) };
        // What was written between the two is in neither, and opening the new one notes that.
        tracing::warn!(
            table = binding.name(),
            "the stream was ended and begun again; the new one is followed"
        );
        stream = another;
    }
}

/// Feeds a table from one stream until told to stop, or until the table has another one, which is returned.
async fn until_another(
    migration: &MigrationContext,
    table: &FedTable,
    stream: &TableStream,
    options: &ReverseFeedOptions,
    progress: &FeedTableProgress,
    rounds: &Rounds,
    stop: &CancellationToken,
) -> Result<Option<TableStream>> {
    let (source, target) = (&migration.source, &migration.target);
    let ended = Notify::new();
    let sink = TableSink { migration, source, table, stream: stream.arn(), progress, rounds, ended: &ended };
    let of_stream = stop.child_token();
    let following = follow(stream, &sink, options.follow, &of_stream);
    let reading = read_again(source, target, table, rounds.again(table.binding().name()), &of_stream);
    // Either ends by itself only when told to stop; the first error ends both.
    let feeding = async { tokio::try_join!(following, reading) };
    tokio::pin!(feeding);
    let another = tokio::select! {
        fed = &mut feeding => {
            fed?;
            return Ok(None);
        }
        another = another_stream(target, &table.binding().target_name, stream, &ended) => another,
    };
    // Each reader ends with the page it is at, so that none saves a position once the new stream is open.
    of_stream.cancel();
    feeding.await?;
    Ok(Some(another))
}

/// Waits until a table has another stream than `known`, and returns it; one that is off is switched on.
///
/// DynamoDB keeps a stream that was switched off readable for a day, with every shard closed. 1. In
/// DynamoOnly it is switched off and on. 2. The feed has read the old one to its end, and lists its shards
/// again and again. 3. Nothing that is written since comes through, and no step leads back.
///
/// That it cannot be asked ends no feed: the old stream may have more, and so have the other tables.
async fn another_stream(target: &Target, table: &str, known: &TableStream, ended: &Notify) -> TableStream {
    let mut told = String::new();
    loop {
        if tokio::time::timeout(ASKED_EVERY, ended.notified()).await.is_ok() {
            tokio::time::sleep(ASKED_AFTER).await;
        }
        match target.enable_stream(table).await {
            Ok(found) if found.arn() != known.arn() => return found,
            Ok(_) => told.clear(),
            Err(error) => {
                let why = error.to_string();
                if error.kind.retry() == Retry::Never && why != told {
                    tracing::warn!(table, "whether the stream is on is not known: {why}");
                    told = why;
                }
            }
        }
    }
}
