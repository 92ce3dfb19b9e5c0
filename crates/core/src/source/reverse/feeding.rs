//! The transactions in which the feed writes.

use sqlx::Executor;

use super::FedTable;
use crate::error::{Doing, Result};
use crate::phase::Phase;
use crate::source::{Control, Source, SourceTransaction, take_shared};
use crate::version::Epoch;

impl Source {
    /// Begins a transaction that the trigger lets write in DynamoOnly, behind the barrier, with the phase as it is in it, and
    /// the newest DynamoOnly that the table was fed in.
    pub(super) async fn begin_feeding(&self, table: &FedTable) -> Result<(SourceTransaction, Control, Option<Epoch>)> {
        let doing = format!("feeding {}", table.binding.name());
        let mut transaction = self.begin(&doing).await?;
        take_shared(&mut transaction).await?;
        let control = Control::read(&mut transaction).await?;
        transaction.execute("INSERT INTO lockstep.reverse_writers VALUES (pg_current_xact_id())").await.doing(&doing)?;
        // A constraint that waits for the commit would refuse the whole page there, and not say which row.
        transaction.execute("SET CONSTRAINTS ALL IMMEDIATE").await.doing(&doing)?;
        if control.phase == Phase::DynamoOnly {
            let note = "UPDATE lockstep.reverse_tables SET epoch = $2 WHERE table_name = $1 AND epoch IS DISTINCT FROM $2";
            let noted = sqlx::query(note).bind(table.binding.name()).bind(control.epoch.0).execute(&mut *transaction).await;
            noted.doing(&doing)?;
            return Ok((transaction, control, Some(control.epoch)));
        }
        let fed_in: Option<Option<i64>> = sqlx::query_scalar("SELECT epoch FROM lockstep.reverse_tables WHERE table_name = $1")
            .bind(table.binding.name())
            .fetch_optional(&mut *transaction)
            .await
            .doing(&doing)?;
        Ok((transaction, control, fed_in.flatten().map(Epoch)))
    }
}

/// Takes the right to write back and commits.
pub(super) async fn finish_feeding(mut transaction: SourceTransaction, name: &str) -> Result<()> {
    let doing = format!("feeding {name}");
    let gone = "DELETE FROM lockstep.reverse_writers WHERE xid = pg_current_xact_id()";
    transaction.execute(gone).await.doing(&doing)?;
    transaction.commit().await.doing(&doing)
}
