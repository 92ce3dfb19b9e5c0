//! Counters of identity keys: ids are handed out in blocks, and none is handed out twice.
//!
//! A counter is the next free id. It only grows, under a condition or by an addition, so a
//! request that is applied late or twice makes a gap and never a repetition.

use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use lockstep_core::Advice::Doctor;
use lockstep_core::{Error, Kind, Result, Retry};

use super::attributes::OWNER;
use super::{TargetControl, key, number, number_at, text};
use crate::{Backoff, fault};

const NEXT: &str = "next";
const SORT: &str = "IDS";

/// Ids that belong to the process that took them: from `first` up to and without `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdBlock {
    /// The least.
    pub first: i64,
    /// One more than the greatest.
    pub end: i64,
}

impl TargetControl {
    /// The next free id of a table; `None` where it was never seeded.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`] where what stands there is no id; the driver's.
    #[crate::boxed]
    pub async fn next_id(&self, table: &str) -> Result<Option<i64>> {
        let Some(item) = self.own(self.read(&partition(table), SORT).await?)? else { return Ok(None) };
        let next = number_at(&item, NEXT);
        next.map(Some).ok_or_else(|| self.damaged(&format!("the id counter of {table}")))
    }

    /// Takes the next `size` ids of a table, all of them below `end`. An answer that was lost leaves a gap.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`] where the counter was never seeded; the driver's.
    #[crate::boxed]
    pub async fn take_ids(&self, table: &str, size: u32, end: i64) -> Result<IdBlock> {
        Backoff::brief().retry(|| self.require_own_table()).await?;
        let (doing, size) = (format!("taking ids for {table}"), i64::from(size.max(1)));
        let sent = Backoff::brief().retry(|| async {
            let request = self.change_ids(table, "ADD #n :size", "attribute_exists(#n) AND #n <= :last");
            let request = request
                .expression_attribute_values(":size", number(size))
                .expression_attribute_values(":last", number(end.saturating_sub(size)))
                .return_values(aws_sdk_dynamodb::types::ReturnValue::UpdatedNew);
            request.send().await.map_err(|e| fault::error(&doing, e))
        });
        match sent.await {
            Ok(output) => {
                let end: i64 = output
                    .attributes
                    .as_ref()
                    .and_then(|item| number_at(item, NEXT))
                    .ok_or_else(|| self.damaged("an id counter"))?;
                Ok(IdBlock { first: end - size, end })
            }
            Err(error) if error.kind == Kind::Refused => {
                self.next_id(table).await?;
                let message = format!(
                    "its ids were never seeded from PostgreSQL, or are used up; give the \
                    id yourself, or run {Doctor}"
                );
                Err(Error::target(Kind::Misconfigured, doing, message))
            }
            Err(error) => Err(error),
        }
    }

    /// Makes sure that no id below `next` is handed out any more; returns the counter, `None` where there is
    /// none.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn raise_ids(&self, table: &str, next: i64) -> Result<Option<i64>> {
        self.set_ids(table, next, None).await
    }

    /// Does the same also where there is no counter yet, or something else in its place. What is no number,
    /// or above `end`, the end of the ids, was never a counter: left as it is, no id could be handed out
    /// again, and none could be read on the way back.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn seed_ids(&self, table: &str, next: i64, end: Option<i64>) -> Result<Option<i64>> {
        self.set_ids(table, next, Some(end.unwrap_or(i64::MAX).max(next))).await
    }

    async fn set_ids(&self, table: &str, next: i64, seeded_below: Option<i64>) -> Result<Option<i64>> {
        let condition = match seeded_below {
            Some(_) => {
                "(attribute_not_exists(#n) OR #n < :next OR #n > :greatest \
                OR (NOT attribute_type(#n, :number)))"
            }
            None => "#n < :next",
        };
        Backoff::brief().retry(|| self.require_own_table()).await?;
        let mut backoff = Backoff::brief();
        loop {
            let request = self
                .change_ids(table, "SET #n = :next", condition)
                .expression_attribute_values(":next", number(next));
            let request = match seeded_below {
                Some(greatest) => request
                    .expression_attribute_values(":number", text("N"))
                    .expression_attribute_values(":greatest", number(greatest)),
                None => request,
            };
            match request.send().await.map_err(|e| fault::error(format!("raising the ids of {table}"), e)) {
                Ok(_) => return Ok(Some(next)),
                Err(error) if error.kind == Kind::Refused => return self.next_id(table).await,
                Err(error) if error.kind.retry() != Retry::Never => backoff.pause(error).await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// A change of a table's counter, if it is ours, which makes it ours.
    fn change_ids(&self, table: &str, change: &str, condition: &str) -> UpdateItemFluentBuilder {
        let request = self.target.client.update_item().table_name(&self.table);
        let request =
            request.set_key(Some(key(&partition(table), SORT))).expression_attribute_names("#n", NEXT);
        let Some((if_own, owner)) = self.if_own() else {
            return request.update_expression(change).condition_expression(condition);
        };
        let change = match change.strip_prefix("SET ") {
            Some(rest) => format!("SET #owner = :owner, {rest}"),
            None => format!("SET #owner = :owner {change}"),
        };
        request
            .update_expression(change)
            .condition_expression(format!("{condition} AND {if_own}"))
            .expression_attribute_names("#owner", OWNER)
            .expression_attribute_values(":owner", text(owner))
    }
}

fn partition(table: &str) -> String {
    format!("IDS#{table}")
}
