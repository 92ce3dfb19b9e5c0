//! Taking Lockstep out of a source that is the truth (R43), or out of a copy of one.
//!
//! Rows stay as they are and where they are. In PostgresOnly and DualWrite, PostgreSQL is read and has every
//! write, so without capture nothing is lost; from HybridRead on that is not so, and the way leads back
//! first.
//!
//! A copy, from a snapshot, a clone or a dump, carries the triggers and says the phase of its original.
//! DynamoDB is the original's, and is neither asked nor changed.

mod given_up;

use lockstep_core::Advice::{
    Complete, Doctor, DropSource, DroppingTargetTables, Relay, ReverseFeed, Rollback, RollbackToPostgresOnly,
    SourceUrl, UninstallCopy, UninstallCopyOf,
};
use lockstep_core::{Error as StoreError, InstanceState, Kind, Phase, Truth, truth};
use lockstep_dynamo::Backoff;
use lockstep_postgres::{Uninstalled, control_schema};
use serde::Serialize;

use crate::complete::Archive;
use crate::error::{CoordinatorError, Result};
use crate::gate::{Collector, GateResult, Observer};
use crate::gates::nothing_else_depends;
use crate::options::MigrationContext;
use crate::records;
use crate::status::late_writes_until;
use crate::waves;
use given_up::{holds_nothing_else, nothing_is_only_in_the_target};

const DOING: &str = "taking Lockstep out";

/// Options for what is taken out.
#[derive(Clone, Debug, Default)]
pub struct UninstallOptions {
    /// The tables in DynamoDB as well: those that are moved to, and the control table.
    pub drop_target_tables: bool,
    /// Giving up what only DynamoDB has of a time that PostgreSQL lost, or of what PostgreSQL refused.
    pub give_up_lost: bool,
    /// The database is a copy of the source, and not the source.
    pub copy: bool,
    /// The identity that a copy has from its original, where nothing else tells the one from the other.
    pub migration_id: Option<String>,
}

/// Record of what was taken out.
#[derive(Debug, Serialize)]
pub struct Uninstall {
    /// Whether nothing was there any more.
    pub was_gone: bool,
    /// Triggers that PostgreSQL had.
    pub triggers: Vec<String>,
    /// DynamoDB tables that were deleted by this run.
    pub target_tables: Vec<String>,
    /// File in which the journal was kept; `None` where there was none any more.
    pub journal_file: Option<String>,
}

/// Takes triggers and schema `lockstep` out of PostgreSQL, and the tables out of DynamoDB where that was
/// asked for.
///
/// # Errors
/// [`CoordinatorError::Refused`] by a gate; [`Kind::Refused`] where there is nothing that this can take out;
/// [`Kind::Busy`] when a lock could not be acquired; the stores'.
///
/// # Cancel safety
/// Run it again. DynamoDB's tables go first, so that PostgreSQL knows until the end whose they are.
#[crate::boxed]
pub async fn uninstall(
    migration: &MigrationContext,
    options: &UninstallOptions,
    archive: &dyn Archive,
    observer: &dyn Observer,
) -> Result<Uninstall> {
    let source = &migration.source;
    match options.copy {
        // A schema of another migration is not this one's to take out. Of a copy DynamoDB is not asked.
        true => {
            let known = source.completion_of(migration.target.control().table(), None).await?;
            source.set_aside(known.is_some());
        }
        false => waves::claim(source, &migration.target).await?,
    }
    if !source.has_schema().await? {
        return nothing_there(migration, options).await;
    }
    let lock = source.lock_coordinator().await?;
    let done = take_out(migration, options, archive, observer).await;
    lock.release().await;
    done
}

async fn nothing_there(migration: &MigrationContext, options: &UninstallOptions) -> Result<Uninstall> {
    let refused = |message: String| Err(StoreError::source(Kind::Refused, DOING, message).into());
    let completion = match options.copy {
        true => None,
        false => waves::completion(&migration.source, &migration.target).await?,
    };
    if completion.is_some() {
        return refused(format!(
            "the migration of control table {} is complete: DynamoDB is the truth, and only guards are left \
             in PostgreSQL. {DropSource} drops the tables that they guard",
            migration.target.control().table()
        ));
    }
    if options.drop_target_tables {
        return refused(format!(
            "schema {} is gone, and with it what says whose these tables are; if they are this \
            migration's, delete them yourself: {}",
            control_schema(),
            deletions(migration)
        ));
    }
    Ok(Uninstall { was_gone: true, triggers: Vec::new(), target_tables: Vec::new(), journal_file: None })
}

fn deletions(migration: &MigrationContext) -> String {
    let names = target_tables(migration).into_iter();
    names.map(|name| format!("aws dynamodb delete-table --table-name {name}")).collect::<Vec<_>>().join("; ")
}

/// Returns everything of this migration in DynamoDB; the control table last, because it says whose the others
/// are.
fn target_tables(migration: &MigrationContext) -> Vec<String> {
    let names = migration.tables.iter().map(|binding| binding.target_name.clone());
    names.chain([migration.target.control().table().to_owned()]).collect()
}

async fn take_out(
    migration: &MigrationContext,
    options: &UninstallOptions,
    archive: &dyn Archive,
    observer: &dyn Observer,
) -> Result<Uninstall> {
    let source = &migration.source;
    if !options.copy {
        // 1. A migration is in DualWrite. 2. An operator of the next one, whose turn has not come, takes it
        // out with its own configuration. 3. The first has no capture any more.
        records::refuse_a_second(source, &records::names(&migration.tables)).await?;
    }
    let mut gates = Collector::new(observer);
    if options.copy {
        is_a_copy(migration, options, &mut gates).await?;
    } else {
        is_the_truth(migration, &mut gates).await?;
        nothing_is_only_in_the_target(
            migration,
            (options.give_up_lost, options.drop_target_tables),
            &mut gates,
        )
        .await?;
    }
    none_is_at_work(migration, &mut gates).await?;
    gates.add(nothing_else_depends(source).await?);
    // It reads whole tables, so not where something else refuses already.
    if options.drop_target_tables && gates.report.passed() {
        holds_nothing_else(migration, &mut gates, observer).await?;
    }
    if !gates.report.passed() {
        return Err(CoordinatorError::Refused(gates.report));
    }
    let epoch = source.control().await?.epoch;
    let journal_file = archive.keep(epoch, &source.whole_journal().await?).map_err(|error| {
        StoreError::source(
            Kind::Misconfigured,
            DOING,
            format!("keeping the journal: {error}; nothing was changed"),
        )
    })?;
    observer.note(&format!("the journal is in {journal_file}"));
    let target_tables =
        if options.drop_target_tables { delete_targets(migration, observer).await? } else { Vec::new() };
    if !options.copy && !options.drop_target_tables {
        give_up_claim(migration, observer).await;
    }
    observer.note(&format!("taking triggers and schema {} out of PostgreSQL", control_schema()));
    let Uninstalled { triggers } = take_out_of_source(migration).await?;
    Ok(Uninstall { was_gone: false, triggers, target_tables, journal_file: Some(journal_file) })
}

async fn take_out_of_source(migration: &MigrationContext) -> Result<Uninstalled> {
    let steps = &migration.options.steps;
    steps.while_busy(|| migration.source.uninstall(steps.lock_timeout)).await
}

/// PostgreSQL is read, and has every write that was acknowledged.
async fn is_the_truth(migration: &MigrationContext, gates: &mut Collector<'_>) -> Result<()> {
    let control = migration.source.control().await?;
    let is_early = matches!(control.phase, Phase::PostgresOnly | Phase::DualWrite);
    let next = match control.phase {
        Phase::DynamoOnly => {
            format!(
                "{RollbackToPostgresOnly} brings everything back first; or {Complete}, \
                if DynamoDB is to be the truth for good. For a copy of the source, made \
                from a snapshot or a dump, {UninstallCopy}"
            )
        }
        _ => {
            format!(
                "{Rollback} first: DynamoDB is read. For a copy of the source, made from \
                a snapshot or a dump, {UninstallCopy}"
            )
        }
    };
    let found = format!("the phase is {}", control.phase);
    gates.add(GateResult::check("phase is PostgresOnly or DualWrite", is_early, found, next));
    // A source that was set back says an early phase as well.
    let record = migration.target.control().record().await;
    let (in_source, found) = match &record {
        Ok(record) => {
            let is = truth(&control, record.as_ref()) == Truth::InSource;
            let found = if is {
                "both records say PostgreSQL"
            } else {
                "the records of both stores do not say PostgreSQL"
            };
            (is, found.to_owned())
        }
        Err(error) => (false, format!("DynamoDB does not say: {error}")),
    };
    let next = format!(
        "see {Doctor}. Where DynamoDB is gone for good, or this is a copy of the source, \
        {UninstallCopy} leaves it out"
    );
    gates.add(GateResult::check("PostgreSQL is the truth", in_source, found, next));
    let late = late_writes_until(&migration.source).await?;
    let found = late.map_or_else(
        || "none".to_owned(),
        |until| format!("a request of DynamoOnly may land until {}", until.format("%Y-%m-%d %H:%M:%S UTC")),
    );
    let next = format!("keep {ReverseFeed} and {Relay} running until then, and try again");
    gates.add(GateResult::check("no write of DynamoOnly can still land", late.is_none(), found, next));
    Ok(())
}

/// The database is not the source itself.
///
/// 1. An operator means the copy, and the configured address leads to the source, in HybridRead. 2. Its
/// triggers go. 3. No write is captured any more, and applications read rows in DynamoDB that grow older.
async fn is_a_copy(
    migration: &MigrationContext,
    options: &UninstallOptions,
    gates: &mut Collector<'_>,
) -> Result<()> {
    let source = &migration.source;
    let phase = source.control().await?.phase;
    let early = matches!(phase, Phase::PostgresOnly | Phase::DualWrite);
    let known = source.source_continuity().await?;
    let elsewhere = known.and_then(|known| Some(known.known_server? != known.server?)).unwrap_or(false);
    let id = source.migration_id().await?;
    let named = options.migration_id.is_some() && options.migration_id == id;
    let found = match (elsewhere, early, named) {
        (true, ..) => "it is on another server, or another timeline, than the source was",
        (_, true, _) => "PostgreSQL is the truth in this phase, whichever of both it is",
        (.., true) => "it was named",
        _ => "this is the server that the source is known to be on, or none is known",
    };
    let next = format!(
        "look again where {SourceUrl} leads. Only if this is a clone that shares the \
            identity of its server: name what it has from the source, {}",
        UninstallCopyOf(id.unwrap_or_default().to_string())
    );
    gates.add(GateResult::check("this is a copy", elsewhere || early || named, found, next));
    if options.drop_target_tables {
        let found = "DynamoDB's tables are the original's";
        gates.add(GateResult::fail(
            "the tables are this database's",
            found,
            format!("leave {DroppingTargetTables} out"),
        ));
    }
    Ok(())
}

async fn none_is_at_work(migration: &MigrationContext, gates: &mut Collector<'_>) -> Result<()> {
    let instances = migration.source.instances().await?;
    // One that was killed is not waited for longer than its lease.
    let live = instances.iter().filter(|row| row.state == InstanceState::Live && row.lease_left_ms > 0);
    let live: Vec<String> =
        live.map(|row| format!("{} ({}, process {})", row.name, row.host, row.pid)).collect();
    gates.add(GateResult::check(
        "no application uses Lockstep's stores",
        live.is_empty(),
        if live.is_empty() { "no instance is registered".to_owned() } else { live.join(", ") },
        "deploy these applications without Lockstep's stores, or stop them: their writes go through Lockstep's \
         schema, and would fail without it",
    ));
    let (_, feed) = migration.source.at_work().await?;
    let found = feed.map_or_else(|| "none".to_owned(), |pid| format!("PostgreSQL backend {pid}"));
    gates.add(GateResult::check("no reverse feed is at work", feed.is_none(), found, "stop it first"));
    Ok(())
}

/// Lets another migration have the control table. That DynamoDB is away keeps nothing from its end: the next
/// one is told what to do.
async fn give_up_claim(migration: &MigrationContext, observer: &dyn Observer) {
    let control = migration.target.control();
    if let Err(error) = Backoff::brief().retry(|| control.give_up_claim()).await {
        observer.note(&format!("control table {} stays claimed by this migration: {error}", control.table()));
    }
}

async fn delete_targets(migration: &MigrationContext, observer: &dyn Observer) -> Result<Vec<String>> {
    let mut deleted = Vec::new();
    for name in target_tables(migration) {
        if migration.target.remove_table(&name).await? {
            observer.note(&format!("DynamoDB table {name} is deleted"));
            deleted.push(name);
        }
    }
    Ok(deleted)
}
