//! Rows that PostgreSQL forgot, put back from their items while PostgreSQL is the truth.

use lockstep_core::{AnyRow, Doing, Result};

use super::FedTable;
use super::rows::upsert;
use crate::path::lend;
use crate::{Source, take_shared};

impl Source {
    /// Writes one row as an application would: its triggers fire, and capture marks its key under a fresh
    /// version.
    ///
    /// # Errors
    /// The driver's, [`Kind::Invalid`](lockstep_core::Kind::Invalid) among them where PostgreSQL refuses the
    /// row; nothing was written then.
    pub async fn put_back(&self, table: &FedTable, row: &dyn AnyRow) -> Result<()> {
        let doing = format!("putting a row back to {}", table.binding.relation);
        let mut transaction = self.begin(&doing).await?;
        take_shared(&mut transaction).await?;
        lend(&mut transaction).await?;
        upsert(&mut transaction, table, &[row]).await?;
        transaction.commit().await.doing(&doing)
    }
}
