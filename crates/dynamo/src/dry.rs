//! Calls that change nothing, each to prove one right.

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{
    AttributeValue, BatchStatementErrorCodeEnum, BatchStatementRequest, KeysAndAttributes,
};
use lockstep_core::{Error, Item, KeyType, Kind, PK, Result, TargetKey};

use super::proven::Dry;
use super::{Target, fault, insert_body};

impl Target {
    /// Asks for what `dry` needs, with a key that no row has.
    ///
    /// # Errors
    /// The driver's. That a condition did not hold is none.
    pub(super) async fn ask_dry(&self, dry: Dry, table: &str, key: &TargetKey) -> Result<()> {
        let (client, key_of) = (&self.client, key.to_attributes());
        let doing = format!("proving the right to {} on {table}", dry.action());
        // Neither is ever true of one item.
        let never = "attribute_exists(#pk) AND attribute_not_exists(#pk)";
        match dry {
            Dry::DescribeTable => self.ask_for_description(table).await.map(drop),
            Dry::DescribeContinuousBackups => {
                said(&doing, client.describe_continuous_backups().table_name(table).send().await)
            }
            Dry::GetItem => {
                said(&doing, client.get_item().table_name(table).set_key(Some(key_of)).send().await)
            }
            Dry::BatchGetItem => {
                let keys = KeysAndAttributes::builder().keys(key_of).build();
                let keys = keys.map_err(|e| Error::target(Kind::Invalid, &doing, e.to_string()))?;
                said(&doing, client.batch_get_item().request_items(table, keys).send().await)
            }
            Dry::Query(index) => {
                let (name, value) = index.map_or_else(
                    || (PK, key.partition.clone()),
                    |index| (index.partition.name, of_no_row(index.partition.key_type)),
                );
                let request = client.query().table_name(table).limit(1).key_condition_expression("#p = :p");
                let request = request.set_index_name(index.map(|index| index.name.to_owned()));
                let request =
                    request.expression_attribute_names("#p", name).expression_attribute_values(":p", value);
                said(&doing, request.send().await)
            }
            Dry::Scan => said(&doing, client.scan().table_name(table).limit(1).send().await),
            Dry::PutItem => {
                let request = client.put_item().table_name(table).set_item(Some(key_of));
                let request = request.condition_expression(never).expression_attribute_names("#pk", PK);
                was_refused(&doing, said(&doing, request.send().await))
            }
            Dry::UpdateItem => {
                let request = client.update_item().table_name(table).set_key(Some(key_of));
                let request = request.update_expression("REMOVE #pk_of_nothing");
                let request = request.expression_attribute_names("#pk_of_nothing", OF_NOTHING);
                let request = request.condition_expression(never).expression_attribute_names("#pk", PK);
                was_refused(&doing, said(&doing, request.send().await))
            }
            Dry::DeleteItem => {
                let request = client.delete_item().table_name(table).set_key(Some(key_of));
                let request = request.condition_expression(never).expression_attribute_names("#pk", PK);
                was_refused(&doing, said(&doing, request.send().await))
            }
            Dry::PartiQlInsert => {
                // No key is of this type.
                let mut item = Item::with_capacity(1);
                item.push(self.naming(table).called(PK), AttributeValue::Bool(false));
                let text = insert_body::statement(table, &item);
                self.ask_partiql(&doing, text, AttributeValue::Bool(false)).await
            }
            Dry::PartiQlSelect => {
                let pk = insert_body::path(self.naming(table).called(PK));
                let text = format!("SELECT {pk} FROM \"{table}\" WHERE {pk} = ?");
                self.ask_partiql(&doing, text, key.partition.clone()).await
            }
        }
    }

    async fn ask_partiql(&self, doing: &str, text: String, parameter: AttributeValue) -> Result<()> {
        let statement = BatchStatementRequest::builder().statement(text).parameters(parameter).build();
        let statement = statement.map_err(|e| Error::target(Kind::Invalid, doing, e.to_string()))?;
        let sent = self.client.batch_execute_statement().statements(statement).send().await;
        let answers = sent.map_err(|e| fault::error(doing, e))?.responses.unwrap_or_default();
        // What keeps a statement from being carried out is an answer of its own.
        match answers.into_iter().find_map(|answer| answer.error) {
            Some(error) if error.code == Some(BatchStatementErrorCodeEnum::AccessDenied) => {
                let message = format!("AccessDenied: {}", error.message.unwrap_or_default());
                Err(Error::target(Kind::Denied, doing, message))
            }
            _ => Ok(()),
        }
    }
}

fn said<T, E>(doing: &str, sent: std::result::Result<T, SdkError<E>>) -> Result<()>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    sent.map(drop).map_err(|e| fault::error(doing, e))
}

/// A condition that cannot hold did not.
fn was_refused(doing: &str, said: Result<()>) -> Result<()> {
    match said {
        Err(error) if error.kind == Kind::Refused => Ok(()),
        Ok(()) => Err(Error::target(Kind::Invalid, doing, "a condition that cannot hold was accepted")),
        other => other,
    }
}

/// No column and no attribute of ours is called so.
const OF_NOTHING: &str = "_lockstep_asks_only";

fn of_no_row(key_type: KeyType) -> AttributeValue {
    match key_type {
        KeyType::S => AttributeValue::S("lockstep-probe".to_owned()),
        KeyType::N => AttributeValue::N("0".to_owned()),
    }
}
