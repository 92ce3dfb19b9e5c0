//! The partitions of the target that a query reads, in their order.

use std::fmt;
use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;

use super::text_of;

/// The partitions of a query, in groups. Within a group rows are merged by sort key; of two groups all rows
/// of the earlier one sort after those of the later one. So the shards of a day are a group, and days are
/// groups, the newest first.
#[derive(Clone)]
pub struct Partitions {
    subject: String,
    groups: usize,
    of_group: Arc<dyn Fn(usize) -> Vec<AttributeValue> + Send + Sync>,
}

impl Partitions {
    /// Names one partition.
    ///
    /// ```
    /// # use lockstep::AttributeValue;
    /// # use lockstep::store::query::Partitions;
    /// let of_customer = Partitions::one(AttributeValue::N("7".to_owned()));
    /// // A value is not shown, as it may be a customer's.
    /// assert_eq!(format!("{of_customer:?}"), "1 groups of partitions");
    /// ```
    pub fn one(partition: AttributeValue) -> Self {
        let subject = text_of(&partition).to_owned();
        Self::groups(subject, 1, move |_| vec![partition.clone()])
    }

    /// A number of groups, in descending order. They are made when they are read, so they may be many.
    /// `subject` says what they are of, the same for every page of one list.
    ///
    /// ```no_run
    /// # use lockstep::AttributeValue;
    /// # use lockstep::store::query::{Partitions, TimeRange};
    /// /// Payments of a range of days: an item is in one of four shards of its day.
    /// fn of_days(range: TimeRange) -> Option<Partitions> {
    ///     let (count, nth) = range.days()?;
    ///     Some(Partitions::groups("PAID", count, move |group| {
    ///         let day = nth(group);
    ///         (0..4).map(|shard| AttributeValue::S(format!("PAID#{day}#{shard}"))).collect()
    ///     }))
    /// }
    /// ```
    pub fn groups(
        subject: impl Into<String>,
        groups: usize,
        of_group: impl Fn(usize) -> Vec<AttributeValue> + Send + Sync + 'static,
    ) -> Self {
        Self { subject: subject.into(), groups, of_group: Arc::new(of_group) }
    }

    pub(super) fn subject(&self) -> &str {
        &self.subject
    }

    pub(super) fn len(&self) -> usize {
        self.groups
    }

    /// The `nth` group in the order of reading.
    pub(super) fn group(&self, nth: usize, ascending: bool) -> Vec<AttributeValue> {
        (self.of_group)(if ascending { self.groups - 1 - nth } else { nth })
    }

    /// The group, in the order of reading, that holds this partition: where a query goes on after a row of
    /// it.
    pub(super) fn group_of(&self, partition: &AttributeValue, ascending: bool) -> Option<usize> {
        (0..self.groups).find(|nth| self.group(*nth, ascending).contains(partition))
    }
}

impl fmt::Debug for Partitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The subject may be a value (R36).
        write!(f, "{} groups of partitions", self.groups)
    }
}
