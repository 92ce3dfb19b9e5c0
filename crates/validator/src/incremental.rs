//! The incremental pass: only keys that changed since the full pass are looked at, whether they were
//! delivered or not (R24).
//!
//! They go to the recheck, as every suspect does: what it does not find equal, it reads until it is decided.
//! So a key that is pending is lag, and drift only when it is not pending any more. A key that changed and
//! went away is looked at as well: its item must be gone, too.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use lockstep_postgres::{ChangedKey, FullPass};

use lockstep_core::Advice::ReverseBackfill;
use lockstep_core::{Control, Epoch, Phase, Result, SourceKey, Unholdable};
use tokio::sync::mpsc;

use crate::count_pass::count_target;
use crate::ledger::Begun;
use crate::recheck::{BATCH, recheck};
use crate::suspect::{Subject, Suspect, Suspects};
use crate::table_run::TableRun;
use crate::tasks::Stopped;
use crate::verified::{identity, starting_point};

/// Changed keys read at once.
const PAGE_KEYS: i64 = 1_000;

/// Compares what changed since the full pass; an error says what was not compared.
pub(crate) async fn compare_changed(run: &Arc<TableRun>) -> Result<(), String> {
    let nothing = |reason: String| format!("nothing was compared: {reason}");
    let full = begin(run).await.map_err(nothing)?;
    let (sender, queue) = mpsc::channel(BATCH);
    let reading = async {
        // In here, so that the queue ends when everything is in it.
        let suspects = Suspects(sender);
        raise(run, &suspects).await
    };
    let (read, recheck) = tokio::join!(reading, recheck(run, queue));
    match (read, recheck) {
        (Err(Stopped::RecheckEnded) | Ok(()), Err(e)) => {
            return Err(format!("not every key that changed was compared: {e}"));
        }
        (Err(e), _) => return Err(format!("not every key that changed was read: {e}")),
        (Ok(()), Ok(())) => {}
    }
    if run.options.quiescent {
        // When writers are idle, counts reveal items that other programs wrote past Lockstep.
        let counted = count_target(&run.reader, &run.binding, &run.options, false).await;
        let counted = counted.map_err(|e| format!("the items were not counted: {e}"))?;
        run.tally.count_target(counted.items, 0);
        run.tally.count_read_units(counted.read_units);
    }
    let reader = &run.reader;
    unordered(run).await?;
    let now = reader
        .ask(|| identity(&reader.source, &reader.target, &run.binding))
        .await
        .map_err(|e| e.to_string())?;
    if now.as_ref() != Some(&full.identity) {
        return Err("capture, columns, layout, the target table or the history of the source changed meanwhile; run a full pass"
            .to_owned());
    }
    run.check_stores().await
}

/// Finds what to go on from, and says of when the report will speak.
async fn begin(run: &Arc<TableRun>) -> Result<FullPass, String> {
    let reader = &run.reader;
    let now = reader.ask(|| reader.source.clock()).await.map_err(|e| e.to_string())?;
    // It takes no part in what is decided here.
    let control =
        Control { phase: run.phase, epoch: Epoch(run.epoch), changed_at: now, writes_paused: false };
    let point = reader
        .ask(|| starting_point(&reader.source, &reader.target, &run.binding, &control, is_known(run)))
        .await;
    let full = point.map_err(|e| e.to_string())??;
    if run.options.pass.is_none() {
        return Err("the pass could not begin, so what is delivered during it is not noted; end write transactions that stay open and try again".to_owned());
    }
    run.speak_as_of(Begun { as_of: full.as_of, pass: run.options.pass, number: run.number }, now);
    Ok(full)
}

/// Refuses where items changed in DynamoOnly in a way that tells no pass which ones they are.
///
/// 1. A program changes an item and leaves its version. 2. The feed cannot order that, and counts it; the
/// gates of the way back look at the count. 3. No key of it is among those that changed, and the pass said
/// consistent.
async fn unordered(run: &TableRun) -> Result<(), String> {
    if run.phase != Phase::DynamoOnly {
        return Ok(());
    }
    let reader = &run.reader;
    let standing = reader.ask(|| reader.source.reverse_standing(run.binding.name())).await;
    let Some(standing) = standing.map_err(|e| e.to_string())? else { return Ok(()) };
    let why = match (standing.foreign_count, standing.lost_at) {
        (1.., _) => format!("{} changes of items went round Lockstep", standing.foreign_count),
        (_, Some(_)) => "records of the stream were lost".to_owned(),
        _ => return Ok(()),
    };
    Err(format!(
        "{why}, and which keys they are of is not known: run a full pass; {ReverseBackfill} reads what is \
            there"
    ))
}

/// Tells whether the source knows of every item that changed while the target was the truth, and goes on to.
fn is_known(run: &TableRun) -> bool {
    run.options.fed_through && run.options.quiescent
}

/// Raises every key that changed.
async fn raise(run: &TableRun, suspects: &Suspects) -> Result<(), Stopped> {
    let (reader, name) = (&run.reader, run.binding.name());
    let mut after = None;
    // This pass expects only what has changed, and that is known page by page.
    run.progress().rows_expected.store(0, Ordering::Relaxed);
    loop {
        let page = reader
            .ask(|| {
                reader.source.changed_keys(name, after.as_ref(), PAGE_KEYS, run.phase == Phase::DynamoOnly)
            })
            .await?;
        let changed = page.keys.len() as u64;
        run.tally.count_changed(changed);
        run.progress().rows_expected.fetch_add(changed, Ordering::Relaxed);
        run.progress().source_rows.fetch_add(changed, Ordering::Relaxed);
        suspects.raise(page.keys.into_iter().map(|changed| suspect(run, changed)).collect()).await?;
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

fn suspect(run: &TableRun, changed: ChangedKey) -> Suspect {
    let table = &run.binding.table;
    let ChangedKey { key, literals } = changed;
    let both = |key: SourceKey| {
        let place = table.target_key(&key)?;
        Ok::<_, Unholdable>((table.literals_of_key(&key)?, place))
    };
    let (printed, mut literals) = as_numbers_print(key.as_ref(), literals);
    let subject = match key.map(both) {
        Some(Ok((key, place))) => Subject::Key { key, place },
        None | Some(Err(_)) => match printed.map(both) {
            Some(Ok((key, place))) => Subject::Key { key, place },
            None | Some(Err(_)) => {
                // No item can be at the place of such a key; its row may have another key by now, or there is
                // none.
                literals.truncate(table.primary_key_columns());
                Subject::Row { primary_key: literals }
            }
        },
    };
    Suspect::of_row(subject)
}

/// Spells the numbers of a key without zeros behind their points, as PostgreSQL prints those of rows. The key
/// is `None` where none of them has any.
///
/// 1. The mark of `[1]` was renamed to `[1.0]`, which an earlier version of schema `lockstep` took for the
/// same. 2. `1.0` reads as no bigint. 3. Taken for a row that is not there, the key was passed over, and the
/// verdict said consistent over an old item.
fn as_numbers_print(key: Option<&SourceKey>, literals: Vec<String>) -> (Option<SourceKey>, Vec<String>) {
    let Some(SourceKey(parts)) = key.filter(|SourceKey(parts)| parts.len() == literals.len()) else {
        return (None, literals);
    };
    let mut is_other = false;
    let spelled = parts.iter().zip(literals).map(|(part, literal)| {
        let whole = literal.contains('.').then(|| literal.trim_end_matches('0').trim_end_matches('.'));
        match whole.filter(|whole| part.is_number() && whole.len() < literal.len()) {
            // PostgreSQL's own digits: a double holds fewer of them.
            Some(whole) => match whole.parse::<serde_json::Number>() {
                Ok(number) => {
                    is_other = true;
                    (number.into(), whole.to_owned())
                }
                Err(_) => (part.clone(), literal),
            },
            None => (part.clone(), literal),
        }
    });
    let (parts, literals): (Vec<serde_json::Value>, Vec<String>) = spelled.unzip();
    (is_other.then_some(SourceKey(parts)), literals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(key: &str, literals: &[&str], printed: Option<&str>, spelled: &[&str]) {
        let key = SourceKey::parse(key).expect("a key");
        let literals = literals.iter().map(|literal| (*literal).to_owned()).collect();
        let (found, literals) = as_numbers_print(Some(&key), literals);
        assert_eq!(found.map(|key| key.to_json()).as_deref(), printed);
        assert_eq!(literals, spelled);
    }

    #[test]
    fn numbers_lose_the_zeros_behind_their_points_and_nothing_else_changes() {
        check("[1.0]", &["1.0"], Some("[1]"), &["1"]);
        check(
            "[9007199254740993.000]",
            &["9007199254740993.000"],
            Some("[9007199254740993]"),
            &["9007199254740993"],
        );
        check(r#"[10.50, "1.0"]"#, &["10.50", "1.0"], Some(r#"[10.5,"1.0"]"#), &["10.5", "1.0"]);
        check("[100]", &["100"], None, &["100"]);
        check(r#"["1.0", null]"#, &["1.0", ""], None, &["1.0", ""]);
    }
}
