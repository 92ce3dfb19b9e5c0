//! Switching a table's stream on.

use aws_sdk_dynamodb::types::{StreamSpecification, StreamViewType, TableDescription, TableStatus};
use aws_sdk_dynamodbstreams::types::StreamStatus;
use lockstep_core::{Error, Kind, Result, Retry};

use super::super::{Backoff, Target, fault};
use super::TableStream;

/// Number of times that a refused request is checked against the present state of the table.
const REFUSALS_MAX: u32 = 3;

impl Target {
    /// Switches the stream of a table on, with new and old images, unless it is on, and waits until it can be
    /// read. Safe to repeat: a stream that is on stays the one it is.
    ///
    /// Another change of the table is not waited for: an index takes hours to build, and each step back asks
    /// for the streams first.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`] where the table has a stream of another kind: its readers must be asked first.
    ///
    /// # Cancel safety
    /// The stream may be on or not.
    #[crate::boxed]
    pub async fn enable_stream(&self, table: &str) -> Result<TableStream> {
        let doing = format!("switching on the stream of {table}");
        let mut backoff = Backoff::patient();
        let mut refusals_left = REFUSALS_MAX;
        loop {
            let found = self.ask_for_description(table).await?;
            let found = found.ok_or_else(|| {
                Error::target(
                    Kind::Misconfigured,
                    &doing,
                    "there is no such table in this region and account",
                )
            })?;
            let active = found.table_status == Some(TableStatus::Active);
            match stream_of(&found) {
                Some((arn, StreamViewType::NewAndOldImages)) if active => {
                    return Ok(TableStream::new(self, table, arn));
                }
                Some((arn, StreamViewType::NewAndOldImages)) => {
                    if found.table_status == Some(TableStatus::Updating) && self.can_be_read(&arn).await {
                        return Ok(TableStream::new(self, table, arn));
                    }
                }
                None if !active => {}
                Some((_, other)) => {
                    let message = format!(
                        "{table} has a stream of {}, and Lockstep needs one of new and old images; a table has only one. End it \
                         (UpdateTable, StreamEnabled=false) if no program reads it, and try again",
                        other.as_str()
                    );
                    return Err(Error::target(Kind::Misconfigured, doing, message));
                }
                None => match self.ask_for_stream(table, &doing).await {
                    Ok(()) => {}
                    Err(error) if error.kind.retry() != Retry::Never => {
                        backoff.pause(error).await?;
                        continue;
                    }
                    // When two processes enable the stream at once, DynamoDB refuses one, because the table
                    // has one already: look again.
                    Err(error) if error.is_validation() && refusals_left > 0 => refusals_left -= 1,
                    Err(error) => return Err(error),
                },
            }
            backoff
                .pause(Error::target(
                    Kind::Unavailable,
                    &doing,
                    "the table is not ACTIVE with its stream yet",
                ))
                .await?;
        }
    }

    /// Enables the stream as [`enable_stream`](Target::enable_stream) does, but takes one that was on within
    /// the last five seconds to be on.
    ///
    /// # Errors
    /// Those of `enable_stream`.
    ///
    /// # Cancel safety
    /// That of `enable_stream`.
    #[crate::boxed]
    pub async fn enable_stream_lately(&self, table: &str) -> Result<TableStream> {
        match self.described.lately(table).as_ref().and_then(stream_of) {
            Some((arn, StreamViewType::NewAndOldImages)) => Ok(TableStream::new(self, table, arn)),
            _ => self.enable_stream(table).await,
        }
    }

    /// Tells whether a stream says that it is ENABLED. One that is only being switched on lists no shards
    /// yet.
    async fn can_be_read(&self, arn: &str) -> bool {
        self.listings.turn().await;
        let described = self.streams.describe_stream().stream_arn(arn).limit(1).send().await;
        let described = described.map_err(|error| fault::error("asking whether a stream is on", error));
        described.is_ok_and(|found| {
            let status = found.stream_description.and_then(|stream| stream.stream_status);
            status == Some(StreamStatus::Enabled)
        })
    }

    async fn ask_for_stream(&self, table: &str, doing: &str) -> Result<()> {
        let wanted = StreamSpecification::builder()
            .stream_enabled(true)
            .stream_view_type(StreamViewType::NewAndOldImages)
            .build();
        let wanted = wanted.map_err(|e| Error::target(Kind::Invalid, doing, e.to_string()))?;
        let sent = self.client.update_table().table_name(table).stream_specification(wanted).send().await;
        match sent.map_err(|e| fault::error(doing, e)) {
            // Another process, or an earlier request whose answer was lost, is switching it on: look again.
            Err(error)
                if error.kind == Kind::Unknown || error.message.starts_with("ResourceInUseException") =>
            {
                Ok(())
            }
            other => other.map(drop),
        }
    }
}

/// The stream that is on, and what it carries.
fn stream_of(table: &TableDescription) -> Option<(String, StreamViewType)> {
    let specification = table.stream_specification.as_ref().filter(|stream| stream.stream_enabled)?;
    Some((table.latest_stream_arn.clone()?, specification.stream_view_type.clone()?))
}

#[cfg(test)]
mod tests {
    use crate::raw_scan::answering::{Answer, Answering};

    /// One body for both questions: about the table, which is UPDATING with its stream on, and about the
    /// stream.
    fn updating(stream: &str) -> Answer {
        Answer::page(format!(
            r#"{{"Table":{{"TableName":"t","TableStatus":"UPDATING","LatestStreamArn":"arn:1",
                "StreamSpecification":{{"StreamEnabled":true,"StreamViewType":"NEW_AND_OLD_IMAGES"}}}},
                "StreamDescription":{{"StreamStatus":"{stream}"}}}}"#
        ))
    }

    #[tokio::test]
    async fn a_table_that_is_updating_is_not_waited_for_once_its_stream_is_on() {
        let server = Answering::start().await;
        server.answer(updating("ENABLED"));
        let found = server.target.enable_stream("t").await.expect("it is on");
        assert_eq!(found.arn(), "arn:1");
        for not_yet in ["ENABLING", "DISABLING", "DISABLED", "of next year"] {
            server.answer(updating(not_yet));
            assert!(!server.target.can_be_read("arn:1").await, "{not_yet}");
        }
    }
}
