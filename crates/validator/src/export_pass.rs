//! The target pass over an export of the table instead of the table: items are read from files, as they were
//! at the moment of the export, and no read unit is taken.
//!
//! What a verdict of it rests on. The row of a key is read now, and its item was read at the export. Of two
//! that differ both stores are read again, so every finding is of now; of two that agree the item is not
//! looked at again. 1. An export is made. 2. An item is lost, changed or written past Lockstep. 3. Its row
//! is still what the export has. Such an item is not found, as it is not by a comparison that ended when the
//! export was made. So the report speaks as of the export, no later pass goes on from it, and it is recorded
//! for no gate: a step is about the table that is there, and only a scan has looked at it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::stream::{self, StreamExt, TryStreamExt};
use lockstep_dynamo::{Export, ExportError};

use crate::ledger::{Ledger, Piece};
use crate::table_run::TableRun;
use crate::target_pass::enter;
use crate::tasks::Stopped;

/// Finds the export of this table among `folders`.
pub(crate) async fn open(run: &TableRun, folders: &[PathBuf]) -> Result<Export, String> {
    let table = run.binding.target_name.clone();
    let owned = folders.to_vec();
    let opening = tokio::task::spawn_blocking(move || {
        owned.iter().map(|folder| Export::open(folder)).collect::<Result<Vec<_>, _>>()
    });
    let all = opening
        .await
        .map_err(|_| format!("a task panicked: {}", lockstep_core::PANICKED))?
        .map_err(|e| format!("an export is refused: {e}"))?;
    let tables: Vec<String> = all.iter().map(|export| export.summary.table.clone()).collect();
    let mut mine = all.into_iter().filter(|export| export.summary.table == table);
    let export = mine.next().ok_or_else(|| {
        format!("there is no export of {table} among those given, which are of {}", tables.join(", "))
    })?;
    if mine.next().is_some() {
        return Err(format!("there are two exports of {table} among those given"));
    }
    let id = run.target_id();
    if id != Some(export.summary.table_id.as_str()) {
        return Err(format!(
            "export {} is of a table {table} with id {}, and the one that is there has {}: it was made again \
             since, or is another account's",
            export.summary.arn,
            export.summary.table_id,
            id.unwrap_or("none that is known")
        ));
    }
    Ok(export)
}

/// Returns one piece a file.
pub(crate) fn pieces(export: &Export) -> Vec<Piece> {
    vec![Piece::default(); export.files.len()]
}

/// Reads every item of every file. Items that Lockstep did not write are set aside.
pub(crate) async fn export_pass(
    run: &Arc<TableRun>,
    ledger: &Arc<Ledger>,
    export: &Export,
) -> Result<(), Stopped> {
    let files = 0..export.files.len();
    let reading = stream::iter(files.map(|number| read_file(run, ledger, export, number)));
    reading.buffer_unordered(run.options.settings.parallel.max(1)).try_collect::<Vec<()>>().await.map(drop)
}

async fn read_file(
    run: &Arc<TableRun>,
    ledger: &Arc<Ledger>,
    export: &Export,
    number: usize,
) -> Result<(), Stopped> {
    let (run, ledger, file) = (Arc::clone(run), Arc::clone(ledger), export.files[number].clone());
    // It waits for a disk, which is no work for rayon's threads.
    let reading = tokio::task::spawn_blocking(move || {
        file.read::<Stopped>(&run.binding.target_name, run.binding.table.naming(), |page| {
            let entered = enter(&run, &ledger, page, number)?;
            run.progress().target_items.fetch_add(entered.counted.read, Ordering::Relaxed);
            run.tally.count_target(entered.counted.live, entered.counted.tombstones);
            Ok(entered.counted.read)
        })
    });
    reading.await.unwrap_or_else(|_| Err(Stopped::Panicked(lockstep_core::PANICKED.to_owned())))
}

impl From<ExportError> for Stopped {
    fn from(error: ExportError) -> Self {
        Self::Export(error.to_string())
    }
}
