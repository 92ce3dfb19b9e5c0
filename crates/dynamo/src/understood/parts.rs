//! The part that each answer of an operation has.

use std::fmt::Debug;

use aws_sdk_dynamodb::operation as tables;
use aws_sdk_dynamodb::types::{ImportTableDescription, TableDescription};
use aws_sdk_dynamodbstreams::operation as streams;
use aws_smithy_runtime_api::client::interceptors::context::Output;

const BACKUPS: &str = "ContinuousBackupsDescription";
const IMPORT: &str = "ImportTableDescription";

/// Returns the part that an answer lacks and every answer of its operation has. PutItem, UpdateItem,
/// DeleteItem, GetItem and TransactWriteItems have none: `{}` is what DynamoDB says to them.
pub(super) fn part_lacking(output: &Output, body: &[u8]) -> Option<&'static str> {
    of_items(output, body).or_else(|| of_tables(output)).or_else(|| of_streams(output))
}

fn of_items(output: &Output, body: &[u8]) -> Option<&'static str> {
    use tables::batch_execute_statement::BatchExecuteStatementOutput as Statements;
    use tables::batch_get_item::BatchGetItemOutput as Many;
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
    ];
    lacking.into_iter().flatten().next()
}

/// 1. A gateway answers the question by what items of a table expire with `{}`. 2. No description is no
/// expiry: rows that DynamoDB removes while it is the truth are taken for kept. A job that is not listed was
/// never begun, and is begun once more.
fn of_tables(output: &Output) -> Option<&'static str> {
    use tables::create_table::CreateTableOutput as Made;
    use tables::delete_table::DeleteTableOutput as Deleted;
    use tables::describe_continuous_backups::DescribeContinuousBackupsOutput as Backups;
    use tables::describe_import::DescribeImportOutput as Import;
    use tables::describe_table::DescribeTableOutput as Described;
    use tables::describe_time_to_live::DescribeTimeToLiveOutput as Expiry;
    use tables::import_table::ImportTableOutput as Imported;
    use tables::list_imports::ListImportsOutput as Imports;
    use tables::update_continuous_backups::UpdateContinuousBackupsOutput as BackedUp;
    use tables::update_table::UpdateTableOutput as Changed;
    use tables::update_time_to_live::UpdateTimeToLiveOutput as Expiring;
    let has_status = |table: &TableDescription| table.table_status.is_some();
    let expires = |found: &Expiry| {
        found.time_to_live_description.as_ref().is_some_and(|found| found.time_to_live_status.is_some())
    };
    // The SDK makes an empty description where there is none.
    let is_named = |job: Option<&ImportTableDescription>| job.is_some_and(|job| job.import_arn.is_some());
    let lacking = [
        lacks(output, "Table", |found: &Described| found.table.as_ref().is_some_and(has_status)),
        lacks(output, "TableDescription", |made: &Made| made.table_description.is_some()),
        lacks(output, "TableDescription", |changed: &Changed| changed.table_description.is_some()),
        lacks(output, "TableDescription", |deleted: &Deleted| deleted.table_description.is_some()),
        lacks(output, "TimeToLiveDescription", expires),
        lacks(output, "TimeToLiveSpecification", |set: &Expiring| set.time_to_live_specification.is_some()),
        lacks(output, BACKUPS, |found: &Backups| found.continuous_backups_description.is_some()),
        lacks(output, BACKUPS, |set: &BackedUp| set.continuous_backups_description.is_some()),
        lacks(output, "ImportSummaryList", |page: &Imports| page.import_summary_list.is_some()),
        lacks(output, IMPORT, |found: &Import| is_named(found.import_table_description.as_ref())),
        lacks(output, IMPORT, |begun: &Imported| is_named(begun.import_table_description.as_ref())),
    ];
    lacking.into_iter().flatten().next()
}

fn of_streams(output: &Output) -> Option<&'static str> {
    use streams::describe_stream::DescribeStreamOutput as Stream;
    use streams::get_records::GetRecordsOutput as Records;
    use streams::get_shard_iterator::GetShardIteratorOutput as Iterator;
    use streams::list_streams::ListStreamsOutput as Streams;
    let lacking = [
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
