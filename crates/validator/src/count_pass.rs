//! Counting the target: a parallel scan that moves no items.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::try_join_all;
use lockstep_core::Result;
use lockstep_dynamo::CountWhat;
use lockstep_postgres::TableBinding;

use crate::options::ValidateOptions;
use crate::reader::Reader;

/// Result of a counting scan.
#[derive(Clone, Debug, Default)]
pub(crate) struct TargetCount {
    /// Live items.
    pub(crate) items: u64,
    /// The same by day, where that was asked for; items without a day under an empty one.
    pub(crate) days: BTreeMap<String, u64>,
    /// Read units taken, where the endpoint tells.
    pub(crate) read_units: f64,
}

/// Counts the live items of a table, those of the window.
pub(crate) async fn count_target(
    reader: &Reader,
    binding: &TableBinding,
    options: &ValidateOptions,
    by_day: bool,
) -> Result<TargetCount> {
    let segments = options.settings.scan_segments.max(1);
    let what = CountWhat { day: binding.table.day_attribute(), window: options.window.clone(), by_day };
    let left: Mutex<VecDeque<usize>> = Mutex::new((0..segments).collect());
    let total: Arc<Mutex<TargetCount>> = Arc::default();
    let workers = (0..options.settings.parallel.clamp(1, segments)).map(async |_| {
        let next = || left.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        while let Some(segment) = next() {
            let mut start = None;
            loop {
                let page = reader.count(binding, (segment, segments), &what, start.as_ref()).await?;
                let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                total.items += page.items;
                total.read_units += page.capacity_units;
                for day in page.days {
                    *total.days.entry(day).or_default() += 1;
                }
                start = page.next;
                if start.is_none() {
                    break;
                }
            }
        }
        Ok::<_, lockstep_core::Error>(())
    });
    try_join_all(workers).await?;
    let total = total.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(total.clone())
}
