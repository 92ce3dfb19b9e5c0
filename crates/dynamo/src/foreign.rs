//! Items of other programs, looked for in a whole table: before it is deleted, one page says nothing of the
//! rest.

use aws_sdk_dynamodb::types::{AttributeValue, Select};
use lockstep_core::{Attributes, Result, VERSION_ATTRIBUTE};

use super::{Target, fault};

/// Result of one page.
#[derive(Clone, Debug, Default)]
pub struct ForeignPage {
    /// Items without a version of Lockstep's.
    pub foreign: u64,
    /// Items that were looked at.
    pub looked_at: u64,
    /// Start of the next page; `None` at the end of the segment.
    pub next: Option<Attributes>,
}

impl Target {
    /// Counts the items of others on one page of segment `segment` of `segments`, strongly consistent. It
    /// takes the read units of a scan, and moves nothing.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn foreign_page(
        &self,
        table: &str,
        segment: (usize, usize),
        start: Option<Attributes>,
    ) -> Result<ForeignPage> {
        let sent = self
            .scan_segment(table, segment, start)
            .filter_expression("attribute_not_exists(#v) OR NOT attribute_type(#v, :number)")
            .expression_attribute_names("#v", VERSION_ATTRIBUTE)
            .expression_attribute_values(":number", AttributeValue::S("N".to_owned()))
            .select(Select::Count)
            .send()
            .await;
        let output = sent.map_err(|e| fault::error(format!("looking for items of others in {table}"), e))?;
        Ok(ForeignPage {
            foreign: u64::from(output.count.unsigned_abs()),
            looked_at: u64::from(output.scanned_count.unsigned_abs()),
            next: output.last_evaluated_key.filter(|key| !key.is_empty()),
        })
    }
}
