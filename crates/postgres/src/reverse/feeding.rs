//! The transactions in which the feed writes.

use lockstep_core::{Doing, Result};
use sqlx::Executor;
use sqlx::postgres::PgConnection;

use super::FedTable;
use super::epochs::Epochs;
use crate::{Source, SourceTransaction, take_shared};

impl Source {
    /// Begins a transaction that the trigger lets write in DynamoOnly, behind the barrier, with the epochs as
    /// they are in it.
    pub(super) async fn begin_feeding(&self, table: &FedTable) -> Result<(SourceTransaction, Epochs)> {
        let mut transaction = self.begin(&format!("feeding {}", table.binding.name())).await?;
        take_shared(&mut transaction).await?;
        let epochs = may_write(&mut transaction, table).await?;
        Ok((transaction, epochs))
    }

    /// The same while no other session writes, as keys that are marked from outside need it.
    pub(super) async fn begin_feeding_alone(&self, table: &FedTable) -> Result<(SourceTransaction, Epochs)> {
        let mut transaction = self.begin_alone().await?;
        let epochs = may_write(&mut transaction, table).await?;
        Ok((transaction, epochs))
    }
}

async fn may_write(transaction: &mut PgConnection, table: &FedTable) -> Result<Epochs> {
    let doing = format!("feeding {}", table.binding.name());
    let epochs = Epochs::read(transaction).await?;
    transaction
        .execute(
            "INSERT INTO lockstep.reverse_writers
        VALUES (pg_catalog.pg_current_xact_id())",
        )
        .await
        .doing(&doing)?;
    // A constraint that waits for the commit would refuse the whole page there, and not say which row.
    transaction.execute("SET CONSTRAINTS ALL IMMEDIATE").await.doing(&doing)?;
    Ok(epochs)
}

/// Takes the right to write back and commits.
pub(super) async fn finish_feeding(mut transaction: SourceTransaction, name: &str) -> Result<()> {
    let doing = format!("feeding {name}");
    let gone = "DELETE FROM lockstep.reverse_writers WHERE xid = pg_catalog.pg_current_xact_id()";
    transaction.execute(gone).await.doing(&doing)?;
    transaction.commit().await.doing(&doing)
}
