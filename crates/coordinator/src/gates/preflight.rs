//! Preflight: may the migration touch these tables at all?

use lockstep_core::Advice::{Doctor, Grants, SourceUrl, TableSources, TableTarget, TargetStreamsEndpoint};
use lockstep_core::Kind;
use lockstep_dynamo::{Backoff, TableStanding, Target};
use lockstep_postgres::{CaptureState, Replicated, SourceTable, TableBinding, control_schema};

use super::{capacity, rights, source_tables, target_table};
use crate::doctor::{KEEP_IT_HERE, next_of_a_copy};
use crate::error::Result;
use crate::gate::{Collector, GateReport, GateResult, Observer};
use crate::import;
use crate::options::MigrationContext;

/// Oldest server that the control SQL runs on.
const SERVER_VERSION_MIN: i32 = 130_000;

/// Checks both stores and every table. Store failures are errors, findings are gates.
pub(crate) async fn preflight(migration: &MigrationContext, observer: &dyn Observer) -> Result<GateReport> {
    let mut gates = Collector::new(observer);
    let version = migration.source.server_version().await?;
    gates.add(GateResult::check(
        "PostgreSQL version",
        version >= SERVER_VERSION_MIN,
        format!("server {}.{}", version / 10_000, version % 10_000),
        "use PostgreSQL 13 or newer",
    ));
    gates.add(GateResult::pass("streams", streams(&migration.target).await));
    gates.add(GateResult::pass("transactions", transactions(&migration.target).await));
    // Reported, not refused: a throw-away cluster has no other role.
    gates.add(GateResult::pass(
        "role of the operator",
        if migration.source.is_superuser().await? {
            "a superuser: code of others that a write of ours runs can do anything. Use a role that owns the tables"
        } else {
            "no superuser"
        },
    ));
    gates.add(rights::of_control(migration).await?);
    gates.add(replicated(&migration.source.replicated().await?));
    if let Some(gate) = capacity::of_account(migration).await? {
        gates.add(gate);
    }
    for binding in &migration.tables {
        for gate in table_gates(migration, binding).await? {
            gates.add(gate.of(binding.name()));
        }
    }
    Ok(gates.report)
}

/// Judges logical replication of schema `lockstep`. That others subscribe to it is told, not refused: one
/// that has the schema goes on.
fn replicated(found: &Replicated) -> GateResult {
    let out = found.carries().map(|carries| format!("{carries}. {KEEP_IT_HERE}"));
    let copy = (!found.subscriptions.is_empty())
        .then(|| format!("this database is a copy, by subscription {}", found.subscriptions.join(", ")));
    let tells = out.is_some();
    let nothing = || format!("nothing of schema {}", control_schema());
    let found = copy.clone().or(out).unwrap_or_else(nothing);
    GateResult::check("logical replication", copy.is_none(), found, next_of_a_copy()).tells_if(tells)
}

/// Told, not refused: nothing before the step to DynamoOnly reads a stream.
async fn streams(target: &Target) -> String {
    match Backoff::brief().retry(|| target.reach_streams()).await {
        Ok(true) => "DynamoDB Streams answers".to_owned(),
        Ok(false) => format!(
            "what answers knows no streams, and the step to DynamoOnly needs them: up to HybridRead is as far \
              as this endpoint goes, unless streams are elsewhere ({TargetStreamsEndpoint})"
        ),
        Err(error) => format!(
            "DynamoDB Streams does not answer, and the step to DynamoOnly needs it \
                ({error}); behind interface endpoints of a VPC set \
                {TargetStreamsEndpoint}"
        ),
    }
}

/// Told, not refused: applications that write one row at a time send none before DynamoOnly.
async fn transactions(target: &Target) -> String {
    match Backoff::brief().retry(|| target.has_transactions()).await {
        Ok(true) => "TransactWriteItems is answered".to_owned(),
        Ok(false) => {
            "the endpoint knows no transactions, and strict operations over several rows need them, as does \
                      DynamoOnly"
                .to_owned()
        }
        Err(error) => format!("whether TransactWriteItems is answered is not known ({error})"),
    }
}

async fn table_gates(migration: &MigrationContext, binding: &TableBinding) -> Result<Vec<GateResult>> {
    let source_table = match migration.source.describe(binding).await {
        Ok(found) => found,
        Err(e) if e.kind == Kind::Misconfigured => {
            return Ok(vec![GateResult::fail(
                "source table",
                e.message,
                format!("check {TableSources} and the database in {SourceUrl}"),
            )]);
        }
        Err(e) => return Err(e.into()),
    };
    let mut gates = source_gates(&source_table, binding);
    gates.extend(source_tables::gates(migration, binding, &source_table).await?);
    let missing = migration.source.missing_rights(binding).await?;
    gates.push(GateResult::check(
        "rights of the operator",
        missing.is_empty(),
        match missing.is_empty() {
            true => format!("owner of the table, and schema {} can be made", control_schema()),
            false => missing.join("; "),
        },
        format!(
            "grant them, or connect as the role that owns the tables; {Grants} prints \
            what the roles of applications need"
        ),
    ));
    gates.push(in_no_other(migration, binding).await?);
    let foreign = migration.source.foreign_code(binding).await?;
    gates.push(GateResult::check(
        "code that our writes run",
        foreign.is_empty(),
        if foreign.is_empty() {
            "of the table's owner, or ours".to_owned()
        } else {
            foreign.join(", ")
        },
        "their functions run with your rights: look at them, then drop what calls them, or let the table's owner \
         own functions and domains",
    ));
    let state = migration.source.table_state(binding.name()).await?;
    if let Some(state) = &state {
        gates.push(source_tables::is_captured(&state.fingerprint, &source_table.fingerprint));
        let layout = binding.table.layout();
        gates.push(GateResult::check(
            "key layout is the one in use",
            state.layout == layout,
            format!("configured {layout:?}, in use {:?}", state.layout),
            "put the setting back: rows already written have their keys by it",
        ));
        gates.push(match migration.source.capture_state(binding).await? {
            CaptureState::Broken(how) => GateResult::fail(
                "capture",
                how,
                format!("changes may be unknown: run {Doctor}, which says how to repair it"),
            ),
            CaptureState::On => GateResult::pass("capture", "on"),
            CaptureState::Absent => GateResult::pass("capture", "to be installed"),
        });
    }
    let adopted = state
        .as_ref()
        .and_then(|state| state.target_name.as_deref().map(|name| (name, state.target_id.as_deref())));
    gates.extend(target_gates(migration, binding, adopted).await?);
    Ok(gates)
}

async fn in_no_other(migration: &MigrationContext, binding: &TableBinding) -> Result<GateResult> {
    let taken = migration.source.taken_by_another(binding).await?;
    Ok(GateResult::check(
        "in no other migration",
        taken.is_none(),
        taken.as_deref().unwrap_or("no other one of this database has the table"),
        "a table is moved by one migration",
    ))
}

fn source_gates(table: &SourceTable, binding: &TableBinding) -> Vec<GateResult> {
    let mismatches = table.mismatches(binding);
    let matches = if mismatches.is_empty() {
        GateResult::pass(
            "source table",
            format!("{} has {} columns as expected", binding.relation, table.columns.len()),
        )
    } else {
        GateResult::fail(
            "source table",
            mismatches.join("; "),
            "change the table or its crate so that they agree",
        )
    };
    let dependents = table.dependents.iter().map(|d| format!("{} {}", d.kind, d.name)).collect::<Vec<_>>();
    let found = if dependents.is_empty() { "nothing".to_owned() } else { dependents.join(", ") };
    // Listed, not refused: up to HybridRead the source is written as before, so nothing that hangs on it
    // breaks.
    vec![matches, GateResult::pass("what depends on it", found)]
}

async fn target_gates(
    migration: &MigrationContext,
    binding: &TableBinding,
    adopted: Option<(&str, Option<&str>)>,
) -> Result<Vec<GateResult>> {
    let name = &binding.target_name;
    if let Some((known, _)) = adopted
        && known != name
    {
        let next = format!("set {} back", TableTarget(binding.name().to_owned()));
        return Ok(vec![GateResult::fail(
            "target table",
            format!("this migration writes to {known}, not to {name}"),
            next,
        )]);
    }
    let allowed = rights::of_table(migration, binding).await?;
    if !allowed.passed {
        // What the other gates ask may be among what is denied.
        return Ok(vec![allowed]);
    }
    let schema = binding.table.target();
    let standing = Backoff::brief().retry(|| migration.target.describe(name, &schema)).await?;
    let mut gates = gates_of(migration, binding, adopted, standing).await?;
    gates.insert(0, allowed);
    Ok(gates)
}

/// Judges a target table that may be asked, by how it stands.
async fn gates_of(
    migration: &MigrationContext,
    binding: &TableBinding,
    adopted: Option<(&str, Option<&str>)>,
    standing: TableStanding,
) -> Result<Vec<GateResult>> {
    let name = &binding.target_name;
    let is_there = matches!(standing, TableStanding::There(_));
    if let Some(gate) = import::gate(migration, binding, is_there).await? {
        let mut gates = vec![gate];
        if !is_there {
            // Asked for hours later, when the job has made the table.
            gates.extend(target_table::expiry(migration, binding, false).await?);
        }
        return Ok(gates);
    }
    let there = match standing {
        TableStanding::Missing if adopted.is_some() => {
            let next = format!("run {Doctor}, which says how to repair it");
            return Ok(vec![GateResult::fail(
                "target table",
                format!("{name} is gone, with all that was written to it"),
                next,
            )]);
        }
        TableStanding::Missing => {
            let mut gates = vec![GateResult::pass("target table", format!("{name} will be created"))];
            gates.push(capacity::of_new(migration, binding));
            gates.extend(target_table::expiry(migration, binding, false).await?);
            return Ok(gates);
        }
        TableStanding::There(there) => there,
    };
    let mut gates = vec![if there.mismatches.is_empty() {
        GateResult::pass("target table", format!("{name} has the expected keys and indexes"))
    } else {
        let next =
            format!("delete {name}, or choose another name with {}", TableTarget(binding.name().to_owned()));
        GateResult::fail("target table", format!("{name}: {}", there.mismatches.join("; ")), next)
    }];
    if !there.mismatches.is_empty() {
        return Ok(gates);
    }
    gates.push(GateResult::check(
        "target is ACTIVE",
        there.active,
        if there.active { "table and indexes" } else { "the table or an index is being changed" },
        "wait until it is ACTIVE and try again",
    ));
    gates.extend(of_contents(migration, binding, adopted, there.id.as_deref()).await?);
    gates.push(target_table::indexes(binding, &there.undeclared, adopted.is_some()));
    gates.extend(target_table::expiry(migration, binding, true).await?);
    gates.push(capacity::gate(migration, binding, &there.capacities).await?);
    Ok(gates)
}

/// Judges what is in a target table: nothing before it is adopted, and no item of another program after.
async fn of_contents(
    migration: &MigrationContext,
    binding: &TableBinding,
    adopted: Option<(&str, Option<&str>)>,
    there_id: Option<&str>,
) -> Result<Vec<GateResult>> {
    let (name, mut gates) = (&binding.target_name, Vec::new());
    let next =
        format!("empty {name}, or choose another name with {}", TableTarget(binding.name().to_owned()));
    match adopted {
        // Items of another migration may carry higher versions than ours: they would win against newer
        // states.
        None => {
            let empty = Backoff::brief().retry(|| migration.target.is_empty(name)).await?;
            let found = if empty { "empty" } else { "it holds items that this migration did not write" };
            gates.push(GateResult::check("target holds nothing of others", empty, found, next));
        }
        Some((_, id)) => {
            let same = id.is_none() || there_id.is_none() || there_id == id;
            let found = if same {
                "the table this migration wrote to"
            } else {
                "a table of that name was created again"
            };
            let next_same = format!("writes may be gone: run {Doctor}, which says how to repair it");
            gates.push(GateResult::check("target is the one in use", same, found, next_same));
            let foreign = Backoff::brief().retry(|| migration.target.has_foreign_items(name)).await?;
            let found = if foreign { "items without a version" } else { "none seen" };
            gates.push(GateResult::check("target holds nothing of others", !foreign, found, next));
        }
    }
    Ok(gates)
}
