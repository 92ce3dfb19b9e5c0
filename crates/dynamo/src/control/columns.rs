//! Types of the source's columns, for writers who cannot ask PostgreSQL: what it could not hold is refused to
//! them (I16).

use aws_sdk_dynamodb::types::AttributeValue;

use lockstep_core::{ColumnTypes, Result};

use super::{TargetControl, key, text};
use crate::Backoff;

const SORT: &str = "COLUMNS";
const TYPES: &str = "types";

impl TargetControl {
    /// Records the types of a table's columns.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn put_columns(&self, table: &str, types: &ColumnTypes) -> Result<()> {
        Backoff::brief().retry(|| self.require_own_table()).await?;
        let types = types.iter().map(|(column, sql_type)| (column.to_owned(), text(sql_type))).collect();
        let mut item = key(&partition(table), SORT);
        item.insert(TYPES.to_owned(), AttributeValue::M(types));
        let doing = format!("recording the columns of {table}");
        Backoff::brief().retry(|| self.put_own(item.clone(), &doing)).await
    }

    /// The types that were recorded for a table; none where the truth came here before they were.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn columns(&self, table: &str) -> Result<ColumnTypes> {
        let partition = partition(table);
        let item =
            self.own(Backoff::brief().retry(|| self.read(&partition, SORT)).await?)?.unwrap_or_default();
        let types = item.get(TYPES).and_then(|types| types.as_m().ok()).into_iter().flatten();
        Ok(ColumnTypes::new(
            types.filter_map(|(column, sql_type)| Some((column.clone(), sql_type.as_s().ok()?.clone()))),
        ))
    }
}

fn partition(table: &str) -> String {
    format!("COLUMNS#{table}")
}
