//! Migrations of one database, one after another: which of them this one is, and what the earlier ones keep.
//!
//! Words: a migration is called by its control table in DynamoDB. Once it is complete, PostgreSQL remembers
//! its name and its tables, and schema `lockstep` is free for a migration of other tables. From when that has
//! begun, a command of the first takes the schema for gone, as it was before.

use lockstep::instance::completion_of;
use lockstep_core::Advice::{Complete, ControlTable, Doctor, DropSource, Status};
use lockstep_core::{Epoch, Error as StoreError, Kind, Result};
use lockstep_dynamo::Target;
use lockstep_postgres::{Completed, CompletedTable, Source, TableBinding, Whose, control_schema};

use crate::options::MigrationContext;

const BEGINNING: &str = "looking which migrations were here";

/// Tells the target which migration it is used for, where the source knows: a control record of another one
/// is refused from then on. Where this one is complete, and schema `lockstep` is by now that of a later one,
/// the source is told that. A target that does not answer keeps no command from the source: what an earlier
/// version completed, and only the target's record can tell, is not told from it then.
///
/// # Errors
/// The source's; [`Kind::Misconfigured`] where the target is used for another migration already.
#[crate::boxed]
pub async fn claim(source: &Source, target: &Target) -> Result<()> {
    if !source.is_schema_taken().await? {
        source.set_aside(false);
        return Ok(());
    }
    let whose = source.whose().await?;
    let done = completion_of(&whose, &target.control()).await.unwrap_or_else(|error| {
        tracing::debug!("which migration this is, is not known: {error}");
        None
    });
    source.set_aside(done.is_some());
    let id = done.map_or(whose.id, |done| done.migration_id);
    if let Some(id) = id {
        target.belongs_to(&id)?;
        source.own().set(&id);
    }
    Ok(())
}

/// Returns what PostgreSQL remembers of this migration, if it is complete; `None` where it is not. What an
/// earlier version left has no name, and only DynamoDB's record can tell whose it is: where that does not
/// answer, nothing is known.
///
/// # Errors
/// The source's.
pub(crate) async fn completion(source: &Source, target: &Target) -> Result<Option<Completed>> {
    let known = Whose { id: None, completed: source.completions().await? };
    Ok(completion_of(&known, &target.control()).await.ok().flatten())
}

/// Returns the [`completion`] of a migration whose record says that it is complete since epoch `epoch`. Where
/// an earlier version completed it, it has its name from then on.
///
/// # Errors
/// The stores'.
pub(crate) async fn named_completion(
    migration: &MigrationContext,
    epoch: Epoch,
) -> Result<Option<Completed>> {
    let (source, control) = (&migration.source, migration.target.control());
    let found = source.completion_of(control.table(), Some(epoch)).await?;
    if found.as_ref().is_none_or(|done| done.control_table.is_some()) {
        return Ok(found);
    }
    let owner = control.record_of_any().await?.and_then(|(_, owner)| owner);
    source.name_completion(epoch, (control.table(), owner.as_deref()), &migration.tables).await?;
    source.completion_of(control.table(), Some(epoch)).await
}

/// Returns the migrations that were complete in this database before this one, a line for each; none where
/// the role may not read them.
///
/// # Errors
/// The source's.
pub(crate) async fn earlier(source: &Source, target: &Target) -> Result<Vec<String>> {
    let completed = match source.completions().await {
        Err(error) if error.kind == Kind::Denied => Vec::new(),
        found => found?,
    };
    let control = target.control();
    let others = completed.iter().filter(|done| done.control_table.as_deref() != Some(control.table()));
    Ok(others.map(Completed::told).collect())
}

/// Refuses to begin, or to go on with, a migration under the name or with a table of one that is complete.
///
/// 1. Payments are moved, and applications write them to DynamoDB. 2. A configuration names `payments` once
/// more, or the DynamoDB table that they are in. 3. Its backfill writes rows of today over theirs, or
/// PostgreSQL's guard refuses what it captures. A table that was dropped, and made again under another name
/// of its own and with another target, is another table.
///
/// # Errors
/// [`Kind::Refused`], with the names of both; the source's.
pub(crate) async fn refuse_completed(migration: &MigrationContext) -> Result<()> {
    let source = &migration.source;
    let refused = |message: String| Err(StoreError::source(Kind::Refused, BEGINNING, message));
    let completed = source.completions().await?;
    let control = migration.target.control();
    if let Some(message) = taken(&completed, control.table(), &migration.tables) {
        return refused(message);
    }
    let guarded = source.guarded(&migration.tables).await?;
    if guarded.is_empty() {
        return Ok(());
    }
    let relations: Vec<String> = guarded.iter().map(|binding| binding.relation.to_string()).collect();
    refused(format!(
        "{} was moved by a migration that is complete, and its guard refuses every write: take it out of \
         this configuration. Applications go on with it in DynamoDB, with the control table of its \
         migration. Once {DropSource} of that one has dropped it, another table may have its name here",
        relations.join(" and ")
    ))
}

/// Returns what is said where a completed migration has the name that is configured, or one of the tables.
/// Pure.
fn taken(completed: &[Completed], control_table: &str, tables: &[TableBinding]) -> Option<String> {
    for done in completed {
        if done.control_table.as_deref() == Some(control_table) {
            let names: Vec<&str> = done.tables.iter().map(|table| table.name.as_str()).collect();
            return Some(format!(
                "control table {control_table} is that of a migration of {} that is complete in this \
                 database since {}: another one needs a name of its own. Set {ControlTable}, in the \
                 configuration of its applications too",
                names.join(", "),
                done.completed_at.format("%Y-%m-%d %H:%M:%S UTC")
            ));
        }
        for binding in tables {
            let same = |table: &&CompletedTable| {
                table.name == binding.name() || table.target_name.as_ref() == Some(&binding.target_name)
            };
            if let Some(table) = done.tables.iter().find(same) {
                let target = table.target_name.as_deref().unwrap_or("its target");
                return Some(format!(
                    "{} to DynamoDB table {} is configured, and {} was moved to {target} by a migration that \
                     is complete, {}: its applications go on there. Take it out of this configuration; if it \
                     is another table, give it a name and a target of its own",
                    binding.name(),
                    binding.target_name,
                    table.name,
                    done.title()
                ));
            }
        }
    }
    None
}

/// Refuses to do anything with schema `lockstep` where it is that of a later migration ([`claim`] has found
/// that). Nothing is asked.
///
/// # Errors
/// [`Kind::Refused`], with what goes on working.
pub fn require_current(source: &Source, target: &Target) -> Result<()> {
    if !source.is_aside() {
        return Ok(());
    }
    let message = format!(
        "the migration of control table {} is complete, and schema {} is by now that of another one, \
         which moves other tables: nothing of it is read or changed here. Of this one {Complete}, \
         {DropSource}, {Status} and {Doctor} go on working; for the other one, use its configuration",
        target.control().table(),
        control_schema()
    );
    Err(StoreError::source(Kind::Refused, "going on with the migration", message))
}
