//! The transactions in which the feed writes.

use lockstep_core::{Doing, Result};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::FedTable;
use super::epochs::Epochs;
use super::surroundings::OURS;
use super::writer::Writer;
use crate::sql::{self, Run as _};
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

/// Bits of `pg_trigger.tgtype`: for each row, before it is written.
const BEFORE_ROW: i16 = 1 | 2;
/// The same: on INSERT, on UPDATE.
const INSERT_OR_UPDATE: i16 = 4 | 16;

async fn may_write<'a>(transaction: &mut PgConnection, table: &'a FedTable) -> Result<(Epochs, Writer<'a>)> {
    let doing = format!("feeding {}", table.binding.name());
    let epochs = Epochs::read(transaction).await?;
    // 1. A pass of the feed holds a note, row by row. 2. An operator accepts what was listed, for which both
    // tables are locked, and waits for that row. 3. The feed takes the note out, and waits for the table: one
    // of the two ended as a deadlock, and it was mostly the operator's command. So the tables come first.
    let first = "LOCK TABLE lockstep.reverse_again, lockstep.dead_letters IN ROW EXCLUSIVE MODE";
    transaction.execute(first).await.doing(&doing)?;
    // What is on the table is asked each time: a trigger may have been created a moment ago. Of each
    // partition as well. 1. One has a BEFORE trigger of its own. 2. Asked of the whole table, there is none.
    // 3. What it makes of a row is never put right, and the way back stays closed.
    //
    // Where a BEFORE trigger sets a column of the key, our own statement writes another row. 1. The item of
    // row 5 comes, and a trigger says `NEW.id := nextval(…)`. 2. It fires before the conflict with row 5 is
    // looked for, so row 1001 is put in. 3. Row 5 is written right after it, while nothing fires. 4. No item
    // and no comparison knows of row 1001. So all keys are noted there, and where an item may have another
    // text of its key than its row: see `texts`.
    let (notes, fires, letters): (bool, bool, bool) = sql::query_as(AssertSqlSafe(format!(
        "WITH ours AS MATERIALIZED (SELECT {OURS}),
              triggers AS MATERIALIZED (
                  SELECT t.tgtype FROM pg_catalog.pg_trigger t
                  WHERE t.tgrelid IN (SELECT * FROM ours) AND NOT t.tgisinternal AND t.tgenabled <> 'D'
                      AND t.tgname NOT IN ($3, $4)),
              writer AS (
                  INSERT INTO lockstep.reverse_writers (xid, table_name, notes)
                  SELECT pg_catalog.pg_current_xact_id(), $2, $5 OR EXISTS (
                      SELECT FROM pg_catalog.pg_constraint c
                      WHERE c.contype = 'f' AND c.conrelid IN (SELECT * FROM ours)
                          AND c.confrelid IN (SELECT * FROM ours)
                          AND (c.confdeltype IN ('c', 'n', 'd') OR c.confupdtype IN ('c', 'n', 'd')))
                      OR EXISTS (SELECT FROM triggers WHERE tgtype & {BEFORE_ROW} = {BEFORE_ROW}
                          AND tgtype & {INSERT_OR_UPDATE} <> 0)
                  RETURNING notes)
         SELECT notes, EXISTS (SELECT FROM triggers),
                EXISTS (SELECT FROM lockstep.dead_letters WHERE table_name = $2) FROM writer",
    )))
    .bind(table.binding.relation.sql())
    .bind(table.binding.name())
    .bind(trigger_name(&table.binding))
    .bind(truncate_trigger_name(&table.binding))
    .bind(table.has_loose_key)
    .fetch_one(&mut *transaction)
    .await
    .doing(&doing)?;
    // A constraint that waits for the commit would refuse the whole page there, and not say which row.
    transaction.execute("SET CONSTRAINTS ALL IMMEDIATE").await.doing(&doing)?;
    Ok((epochs, Writer { table, fires, notes, letters }))
}

/// Takes the right to write back and commits.
pub(super) async fn finish_feeding(mut transaction: SourceTransaction, name: &str) -> Result<()> {
    let doing = format!("feeding {name}");
    let gone = "DELETE FROM lockstep.reverse_writers WHERE xid = pg_catalog.pg_current_xact_id()";
    transaction.execute(gone).await.doing(&doing)?;
    transaction.commit().await.doing(&doing)
}
