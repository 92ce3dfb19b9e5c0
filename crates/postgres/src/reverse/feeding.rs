//! The transactions in which the feed writes.

use lockstep_core::{Doing, Result};
use sqlx::Executor;
use sqlx::postgres::PgConnection;

use super::FedTable;
use super::epochs::Epochs;
use super::writer::Writer;
use crate::trigger_names::{trigger_name, truncate_trigger_name};
use crate::{Source, SourceTransaction, take_shared};

impl Source {
    /// Begins a transaction that the trigger lets write in DynamoOnly, behind the barrier, with the epochs as
    /// they are in it.
    pub(super) async fn begin_feeding<'a>(
        &self,
        table: &'a FedTable,
    ) -> Result<(SourceTransaction, Epochs, Writer<'a>)> {
        let mut transaction = self.begin(&format!("feeding {}", table.binding.name())).await?;
        take_shared(&mut transaction).await?;
        let (epochs, writer) = may_write(&mut transaction, table).await?;
        Ok((transaction, epochs, writer))
    }

    /// The same while no other session writes, as keys that are marked from outside need it.
    pub(super) async fn begin_feeding_alone<'a>(
        &self,
        table: &'a FedTable,
    ) -> Result<(SourceTransaction, Epochs, Writer<'a>)> {
        let mut transaction = self.begin_alone().await?;
        let (epochs, writer) = may_write(&mut transaction, table).await?;
        Ok((transaction, epochs, writer))
    }
}

async fn may_write<'a>(transaction: &mut PgConnection, table: &'a FedTable) -> Result<(Epochs, Writer<'a>)> {
    let doing = format!("feeding {}", table.binding.name());
    let epochs = Epochs::read(transaction).await?;
    // What is on the table is asked each time: a trigger may have been created a moment ago.
    let (notes, fires): (bool, bool) = sqlx::query_as(
        "INSERT INTO lockstep.reverse_writers (xid, table_name, notes)
         SELECT pg_catalog.pg_current_xact_id(), $1, EXISTS (
             SELECT FROM pg_catalog.pg_constraint c
             WHERE c.contype = 'f' AND c.conrelid = pg_catalog.to_regclass($2)::oid
                 AND c.confrelid = c.conrelid
                 AND (c.confdeltype IN ('c', 'n', 'd') OR c.confupdtype IN ('c', 'n', 'd')))
         RETURNING notes, EXISTS (
             SELECT FROM pg_catalog.pg_trigger t
             WHERE t.tgrelid = pg_catalog.to_regclass($2)::oid AND NOT t.tgisinternal AND t.tgenabled <> 'D'
                 AND t.tgname NOT IN ($3, $4))",
    )
    .bind(table.binding.name())
    .bind(table.binding.relation.sql())
    .bind(trigger_name(&table.binding))
    .bind(truncate_trigger_name(&table.binding))
    .fetch_one(&mut *transaction)
    .await
    .doing(&doing)?;
    // A constraint that waits for the commit would refuse the whole page there, and not say which row.
    transaction.execute("SET CONSTRAINTS ALL IMMEDIATE").await.doing(&doing)?;
    Ok((epochs, Writer { table, fires, notes }))
}

/// Takes the right to write back and commits.
pub(super) async fn finish_feeding(mut transaction: SourceTransaction, name: &str) -> Result<()> {
    let doing = format!("feeding {name}");
    let gone = "DELETE FROM lockstep.reverse_writers WHERE xid = pg_catalog.pg_current_xact_id()";
    transaction.execute(gone).await.doing(&doing)?;
    transaction.commit().await.doing(&doing)
}
