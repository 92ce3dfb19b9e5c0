//! Guarded writes: of two states of one row the target keeps the one with the higher version (I2, I3).

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure};
use lockstep_core::{
    Attributes, Item, Kind, PK, Result, SK, TargetKey, VERSION_ATTRIBUTE, Version, version_of,
};

use super::{ReadAt, Target, fault};

/// End of a guarded write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landed {
    /// The target now holds this state.
    Applied,
    /// The target holds a version at least as high. In one history that is this state or a newer one. Where
    /// the source was set back it need not be: see [`Written::standing`].
    Superseded,
}

/// A guarded write that was answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Outcome of the write.
    pub landed: Landed,
    /// Write units it consumed, where the endpoint tells; a refused condition consumes as well.
    pub capacity_units: f64,
    /// Item that stands in the place of a write that was superseded; `None` where that is gone by now.
    pub standing: Option<Box<Attributes>>,
}

impl Written {
    /// Tells whether the target holds this very state under this very version: by this write, or by an
    /// earlier one whose answer was lost. Any other item proves nothing of this state. `sent` is what was
    /// put, at `version`.
    pub fn holds(&self, sent: &Item, version: Version) -> bool {
        let there = self.standing.as_deref();
        self.landed == Landed::Applied || there.is_some_and(|there| is_this(there, sent, version))
    }
}

fn is_this(there: &Attributes, sent: &Item, version: Version) -> bool {
    version_of(there) == Some(version) && sent.is_same_state(there, chrono::Utc::now().timestamp())
}

impl Target {
    /// Puts a state or a tombstone at its version, unless the target has a version at least as high.
    ///
    /// It may be repeated, reordered and delayed at will: that is what the condition is for.
    ///
    /// # Errors
    /// [`Kind::Unknown`] when the answer was lost: it may or may not have been applied (I8).
    ///
    /// # Cancel safety
    /// A cancelled call is an unknown outcome.
    #[crate::boxed]
    pub async fn put_guarded(&self, table: &str, item: Item, version: Version) -> Result<Written> {
        self.put_guarded_of(self.reading(), table, item, version).await
    }

    /// Returns the same of a state that was read a while ago. It leaves within
    /// [`Target::state_leaves_within`], or not at all: 1. A relay reads a row, and its machine sleeps. 2. The
    /// row is deleted, the migration completes, and the tombstone is purged. 3. The relay wakes; where
    /// nothing is, its condition holds.
    ///
    /// # Errors
    /// As [`Target::put_guarded`]; [`Kind::Fenced`] when it was too late, and nothing was sent.
    ///
    /// # Cancel safety
    /// A cancelled call is an unknown outcome.
    #[crate::boxed]
    pub async fn put_guarded_of(
        &self,
        read_at: ReadAt,
        table: &str,
        item: Item,
        version: Version,
    ) -> Result<Written> {
        let condition = ("attribute_not_exists(#v) OR #v < :v", AttributeValue::N(version.0.to_string()));
        self.put_where(read_at, table, item, condition).await
    }

    /// Puts a state over an item that carries `standing` where a version should be, which is none of ours: as
    /// one that carries nothing there it is another program's, and gives way. It is superseded where that
    /// has changed meanwhile.
    ///
    /// # Errors
    /// As [`Target::put_guarded_of`].
    ///
    /// # Cancel safety
    /// A cancelled call is an unknown outcome.
    #[crate::boxed]
    pub async fn put_over_foreign(
        &self,
        read_at: ReadAt,
        table: &str,
        item: Item,
        standing: AttributeValue,
    ) -> Result<Written> {
        self.put_where(read_at, table, item, ("#v = :v", standing)).await
    }

    /// Reads whether the target holds this very state under this very version, as [`Written::holds`] tells it
    /// of a put.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    #[crate::boxed]
    pub async fn holds(&self, table: &str, sent: &Item, version: Version) -> Result<bool> {
        let Some(place) = place_of(sent) else { return Ok(false) };
        let there = self.get(table, &place).await?;
        Ok(there.is_some_and(|there| is_this(&there, sent, version)))
    }

    async fn put_where(
        &self,
        read_at: ReadAt,
        table: &str,
        item: Item,
        (condition, value): (&str, AttributeValue),
    ) -> Result<Written> {
        // Of this machine: where it is slow by most of an hour, the item does not stay for long enough.
        let (fence, now_s) = (read_at.fence(), chrono::Utc::now().timestamp());
        let place = place_of(&item);
        let sent = self
            .client
            .put_item()
            .table_name(table)
            .set_item(Some(item.staying(now_s).into_attributes()))
            .condition_expression(condition)
            .expression_attribute_names("#v", VERSION_ATTRIBUTE)
            .expression_attribute_values(":v", value)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .customize()
            .interceptor(fence.clone())
            .send()
            .await;
        match sent {
            Ok(output) => Ok(Written {
                landed: Landed::Applied,
                capacity_units: output.consumed_capacity.and_then(|c| c.capacity_units).unwrap_or_default(),
                standing: None,
            }),
            Err(error) => {
                let told = what_is_there(&error);
                let error = fault::error(format!("writing to {table}"), error);
                if error.kind == Kind::Refused {
                    let standing = match (told, place) {
                        (Some(there), _) => Some(there),
                        // An endpoint that does not tell is asked.
                        (None, Some(place)) => self.get(table, &place).await?,
                        (None, None) => None,
                    };
                    let standing = standing.map(Box::new);
                    return Ok(Written { landed: Landed::Superseded, capacity_units: 1.0, standing });
                }
                Err(fence.explain(error))
            }
        }
    }
}

fn place_of(item: &Item) -> Option<TargetKey> {
    Some(TargetKey { partition: item.get(PK)?.clone(), sort: item.get(SK).cloned() })
}

/// Returns the item that a condition has failed on, where the answer has it.
fn what_is_there(error: &SdkError<PutItemError>) -> Option<Attributes> {
    match error.as_service_error()? {
        PutItemError::ConditionalCheckFailedException(failed) => failed.item().cloned(),
        _ => None,
    }
}
