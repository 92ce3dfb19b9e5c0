//! Rows that PostgreSQL forgot, put back from their items while PostgreSQL is the truth.
//!
//! Behind the closed barrier, and only where the item has every change of the row. Or else: 1. A comparison
//! finds that row and item differ. 2. An application updates or deletes the row; that commits and is
//! acknowledged, and waits for a relay. 3. The item, which is as it was, is put over the row. 4. That is
//! captured under a fresh version and delivered: the update is gone from both stores, or the row is back.
//!
//! In this order: 1. The barrier is closed, so every write has either committed and marked its key, or comes
//! after us. 2. We look for marks. 3. The item is read. Were it read before that, a relay could deliver a
//! change and take its mark out in between, and we would have the old item and find no mark.

use std::time::Duration;

use lockstep_core::{AnyRow, Doing, Error, Kind, Result};
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::{Arguments as _, AssertSqlSafe, Row as _};

use super::FedTable;
use super::numbered::{FedNumber, keep_clear};
use super::referred::referring;
use super::rows::{delete, upsert};
use crate::barrier::limit_lock_waits;
use crate::binding::digest_sql;
use crate::fault::of_sqlx;
use crate::lookup::{bind_keys, keys_sql};
use crate::path::lend;
use crate::sql;
use crate::{Source, SourceTransaction, TableBinding, read_control};

/// Longest wait for a row that an application has locked. 1. It locks the row (`SELECT … FOR UPDATE`), for
/// which it needs no barrier. 2. We close the barrier and wait for the row. 3. It updates the row and waits
/// for the barrier. Below PostgreSQL's `deadlock_timeout` (1 s), so that it is never the application that is
/// chosen to fail.
const ROW_LOCK_TIMEOUT: Duration = Duration::from_millis(300);

/// Reason why DynamoDB does not have all that was written under a key, so that its item is not to be put
/// back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undelivered {
    /// A change waits for a relay, or a strict write for a sweeper.
    Pending,
    /// The last change is a dead letter.
    DeadLetter,
}

/// One row that may be put back: while this lives, no write transaction is in flight, and no change of the
/// row waits to be delivered. Keep it short: applications wait while it exists. Dropped, nothing was written.
#[derive(Debug)]
pub struct PutBack<'t> {
    transaction: SourceTransaction,
    table: &'t FedTable,
}

impl Source {
    /// Closes the barrier to put back the row of a source key, given as one SQL literal a key column. The
    /// item is to be read after this; says why it is not, where DynamoDB lacks a change of the row.
    ///
    /// # Errors
    /// [`Kind::Busy`] when write transactions stayed open for too long; [`Kind::Refused`] in a phase that
    /// does not write both stores; the driver's.
    ///
    /// # Cancel safety
    /// The barrier is open again; nothing was written.
    pub async fn begin_put_back<'t>(
        &self,
        table: &'t FedTable,
        key: &[String],
    ) -> Result<Result<PutBack<'t>, Undelivered>> {
        let doing = doing(table);
        let mut transaction = self.begin_alone().await.map_err(run_again)?;
        // No step comes between this and the commit. In PostgresOnly items are left behind unmarked, in
        // DynamoOnly the feed writes the rows.
        let phase = read_control(&mut transaction).await?.phase;
        if !phase.writes_both() {
            return Err(Error::source(Kind::Refused, doing, format!("not in {phase}")));
        }
        match undelivered(&mut transaction, &table.binding, key).await? {
            None => Ok(Ok(PutBack { transaction, table })),
            Some(why) => {
                transaction.rollback().await.doing(&doing)?;
                Ok(Err(why))
            }
        }
    }
}

impl PutBack<'_> {
    /// Writes the row as an application would: its triggers fire, and capture marks its key under a fresh
    /// version.
    ///
    /// # Errors
    /// [`Kind::Busy`] where an application has the row locked; the driver's, [`Kind::Invalid`] among them
    /// where PostgreSQL refuses the row. Nothing was written then.
    ///
    /// # Cancel safety
    /// The row is written, or it is not.
    pub async fn put(mut self, row: &dyn AnyRow) -> Result<()> {
        limit_lock_waits(&mut self.transaction, ROW_LOCK_TIMEOUT).await?;
        // A source that forgot the row may have forgotten that its sequence gave the number. The row is worth
        // more than that: a role that may not set the sequence writes it all the same.
        let numbers: Vec<FedNumber> =
            self.table.numbers.iter().filter(|number| number.numbered.may_set).cloned().collect();
        keep_clear(&mut self.transaction, &numbers, &[row], &[]).await?;
        lend(&mut self.transaction).await?;
        upsert(&mut self.transaction, self.table, &[row]).await.map_err(run_again)?;
        self.transaction.commit().await.doing(&doing(self.table))
    }

    /// Deletes the row that has this source key, given as one SQL literal a key column, as an application
    /// would. Where there is none, nothing is done.
    ///
    /// # Errors
    /// As [`PutBack::put`]; [`Kind::Invalid`] also where other rows refer to it, whatever their foreign key
    /// says is to become of them.
    ///
    /// # Cancel safety
    /// The row is deleted, or it is not.
    pub async fn delete(mut self, key: &[String]) -> Result<()> {
        limit_lock_waits(&mut self.transaction, ROW_LOCK_TIMEOUT).await?;
        require_unreferred(&mut self.transaction, self.table, key).await?;
        lend(&mut self.transaction).await?;
        delete(&mut self.transaction, self.table, &[key.to_vec()]).await.map_err(run_again)?;
        self.transaction.commit().await.doing(&doing(self.table))
    }

    /// Opens the barrier and writes nothing.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// The barrier is open again all the same, when the server notices.
    pub async fn leave(self) -> Result<()> {
        self.transaction.rollback().await.doing(&doing(self.table))
    }
}

fn doing(table: &FedTable) -> String {
    format!("putting a row back to {}", table.binding.relation)
}

/// Adds advice to a lock timeout.
fn run_again(mut error: Error) -> Error {
    if error.kind == Kind::Busy {
        error.message += "; a transaction is open for long (look for old xact_start in pg_stat_activity, \
                          and into pg_prepared_xacts). Nothing of this row was written: run the same \
                          command again";
    }
    error
}

/// Fails where PostgreSQL would delete or change other rows with this one. 1. A row is deleted in the time
/// that is lost, and is there again. 2. An application inserts rows that refer to it, ON DELETE CASCADE. 3.
/// It is deleted as DynamoDB says, and they go with it, although no finding named them.
async fn require_unreferred(connection: &mut PgConnection, table: &FedTable, key: &[String]) -> Result<()> {
    let Some(from) = referring(connection, table, key).await? else { return Ok(()) };
    let message = format!(
        "rows of {from} refer to it, and PostgreSQL would delete or change them with it: decide about them \
         first"
    );
    Err(Error::source(Kind::Invalid, "looking for rows that refer to one", message))
}

/// Whether DynamoDB lacks a change under this key, or under the one that the row has by now. The latter
/// because: 1. An item at A has no row. 2. An application inserts the row with the same primary key and
/// another target key, B, and only B is marked. 3. The item of A put back would replace that row.
///
/// `connection` is behind the closed barrier.
async fn undelivered(
    connection: &mut PgConnection,
    binding: &TableBinding,
    key: &[String],
) -> Result<Option<Undelivered>> {
    let doing = "looking for changes that DynamoDB lacks";
    let sql = format!(
        "WITH named AS MATERIALIZED (SELECT k.key FROM {rows} AS k),
         asked AS MATERIALIZED (
             SELECT {of_named} AS digest FROM named AS k
             UNION SELECT {of_row} FROM named AS k JOIN {relation} AS s ON {same_row})
         SELECT EXISTS (SELECT FROM lockstep.pending p JOIN asked a ON {of_mark} = a.digest
                        WHERE p.table_name = $1)
             OR EXISTS (SELECT FROM lockstep.intents i JOIN asked a ON {of_intent} = a.digest
                        WHERE i.table_name = $1),
             EXISTS (SELECT FROM lockstep.dead_letters x JOIN asked a ON {of_letter} = a.digest
                     WHERE x.table_name = $1)",
        rows = keys_sql(binding, 2),
        of_named = digest_sql("k.key"),
        of_row = digest_sql(&binding.key_sql("s")),
        relation = binding.relation.sql(),
        same_row = binding.row_of_primary_key_sql("s", "k.key"),
        of_mark = digest_sql("p.key"),
        of_intent = digest_sql("i.key"),
        of_letter = digest_sql("x.key"),
    );
    let key = [key.to_vec()];
    let mut arguments = PgArguments::default();
    arguments.add(binding.name()).map_err(|error| of_sqlx(doing, sqlx::Error::Encode(error)))?;
    bind_keys(&mut arguments, binding, key.iter().enumerate())?;
    let found = sql::query_with(AssertSqlSafe(sql), arguments).fetch_one(connection).await.doing(doing)?;
    let (is_pending, is_dead_letter): (bool, bool) = (found.get(0), found.get(1));
    Ok(match (is_pending, is_dead_letter) {
        (true, _) => Some(Undelivered::Pending),
        (false, true) => Some(Undelivered::DeadLetter),
        (false, false) => None,
    })
}
