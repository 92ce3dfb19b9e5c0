//! Writes where the target is the truth: each under the condition that its item is still as it was read.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use lockstep_core::{Attributes, Error, Kind, PK, Result, VERSION_ATTRIBUTE, Version, WRITERS_ATTRIBUTE};

use super::transact::cancelled;
use super::{Fence, Target, fault};

/// Most bytes of one transaction, all items together (DynamoDB Developer Guide, "Quotas").
pub const TRANSACTION_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A put that happens only while its place is as expected.
#[derive(Clone, Debug)]
pub struct ConditionalPut {
    /// The table.
    pub table: String,
    /// The whole item, key included.
    pub item: Attributes,
    /// State that must be at its place.
    pub expected: Expected,
}

/// State that must be at the place.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    /// Nothing at all.
    Absent,
    /// An item, tombstone or not, at this version, and with these last writers, or none. An item that expired
    /// and is made again has the first version of its epoch once more: 1. A put over version 1 is delayed.
    /// 2. The item expires at version 5; a new one has version 1. 3. The put arrives, and by the version
    /// alone it would overwrite a row that it has never seen.
    At(Version, Option<String>),
    /// An item whose attribute has this value.
    With(&'static str, AttributeValue),
    /// Nothing, or an item without this attribute.
    Without(&'static str),
}

/// A condition with its names and values.
struct Condition {
    text: &'static str,
    names: HashMap<String, String>,
    values: Option<HashMap<String, AttributeValue>>,
}

impl Expected {
    fn condition(&self) -> Condition {
        let names = |some: &[(&str, &str)]| {
            some.iter().map(|(short, name)| ((*short).to_owned(), (*name).to_owned())).collect()
        };
        let version = |version: &Version| (":a".to_owned(), AttributeValue::N(version.0.to_string()));
        let (text, names, values) = match self {
            Self::Absent => ("attribute_not_exists(#a)", names(&[("#a", PK)]), HashMap::new()),
            Self::At(at, writers) => {
                let names = names(&[("#a", VERSION_ATTRIBUTE), ("#b", WRITERS_ATTRIBUTE)]);
                match writers {
                    None => ("#a = :a AND attribute_not_exists(#b)", names, HashMap::from([version(at)])),
                    Some(writers) => {
                        let writers = (":b".to_owned(), AttributeValue::S(writers.clone()));
                        ("#a = :a AND #b = :b", names, HashMap::from([version(at), writers]))
                    }
                }
            }
            Self::With(name, value) => {
                ("#a = :a", names(&[("#a", name)]), HashMap::from([(":a".to_owned(), value.clone())]))
            }
            Self::Without(name) => ("attribute_not_exists(#a)", names(&[("#a", name)]), HashMap::new()),
        };
        Condition { text, names, values: Some(values).filter(|values| !values.is_empty()) }
    }
}

impl Target {
    /// Puts one item, or several of distinct places together. Sent again with the same `token`, a transaction
    /// that happened says so again, for ten minutes (Developer Guide, "Idempotency"). `fence` is asked after
    /// the signature, right before it leaves.
    ///
    /// # Errors
    /// [`Kind::Refused`] when one is not as expected, and nothing was put; [`Kind::Fenced`] when `fence` was
    /// shut, and nothing was sent; [`Kind::Unknown`] when the answer was lost (I8).
    ///
    /// # Cancel safety
    /// A cancelled call is an unknown outcome.
    #[crate::boxed]
    pub async fn put_if(&self, puts: &[ConditionalPut], token: &str, fence: &Fence) -> Result<()> {
        let put = match puts {
            [put] => self.put_one_if(put, fence).await,
            puts => self.put_all_if(puts, token, fence).await,
        };
        put.map_err(|error| fence.explain(error))
    }

    async fn put_one_if(&self, put: &ConditionalPut, fence: &Fence) -> Result<()> {
        let condition = put.expected.condition();
        let request = self
            .client
            .put_item()
            .table_name(&put.table)
            .set_item(Some(put.item.clone()))
            .condition_expression(condition.text)
            .set_expression_attribute_names(Some(condition.names))
            .set_expression_attribute_values(condition.values);
        let sent = request.customize().interceptor(fence.clone()).send().await;
        sent.map(drop).map_err(|e| fault::error(format!("writing to {}", put.table), e))
    }

    async fn put_all_if(&self, puts: &[ConditionalPut], token: &str, fence: &Fence) -> Result<()> {
        let tables = puts.iter().map(|put| put.table.as_str()).collect::<Vec<_>>().join(", ");
        let doing = || format!("writing to {tables} together");
        let mut items = Vec::with_capacity(puts.len());
        for put in puts {
            let condition = put.expected.condition();
            let built = Put::builder()
                .table_name(&put.table)
                .set_item(Some(put.item.clone()))
                .condition_expression(condition.text)
                .set_expression_attribute_names(Some(condition.names))
                .set_expression_attribute_values(condition.values);
            let built = built.build().map_err(|e| Error::target(Kind::Invalid, doing(), e.to_string()))?;
            items.push(TransactWriteItem::builder().put(built).build());
        }
        let request =
            self.client.transact_write_items().set_transact_items(Some(items)).client_request_token(token);
        let sent = request.customize().interceptor(fence.clone()).send().await;
        match sent {
            Ok(_) => Ok(()),
            Err(error) => Err(match cancelled(&error) {
                Some(kind) => Error::target(kind, doing(), "the transaction was cancelled"),
                None => fault::error(doing(), error),
            }),
        }
    }

    /// Reads items of several tables as they were at one moment; `None` where there is none.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when a transaction was at one of them.
    #[crate::boxed]
    pub async fn get_together(&self, keys: &[(&str, Attributes)]) -> Result<Vec<Option<Attributes>>> {
        use aws_sdk_dynamodb::types::{Get, TransactGetItem};
        let doing = "reading several items at one moment";
        let mut items = Vec::with_capacity(keys.len());
        for (table, key) in keys {
            let get = Get::builder().table_name(*table).set_key(Some(key.clone())).build();
            let get = get.map_err(|e| Error::target(Kind::Invalid, doing, e.to_string()))?;
            items.push(TransactGetItem::builder().get(get).build());
        }
        let output = self.client.transact_get_items().set_transact_items(Some(items)).send().await;
        let output = output.map_err(|e| {
            let mut error = fault::error(doing, e);
            if error.message.starts_with("TransactionCanceledException") {
                error.kind = Kind::Unavailable;
            }
            error
        })?;
        let found = output.responses.unwrap_or_default();
        if found.len() != keys.len() {
            let message =
                format!("the answer is of {} items, and {} were asked for", found.len(), keys.len());
            return Err(Error::target(Kind::Unknown, doing, message));
        }
        Ok(found.into_iter().map(|response| response.item).collect())
    }
}
