//! A success that says nothing is none (I18).
//!
//! To the SDK, a 200 with an empty body is `{}`, of which every part is optional: 1. A mesh answers
//! GetRecords with an empty 200. 2. A page without a next iterator is the end of a closed shard. 3. Its other
//! records are never read, and the truth goes back to PostgreSQL without them. A PutItem answered so was
//! never written, and its mark was taken out; a Query of leases answered so found no instance, and a step
//! waited for none.
//!
//! DynamoDB sends `{}` at least, and of what it is asked for at least an empty list or a count. So an answer
//! without a body, and one that lacks what its operation always says, is as one that was lost: its outcome is
//! unknown (I8).
//!
//! Source: Amazon DynamoDB API Reference, "Response Elements" of each operation.

use std::fmt::Debug;

use aws_sdk_dynamodb::operation as tables;
use aws_sdk_dynamodbstreams::operation as streams;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{FinalizerInterceptorContextMut, Output};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::OrchestratorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

/// Turns a success that says nothing into an error.
#[derive(Debug)]
pub(super) struct Understood;

/// Part that an answer lacks.
#[derive(Debug, thiserror::Error)]
#[error("the answer is a success, and has no {0}: something else than DynamoDB may have answered")]
pub(super) struct SaysNothing(pub(super) &'static str);

#[dyn_dispatch_hint]
impl Intercept for Understood {
    fn name(&self) -> &'static str {
        "Understood"
    }

    /// Once the body is in memory, where it is neither streamed nor read twice.
    fn modify_before_attempt_completion(
        &self,
        context: &mut FinalizerInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let (Some(response), Some(Ok(output))) = (context.response(), context.output_or_error()) else {
            return Ok(());
        };
        let lacks = match response.body().bytes() {
            Some([]) => Some("body"),
            body => part_lacking(output, body.unwrap_or_default()),
        };
        if let (Some(part), Some(answer)) = (lacks, context.output_or_error_mut()) {
            *answer = Err(OrchestratorError::other(SaysNothing(part)));
        }
        Ok(())
    }
}

/// Returns the part that an answer lacks and every answer of its operation has. PutItem, UpdateItem,
/// DeleteItem, GetItem and TransactWriteItems have none: `{}` is what DynamoDB says to them.
fn part_lacking(output: &Output, body: &[u8]) -> Option<&'static str> {
    use streams::describe_stream::DescribeStreamOutput as Stream;
    use streams::get_records::GetRecordsOutput as Records;
    use streams::get_shard_iterator::GetShardIteratorOutput as Iterator;
    use streams::list_streams::ListStreamsOutput as Streams;
    use tables::batch_execute_statement::BatchExecuteStatementOutput as Statements;
    use tables::batch_get_item::BatchGetItemOutput as Many;
    use tables::describe_table::DescribeTableOutput as Described;
    use tables::query::QueryOutput as Queried;
    use tables::scan::ScanOutput as Scanned;
    use tables::transact_get_items::TransactGetItemsOutput as Together;
    // A page that counts has no list, and the SDK takes a count that is missing for zero. Of a page that is
    // kept as it came, the output is empty.
    let is_page = || has(body, b"\"Items\"") || has(body, b"\"Count\"");
    let lacking = [
        lacks(output, "Items", |page: &Queried| page.items.is_some() || page.count > 0 || is_page()),
        lacks(output, "Items", |page: &Scanned| page.items.is_some() || page.count > 0 || is_page()),
        lacks(output, "Responses", |found: &Many| found.responses.is_some()),
        lacks(output, "Responses", |found: &Together| found.responses.is_some()),
        lacks(output, "Responses", |said: &Statements| said.responses.is_some()),
        lacks(output, "Table", |found: &Described| found.table.is_some()),
        lacks(output, "Records", |page: &Records| page.records.is_some()),
        lacks(output, "ShardIterator", |found: &Iterator| found.shard_iterator.is_some()),
        lacks(output, "StreamDescription", |found: &Stream| found.stream_description.is_some()),
        lacks(output, "Streams", |found: &Streams| found.streams.is_some()),
    ];
    lacking.into_iter().flatten().next()
}

fn lacks<T>(output: &Output, part: &'static str, has: impl Fn(&T) -> bool) -> Option<&'static str>
where
    T: Debug + Send + Sync + 'static,
{
    output.downcast_ref::<T>().is_some_and(|output| !has(output)).then_some(part)
}

fn has(body: &[u8], name: &[u8]) -> bool {
    body.windows(name.len()).any(|part| part == name)
}

#[cfg(test)]
mod tests {
    use lockstep_core::{Item, Kind, TargetKey, Version};

    use crate::raw_scan::answering::{Answer, Answering};

    /// Each operation that is sent, answered by a body that says nothing.
    #[tokio::test]
    async fn a_success_without_a_body_or_without_what_was_asked_for_is_an_unknown_outcome() {
        let server = Answering::start().await;
        let (tables, streams) = (&server.target.client, &server.target.streams);
        let kind = |error: lockstep_core::Error| (error.kind, error.message);
        macro_rules! asked {
            ($request:expr) => {
                $request.send().await.map(drop).map_err(|e| kind(crate::fault::error("asking", e)))
            };
        }
        for body in ["", "{}"] {
            server.answer(Answer::page(body));
            // `{}` is all that DynamoDB says to the first ones.
            let says_enough = [
                ("PutItem", asked!(tables.put_item().table_name("t"))),
                ("UpdateItem", asked!(tables.update_item().table_name("t"))),
                ("DeleteItem", asked!(tables.delete_item().table_name("t"))),
                ("GetItem", asked!(tables.get_item().table_name("t"))),
                ("TransactWriteItems", asked!(tables.transact_write_items())),
            ];
            let says_too_little = [
                ("Query", asked!(tables.query().table_name("t"))),
                ("Scan", asked!(tables.scan().table_name("t"))),
                ("BatchGetItem", asked!(tables.batch_get_item())),
                ("TransactGetItems", asked!(tables.transact_get_items())),
                ("BatchExecuteStatement", asked!(tables.batch_execute_statement())),
                ("DescribeTable", asked!(tables.describe_table().table_name("t"))),
                ("GetRecords", asked!(streams.get_records())),
                ("GetShardIterator", asked!(streams.get_shard_iterator())),
                ("DescribeStream", asked!(streams.describe_stream())),
                ("ListStreams", asked!(streams.list_streams())),
            ];
            for (operation, said) in says_enough {
                assert_eq!(said.is_ok(), body == "{}", "{operation} {body}: {said:?}");
            }
            for (operation, said) in says_too_little {
                let (kind, why) = said.expect_err(operation);
                assert_eq!(kind, Kind::Unknown, "{operation} {body}: {why}");
                assert!(why.contains("is a success, and has no "), "{operation} {body}: {why}");
            }
        }
        server.answer(Answer::page(r#"{"Count":0,"ScannedCount":0}"#));
        assert_eq!(asked!(tables.query().table_name("t")), Ok(()), "a page that counts has no list");
        server.answer(Answer::page(""));
        let put = server.target.put_guarded("t", Item::default(), Version(7)).await.expect_err("not put");
        assert_eq!(put.kind, Kind::Unknown, "{put}");
    }

    /// `{"Responses":{}}` would make every item absent, and a short list the last ones.
    #[tokio::test]
    async fn items_that_an_answer_does_not_name_are_not_absent() {
        let server = Answering::start().await;
        let key = TargetKey { partition: aws_sdk_dynamodb::types::AttributeValue::S("x".into()), sort: None };
        let brief = crate::Backoff::brief;
        server.answer(Answer::page(r#"{"Responses":{"other":[]},"UnprocessedKeys":{}}"#));
        let many = server.target.get_many("t", std::slice::from_ref(&key), brief()).await;
        assert_eq!(many.expect_err("it names another table").kind, Kind::Unknown);
        server.answer(Answer::page(r#"{"Responses":{"t":[]},"UnprocessedKeys":{}}"#));
        assert_eq!(
            server.target.get_many("t", std::slice::from_ref(&key), brief()).await.expect("absent"),
            []
        );
        let two = [("t", key.to_attributes()), ("t", key.to_attributes())];
        server.answer(Answer::page(r#"{"Responses":[{}]}"#));
        let short = server.target.get_together(&two).await.expect_err("one of two");
        assert_eq!(short.kind, Kind::Unknown, "{short}");
        server.answer(Answer::page(r#"{"Responses":[{},{}]}"#));
        assert_eq!(server.target.get_together(&two).await.expect("both are absent"), [None, None]);
    }
}
