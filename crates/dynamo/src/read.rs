//! Reading items: singly, by keys, and whole tables in segments.

use std::collections::HashMap;

use aws_sdk_dynamodb::operation::scan::builders::ScanFluentBuilder;
use aws_sdk_dynamodb::types::{KeysAndAttributes, ReturnConsumedCapacity};
use lockstep_core::{Attributes, Error, Kind, Result, Retry, TargetKey};

use super::{Backoff, Target, fault};

/// Most keys of one `BatchGetItem` (DynamoDB Developer Guide, "Quotas").
pub const READ_KEYS_MAX: usize = 100;

/// Most items of one page of a scan: about the megabyte that DynamoDB returns at once, for items of a
/// kilobyte. Without a limit the embedded one reads the rest of the table for each page.
const PAGE_ITEMS_MAX: i32 = 1_000;

/// One page of a scan.
#[derive(Clone, Debug, Default)]
pub struct ScanPage {
    /// Items of the page, tombstones included.
    pub items: Vec<Attributes>,
    /// Start of the next page; `None` at the end of the segment.
    pub next: Option<Attributes>,
    /// Read units consumed, where the endpoint tells.
    pub capacity_units: f64,
}

impl Target {
    /// Reads one item, strongly consistent; a tombstone is returned as it is.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn get(&self, table: &str, key: &TargetKey) -> Result<Option<Attributes>> {
        let output = self
            .client
            .get_item()
            .table_name(table)
            .set_key(Some(key.to_attributes()))
            .consistent_read(true)
            .send()
            .await;
        Ok(output.map_err(|e| fault::error(format!("reading from {table}"), e))?.item)
    }

    /// Reads up to [`READ_KEYS_MAX`] keys, strongly consistent, in no particular order, each item once. A key
    /// that is throttled or left unprocessed is asked for again.
    ///
    /// DynamoDB refuses a request that names a key twice, as one that a person has to look at: 1. A page of
    /// an index is read. 2. The sort value of a row changes meanwhile, and the index shows it in its old
    /// place and in its new one. 3. A query fails for good, of which nothing is wrong.
    ///
    /// # Errors
    /// The driver's, after `backoff` is used up.
    #[crate::boxed]
    pub async fn get_many(
        &self,
        table: &str,
        keys: &[TargetKey],
        mut backoff: Backoff,
    ) -> Result<Vec<Attributes>> {
        let doing = || format!("reading from {table}");
        let mut found = Vec::with_capacity(keys.len());
        let mut wanted: Vec<Attributes> = Vec::with_capacity(keys.len());
        for key in keys.iter().map(TargetKey::to_attributes) {
            if !wanted.contains(&key) {
                wanted.push(key);
            }
        }
        while !wanted.is_empty() {
            let request =
                KeysAndAttributes::builder().set_keys(Some(wanted.clone())).consistent_read(true).build();
            let request = request.map_err(|e| Error::target(Kind::Invalid, doing(), e.to_string()))?;
            match self.client.batch_get_item().request_items(table, request).send().await {
                // DynamoDB names each table that was asked for, were it with an empty list. What names none
                // would make every item absent.
                Ok(output)
                    if !is_named(table, output.responses.as_ref(), output.unprocessed_keys.as_ref()) =>
                {
                    let error = Error::target(Kind::Unknown, doing(), "the answer names no table");
                    backoff.pause(error).await?;
                }
                Ok(output) => {
                    let unprocessed = output
                        .unprocessed_keys
                        .unwrap_or_default()
                        .remove(table)
                        .map(|k| k.keys)
                        .unwrap_or_default();
                    found.extend(output.responses.unwrap_or_default().remove(table).unwrap_or_default());
                    if !unprocessed.is_empty() {
                        let error = Error::target(Kind::Throttled, doing(), "keys were left unprocessed");
                        backoff.pause(error).await?;
                    }
                    wanted = unprocessed;
                }
                Err(e) => {
                    let error = fault::error(doing(), e);
                    if error.kind.retry() == Retry::Never {
                        return Err(error);
                    }
                    backoff.pause(error).await?;
                }
            }
        }
        Ok(found)
    }

    /// Reads one page of segment `segment` of `segments`, strongly consistent.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn scan_page(
        &self,
        table: &str,
        segment: (usize, usize),
        start: Option<Attributes>,
    ) -> Result<ScanPage> {
        let sent = self.scan_segment(table, segment, start).send().await;
        let output = sent.map_err(|e| fault::error(format!("scanning {table}"), e))?;
        Ok(ScanPage {
            next: output.last_evaluated_key.filter(|key| !key.is_empty()),
            capacity_units: output.consumed_capacity.and_then(|c| c.capacity_units).unwrap_or_default(),
            items: output.items.unwrap_or_default(),
        })
    }

    /// Returns a scan of one page of segment `segment` of `segments`, strongly consistent.
    pub(super) fn scan_segment(
        &self,
        table: &str,
        (segment, segments): (usize, usize),
        start: Option<Attributes>,
    ) -> ScanFluentBuilder {
        let request = self
            .client
            .scan()
            .table_name(table)
            .consistent_read(true)
            .limit(PAGE_ITEMS_MAX)
            .set_exclusive_start_key(start)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        if segments > 1 { request.segment(segment as i32).total_segments(segments as i32) } else { request }
    }
}

fn is_named<A, B>(
    table: &str,
    found: Option<&HashMap<String, A>>,
    unprocessed: Option<&HashMap<String, B>>,
) -> bool {
    found.is_some_and(|found| found.contains_key(table))
        || unprocessed.is_some_and(|left| left.contains_key(table))
}
