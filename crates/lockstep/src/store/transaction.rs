//! A source transaction behind the barrier, and what it left.

use std::sync::Arc;

use lockstep_core::{Control, Result};
use lockstep_postgres::{
    KeysOfTable, Mark, MarkedKey, SourceTransaction, TableBinding, TransactionId, begin_write,
    begin_write_in, id_assigned, id_under_way, is_under_way, left_under,
};

use super::acknowledge::Started;
use super::change::{Change, State};
use super::route::Calling;
use super::writer::Writer;
use crate::phase::Moment;

/// A transaction behind the barrier, with the changes it has made so far.
pub(crate) struct WriteTransaction {
    pub(crate) sql: SourceTransaction,
    pub(crate) control: Control,
    /// Number of the transaction; `None` until it is known to have changed something.
    pub(super) id: Option<TransactionId>,
    pub(super) changes: Vec<Change>,
    /// The call that it is of, by which its end is routed.
    pub(super) calling: Calling,
    /// Rows that are being delivered beside it.
    pub(crate) beside: Started,
}

impl Writer {
    /// Begins a transaction behind the barrier: its phase cannot change until it ends (I5). The phase that
    /// this process knows is only looked at again there; if it is over, or another, it is read.
    pub(super) async fn begin_in_source(&self, calling: Calling) -> Result<WriteTransaction> {
        let (sql, control, id) = self.begin_behind_barrier().await?;
        Ok(WriteTransaction { sql, control, id, changes: Vec::new(), calling, beside: Started::default() })
    }

    async fn begin_behind_barrier(&self) -> Result<(SourceTransaction, Control, Option<TransactionId>)> {
        if let Some(believed) = self.phase().known.at(Moment::now())
            && let Some(sql) = begin_write_in(self.source(), believed.epoch).await?
        {
            return Ok((sql, believed, None));
        }
        let (sql, control, id) = begin_write(self.source()).await?;
        Ok((sql, control, Some(id)))
    }
}

impl WriteTransaction {
    /// The number of the transaction; `None` where it has changed nothing.
    ///
    /// # Errors
    /// The driver's.
    pub(super) async fn number(&mut self) -> Result<Option<TransactionId>> {
        if self.id.is_none() {
            self.id = id_under_way(&mut self.sql).await?;
        }
        Ok(self.id)
    }

    /// Has it numbered, so that it can be told from another one, whatever is done in it.
    pub(crate) async fn numbered(mut self) -> Result<Self> {
        if self.id.is_none() {
            self.id = Some(id_assigned(&mut self.sql).await?);
        }
        Ok(self)
    }

    /// Says whether no statement in it has ended it.
    pub(crate) async fn is_under_way(&mut self) -> Result<bool> {
        match self.id {
            Some(id) => is_under_way(&mut self.sql, id).await,
            None => Ok(true),
        }
    }

    /// The keys of all changes, taken out of them so that the transaction can be borrowed beside them.
    pub(super) fn keys(&self) -> Vec<MarkedKey> {
        self.changes.iter().map(|c| MarkedKey { table: c.key.table, key: c.key.key.clone() }).collect()
    }
}

/// Reads what the transaction of `changes` left under their keys, with the marks, after its last statement
/// (I14): a trigger, a cascade or a later statement may have changed a row since a statement returned it. One
/// question for all tables.
pub(super) async fn read_left(sql: &mut SourceTransaction, changes: &mut [Change]) -> Result<Vec<Mark>> {
    let mut bindings: Vec<Arc<TableBinding>> = Vec::new();
    for change in changes.iter() {
        if !bindings.iter().any(|table| table.name() == change.binding.name()) {
            bindings.push(change.binding.clone());
        }
    }
    let tables: Vec<KeysOfTable<'_>> = bindings
        .iter()
        .map(|table| {
            let of_table = changes.iter().enumerate().filter(|(_, change)| change.key.table == table.name());
            (table.as_ref(), of_table.map(|(of, change)| (of, change.key.key.as_str())).collect())
        })
        .collect();
    let found = left_under(sql, &tables).await?;
    let mut marks = Vec::with_capacity(found.len());
    for left in found {
        let table = changes[left.mark.of].binding.clone();
        let item = left.with_fields(|fields| table.table.encode(fields));
        changes[left.mark.of].state = item.map_or(State::Gone, State::Row);
        marks.push(left.mark);
    }
    Ok(marks)
}
