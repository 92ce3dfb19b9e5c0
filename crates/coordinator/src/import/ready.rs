//! Upload of parts in a folder as objects that DynamoDB can read, and the token of the job that reads them.

use lockstep_core::Advice::{BackfillAgain, ImportPartSize, ImportUpload, Uploaded};
use std::path::PathBuf;
use std::process::Stdio;

use lockstep_dynamo::IMPORT_OBJECTS_MAX;
use lockstep_postgres::{ImportRow, PartRow, TableBinding};

use super::{direct, failed, folder};
use crate::error::{CoordinatorError, Result};
use crate::options::MigrationContext;

/// Makes sure that the parts are whole and where DynamoDB reads them. Gives the token of the job.
pub(super) async fn ready(
    migration: &MigrationContext,
    binding: &TableBinding,
    import: &ImportRow,
    parts: &[PartRow],
    waits: &impl Fn(String),
) -> Result<String> {
    let options = &migration.options.import;
    if parts.len() as u64 > IMPORT_OBJECTS_MAX {
        return Err(failed(
            binding,
            format!(
                "there are {} parts, and DynamoDB reads {IMPORT_OBJECTS_MAX} \
                    objects: raise {ImportPartSize}, and write them again with \
                    {BackfillAgain}",
                parts.len()
            ),
        ));
    }
    if import.direct {
        waits(format!("{} parts in S3 are looked at", parts.len()));
        direct::reconcile(migration, binding, import, parts).await?;
        return noted(migration, binding, import).await;
    }
    let (folder, known) = (PathBuf::from(&import.folder), parts.to_vec());
    let reconciled = tokio::task::spawn_blocking(move || folder::reconcile(&folder, &known)).await;
    reconciled.map_err(CoordinatorError::from)?.map_err(|e| failed(binding, e.to_string()))?;
    let place = format!("s3://{}/{}", import.bucket, import.prefix);
    match options.upload.as_deref().filter(|command| !command.trim().is_empty()) {
        Some(command) => {
            waits(format!("{ImportUpload} copies {} parts to {place}", parts.len()));
            upload(command, import, &place).await.map_err(|why| failed(binding, why))?;
        }
        None if options.uploaded => {}
        None => {
            return Err(failed(
                binding,
                format!(
                    "every part is written: copy {}/data/ to {place} (`aws s3 sync \
                        --delete {}/data/ {place}`), and run the same command again \
                        with {Uploaded}; or set {ImportUpload} to a command that copies",
                    import.folder, import.folder
                ),
            ));
        }
    }
    noted(migration, binding, import).await
}

/// Makes a token, and notes it before anything is asked under it.
async fn noted(migration: &MigrationContext, binding: &TableBinding, import: &ImportRow) -> Result<String> {
    let token = format!("{:032x}", rand::random::<u128>());
    migration.source.note_import(binding.name(), import, Some(&token), None).await?;
    Ok(token)
}

/// Runs the operator's command, which ends with 0 only if S3 has exactly these objects. It is told by its
/// environment from where to where.
async fn upload(command: &str, import: &ImportRow, place: &str) -> Result<(), String> {
    let run = tokio::process::Command::new("sh")
        .arg("-c")
        .arg(command)
        .env("LOCKSTEP_FROM", format!("{}/data/", import.folder))
        .env("LOCKSTEP_TO", place)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    let output = run.map_err(|error| format!("{ImportUpload} could not be started: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    Err(format!("{ImportUpload} ended with {}: {last}; run the same command again", output.status))
}
