//! Ids of rows that DynamoDB has to number itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use lockstep_core::{Epoch, Result};
use lockstep_dynamo::TargetControl;
use lockstep_dynamo::control::IdBlock;

/// The ids that this process has taken and not used, table by table.
#[derive(Debug, Default)]
pub(super) struct IdBlocks {
    tables: Mutex<HashMap<&'static str, Arc<tokio::sync::Mutex<Ids>>>>,
}

#[derive(Debug, Default)]
struct Ids {
    /// The block, and the epoch in which it was taken.
    block: Option<(Epoch, IdBlock)>,
    /// The counter was at least here; it never goes back.
    counter: i64,
}

impl IdBlocks {
    /// An id below `end` that no other process is given. Those of a block that is dropped with its process
    /// are a gap.
    ///
    /// So are those of an earlier epoch. 1. A process has half of a block. 2. The truth goes back to
    /// PostgreSQL, where a caller chooses an id of it. 3. The truth comes again, and the process numbers a
    /// row with that id: two rows have it, and only one of them can go back.
    pub(super) async fn next(
        &self,
        control: &TargetControl,
        (table, epoch): (&'static str, Epoch),
        block_size: u32,
        end: i64,
    ) -> Result<i64> {
        let ids = self.of(table);
        let mut ids = ids.lock().await;
        let mut block = match ids.block.take() {
            Some((of, block)) if of == epoch && block.first < block.end => block,
            _ => control.take_ids(table, block_size, end).await?,
        };
        let id = block.first;
        block.first += 1;
        ids.counter = ids.counter.max(block.end);
        ids.block = Some((epoch, block));
        Ok(id)
    }

    /// Makes sure, before a row of an id that the caller chose is written, that no block will have it.
    pub(super) async fn keep_clear_of(
        &self,
        control: &TargetControl,
        table: &'static str,
        id: i64,
    ) -> Result<()> {
        let ids = self.of(table);
        let mut ids = ids.lock().await;
        if id >= ids.counter
            && let Some(counter) = control.raise_ids(table, id.saturating_add(1)).await?
        {
            ids.counter = ids.counter.max(counter);
        }
        Ok(())
    }

    fn of(&self, table: &'static str) -> Arc<tokio::sync::Mutex<Ids>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).entry(table).or_default().clone()
    }
}
