//! The initial load: rows as they were before anything changed, at version 0 and under the condition
//! "absent".
//!
//! Version 0 with "absent" is enough in any order: a row that changed after capture has a pending key, so it
//! reaches the target under a version above 0; whichever of the two comes second finds the other and yields,
//! or overwrites as it should. A row deleted after capture leaves a tombstone, which is present, so the
//! initial load yields (I3).
//!
//! An item that expires is what is not there for ever. 1. A row is read that expires next year, and waits:
//! an operator has paused the backfill. 2. The row's expiry is set into the past, and that is put. 3. An hour
//! later DynamoDB removes the item, and its version with it. 4. The backfill goes on, its insert finds
//! nothing, and the row is there for a year. So each request leaves within the time of [`ReadAt`], as a put
//! under the guard does: what was put since the rows were read is still there when it arrives (P19).

use aws_sdk_dynamodb::types::{
    BatchStatementError, BatchStatementErrorCodeEnum, BatchStatementRequest, ReturnConsumedCapacity,
};
use lockstep_core::{
    Error, Item, Kind, Naming, PK, Result, SK, TargetKey, Unholdable, VERSION_ATTRIBUTE, Version,
};

use super::insert_body::{self, InsertBody};
use super::{Backoff, Fence, ReadAt, Target, codes, fault, without_values};

/// Most items of one request, on every path (DynamoDB Developer Guide, "Quotas").
pub const STATEMENTS_MAX: usize = 25;
/// Most characters of one statement (DynamoDB Developer Guide, "Quotas"). One of a row with hundreds of
/// columns is longer.
const STATEMENT_CHARACTERS_MAX: usize = 8_192;

/// Way in which the initial load is put into the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadPath {
    /// PartiQL `INSERT` in `BatchExecuteStatement`: put-if-absent for each item. Safe at any time. Reports of
    /// earlier versions also know `cold_batch`, writes without a condition, which this version does not make.
    #[serde(alias = "cold_batch")]
    GuardedBatch,
    /// Conditional `PutItem`, one request a row: safe at any time, for endpoints without PartiQL.
    ConditionalPut,
    /// Objects in S3, from which DynamoDB's own import makes the table: nothing is written before.
    Import,
    /// After an import that left something out: keys are read, and what is missing goes in as by
    /// [`LoadPath::GuardedBatch`]. Safe at any time.
    Fill,
}

impl std::fmt::Display for LoadPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::GuardedBatch => "guarded batch (BatchExecuteStatement, insert if absent)",
            Self::ConditionalPut => "conditional put (one PutItem a row; the endpoint has no PartiQL)",
            Self::Import => "import (objects in S3, ImportTable)",
            Self::Fill => "fill (keys are read, and what the import left out is inserted)",
        })
    }
}

/// Outcome of each item of a batch, by its index.
#[derive(Clone, Debug, Default)]
pub struct BatchOutcome {
    /// Items that are in the target now because of this request.
    pub written: usize,
    /// Items whose key was there already.
    pub present: usize,
    /// Items to be sent again, and why.
    pub again: Vec<(usize, Kind)>,
    /// Items that the target will never take, and why.
    pub refused: Vec<(usize, String)>,
    /// Write units consumed, where the endpoint tells.
    pub capacity_units: f64,
}

/// Outcome of a batch of inserts.
#[derive(Clone, Debug)]
pub struct Inserted {
    /// Flag of each item, by its index: whether it is in the target because of this request.
    pub written: Vec<bool>,
    /// Number of keys that were there already.
    pub present: usize,
    /// Write units consumed, where the endpoint tells.
    pub capacity_units: f64,
}

impl Target {
    /// Sends up to [`STATEMENTS_MAX`] items, each with another key, at version 0.
    ///
    /// # Errors
    /// Of the request as a whole. [`Kind::Invalid`] of several items does not say which: send them one by
    /// one. [`Kind::Fenced`], here or of an item, when they were read too long ago: nothing was sent, and
    /// they are to be read again.
    ///
    /// # Cancel safety
    /// A cancelled call is an unknown outcome; it may simply be repeated.
    #[crate::boxed]
    pub async fn insert_initial_load(
        &self,
        read_at: ReadAt,
        path: LoadPath,
        table: &str,
        items: Vec<Item>,
    ) -> Result<BatchOutcome> {
        debug_assert!(items.len() <= STATEMENTS_MAX, "a batch holds at most {STATEMENTS_MAX} items");
        match path {
            LoadPath::GuardedBatch => self.insert_guarded(read_at, table, items).await,
            LoadPath::ConditionalPut => {
                let items = items.into_iter().map(as_initial_load).collect();
                self.insert_one_by_one(read_at, table, items).await
            }
            LoadPath::Fill => self.insert_missing(read_at, table, items).await,
            LoadPath::Import => {
                let message = "rows of an import go into objects and not into requests";
                Err(Error::target(Kind::Misconfigured, format!("inserting into {table}"), message))
            }
        }
    }

    /// Reads the keys, and inserts the items of those that are absent. A row that is put or deleted between
    /// the two is there when the insert comes, and the insert yields.
    async fn insert_missing(&self, read_at: ReadAt, table: &str, items: Vec<Item>) -> Result<BatchOutcome> {
        let keys: Vec<TargetKey> = items.iter().filter_map(key_of).collect();
        let found = self.get_many(table, &keys, Backoff::brief()).await?;
        let found: Vec<TargetKey> = found.iter().filter_map(TargetKey::of).collect();
        let is_there = |item: &Item| key_of(item).is_some_and(|key| found.contains(&key));
        let missing: Vec<(usize, Item)> =
            items.into_iter().enumerate().filter(|(_, item)| !is_there(item)).collect();
        let present = keys.len().saturating_sub(missing.len());
        if missing.is_empty() {
            return Ok(BatchOutcome { present, ..BatchOutcome::default() });
        }
        let (indices, missing): (Vec<usize>, Vec<Item>) = missing.into_iter().unzip();
        let mut outcome = self.insert_guarded(read_at, table, missing).await?;
        outcome.present += present;
        outcome.again.iter_mut().for_each(|(index, _)| *index = indices[*index]);
        outcome.refused.iter_mut().for_each(|(index, _)| *index = indices[*index]);
        Ok(outcome)
    }

    async fn insert_guarded(&self, read_at: ReadAt, table: &str, items: Vec<Item>) -> Result<BatchOutcome> {
        let items: Vec<Item> = items.into_iter().map(as_initial_load).collect();
        let naming = self.naming(table);
        if items.iter().any(|item| is_too_long(table, &naming, item)) {
            return self.insert_one_by_one(read_at, table, items).await;
        }
        let (stood, capacity_units) = self.insert_each(read_at.fence(), table, items).await?;
        let mut outcome = BatchOutcome { capacity_units, ..BatchOutcome::default() };
        for (index, stood) in stood.into_iter().enumerate() {
            match stood {
                Stood::Written => outcome.written += 1,
                Stood::Present => outcome.present += 1,
                Stood::Again(kind) => outcome.again.push((index, kind)),
                Stood::Refused(reason) => outcome.refused.push((index, reason)),
            }
        }
        Ok(outcome)
    }

    /// Puts up to [`STATEMENTS_MAX`] items, each with its version and with another key, where there is none
    /// of their key; says of each, by its index, whether this request put it there. Of the others nothing is
    /// said: they are there already in some version, were refused, or may be there; a guarded put decides
    /// which.
    ///
    /// An insert under the condition "absent" is never more than a guarded put would do, so it may be
    /// repeated, reordered and delayed at will (I2).
    ///
    /// # Errors
    /// Of the request as a whole: nothing is known of any of them. [`Kind::Invalid`] also where a statement
    /// would be too long; [`Kind::Fenced`] when they were read too long ago, and nothing was sent (see
    /// [`Target::put_guarded_of`]).
    ///
    /// # Cancel safety
    /// A cancelled call is an unknown outcome.
    #[crate::boxed]
    pub async fn insert_versioned(&self, read_at: ReadAt, table: &str, items: Vec<Item>) -> Result<Inserted> {
        debug_assert!(items.len() <= STATEMENTS_MAX, "a batch holds at most {STATEMENTS_MAX} items");
        debug_assert!(items.iter().all(|item| item.get(VERSION_ATTRIBUTE).is_some()), "each has its version");
        let naming = self.naming(table);
        if items.iter().any(|item| is_too_long(table, &naming, item)) {
            let message = "a statement would be longer than DynamoDB takes";
            return Err(Error::target(Kind::Invalid, format!("inserting into {table}"), message));
        }
        let now_s = chrono::Utc::now().timestamp();
        let items = items.into_iter().map(|item| item.staying(now_s)).collect();
        let (stood, capacity_units) = self.insert_each(read_at.fence(), table, items).await?;
        let written = stood.iter().map(|stood| matches!(stood, Stood::Written)).collect();
        let present = stood.iter().filter(|stood| matches!(stood, Stood::Present)).count();
        Ok(Inserted { written, present, capacity_units })
    }

    async fn insert_each(&self, fence: Fence, table: &str, items: Vec<Item>) -> Result<(Vec<Stood>, f64)> {
        let (sent, naming) = (items.len(), self.naming(table));
        let items: std::result::Result<Vec<Item>, _> =
            items.into_iter().map(|item| naming.send_item(item)).collect();
        let invalid =
            |e: Unholdable| Error::target(Kind::Invalid, format!("inserting into {table}"), e.to_string());
        let items = items.map_err(invalid)?;
        let body = InsertBody::of(table, &items);
        drop(items);
        let request = self.client.batch_execute_statement().customize().interceptor(body);
        let sending = request.interceptor(fence.clone()).send();
        let output =
            sending.await.map_err(|e| fence.explain(fault::error(format!("inserting into {table}"), e)))?;
        let capacity_units =
            output.consumed_capacity().iter().filter_map(|capacity| capacity.capacity_units).sum();
        let mut stood = Vec::with_capacity(sent);
        for response in output.responses.unwrap_or_default().into_iter().take(sent) {
            stood.push(match response.error {
                None => Stood::Written,
                Some(error) => stood_by(table, error)?,
            });
        }
        // An answer that says less than was asked says nothing of the rest.
        stood.resize_with(sent, || Stood::Again(Kind::Unknown));
        Ok((stood, capacity_units))
    }

    /// The items carry their versions.
    async fn insert_one_by_one(
        &self,
        read_at: ReadAt,
        table: &str,
        items: Vec<Item>,
    ) -> Result<BatchOutcome> {
        let mut outcome = BatchOutcome::default();
        let sending = items.into_iter().map(|item| self.insert_one(read_at.fence(), table, item));
        for (index, result) in futures::future::join_all(sending).await.into_iter().enumerate() {
            match result {
                Ok(Some(units)) => {
                    outcome.written += 1;
                    outcome.capacity_units += units;
                }
                Ok(None) => outcome.present += 1,
                Err(e) if e.kind == Kind::Invalid => outcome.refused.push((index, e.message)),
                Err(e) if e.kind == Kind::Fenced => outcome.again.push((index, e.kind)),
                Err(e) if e.kind.retry() == lockstep_core::Retry::Never => return Err(e),
                Err(e) => outcome.again.push((index, e.kind)),
            }
        }
        Ok(outcome)
    }

    /// Puts one item if its key is absent; `None` when it was there.
    async fn insert_one(&self, fence: Fence, table: &str, item: Item) -> Result<Option<f64>> {
        let sent = self
            .client
            .put_item()
            .table_name(table)
            .set_item(Some(item.into_attributes()))
            .condition_expression("attribute_not_exists(#pk)")
            .expression_attribute_names("#pk", PK)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .customize()
            .interceptor(fence.clone())
            .send()
            .await;
        match sent.map_err(|e| fence.explain(fault::error(format!("inserting into {table}"), e))) {
            Ok(output) => {
                Ok(Some(output.consumed_capacity.and_then(|c| c.capacity_units).unwrap_or_default()))
            }
            Err(e) if e.kind == Kind::Refused => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Tells whether the endpoint knows PartiQL; some servers that speak the protocol do not. `key` is any
    /// key of the table.
    ///
    /// # Errors
    /// When the endpoint does not answer at all.
    #[crate::boxed]
    pub async fn has_partiql(&self, table: &str, key: &TargetKey) -> Result<bool> {
        let (naming, path) = (self.naming(table), insert_body::path);
        let pk = path(naming.called(PK));
        let mut text = format!("SELECT {pk} FROM \"{table}\" WHERE {pk} = ?");
        let mut parameters = vec![key.partition.clone()];
        if let Some(sort) = &key.sort {
            text.push_str(&format!(" AND {} = ?", path(naming.called(SK))));
            parameters.push(sort.clone());
        }
        let probe = BatchStatementRequest::builder().statement(text).set_parameters(Some(parameters)).build();
        match self
            .client
            .batch_execute_statement()
            .statements(probe.expect("a statement was set"))
            .send()
            .await
        {
            Ok(_) => Ok(true),
            Err(e) => {
                let error = fault::error("probing for PartiQL", e);
                if fault::is_not_known(&error) { Ok(false) } else { Err(error) }
            }
        }
    }
}

fn key_of(item: &Item) -> Option<TargetKey> {
    Some(TargetKey { partition: item.get(PK)?.clone(), sort: item.get(SK).cloned() })
}

/// Tells whether the statement of an item is longer than DynamoDB takes.
fn is_too_long(table: &str, naming: &Naming, item: &Item) -> bool {
    // A quote in a name is written twice.
    let characters = |name: &str| name.chars().map(|c| if c == '\'' { 2 } else { 1 }).sum::<usize>();
    let names: usize = item.iter().map(|(name, _)| characters(naming.called(name)) + "'':?,".len()).sum();
    "INSERT INTO \"\" VALUE {}".len() + table.len() + names > STATEMENT_CHARACTERS_MAX
}

/// Outcome of one statement.
enum Stood {
    Written,
    Present,
    Again(Kind),
    Refused(String),
}

/// # Errors
/// What is about the request and not about the item of this statement.
fn stood_by(table: &str, error: BatchStatementError) -> Result<Stood> {
    use BatchStatementErrorCodeEnum as Code;
    let message = error.message.unwrap_or_default();
    let doing = format!("inserting into {table}");
    let told = |code: &str| without_values::of_message(code, &message, &doing);
    let of_the_request =
        |kind, code: &str| Err(Error::target(kind, doing.clone(), format!("{code}: {}", told(code))));
    match error.code {
        Some(Code::DuplicateItem | Code::ConditionalCheckFailed) => Ok(Stood::Present),
        Some(Code::ProvisionedThroughputExceeded | Code::ThrottlingError | Code::RequestLimitExceeded) => {
            Ok(Stood::Again(Kind::Throttled))
        }
        Some(Code::ItemCollectionSizeLimitExceeded) if message.is_empty() => {
            Ok(Stood::Refused("refused without a reason".to_owned()))
        }
        Some(Code::ItemCollectionSizeLimitExceeded) => Ok(Stood::Refused(told("ValidationException"))),
        Some(Code::ValidationError) if codes::is_of_the_item(&message) => {
            Ok(Stood::Refused(told("ValidationException")))
        }
        // It is about the statement, and no row is to pay for it (I18).
        Some(Code::ValidationError) => of_the_request(Kind::Misconfigured, "ValidationException"),
        Some(Code::AccessDenied) => of_the_request(Kind::Denied, Code::AccessDenied.as_str()),
        Some(Code::ResourceNotFound) => of_the_request(Kind::Misconfigured, Code::ResourceNotFound.as_str()),
        // An internal error or a conflict: it may have happened (I8), and put-if-absent may be repeated.
        _ => Ok(Stood::Again(Kind::Unknown)),
    }
}

fn as_initial_load(item: Item) -> Item {
    item.at(Version::INITIAL_LOAD)
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::AttributeValue;

    use super::*;
    use crate::insert_body::statement;

    #[test]
    fn a_statement_that_is_longer_than_dynamodb_takes_is_known_before_it_is_sent() {
        // Names live as long as the program; a test's may.
        let name = |n: usize| -> &'static str {
            format!("{}_{n}", ["a", "another_column_with_a_long_name", "o'clock"][n % 3]).leak()
        };
        for columns in [1, 100, 400, 700, 900] {
            let mut item = Item::default();
            for n in 0..columns {
                item.push(name(n), AttributeValue::Bool(true));
            }
            let item = as_initial_load(item);
            let length = statement("table", &item).chars().count();
            let known = is_too_long("table", &Naming::USUAL, &item);
            assert!(known || length <= STATEMENT_CHARACTERS_MAX, "{columns} columns: {length}");
            assert!(!known || length + 64 > STATEMENT_CHARACTERS_MAX, "{columns} columns: {length}");
        }
    }
}
