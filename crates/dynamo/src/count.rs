//! Counting items by scanning: exact, unlike `ItemCount`, which is hours old. A scan that counts takes the
//! read units of one that reads, and moves nothing.

use aws_sdk_dynamodb::types::{AttributeValue, Select};
use lockstep_core::{Attributes, DELETED_ATTRIBUTE, Result, Window, fixed_width};

use super::{Target, fault};

/// Letters of a day, `yyyy-mm-dd`, at the start of a timestamp as items hold it.
const DAY_LETTERS: usize = 10;

/// Bytes that one read unit reads, strongly consistent.
const READ_UNIT_BYTES: f64 = 4096.0;

/// Items that are counted, and how.
#[derive(Clone, Debug, Default)]
pub struct CountWhat<'a> {
    /// The attribute that says when; `None` where the table has none.
    pub day: Option<&'a str>,
    /// Only items of these days.
    pub window: Window,
    /// Whether to count each day by itself: then the days are moved, and nothing else.
    pub by_day: bool,
}

/// Result of one page of a counting scan.
#[derive(Clone, Debug, Default)]
pub struct CountPage {
    /// Live items.
    pub items: u64,
    /// The day of each of them, where they were asked for; an item without one has an empty one.
    pub days: Vec<String>,
    /// Start of the next page; `None` at the end of the segment.
    pub next: Option<Attributes>,
    /// Read units consumed, where the endpoint tells.
    pub capacity_units: f64,
}

impl Target {
    /// Counts the live items of one page of segment `segment` of `segments`, strongly consistent.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn count_page(
        &self,
        table: &str,
        segment: (usize, usize),
        what: &CountWhat<'_>,
        start: Option<Attributes>,
    ) -> Result<CountPage> {
        let mut filter = "attribute_not_exists(#deleted)".to_owned();
        let mut request = self
            .scan_segment(table, segment, start)
            .expression_attribute_names("#deleted", DELETED_ATTRIBUTE);
        if let Some(day) = what.day {
            let bounds =
                [("#day >= :start", ":start", what.window.start), ("#day < :end", ":end", what.window.end)];
            let mut named = what.by_day;
            for (condition, place, at) in bounds {
                if let Some(text) = at.and_then(|at| fixed_width(at).ok()) {
                    filter += &format!(" AND {condition}");
                    request = request.expression_attribute_values(place, AttributeValue::S(text));
                    named = true;
                }
            }
            if named {
                request = request.expression_attribute_names("#day", day);
            }
        }
        let by_day = what.by_day && what.day.is_some();
        request = if by_day { request.projection_expression("#day") } else { request.select(Select::Count) };
        let sent = request.filter_expression(filter).send().await;
        let output = sent.map_err(|e| fault::error(format!("counting {table}"), e))?;
        let day_of = |item: &Attributes| match what.day.and_then(|day| item.get(day)) {
            Some(AttributeValue::S(text)) => text.get(..DAY_LETTERS).unwrap_or_default().to_owned(),
            _ => String::new(),
        };
        Ok(CountPage {
            items: u64::from(output.count.unsigned_abs()),
            days: output.items.iter().flatten().filter(|_| by_day).map(day_of).collect(),
            capacity_units: output.consumed_capacity.and_then(|c| c.capacity_units).unwrap_or_default(),
            next: output.last_evaluated_key.filter(|key| !key.is_empty()),
        })
    }

    /// About how many read units a strongly consistent scan of a table takes, by a size that may be six hours
    /// old.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn scan_units_estimate(&self, table: &str) -> Result<f64> {
        let sent = self.client.describe_table().table_name(table).send().await;
        let output = sent.map_err(|e| fault::error(format!("describing {table}"), e))?;
        let bytes = output.table.and_then(|table| table.table_size_bytes).unwrap_or_default();
        Ok((bytes.max(0) as f64 / READ_UNIT_BYTES).ceil())
    }
}
