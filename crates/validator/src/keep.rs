//! The ledger of a table: a new one, or the one that an earlier part of the same run has left.
//!
//! What may go on with another's prints. Every print was made after `as_of`, and everything that a print
//! depends on is in the *identity*: columns, layout, window, segments, which target table, since when capture
//! has been on, the epoch, the history of the source, and the order in which rows are read: pieces end at
//! keys. Under the same identity a print still says what row or item was at some moment since `as_of`. If a
//! row changed after that, it is pending or was delivered (I1), and its two prints differ or say the same of
//! an older moment; what differs is read again. It cannot see a divergence that began after both prints of a
//! key were made. That holds for a run in one piece too, and it is why the report says as of when it speaks:
//! a run that rests for a day and goes on speaks of yesterday.

use std::time::Duration;

use chrono::{DateTime, Utc};
use lockstep_postgres::{TableState, columns_of};
use xxhash_rust::xxh3::xxh3_128;

use crate::ledger::{Begun, Folder, Ledger, Manifest};
use crate::table_run::TableRun;
use crate::tasks::{Stopped, compute};
use crate::verified::VERSION;
use crate::{export_pass, source_pass, target_pass};

/// An unfinished run older than this is begun again: no gate takes a verdict as old as it would be.
const RESUMED_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Number of times that a folder is asked for, and the pause between: half a second is plenty for a chunk.
const LETTING_GO_TRIES: u32 = 25;
const LETTING_GO_PAUSE: Duration = Duration::from_millis(20);

/// A ledger, and how its run began.
pub(crate) struct Kept {
    pub(crate) ledger: Ledger,
    pub(crate) begun: Begun,
}

/// Opens the ledger of a table of about `rows_estimate` rows. Before anything is read: the time it brings is
/// the oldest.
pub(crate) async fn open(run: &TableRun, rows_estimate: i64) -> Result<Kept, Stopped> {
    let reader = &run.reader;
    let now = reader.ask(|| reader.source.clock()).await?;
    let state = reader.ask(|| reader.source.table_state(run.binding.name())).await?;
    let history = reader.ask(|| reader.source.history()).await?;
    let identity = identity(run, state.as_ref(), history.as_deref());
    let folder = take(run).await?;
    let folder = match folder {
        None => None,
        Some(folder) => match resumable(run, &folder, &identity, now).await? {
            None => Some(folder),
            Some(manifest) => {
                let begun = manifest.begun;
                match compute(move || Ledger::resume(folder, manifest)).await {
                    Ok(ledger) => return Ok(Kept { ledger, begun }),
                    Err(error) => {
                        tracing::warn!(
                            table = run.binding.name(),
                            "an unfinished run does not read back, so it begins again: {error}"
                        );
                        take(run).await?
                    }
                }
            }
        },
    };
    let begun = match run.export.get() {
        // This pass may overlook what went wrong after it began, and no pass has noted what was delivered
        // since. It answers no finding.
        Some(export) => Begun { as_of: now.min(export.at()), pass: None, number: None },
        None => Begun { as_of: now, pass: run.options.pass, number: run.number },
    };
    let rows = source_pass::pieces(run, rows_estimate, source_pass::PIECES).await?;
    let items = run
        .export
        .get()
        .map_or_else(|| target_pass::pieces(run.options.settings.scan_segments), export_pass::pieces);
    let (memory_bytes, seed) = (run.options.settings.memory_bytes, run.options.digest_seed);
    let kept = folder.map(|folder| (folder, identity, begun));
    let ledger = compute(move || Ledger::new(rows_estimate, memory_bytes, (rows, items), seed, kept)).await;
    Ok(Kept { ledger: ledger.map_err(|error| run.spool(error))?, begun })
}

/// Returns the table's folder, unless nothing is to be kept or another run has it.
async fn take(run: &TableRun) -> Result<Option<Folder>, Stopped> {
    let Some(kept) = run.options.kept.as_ref() else { return Ok(None) };
    // One of its own, so that neither takes the place of what the other has left.
    let path = kept.folder.join(match run.export.get() {
        Some(_) => format!("{}.export", run.binding.name()),
        None => run.binding.name().to_owned(),
    });
    let mut folder = None;
    for _ in 0..LETTING_GO_TRIES {
        let path = path.clone();
        folder = compute(move || Folder::take(&path)).await.map_err(|error| run.spool(error))?;
        if folder.is_some() {
            break;
        }
        // A run of this process that was stopped a moment ago may still be writing down its last chunk.
        tokio::time::sleep(LETTING_GO_PAUSE).await;
    }
    if folder.is_none() {
        // Any number may run at once; only one of them can be resumed.
        tracing::warn!(
            table = run.binding.name(),
            "another validation keeps its progress in the same folder; this one keeps none"
        );
    }
    Ok(folder)
}

async fn resumable(
    run: &TableRun,
    folder: &Folder,
    identity: &str,
    now: DateTime<Utc>,
) -> Result<Option<Manifest>, Stopped> {
    let restart = run.options.kept.as_ref().is_some_and(|kept| kept.restart);
    let Some(manifest) = folder.read().filter(|manifest| !restart && manifest.identity == identity) else {
        return Ok(None);
    };
    if run.export.get().is_some() {
        // No gate takes what comes of it, and it speaks of the export's moment however old that is.
        return Ok(Some(manifest));
    }
    if run.number.is_some() {
        // Without a number of its own no gate would take what comes of it; and one that the source has not
        // drawn is of a history that it lost.
        let Some(then) = manifest.begun.number else { return Ok(None) };
        let (source, numbers) = (&run.reader.source, [then]);
        if !run.reader.ask(|| source.have_begun(&numbers)).await? {
            return Ok(None);
        }
    }
    // A clock that went back says nothing of an age.
    let age = (now - manifest.begun.as_of).to_std().ok();
    Ok(age.filter(|age| *age <= RESUMED_AGE_MAX).map(|_| manifest))
}

/// Joins what prints and pieces depend on into one text; never shown.
fn identity(run: &TableRun, state: Option<&TableState>, history: Option<&str>) -> String {
    let all = (shape(run, state), run.options.digest_seed, history, run.target_id());
    let export = run.export.get().map(export_pass::identity).unwrap_or_default();
    format!("{:032x}", xxh3_128(format!("{all:?}{export}").as_bytes()))
}

/// Returns the same without what only this run has chosen: what two processes must share whose prints are
/// held against each other.
pub(crate) fn shape(run: &TableRun, state: Option<&TableState>) -> String {
    let (binding, options) = (&run.binding, &run.options);
    let columns: Vec<_> =
        binding.table.columns().iter().map(|column| (column.name, column.sql_type)).collect();
    let capture = state.map(|state| (state.captured_at, columns_of(&state.fingerprint), &state.target_id));
    let all = (
        (binding.name(), binding.relation.sql(), &binding.target_name, run.reader.address()),
        (columns, binding.table.layout(), &options.window, options.settings.scan_segments),
        (run.phase, run.epoch, capture, run.read_order()),
        VERSION,
    );
    format!("{:032x}", xxh3_128(format!("{all:?}").as_bytes()))
}
