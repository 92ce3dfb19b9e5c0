//! One table's task.

use std::collections::HashMap;
use std::sync::Mutex;

use lockstep_dynamo::streams::{StreamApi as _, follow};
use lockstep_postgres::TableBinding;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::again::read_again;
use super::progress::FeedTableProgress;
use super::sink::TableSink;
use crate::error::Result;
use crate::feed_options::ReverseFeedOptions;
use crate::options::MigrationContext;

/// Feeds one table until told to stop. Calls `opened` when its stream has answered.
pub(super) async fn feed(
    migration: &MigrationContext,
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
    let noted = Notify::new();
    let touched = Mutex::new(HashMap::new());
    let sink = TableSink {
        migration,
        source,
        table: &table,
        stream: stream.arn(),
        progress,
        again: &noted,
        touched,
    };
    let following = follow(&stream, &sink, options.follow, stop);
    let reading = read_again(source, target, &table, &noted, options.again_every, stop);
    // Either ends by itself only when told to stop; the first error ends both.
    tokio::try_join!(following, reading)?;
    Ok(())
}
