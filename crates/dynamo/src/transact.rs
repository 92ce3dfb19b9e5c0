//! Several guarded writes that become visible together, or not at all (R16).

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, CancellationReason, Put, TransactWriteItem};
use lockstep_core::{Error, Item, Kind, Result, Retry, VERSION_ATTRIBUTE, Version};

use super::{Landed, ReadAt, Target, codes, fault};

/// Most items of one transaction (DynamoDB Developer Guide, "Quotas").
pub const TRANSACTION_ITEMS_MAX: usize = 100;

impl Target {
    /// Tells whether the endpoint knows transactions; some servers that speak the protocol do not. One
    /// without anything in it is asked for, which is valid nowhere.
    ///
    /// # Errors
    /// When the endpoint does not answer at all.
    ///
    /// # Cancel safety
    /// It has no effect.
    #[crate::boxed]
    pub async fn has_transactions(&self) -> Result<bool> {
        match self.client.transact_write_items().send().await {
            Ok(_) => Ok(true),
            Err(error) => {
                let error = fault::error("probing for transactions", error);
                match error.kind.retry() {
                    _ if fault::is_not_known(&error) => Ok(false),
                    Retry::Never => Ok(true),
                    _ => Err(error),
                }
            }
        }
    }

    /// Puts states of distinct keys that were read at `read_at`, each under the guard of
    /// [`Target::put_guarded_of`], all of them or none.
    /// [`Landed::Superseded`]: none was put, because the target has some of them already, or newer ones; put
    /// singly then, and the guard decides for each. Repetition is harmless for the same reason: what landed
    /// before is found there.
    ///
    /// # Errors
    /// [`Kind::Unknown`] when the answer was lost (I8); [`Kind::Unavailable`] when another transaction was at
    /// one of the items, and nothing was put; [`Kind::Fenced`] when it was too late, and nothing was sent.
    ///
    /// # Cancel safety
    /// A cancelled call is an unknown outcome.
    #[crate::boxed]
    pub async fn put_all_guarded(&self, read_at: ReadAt, puts: Vec<(&str, Item, Version)>) -> Result<Landed> {
        let (fence, now_s) = (read_at.fence(), chrono::Utc::now().timestamp());
        let tables = puts.iter().map(|(table, ..)| *table).collect::<Vec<_>>().join(", ");
        let doing = || format!("writing to {tables} together");
        let mut items = Vec::with_capacity(puts.len());
        for (table, item, version) in puts {
            let put = Put::builder()
                .table_name(table)
                .set_item(Some(item.staying(now_s).into_attributes()))
                .condition_expression("attribute_not_exists(#v) OR #v < :v")
                .expression_attribute_names("#v", VERSION_ATTRIBUTE)
                .expression_attribute_values(":v", AttributeValue::N(version.0.to_string()))
                .build()
                .map_err(|e| Error::target(Kind::Invalid, doing(), e.to_string()))?;
            items.push(TransactWriteItem::builder().put(put).build());
        }
        let request = self.client.transact_write_items().set_transact_items(Some(items));
        match request.customize().interceptor(fence.clone()).send().await {
            Ok(_) => Ok(Landed::Applied),
            Err(error) => match cancelled(&error) {
                Some(Kind::Refused) => Ok(Landed::Superseded),
                Some(kind) => Err(Error::target(kind, doing(), "the transaction was cancelled")),
                None => Err(fence.explain(fault::error(doing(), error))),
            },
        }
    }
}

/// Returns why DynamoDB cancelled the transaction, if it did. A reason that will not pass by itself comes
/// first, one that passes last.
pub(super) fn cancelled(error: &SdkError<TransactWriteItemsError>) -> Option<Kind> {
    let SdkError::ServiceError(service) = error else { return None };
    let TransactWriteItemsError::TransactionCanceledException(cancelled) = service.err() else { return None };
    let reasons = cancelled.cancellation_reasons();
    let any = |wanted: &[&str]| {
        reasons.iter().any(|reason| reason.code().is_some_and(|code| wanted.contains(&code)))
    };
    let of_an_item =
        |reason: &CancellationReason| codes::is_of_the_item(reason.message().unwrap_or_default());
    let refused = reasons
        .iter()
        .filter(|reason| reason.code() == Some("ValidationError"))
        .map(of_an_item)
        .collect::<Vec<_>>();
    Some(if any(&["ItemCollectionSizeLimitExceeded"]) || refused.contains(&true) {
        Kind::Invalid
    } else if !refused.is_empty() {
        // It is about the request or a table, and no row is to pay for it (I18).
        Kind::Misconfigured
    } else if any(&["ThrottlingError", "ProvisionedThroughputExceeded"]) {
        Kind::Throttled
    } else if any(&["ConditionalCheckFailed"]) {
        Kind::Refused
    } else {
        // A conflict with another transaction, or no reason at all: nothing was put.
        Kind::Unavailable
    })
}
