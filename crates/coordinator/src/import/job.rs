//! DynamoDB's job: asked for under a token that is durable before, waited for, and judged by its counts.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use lockstep_core::Advice::LoadByWrites;
use lockstep_core::Retry;
use lockstep_dynamo::{Backoff, ImportJob, ImportSource, ImportState, TableStanding};
use lockstep_postgres::{EntryKind, ImportRow, PartRow, TableBinding};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::ready::ready;
use super::{failed, under_way};
use crate::continuity;
use crate::error::{CoordinatorError, Result};
use crate::options::MigrationContext;
use crate::progress::Progress;

/// Judgement of a job that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ended {
    /// Each item of the manifest is in the table.
    Whole,
    /// The table is there, and lacks something: for whatever reason, and however much.
    Part,
    /// There is no table, or one with nothing in it.
    Nothing,
}

/// Brings the import of every table to its end, once all ranges are done. Says whether there are ranges to go
/// through again, because a job left something out.
///
/// # Errors
/// [`CoordinatorError::ImportFailed`] where a job failed and left nothing, or where an operator has to
/// copy the parts; [`CoordinatorError::Interrupted`]; the stores'. Each is gone on from by the next call.
///
/// # Cancel safety
/// Repeat it: the token is durable before the job is asked for.
pub(crate) async fn finish(
    migration: &MigrationContext,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<bool> {
    let (mut again, mut ended) = (false, false);
    for binding in &migration.tables {
        // One that ended before is marked too: its run may have been killed before it was.
        ended |= migration.source.import(binding.name()).await?.is_some();
        let Some(import) = under_way(migration, binding).await? else { continue };
        if import.state == "filling" {
            migration.source.end_filling(binding.name()).await?;
            continue;
        }
        let table = progress.of(binding.name());
        let waits = |why: String| table.pause(Some(why));
        let loaded = load(migration, binding, import, waits, cancel).await;
        table.pause(None);
        again |= !loaded?;
    }
    if ended {
        continuity::mark(migration).await?;
    }
    Ok(again)
}

/// Loads a table from its parts. Says whether everything is in it.
async fn load(
    migration: &MigrationContext,
    binding: &TableBinding,
    mut import: ImportRow,
    waits: impl Fn(String),
    cancel: &CancellationToken,
) -> Result<bool> {
    let (source, target) = (&migration.source, &migration.target);
    let (name, schema) = (binding.name(), binding.table.target());
    let parts = source.import_parts(name).await?;
    let items: i64 = parts.iter().map(|part| part.items).sum();
    let step = format!("import {name}");
    let id = source
        .journal_intent(&migration.actor, &step, &json!({ "items": items, "parts": parts.len() }))
        .await?;
    let loaded = bring(migration, binding, &mut import, &parts, &waits, cancel).await;
    let (ended, outcome) = match loaded {
        Ok(ended) => ended,
        Err(error) => {
            let why = json!({ "why": CoordinatorError::to_string(&error) });
            source.journal_outcome(&migration.actor, id, EntryKind::Undone, &step, &why).await?;
            return Err(error);
        }
    };
    let kind = if ended == Ended::Nothing { EntryKind::Undone } else { EntryKind::Done };
    if ended == Ended::Nothing {
        // A job that has ended comes back by no token: the next one gets another.
        source.note_import(name, &import, None, None).await?;
        source.journal_outcome(&migration.actor, id, kind, &step, &outcome).await?;
        let why = outcome["failure"].as_str().unwrap_or("it says no reason").to_owned();
        return Err(failed(
            binding,
            format!(
                "DynamoDB's job put nothing into {}: {why}. The parts are kept. Correct \
                    that, delete {} if it is there, and run the same command again, \
                    which asks for another job; or load by writes with `{LoadByWrites}`",
                binding.target_name, binding.target_name
            ),
        ));
    }
    let there = target.until_active(&binding.target_name, &schema).await?;
    if binding.table.expires() {
        target.ensure_expiry(&binding.target_name).await?;
    }
    target.protect(&binding.target_name).await?;
    let whole = ended == Ended::Whole;
    source
        .take_on_import(name, &import, (&binding.target_name, there.id.as_deref()), whole, &outcome)
        .await?;
    source.journal_outcome(&migration.actor, id, kind, &step, &outcome).await?;
    if !whole {
        tracing::warn!(
            table = name,
            "the import left something out ({items} items were written, {} were imported, {} errors{}): \
            every key is read, and what \
             is missing is put or becomes a dead letter",
            outcome["imported"],
            outcome["errors"],
            outcome["log_group"].as_str().map_or_else(String::new, |group| format!(", logged in {group}"))
        );
    }
    Ok(whole)
}

/// Everything up to the end of the job. `import` has the token of the job afterwards.
async fn bring(
    migration: &MigrationContext,
    binding: &TableBinding,
    import: &mut ImportRow,
    parts: &[PartRow],
    waits: &impl Fn(String),
    cancel: &CancellationToken,
) -> Result<(Ended, Value)> {
    let (source, name) = (&migration.source, binding.name());
    let is_first = import.client_token.is_none();
    if parts.is_empty() && is_first {
        // Without an object there is nothing to import; a table is needed all the same.
        let schema = binding.table.target();
        migration.target.create(&binding.target_name, &schema, binding.table.expires()).await?;
        return Ok((Ended::Whole, json!({ "items": 0 })));
    }
    let owner = match &migration.options.import.bucket_owner {
        Some(owner) => Some(owner.clone()),
        None => Backoff::brief().retry(|| migration.target.own_account()).await?,
    };
    let from = ImportSource { bucket: import.bucket.clone(), prefix: import.prefix.clone(), owner };
    let token = match &import.client_token {
        Some(token) => token.clone(),
        None => ready(migration, binding, import, parts, waits).await?,
    };
    import.client_token = Some(token.clone());
    let arn = match &import.arn {
        Some(arn) => arn.clone(),
        None => begin(migration, binding, import, &from, (&token, is_first)).await?,
    };
    let Some(job) = until_ended(migration, &arn, waits, cancel).await? else {
        // Looked for by its table next time, and asked for again where there is none.
        source.note_import(name, import, Some(&token), None).await?;
        let why = format!("DynamoDB knows no import {arn}; run the same command again, which looks for it");
        return Err(failed(binding, why));
    };
    let is_there = is_its_table(migration, binding, &job).await?;
    let items = parts.iter().map(|part| part.items).sum();
    Ok((judge(&job, items, is_there), json!(job)))
}

async fn begin(
    migration: &MigrationContext,
    binding: &TableBinding,
    import: &ImportRow,
    from: &ImportSource,
    (token, is_first): (&str, bool),
) -> Result<String> {
    let schema = binding.table.target();
    // Set once a call had no answer that says what became of it.
    let is_unknown = AtomicBool::new(false);
    let asked = || async {
        let answer = migration.target.begin_import(&binding.target_name, &schema, from, token).await;
        if answer.as_ref().is_err_and(|error| error.kind.retry() != Retry::Never) {
            is_unknown.store(true, Relaxed);
        }
        answer
    };
    match Backoff::patient().retry(asked).await {
        Ok(job) => {
            migration.source.note_import(binding.name(), import, Some(token), Some(&job.arn)).await?;
            Ok(job.arn)
        }
        Err(error) => {
            // A refusal of the first call is an answer: no job was begun, and another load path may be taken.
            // Of a token that an earlier run may have sent it says nothing: that job may be at work. Nor does
            // it after an answer that was lost: 1. DynamoDB begins the job, and its answer is lost. 2. The
            // next call looks for the job, and the right to list imports is missing.
            if error.kind.retry() == Retry::Never && is_first && !is_unknown.load(Relaxed) {
                migration.source.note_import(binding.name(), import, None, None).await?;
            }
            Err(failed(
                binding,
                format!(
                    "{error}; the parts are kept: correct that, and run the same \
                        command again; or load by writes with `{LoadByWrites}`"
                ),
            ))
        }
    }
}

async fn until_ended(
    migration: &MigrationContext,
    arn: &str,
    waits: &impl Fn(String),
    cancel: &CancellationToken,
) -> Result<Option<ImportJob>> {
    loop {
        let Some(job) = Backoff::patient().retry(|| migration.target.import_job(arn)).await? else {
            return Ok(None);
        };
        if job.state != ImportState::Running {
            return Ok(Some(job));
        }
        waits(format!("DynamoDB imports: {} items so far", job.imported));
        let pause = tokio::time::sleep(migration.options.import.poll);
        cancel.run_until_cancelled(pause).await.ok_or(CoordinatorError::Interrupted)?;
    }
}

/// Tells whether the table that is there is the one that the job made.
async fn is_its_table(migration: &MigrationContext, binding: &TableBinding, job: &ImportJob) -> Result<bool> {
    let schema = binding.table.target();
    let found = Backoff::patient().retry(|| migration.target.describe(&binding.target_name, &schema)).await?;
    Ok(match found {
        TableStanding::Missing => false,
        TableStanding::There(there) => match (&there.id, &job.table_id) {
            (Some(there), Some(made)) => there == made,
            _ => true,
        },
    })
}

/// Judges a job by counts alone: one that says that it completed is whole only if it read and put exactly
/// what the manifest has. One object that was not copied, or one too many, and each key is looked up.
fn judge(job: &ImportJob, items: i64, is_there: bool) -> Ended {
    let counts_agree = (job.processed, job.imported, job.errors) == (items, items, 0);
    match (is_there, job.state) {
        (false, _) => Ended::Nothing,
        (true, ImportState::Completed) if counts_agree => Ended::Whole,
        (true, _) if job.imported > 0 => Ended::Part,
        (true, _) => Ended::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_whole_only_if_it_put_exactly_what_the_manifest_has() {
        let job = |state, processed, imported, errors| ImportJob {
            arn: "arn".to_owned(),
            state,
            table_id: None,
            processed,
            imported,
            errors,
            failure: None,
            log_group: None,
        };
        let (done, failed) = (ImportState::Completed, ImportState::Failed);
        for (job, is_there, ended) in [
            (job(done, 10, 10, 0), true, Ended::Whole),
            // An object that was not copied, one too many, an item that was refused, a key that came twice.
            (job(done, 9, 9, 0), true, Ended::Part),
            (job(done, 11, 10, 0), true, Ended::Part),
            (job(done, 10, 9, 1), true, Ended::Part),
            (job(done, 10, 9, 0), true, Ended::Part),
            (job(failed, 10, 10, 0), true, Ended::Part),
            (job(failed, 10, 3, 7), true, Ended::Part),
            (job(failed, 0, 0, 1), true, Ended::Nothing),
            (job(failed, 0, 0, 1), false, Ended::Nothing),
            // The table was deleted meanwhile.
            (job(done, 10, 10, 0), false, Ended::Nothing),
        ] {
            assert_eq!(judge(&job, 10, is_there), ended, "{job:?}");
        }
    }
}
