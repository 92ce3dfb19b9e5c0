//! The target pass over an export of the table instead of the table: items are read from files, as they were
//! at the moment of the export, and no read unit is taken.
//!
//! What a verdict of it rests on. The row of a key is read now, and its item was read at the export. Of two
//! that differ both stores are read again, so every finding is of now; of two that agree the item is not
//! looked at again. 1. An export is made. 2. An item is lost, changed or written past Lockstep. 3. Its row
//! is still what the export has. Such an item is not found, as it is not by a comparison that ended when the
//! export was made. So the report speaks as of the export, no later pass goes on from it, and it is recorded
//! for no gate: a step is about the table that is there, and only a scan has looked at it.
//!
//! A run that was broken off goes on with the same export of the same table: files that were read to their
//! end and agreed with the manifest are not read again. Of one that was not, what had been entered is read
//! and not entered again, as whether a file is the manifest's shows at its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::stream::{self, StreamExt, TryStreamExt};
use lockstep_dynamo::{EXPORT_PAGE_BYTES as PAGE_BYTES, Export, ExportError, ExportPlace};
use tokio_util::sync::CancellationToken;

use crate::ledger::{Batch, Cursor, Ledger, Piece, Side};
use crate::table_run::TableRun;
use crate::target_pass::enter_up_to;
use crate::tasks::{Stopped, compute};

/// Finds the export of this table among those at `places`.
pub(crate) async fn open(run: &TableRun, places: &[ExportPlace]) -> Result<Export, String> {
    let table = run.binding.target_name.clone();
    let mut all = Vec::new();
    for place in places {
        all.push(open_one(run, place).await?);
    }
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

async fn open_one(run: &TableRun, place: &ExportPlace) -> Result<Export, String> {
    let opened = match place.clone() {
        ExportPlace::S3 { bucket, prefix } => {
            // An export may be in any account's bucket, and nothing is written there.
            let bucket = run.reader.target.bucket(&bucket, None).await.map_err(|e| e.to_string())?;
            Export::open_in(&bucket, &prefix).await
        }
        ExportPlace::Folder(folder) => tokio::task::spawn_blocking(move || Export::open(&folder))
            .await
            .map_err(|_| format!("a task panicked: {}", lockstep_core::PANICKED))?,
    };
    opened.map_err(|e| format!("an export is refused: {e}"))
}

/// Returns one piece a file.
pub(crate) fn pieces(export: &Export) -> Vec<Piece> {
    vec![Piece::default(); export.files.len()]
}

/// Joins what the position in an export depends on: the export itself, of which table it is, what its files
/// are, and where pages end.
pub(crate) fn identity(export: &Export) -> String {
    let files: Vec<_> = export.files.iter().map(|file| (file.name(), file.items, file.md5())).collect();
    format!("{:?}", (&export.summary, files, PAGE_BYTES))
}

/// Reads every item that is left of every file. Items that Lockstep did not write are set aside.
pub(crate) async fn export_pass(
    run: &Arc<TableRun>,
    ledger: &Arc<Ledger>,
    export: &Export,
) -> Result<(), Stopped> {
    let left = ledger.pass(Side::Target).left().into_iter();
    // A thread that reads is not stopped by who waits for it. So it looks, and is waited for: what it enters
    // after the end would not be kept, and it would hold the folder of the next run.
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let read = left.map(|(number, piece)| read_file(run, ledger, export, (number, piece), stop.clone()));
    let reading = stream::iter(read).buffer_unordered(run.options.settings.parallel.max(1));
    let ended = reading.inspect_err(|_| stop.cancel()).collect::<Vec<_>>().await;
    if ended.iter().any(|end| matches!(end, Err(Stopped::NotTheManifests(_)))) {
        // 1. Pages of a wrong file are entered. 2. It is put right, and the same command goes on behind them.
        // 3. What the wrong ones said would be compared, and what the right ones say never was.
        let ledger = Arc::clone(ledger);
        compute(move || ledger.forget()).await.map_err(|error| run.spool(error))?;
    }
    // The first is why: the others were stopped by it.
    ended.into_iter().collect()
}

async fn read_file(
    run: &Arc<TableRun>,
    ledger: &Arc<Ledger>,
    export: &Export,
    (number, piece): (usize, Piece),
    stop: CancellationToken,
) -> Result<(), Stopped> {
    let (run, ledger, file) = (Arc::clone(run), Arc::clone(ledger), export.files[number].clone());
    // It waits for a disk, which is no work for rayon's threads.
    if stop.is_cancelled() {
        return Ok(());
    }
    let entered_before = piece.after.as_ref().map_or(0, pages_of);
    let reading = tokio::task::spawn_blocking(move || {
        let mut pages = 0_u64;
        file.read::<Stopped>(&run.binding.target_name, run.binding.table.naming(), |page| {
            if stop.is_cancelled() {
                return Err(Stopped::Export("another file of it ended the comparison".to_owned()));
            }
            pages += 1;
            if pages <= entered_before {
                let mut items = 0;
                page.read(|_| items += 1)?;
                return Ok(items);
            }
            let entered = enter_up_to(&run, &ledger, page, number, |_| Ok(Some(cursor_of(pages))))?;
            run.progress().target_items.fetch_add(entered.counted.read, Ordering::Relaxed);
            run.tally.count_target(entered.counted.live, entered.counted.tombstones);
            Ok(entered.counted.read)
        })?;
        // Only now it is known to be the manifest's.
        let done = Batch { piece: number, ..Batch::default() };
        ledger.enter(Side::Target, done).map_err(|error| run.spool(error))
    });
    reading.await.unwrap_or_else(|_| Err(Stopped::Panicked(lockstep_core::PANICKED.to_owned())))
}

/// Position in a file, by the pages that were entered.
fn cursor_of(pages: u64) -> Cursor {
    vec![pages.to_string()]
}

fn pages_of(cursor: &Cursor) -> u64 {
    cursor.first().and_then(|pages| pages.parse().ok()).unwrap_or(0)
}

impl From<ExportError> for Stopped {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Refused { .. } => Self::NotTheManifests(error.to_string()),
            ExportError::File { .. } => Self::Export(error.to_string()),
        }
    }
}
