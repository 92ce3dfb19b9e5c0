//! Writer of rows for the feed: so that they are in the end what their items say, whatever the application
//! has on its tables.
//!
//! 1. The application has a trigger that stamps `updated_date`. 2. The feed brings a row; the trigger stamps
//! it. 3. The row differs from its item, and will after each try: the way back is closed for good. So where
//! triggers fire, what they make of a row is overwritten once more, in the replica role, in which only
//! triggers that are meant for it fire. They have fired once by then: an audit has its entry.
//!
//! And rows that take values from each other: 1. Two rows swap a unique value in DynamoDB, which knows none.
//! 2. Neither of them can be written while the other has the value. Such rows make way together.

use lockstep_core::{AnyRow, Doing, Error, Result};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgArguments, PgConnection};

use super::FedTable;
use super::cured::{end_of_key, end_of_keys, end_of_rows};
use super::numbered::keep_clear;
use super::own_place::{keys_at, row_at_place};
use super::riders::forget_riders;
use super::rows::{delete, delete_key, delete_rows, upsert};
use crate::path::{lend, take_back};
use crate::sql::{self, Run as _};

/// Way in which rows are put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Triggers and actions fire; what they make of the rows is put right after them.
    Plain,
    /// The same, after the rows as they are have made way.
    Displacing,
    /// Nothing fires where the role allows it; foreign keys are checked by us. For rows that something
    /// dragged along: were it to fire again, two triggers could go on about each other for ever.
    Alone,
}

/// Writes rows of one table in one transaction of the feed.
pub(super) struct Writer<'a> {
    pub(super) table: &'a FedTable,
    /// Triggers of the application are on the table.
    pub(super) fires: bool,
    /// Writes may drag rows of the same table along, or be of another row than the one that was meant,
    /// so that the rows we write are noted as well.
    pub(super) notes: bool,
    /// Rows of the table are dead letters.
    pub(super) letters: bool,
}

impl Writer<'_> {
    fn name(&self) -> &'static str {
        self.table.binding.name()
    }

    /// Whether rows can make way for each other, and drag nothing along.
    pub(super) fn can_displace(&self) -> bool {
        self.table.can_displace()
    }

    /// Upserts rows, each with a primary key of its own.
    pub(super) async fn put(
        &self,
        connection: &mut PgConnection,
        rows: &[&dyn AnyRow],
        how: How,
    ) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        keep_clear(connection, &self.table.numbers, rows, &[]).await?;
        if how == How::Displacing {
            self.displace(connection, rows).await?;
        }
        // What these fire is the application's, and finds its names where it expects them.
        lend(connection).await?;
        let alone = how == How::Alone && self.table.can_write_alone();
        if !alone {
            upsert(connection, self.table, rows).await?;
        }
        if alone || (self.fires && self.table.silent) {
            silence(connection).await?;
            upsert(connection, self.table, rows).await?;
            end_silence(connection).await?;
        }
        take_back(connection).await?;
        if alone {
            self.table.require_references(connection, rows).await?;
        }
        if self.fires || self.notes {
            forget_riders(connection, self.table, rows).await?;
        }
        if self.letters {
            end_of_rows(connection, self.table, rows).await?;
        }
        Ok(())
    }

    /// Takes rows away, by primary key, that are put at once after it.
    pub(super) async fn displace(&self, connection: &mut PgConnection, rows: &[&dyn AnyRow]) -> Result<()> {
        if self.table.silent {
            silence(connection).await?;
        }
        lend(connection).await?;
        delete_rows(connection, self.table, rows).await?;
        take_back(connection).await?;
        if self.table.silent {
            end_silence(connection).await?;
        }
        Ok(())
    }

    /// Deletes the rows of these places, by the source keys of their items; returns which of them there were.
    pub(super) async fn delete(
        &self,
        connection: &mut PgConnection,
        places: &[&str],
        mut keys: Vec<Vec<String>>,
    ) -> Result<Vec<usize>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        keys_at(connection, &self.table.binding, places, &mut keys).await?;
        keep_clear(connection, &self.table.numbers, &[], &keys).await?;
        lend(connection).await?;
        let mut gone = delete(connection, self.table, &keys).await?;
        take_back(connection).await?;
        // A trigger that keeps the row, and sets `deleted_at` in it, or what its key is made of.
        if self.fires && self.table.silent {
            keys_at(connection, &self.table.binding, places, &mut keys).await?;
            silence(connection).await?;
            lend(connection).await?;
            gone.extend(delete(connection, self.table, &keys).await?);
            take_back(connection).await?;
            end_silence(connection).await?;
        }
        gone.sort_unstable();
        gone.dedup();
        if self.letters {
            for of_before in end_of_keys(connection, self.table, &keys).await? {
                self.delete_of_before(connection, &of_before).await?;
            }
        }
        Ok(gone)
    }

    /// Deletes the row that was a dead letter, if it is still there: it is gone, by whatever key the target
    /// had it last.
    async fn delete_of_before(&self, connection: &mut PgConnection, key: &str) -> Result<()> {
        lend(connection).await?;
        delete_key(connection, self.table, key).await?;
        take_back(connection).await?;
        if self.fires && self.table.silent {
            silence(connection).await?;
            lend(connection).await?;
            delete_key(connection, self.table, key).await?;
            take_back(connection).await?;
            end_silence(connection).await?;
        }
        Ok(())
    }

    /// The same for one place, by a key as PostgreSQL printed it; says whether there was such a row.
    pub(super) async fn delete_key(
        &self,
        connection: &mut PgConnection,
        place: &str,
        key: &str,
    ) -> Result<bool> {
        let mut is_gone = self.delete_at(connection, place, key).await?;
        if self.fires && self.table.silent {
            silence(connection).await?;
            is_gone |= self.delete_at(connection, place, key).await?;
            end_silence(connection).await?;
        }
        if self.letters {
            for of_before in end_of_key(connection, self.table, key).await? {
                self.delete_of_before(connection, &of_before).await?;
            }
        }
        Ok(is_gone)
    }

    async fn delete_at(&self, connection: &mut PgConnection, place: &str, key: &str) -> Result<bool> {
        let own = match self.table.binding.has_several_keys() {
            true => row_at_place(connection, &self.table.binding, place, key).await?,
            false => None,
        };
        let key = own.as_ref().map_or(key, |own| own.key.as_str());
        lend(connection).await?;
        let is_gone = delete_key(connection, self.table, key).await?;
        take_back(connection).await?;
        Ok(is_gone)
    }

    /// Deletes a row that a trigger made, and that the target has no item of.
    pub(super) async fn unmake(&self, connection: &mut PgConnection, place: &str, key: &str) -> Result<()> {
        if self.table.silent {
            silence(connection).await?;
        }
        let is_gone = self.delete_at(connection, place, key).await?;
        if self.table.silent {
            end_silence(connection).await?;
        }
        tracing::debug!(table = self.name(), is_gone, "a row that a trigger made has no item");
        Ok(())
    }
}

/// From here to [`end_silence`], or to the savepoint that is gone back to, nothing of the application fires
/// that is not meant for replicas, and no foreign key is checked or acted on.
async fn silence(connection: &mut PgConnection) -> Result<()> {
    let doing = "writing rows as they are";
    connection.execute("SET LOCAL session_replication_role = replica").await.doing(doing).map(drop)
}

async fn end_silence(connection: &mut PgConnection) -> Result<()> {
    let doing = "letting triggers fire again";
    connection.execute("SET LOCAL session_replication_role = origin").await.doing(doing).map(drop)
}

impl FedTable {
    /// Refuses rows that refer to nothing, as PostgreSQL does.
    async fn require_references(&self, connection: &mut PgConnection, rows: &[&dyn AnyRow]) -> Result<()> {
        let doing = format!("checking references of {}", self.binding.relation);
        for check in &self.references {
            for row in rows {
                let key = row.key().map_err(|why| Error::unholdable(self.binding.name(), &why))?;
                let mut arguments = PgArguments::default();
                crate::lookup::bind_keys(&mut arguments, &self.binding, std::iter::once((0, &key)))?;
                sql::query_with(AssertSqlSafe(check.clone()), arguments)
                    .execute(&mut *connection)
                    .await
                    .doing(&doing)?;
            }
        }
        Ok(())
    }
}
