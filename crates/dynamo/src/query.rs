//! Reading the items of one partition in order, and counting them.

use std::collections::HashMap;

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, Select};
use lockstep_core::{Attributes, DELETED_ATTRIBUTE, Index, PK, Result, SK};

use super::{ScanPage, Target, fault};

/// One partition of a table or of one of its indexes, or a part of it.
#[derive(Clone, Debug)]
pub struct PartitionRange {
    /// The index; `None` for the table itself, which is read strongly consistent. Indexes are eventually
    /// consistent, always.
    pub index: Option<Index>,
    /// The partition.
    pub partition: AttributeValue,
    /// Least sort key, inclusive.
    pub from: Option<String>,
    /// Greatest sort key, inclusive.
    pub to: Option<String>,
}

impl Target {
    /// Reads one page of a partition in the order of its sort key, tombstones included.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    #[crate::boxed]
    pub async fn query_page(
        &self,
        table: &str,
        range: &PartitionRange,
        ascending: bool,
        limit: Option<i32>,
        start: Option<Attributes>,
    ) -> Result<ScanPage> {
        if range.is_empty() {
            return Ok(ScanPage::default());
        }
        let request = self
            .query(table, range)
            .scan_index_forward(ascending)
            .set_limit(limit)
            .set_exclusive_start_key(start);
        let output = request.send().await.map_err(|e| fault::error(format!("querying {table}"), e))?;
        Ok(ScanPage {
            next: output.last_evaluated_key.filter(|key| !key.is_empty()),
            capacity_units: output.consumed_capacity.and_then(|c| c.capacity_units).unwrap_or_default(),
            items: output.items.unwrap_or_default(),
        })
    }

    /// Counts the items of a partition that are not tombstones, page by page, without moving them.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    #[crate::boxed]
    pub async fn count_partition(&self, table: &str, range: &PartitionRange) -> Result<u64> {
        let (mut count, mut start) = (0, None);
        if range.is_empty() {
            return Ok(0);
        }
        loop {
            let request = self
                .query(table, range)
                .select(Select::Count)
                .filter_expression("attribute_not_exists(#d)")
                .expression_attribute_names("#d", DELETED_ATTRIBUTE)
                .set_exclusive_start_key(start);
            let output = request.send().await.map_err(|e| fault::error(format!("counting in {table}"), e))?;
            count += u64::try_from(output.count).unwrap_or_default();
            start = output.last_evaluated_key.filter(|key| !key.is_empty());
            if start.is_none() {
                return Ok(count);
            }
        }
    }

    fn query(&self, table: &str, range: &PartitionRange) -> QueryFluentBuilder {
        let partition = range.index.map_or(PK, |index| index.partition.name);
        let sort = match &range.index {
            Some(index) => index.sort.map(|sort| sort.name),
            None => Some(SK),
        };
        let mut condition = "#p = :p".to_owned();
        let mut names = HashMap::from([("#p".to_owned(), partition.to_owned())]);
        let mut values = HashMap::from([(":p".to_owned(), range.partition.clone())]);
        let bound = match (&range.from, &range.to) {
            // DynamoDB takes one condition on the sort key.
            (Some(_), Some(_)) => Some(" AND #s BETWEEN :from AND :to"),
            (Some(_), None) => Some(" AND #s >= :from"),
            (None, Some(_)) => Some(" AND #s <= :to"),
            (None, None) => None,
        };
        if let (Some(bound), Some(sort)) = (bound, sort) {
            condition += bound;
            names.insert("#s".to_owned(), sort.to_owned());
            let ends = [(":from", &range.from), (":to", &range.to)];
            let ends = ends
                .into_iter()
                .filter_map(|(place, end)| Some((place.to_owned(), AttributeValue::S(end.clone()?))));
            values.extend(ends);
        }
        self.client
            .query()
            .table_name(table)
            .set_index_name(range.index.map(|index| index.name.to_owned()))
            .consistent_read(range.index.is_none())
            .key_condition_expression(condition)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values))
    }
}

impl PartitionRange {
    /// Tells whether nothing can be in it: DynamoDB refuses such a range instead of answering nothing.
    fn is_empty(&self) -> bool {
        matches!((&self.from, &self.to), (Some(from), Some(to)) if from > to)
    }
}
