//! The limits a backfill is held against, each measured in the same run: the best that either store's end
//! allows, and the plain loop that one would write first.

use std::time::Instant;

use anyhow::Context;
use bytes::Bytes;
use futures::TryStreamExt;
use lockstep_core::{MigratableTable, Version};
use lockstep_integration_logs::IntegrationLogs;
use sqlx::postgres::PgPoolCopyExt;
use std::net::SocketAddr;

use super::replay::replay;
use super::worker;
use lockstep_sample::generate::History;

/// Rows a second of one raw binary `COPY` of the whole of a table, its bytes counted and dropped.
///
/// # Errors
/// The source's.
pub async fn raw_copy(source_url: &str, relation: &str, rows: u64) -> anyhow::Result<f64> {
    let source = worker::connect(source_url).await?;
    let started = Instant::now();
    let copy = format!("COPY {relation} TO STDOUT (FORMAT binary)");
    let mut stream = source.pool().copy_out_raw(&copy).await?;
    let mut bytes = 0_usize;
    while let Some(part) = stream.try_next().await? {
        bytes += part.len();
    }
    anyhow::ensure!(bytes as u64 > rows, "the COPY returned too little");
    Ok(rows as f64 / started.elapsed().as_secs_f64())
}

/// Rows a second of sending prepared requests of `items_per_request` over plain connections, nothing
/// computed.
///
/// # Errors
/// When the null target refuses.
pub async fn raw_replay(
    address: SocketAddr,
    requests: &[Bytes],
    items_per_request: f64,
    total: u64,
) -> anyhow::Result<f64> {
    let report = replay(address, requests, 8, total as usize).await.context("replaying prepared requests")?;
    anyhow::ensure!(report.refused == 0, "{} prepared requests were refused", report.refused);
    Ok(report.requests_per_s() * items_per_request)
}

/// Rows a second of one `PutItem` after the other, by the SDK as it comes: the loop that one would write
/// first. The rows are in memory already, which flatters it.
///
/// # Errors
/// The target's.
pub async fn sdk_loop(endpoint_url: &str, history: &History, rows: usize) -> anyhow::Result<f64> {
    // Of ours it takes the HTTP client only, so that both speak over the same connections.
    let ours = worker::target(endpoint_url).await;
    let http_client = ours.client().config().http_client().context("our client has an HTTP client")?;
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::latest())
        .endpoint_url(endpoint_url)
        .region(aws_sdk_dynamodb::config::Region::new("us-east-1"))
        .credentials_provider(aws_sdk_dynamodb::config::Credentials::new(
            "bench", "bench", None, None, "bench",
        ))
        .http_client(http_client);
    let client = aws_sdk_dynamodb::Client::from_conf(config.build());
    let table = IntegrationLogs::default();
    let items = (0..history.log_chunks()).flat_map(|chunk| history.chunk_of_logs(chunk)).take(rows);
    let items: Vec<_> = items.map(|row| table.encode(&row)).collect::<Result<_, _>>()?;
    let started = Instant::now();
    let count = items.len();
    for item in items {
        let item = item.at(Version::INITIAL_LOAD).into_attributes();
        client.put_item().table_name("integration_logs").set_item(Some(item)).send().await?;
    }
    Ok(count as f64 / started.elapsed().as_secs_f64())
}
