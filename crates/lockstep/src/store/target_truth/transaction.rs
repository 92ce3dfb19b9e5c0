//! Several changes that become visible together, in DynamoOnly: one `TransactWriteItems`.

use lockstep_core::{Control, Error, Kind, MigratableTable, Result};
use tokio::time::Instant;

use super::Permit;
use super::change::Change;
use super::find::Id;
use super::send::Sent;
use crate::store::{PrimaryKey, Store, Writer};

/// Changes that have been read for and not been sent. Dropped, nothing has happened.
pub(crate) struct TargetTransaction {
    permit: Permit,
    changes: Vec<Change>,
}

impl TargetTransaction {
    pub(crate) fn new(permit: Permit) -> Self {
        Self { permit, changes: Vec::new() }
    }

    /// The phase and epoch that it goes by.
    pub(crate) fn control(&self) -> Control {
        self.permit.control
    }

    /// Sends everything; says how many rows it changed.
    ///
    /// # Errors
    /// [`Kind::Busy`] when one of the rows was changed meanwhile, [`Kind::Invalid`] when it is too large for
    /// one transaction: nothing was written. [`Kind::Unknown`]: it is unknown whether anything was.
    pub(crate) async fn commit(self, writer: &Writer) -> Result<usize> {
        let deadline = Instant::now() + writer.options().inline_timeout();
        match writer.send_changes(&self.permit, &self.changes, deadline).await? {
            Sent::Applied => Ok(self.changes.len()),
            Sent::Raced => {
                let message =
                    "another changed one of its rows meanwhile; nothing was written, run the operation again";
                Err(Error::target(Kind::Busy, "committing an operation", message))
            }
        }
    }

    /// The change of this row so far.
    fn of(&self, table: &str, id: &Id) -> Option<usize> {
        self.changes.iter().position(|change| change.table == table && change.id == id.text)
    }
}

impl<T: MigratableTable> Store<T> {
    pub(crate) async fn put_staged(&self, write: &mut TargetTransaction, row: &T::Row) -> Result<T::Row> {
        let row = &self.fitted(&write.permit, row.clone()).await?;
        let id = self.id_of_row(row)?;
        self.keep_ids_clear_of(&id).await?;
        self.stage(write, &id, Some(row)).await?;
        Ok(row.clone())
    }

    pub(crate) async fn insert_staged(&self, write: &mut TargetTransaction, row: &T::Row) -> Result<T::Row> {
        let row = self.fitted(&write.permit, row.clone()).await?;
        let (row, change) = self.numbered(&row).await?;
        write.changes.push(change);
        Ok(row)
    }

    pub(crate) async fn update_staged(
        &self,
        write: &mut TargetTransaction,
        key: &impl PrimaryKey,
        change: impl FnOnce(&mut T::Row),
    ) -> Result<Option<T::Row>> {
        let id = self.id_of_key(key)?;
        let Some(mut row) = self.present(write, &id).await? else { return Ok(None) };
        change(&mut row);
        let row = self.fitted(&write.permit, row).await?;
        self.stage(write, &id, Some(&row)).await?;
        Ok(Some(row))
    }

    pub(crate) async fn delete_staged(
        &self,
        write: &mut TargetTransaction,
        key: &impl PrimaryKey,
    ) -> Result<bool> {
        let id = self.id_of_key(key)?;
        let there = self.present(write, &id).await?.is_some();
        if there {
            self.stage(write, &id, None).await?;
        }
        Ok(there)
    }

    /// The row as this transaction sees it.
    async fn present(&self, write: &TargetTransaction, id: &Id) -> Result<Option<T::Row>> {
        match write.of(T::NAME, id) {
            Some(at) => match &write.changes[at].to {
                Some((_, item, _)) => self.decoded(&item.clone().into_attributes()).map(Some),
                None => Ok(None),
            },
            None => self.find(id, None).await?.live.map(|(_, item)| self.decoded(&item)).transpose(),
        }
    }

    /// Notes the new state of a row. One that was noted before still replaces what was read then.
    async fn stage(&self, write: &mut TargetTransaction, id: &Id, row: Option<&T::Row>) -> Result<()> {
        let likely = row.map(|row| self.target_key_of(row)).transpose()?;
        let found = self.find(id, likely.as_ref()).await?;
        let change = self.change_to(found, row).await?;
        match write.of(T::NAME, id) {
            None => write.changes.push(change),
            Some(at) if change.is_of_the_same(&write.changes[at]) => write.changes[at] = change,
            Some(_) => {
                let message =
                    "another changed one of its rows meanwhile; nothing was written, run the operation again";
                return Err(Error::target(Kind::Busy, "writing in an operation", message));
            }
        }
        Ok(())
    }
}
