//! Names of attributes in each table: requests leave in the table's words, and answers come back in ours
//! (see [`Naming`]).
//!
//! It is done in the client, on the typed request and on the typed answer, so that no caller can forget it:
//! a put that left with our names would find no version where the table has it under another name, and its
//! guard would let it through. Where every name is the usual one, which nearly every table is, nothing is
//! touched.
//!
//! Requests that are written by hand pass this by, and name what they name themselves: `insert_body`,
//! `raw_scan` with `page_item`, `import_lines`, `exports`, `streams`, PartiQL in `dry` and `initial_load`.
//! Definitions of tables are in the table's words from the start.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use aws_sdk_dynamodb::operation as op;
use aws_sdk_dynamodb::types::{KeysAndAttributes, TransactGetItem, TransactWriteItem};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeSerializationInterceptorContextMut, Error as ErasedError, FinalizerInterceptorContextMut, Input,
    Output,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::OrchestratorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};
use lockstep_core::{Attributes, Naming, Unholdable};

use super::Target;

/// Names of the tables in which attributes are not called as usual, by the tables' names; clones share
/// them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Named(Arc<RwLock<HashMap<String, Naming>>>);

impl Named {
    pub(crate) fn of(&self, table: &str) -> Naming {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(table).copied().unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl Target {
    /// Says what attributes are called in `table`, to this handle and to each clone of it. To be said
    /// before anything is asked of the table.
    pub fn name_attributes(&self, table: &str, naming: Naming) {
        let mut known = self.named.0.write().unwrap_or_else(PoisonError::into_inner);
        if naming.is_usual() {
            known.remove(table);
        } else {
            known.insert(table.to_owned(), naming);
        }
    }

    /// Returns what attributes are called in `table`.
    pub fn naming(&self, table: &str) -> Naming {
        self.named.of(table)
    }
}

/// Naming of each table that a request names, in its order: answers and errors are in that order, too.
#[derive(Debug)]
struct Asked(Vec<Naming>);

impl Storable for Asked {
    type Storer = StoreReplace<Self>;
}

type Placeholders = HashMap<String, String>;

#[dyn_dispatch_hint]
impl Intercept for Named {
    fn name(&self) -> &'static str {
        "Named"
    }

    fn modify_before_serialization(
        &self,
        context: &mut BeforeSerializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if !self.is_empty() {
            let asked = self.send(context.input_mut())?;
            config.interceptor_state().store_put(Asked(asked));
        }
        Ok(())
    }

    /// Once the answer is decoded; its bytes stay as they came, for what looks at their checksum.
    fn modify_before_attempt_completion(
        &self,
        context: &mut FinalizerInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(Asked(asked)) = config.load::<Asked>() else { return Ok(()) };
        if asked.iter().all(Naming::is_usual) {
            return Ok(());
        }
        match context.output_or_error_mut() {
            Some(Ok(output)) => self.receive(output, asked),
            Some(Err(error)) if error.is_operation_error() => {
                let taken = std::mem::replace(error, OrchestratorError::other("taken out"));
                *error = taken.map_operation_error(|error| explained(error, asked));
            }
            _ => {}
        }
        Ok(())
    }
}

impl Named {
    fn of_request(&self, table: Option<&String>) -> Naming {
        table.map(|table| self.of(table)).unwrap_or_default()
    }

    /// Puts a request into the words of the tables that it names, and returns those.
    fn send(&self, input: &mut Input) -> Result<Vec<Naming>, Unholdable> {
        macro_rules! one {
            ($request:ty, $($attributes:ident),* ; $($names:ident),*) => {
                if let Some(request) = input.downcast_mut::<$request>() {
                    let naming = self.of_request(request.table_name.as_ref());
                    $(attributes(&naming, &mut request.$attributes)?;)*
                    $(names(&naming, &mut request.$names);)*
                    return Ok(vec![naming]);
                }
            };
        }
        one!(op::put_item::PutItemInput, item; expression_attribute_names);
        one!(op::get_item::GetItemInput, key; expression_attribute_names);
        one!(op::update_item::UpdateItemInput, key; expression_attribute_names);
        one!(op::delete_item::DeleteItemInput, key; expression_attribute_names);
        one!(op::query::QueryInput, exclusive_start_key; expression_attribute_names);
        one!(op::scan::ScanInput, exclusive_start_key; expression_attribute_names);
        if let Some(request) = input.downcast_mut::<op::batch_get_item::BatchGetItemInput>() {
            let mut asked = Vec::new();
            for (table, keys) in request.request_items.iter_mut().flatten() {
                let naming = self.of(table);
                for key in &mut keys.keys {
                    *key = naming.send(std::mem::take(key))?;
                }
                names(&naming, &mut keys.expression_attribute_names);
                asked.push(naming);
            }
            return Ok(asked);
        }
        if let Some(request) = input.downcast_mut::<op::transact_write_items::TransactWriteItemsInput>() {
            let items = request.transact_items.iter_mut().flatten();
            return items.map(|item| self.send_write(item)).collect();
        }
        if let Some(request) = input.downcast_mut::<op::transact_get_items::TransactGetItemsInput>() {
            let items = request.transact_items.iter_mut().flatten();
            return items.map(|item| self.send_get(item)).collect();
        }
        Ok(Vec::new())
    }

    fn send_write(&self, item: &mut TransactWriteItem) -> Result<Naming, Unholdable> {
        macro_rules! one {
            ($part:ident, $attributes:ident) => {
                if let Some(part) = &mut item.$part {
                    let naming = self.of(&part.table_name);
                    part.$attributes = naming.send(std::mem::take(&mut part.$attributes))?;
                    names(&naming, &mut part.expression_attribute_names);
                    return Ok(naming);
                }
            };
        }
        one!(put, item);
        one!(update, key);
        one!(delete, key);
        one!(condition_check, key);
        Ok(Naming::USUAL)
    }

    fn send_get(&self, item: &mut TransactGetItem) -> Result<Naming, Unholdable> {
        let Some(get) = &mut item.get else { return Ok(Naming::USUAL) };
        let naming = self.of(&get.table_name);
        get.key = naming.send(std::mem::take(&mut get.key))?;
        names(&naming, &mut get.expression_attribute_names);
        Ok(naming)
    }

    /// Puts an answer into our words.
    fn receive(&self, output: &mut Output, asked: &[Naming]) {
        let naming = asked.first().copied().unwrap_or_default();
        let one = |item: &mut Option<Attributes>| *item = item.take().map(|item| naming.receive(item));
        macro_rules! page {
            ($answer:ty) => {
                if let Some(page) = output.downcast_mut::<$answer>() {
                    for item in page.items.iter_mut().flatten() {
                        *item = naming.receive(std::mem::take(item));
                    }
                    page.last_evaluated_key =
                        page.last_evaluated_key.take().map(|key| naming.receive_key(key));
                    return;
                }
            };
        }
        page!(op::query::QueryOutput);
        page!(op::scan::ScanOutput);
        if let Some(found) = output.downcast_mut::<op::get_item::GetItemOutput>() {
            one(&mut found.item);
        } else if let Some(put) = output.downcast_mut::<op::put_item::PutItemOutput>() {
            one(&mut put.attributes);
        } else if let Some(updated) = output.downcast_mut::<op::update_item::UpdateItemOutput>() {
            one(&mut updated.attributes);
        } else if let Some(deleted) = output.downcast_mut::<op::delete_item::DeleteItemOutput>() {
            one(&mut deleted.attributes);
        } else if let Some(found) = output.downcast_mut::<op::transact_get_items::TransactGetItemsOutput>() {
            for (found, naming) in found.responses.iter_mut().flatten().zip(asked) {
                found.item = found.item.take().map(|item| naming.receive(item));
            }
        } else if let Some(found) = output.downcast_mut::<op::batch_get_item::BatchGetItemOutput>() {
            for (table, items) in found.responses.iter_mut().flatten() {
                let naming = self.of(table);
                items.iter_mut().for_each(|item| *item = naming.receive(std::mem::take(item)));
            }
            for (table, keys) in found.unprocessed_keys.iter_mut().flatten() {
                unprocessed(&self.of(table), keys);
            }
        }
    }
}

fn unprocessed(naming: &Naming, keys: &mut KeysAndAttributes) {
    keys.keys.iter_mut().for_each(|key| *key = naming.receive_key(std::mem::take(key)));
}

fn attributes(naming: &Naming, item: &mut Option<Attributes>) -> Result<(), Unholdable> {
    *item = item.take().map(|item| naming.send(item)).transpose()?;
    Ok(())
}

fn names(naming: &Naming, names: &mut Option<Placeholders>) {
    for name in names.iter_mut().flat_map(HashMap::values_mut) {
        *name = naming.sent(name).into_owned();
    }
}

/// Puts the item that a condition failed on into our words, wherever an error has one.
fn explained(mut error: ErasedError, asked: &[Naming]) -> ErasedError {
    let naming = asked.first().copied().unwrap_or_default();
    macro_rules! refused {
        ($operation:path) => {{
            use $operation as Failed;
            if let Some(Failed::ConditionalCheckFailedException(failed)) = error.downcast_mut::<Failed>() {
                failed.item = failed.item.take().map(|item| naming.receive(item));
                return error;
            }
        }};
    }
    refused!(op::put_item::PutItemError);
    refused!(op::update_item::UpdateItemError);
    refused!(op::delete_item::DeleteItemError);
    use op::transact_write_items::TransactWriteItemsError as Together;
    if let Some(Together::TransactionCanceledException(cancelled)) = error.downcast_mut::<Together>() {
        for (reason, naming) in cancelled.cancellation_reasons.iter_mut().flatten().zip(asked) {
            reason.item = reason.item.take().map(|item| naming.receive(item));
        }
    }
    error
}
