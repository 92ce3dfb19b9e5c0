//! The initial load by DynamoDB's own import from S3 (R54): rows are written as parts, a job of DynamoDB
//! makes the table from them, and everything that changed since capture began is pending and comes by the
//! relay.
//!
//! Why no write is lost and none comes back, whatever happens in between:
//!
//! - Each row of a part was read after capture was on, and has version 0, as a guarded write of the initial
//!   load has. A row that changed or was deleted after it was read is in the pending set (I1). The relay
//!   writes it with a version above 0, under the condition that what is there is older: it wins over the
//!   imported item (I2), and a deletion leaves a tombstone over it (I3).
//! - So any reading is as good as any other. A row that is in two parts (a worker died behind one, and its
//!   range was read again) is imported in one of two states, in no order; where they differ, it is pending.
//! - Nothing but the job writes the table before it is whole. There is none to write to while parts are
//!   written; DynamoDB keeps one that an import makes in CREATING; and `lockstep.tables.importing` keeps the
//!   relay and every step away, so that pending keys wait. The mark is taken off in the transaction that
//!   records the table.
//! - What the job left out is found by reading keys, and not by its log, which ends after 10,000 lines: where
//!   DynamoDB's counts are not exactly those of the manifest, each range is gone through once more
//!   ([`LoadPath::Fill`](lockstep_dynamo::LoadPath::Fill)), and the initial load is not done before that is.
//!
//! In reading order: this file (whether a table goes this way), `folder` (parts and manifest), `direct`
//! (parts that are put into S3 by who writes them), `ready` (getting those of a folder there), `job` (asking
//! DynamoDB, waiting, and what is made of the end).

mod direct;
mod folder;
mod job;
mod ready;
mod standing;

use std::path::{Path, PathBuf};

use lockstep_core::Advice::{
    BackfillByImport, ImportByHand, ImportFolder, ImportS3, LoadByWrites, TableTarget,
};
use lockstep_core::{Error as StoreError, Kind};
use lockstep_dynamo::{Backoff, TableStanding};
use lockstep_postgres::{ImportDestination, TableBinding};

pub(crate) use self::direct::{bucket, put};
pub(crate) use self::folder::{Part, lines_of};
pub(crate) use self::job::finish;
use self::standing::failed;
pub(crate) use self::standing::under_way;
use crate::error::Result;
use crate::gate::{GateResult, Observer};
use crate::options::{LoadPathChoice, MigrationContext};

/// Tells whether the target of this table is made by an import: one that was begun goes on, whatever is
/// configured by now; one is begun where the load path is `import` and there is no target yet.
///
/// # Errors
/// [`Kind::Busy`] where guarded writes are asked for by name while a job is at work.
pub(crate) async fn takes(
    migration: &MigrationContext,
    binding: &TableBinding,
    observer: &dyn Observer,
) -> Result<bool> {
    let (source, name) = (&migration.source, binding.name());
    let choice = migration.options.backfill.load_path;
    let Some(state) = source.table_state(name).await? else { return Ok(false) };
    if state.importing {
        if choice != LoadPathChoice::Guarded {
            return Ok(true);
        }
        if let Some(why) = at_work(migration, binding).await? {
            return Err(StoreError::target(Kind::Busy, format!("loading {name} by writes"), why).into());
        }
        source.abandon_import(name).await?;
        observer
            .note(&format!("the import of {name} is given up: its initial load is read again and written"));
        return Ok(false);
    }
    if choice != LoadPathChoice::Import {
        return Ok(false);
    }
    let begun = source.begin_import(name, &destination(migration, binding).await?).await?;
    observer.note(&match begun {
        true => format!("{name} goes in by an import: its target is made when every part is written"),
        false => format!("{name} has a target already, and an import makes a new one: it goes on by writes"),
    });
    Ok(begun)
}

/// Returns why a job may be at work; `None` where none is. A job that is at work has its table, and a call
/// that is still on its way was signed within the lifetime of a request.
async fn at_work(migration: &MigrationContext, binding: &TableBinding) -> Result<Option<String>> {
    let (source, target) = (&migration.source, &migration.target);
    let import = source.import(binding.name()).await?;
    if import.is_none_or(|import| import.client_token.is_none()) {
        return Ok(None);
    }
    let schema = binding.table.target();
    let found = Backoff::patient().retry(|| target.describe(&binding.target_name, &schema)).await?;
    if !matches!(found, TableStanding::Missing) {
        return Ok(Some(format!(
            "an import job may be at work on {0}, and cannot be called back: run \
                {BackfillByImport}, which waits for it and takes on what it made. If \
                that says that no job made {0}, delete {0} first",
            binding.target_name
        )));
    }
    let lifetime = target.request_lifetime();
    if !source.import_asked_within(binding.name(), lifetime).await? {
        return Ok(None);
    }
    Ok(Some(format!(
        "an import job may be at work, and cannot be called back: a call for it can \
            still arrive within {} s of being made. Run this again after that, or \
            {BackfillByImport}, which waits for it",
        lifetime.as_secs()
    )))
}

/// Begins again with what is configured now, unless DynamoDB may be at work on a job: that is waited for, and
/// the ranges are gone through after it.
pub(crate) async fn restart(migration: &MigrationContext, binding: &TableBinding) -> Result<()> {
    let name = binding.name();
    let import = migration.source.import(name).await?;
    let is_open = import.is_some_and(|import| ["writing", "importing"].contains(&import.state.as_str()));
    if is_open && is_configured(migration) && at_work(migration, binding).await?.is_none() {
        migration.source.begin_import(name, &destination(migration, binding).await?).await?;
    }
    Ok(())
}

/// Returns preflight's result for a target that an import makes, or is to make; `None` where the usual gates
/// hold.
pub(crate) async fn gate(
    migration: &MigrationContext,
    binding: &TableBinding,
    is_there: bool,
) -> Result<Option<GateResult>> {
    let (target, choice) = (&binding.target_name, migration.options.backfill.load_path);
    let state = migration.source.table_state(binding.name()).await?;
    let import = migration.source.import(binding.name()).await?;
    if state.as_ref().is_some_and(|state| state.target_name.is_some()) {
        return Ok(None);
    }
    let begun = state.is_some_and(|state| state.importing);
    if begun && import.is_some_and(|import| import.client_token.is_some()) {
        return Ok(Some(GateResult::pass("target table", format!("{target} is made by an import"))));
    }
    if (!begun && choice != LoadPathChoice::Import) || choice == LoadPathChoice::Guarded {
        return Ok(None);
    }
    if is_there {
        let found = format!("{target} is there already, and an import makes a new table only");
        let next = format!(
            "delete it if it is what a failed import left behind, choose another name with {}, or take \
             {LoadByWrites}",
            TableTarget(binding.name().to_owned())
        );
        return Ok(Some(GateResult::fail("target table", found, next)));
    }
    if let Some(why) = direct::unreachable(migration).await {
        let next = format!("correct {ImportS3} or the rights of these credentials, or set {ImportByHand}");
        return Ok(Some(GateResult::fail("target table", why, next)));
    }
    Ok(Some(GateResult::check(
        "target table",
        begun || is_configured(migration),
        format!("{target} will be made by an import"),
        format!(
            "set {ImportFolder}, where parts are written, and {ImportS3} \
            (s3://bucket/prefix), where DynamoDB reads them"
        ),
    )))
}

fn is_configured(migration: &MigrationContext) -> bool {
    let import = &migration.options.import;
    (import.is_direct() || !import.folder.as_os_str().is_empty()) && import.destination().is_some()
}

/// Tells whether workers of other machines write parts of this import now.
pub(crate) async fn takes_workers(migration: &MigrationContext, binding: &TableBinding) -> Result<bool> {
    let import = migration.source.import(binding.name()).await?;
    Ok(import.is_none_or(|import| import.direct && import.state == "writing"))
}

/// Tells whether an import makes the target of any table.
pub(crate) async fn any(migration: &MigrationContext) -> Result<bool> {
    for binding in &migration.tables {
        let state = migration.source.table_state(binding.name()).await?;
        if state.is_some_and(|state| state.importing) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns where the parts of a table go: under the name of the migration, so that two of them do not meet
/// (I12), and in S3 under a name that no import had before. 1. Parts are copied, and written again by a
/// backfill from the start. 2. They are copied again, but for one, and one of before stays that has as many
/// items. 3. The counts of the job are those of the manifest, and a part is missing.
async fn destination(migration: &MigrationContext, binding: &TableBinding) -> Result<ImportDestination> {
    let import = &migration.options.import;
    let id = migration.source.migration_id().await?.unwrap_or_else(|| "unnamed".to_owned());
    let (bucket, prefix) = import.destination().unwrap_or_default();
    let own: Vec<&str> =
        [prefix.trim_matches('/'), &id, binding.name()].into_iter().filter(|part| !part.is_empty()).collect();
    Ok(ImportDestination {
        // The next run may begin in another folder.
        folder: absolute(&import.folder).join(&id).join(binding.name()).display().to_string(),
        bucket: bucket.to_owned(),
        prefix: format!("{}/{:08x}/data/", own.join("/"), rand::random::<u32>()),
        part_bytes: i64::try_from(import.part_bytes).unwrap_or(i64::MAX),
        direct: import.is_direct(),
    })
}

fn absolute(folder: &Path) -> PathBuf {
    std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())
}
