//! Repairing the state of a migration: what the doctor proposes is carried out, under the coordinator's lock.
//!
//! Everything may be repeated: 1. The plan is journalled. 2. Each remedy leaves the state better or as it
//! was. 3. The next run finds again what is still wrong after a crash, and goes on with what the journal
//! says; until then no step forward is taken, and none back from DynamoOnly. In reading order: `remedies`
//! (one function each), `columns` and `agreeing`, `raise`, `undecided`, `follow_target`, `return_to_source`,
//! `remake_control`, `record` (the largest of them), `highest` (how far DynamoDB has counted), `alone`
//! (whether this is a copy), this file (all of them, then the comparison), `take_target` (the other way
//! round).

mod agreeing;
mod alone;
mod columns;
mod follow_target;
mod highest;
mod raise;
mod record;
mod remake_control;
mod remedies;
mod return_to_source;
mod take_target;
mod undecided;

pub use take_target::{RowsTaken, take_target};

use lockstep_core::{Error as StoreError, Kind, Phase};
use lockstep_postgres::{EntryKind, IntentId};
use lockstep_validator::ValidateOptions;
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::backfill::BackfillSummary;
use crate::coordinator::Coordinator;
use crate::doctor::{Diagnosis, Observation, examine, observe, plan};
use crate::error::{CoordinatorError, Result};
use crate::gate::Observer;
use crate::journal::REPAIR_STATE;
use crate::options::MigrationContext;
use crate::planned::{Planned, is_part_of_the_return, planned_in};
use crate::remedy::Remedy;
use crate::repair_rows::{Repaired, Repairs, find_repairs, repair};

/// Most rounds of comparing and repairing: each lists some thousand findings of a table.
const ROUNDS_MAX: usize = 1_000;

/// Record of what was repaired.
#[derive(Debug, Default, Serialize)]
pub struct StateRepaired {
    /// Remedies that were carried out, in order.
    pub done: Vec<Remedy>,
    /// The initial load that was copied again.
    pub backfilled: Vec<BackfillSummary>,
    /// Findings of the comparison; `None` where there was none to make.
    pub findings: Option<Repairs>,
    /// Outcome of the keys that were marked, over all rounds.
    pub repaired: Repaired,
    /// Faults that are left afterwards.
    pub left: Option<Diagnosis>,
}

impl StateRepaired {
    fn add(&mut self, pass: Self) {
        self.done.extend(pass.done);
        self.backfilled.extend(pass.backfilled);
        self.findings = pass.findings.or_else(|| self.findings.take());
        self.repaired.add(pass.repaired);
        self.left = pass.left;
    }
}

/// Returns what would be done: the remedies of the present state, and of a repair that was broken off.
///
/// # Errors
/// The source's.
#[crate::boxed]
pub async fn planned(migration: &MigrationContext, diagnosis: &Diagnosis) -> Result<Vec<Remedy>> {
    let mut remedies = plan(&diagnosis.findings);
    if let Some(Open { planned: earlier, .. }) = open(migration).await? {
        // Remedies that are done are not found any more; the ones after them still have to be carried out.
        // 1. A column is taken, and the repair is killed. 2. Nothing shows any more that it was added. 3. The
        // builds before go on writing in the epoch that they know.
        let is_taking = earlier.remedies.iter().any(|remedy| matches!(remedy, Remedy::BringColumns { .. }));
        let again = |remedy: &Remedy| is_repeated(remedy) || is_taking && *remedy == Remedy::RaiseEpoch;
        let frozen = migration.source.control().await?.phase == Phase::DynamoOnly;
        remedies = going_on(remedies, earlier.remedies.into_iter().filter(again).collect(), frozen);
        remedies.sort();
        remedies.dedup();
    }
    // 1. PostgreSQL lost history, and what DynamoDB has more is listed, to be decided about. 2. A trigger is
    // found to be off, and the comparison that follows would put a tombstone over the only copy of a row.
    if remedies.contains(&Remedy::Compare) && migration.source.is_loss_undecided().await? {
        remedies.retain(|remedy| !matches!(remedy, Remedy::Compare | Remedy::List));
        remedies.push(Remedy::List);
    }
    Ok(remedies)
}

/// Returns what is to be done by the plan of the present state and what is left of an earlier one, while
/// PostgreSQL says DynamoOnly or not. Where either returns to PostgreSQL, what is part of that is done by it
/// alone; once it is the truth, what is found then counts.
fn going_on(mut found: Vec<Remedy>, mut earlier: Vec<Remedy>, frozen: bool) -> Vec<Remedy> {
    if found.iter().chain(&earlier).any(|remedy| *remedy == Remedy::ReturnToSource) {
        let is_raised = |remedy: &Remedy| !frozen && *remedy == Remedy::RaiseEpoch;
        earlier.retain(|remedy| !is_part_of_the_return(remedy) || is_raised(remedy));
        found.retain(|remedy| !frozen || !is_part_of_the_return(remedy));
    }
    found.extend(earlier);
    found
}

/// Tells whether it is done again by a run that goes on, although nothing shows any more that it has to be:
/// what it waits for, or looks at, may still be ahead.
fn is_repeated(remedy: &Remedy) -> bool {
    let before = [Remedy::RemakeControl, Remedy::ReverseBackfill, Remedy::ReturnToSource];
    is_long(remedy) || before.contains(remedy) || matches!(remedy, Remedy::BringColumns { .. })
}

/// Tells whether it is done without the coordinator's lock of this repair.
fn is_long(remedy: &Remedy) -> bool {
    matches!(remedy, Remedy::Backfill | Remedy::Compare | Remedy::List)
}

/// A repair that was broken off.
struct Open {
    /// Entries of the journal; more than one where it was broken off while it planned again.
    ids: Vec<IntentId>,
    /// All that they planned.
    planned: Planned,
}

async fn open(migration: &MigrationContext) -> Result<Option<Open>> {
    let entries = migration.source.open_intents().await?;
    let ids = entries.iter().filter(|entry| entry.step == REPAIR_STATE).map(|entry| IntentId(entry.id));
    let ids: Vec<IntentId> = ids.collect();
    Ok((!ids.is_empty()).then(|| Open { ids, planned: Planned { remedies: planned_in(&entries) } }))
}

/// Returns the entry under which `remedies` are carried out, and everything that it plans. Where a repair was
/// broken off that planned less, there is a new entry, with both. 1. A repair is broken off. 2. Triggers are
/// off meanwhile; the next one installs them again, and is killed. 3. Nothing but its plan says that rows
/// which SQL has put in are to go.
async fn journalled(
    migration: &MigrationContext,
    open: Option<Open>,
    remedies: &[Remedy],
    diagnosis: &Diagnosis,
) -> Result<(IntentId, Vec<Remedy>)> {
    let (ids, mut plan) = open.map_or_else(Default::default, |open| (open.ids, open.planned.remedies));
    if let [id] = ids[..]
        && remedies.iter().all(|remedy| plan.contains(remedy))
    {
        return Ok((id, plan));
    }
    plan.extend_from_slice(remedies);
    plan.sort();
    plan.dedup();
    let source = &migration.source;
    let mut detail = json!(Planned { remedies: plan.clone() });
    detail["findings"] = json!(diagnosis.findings.iter().map(|finding| &finding.what).collect::<Vec<_>>());
    let id = source.journal_intent(&migration.actor, REPAIR_STATE, &detail).await?;
    for earlier in ids {
        let why = json!({ "why": "it goes on in a later entry", "in": id.0 });
        source.journal_outcome(&migration.actor, earlier, EntryKind::Undone, REPAIR_STATE, &why).await?;
    }
    Ok((id, plan))
}

/// Passes of one repair: the repairs of one pass may show what comes next.
const PASSES_MAX: usize = 3;

/// Repairs what the doctor finds and can repair, and then copies and compares as far as the plan says.
///
/// # Errors
/// [`Kind::Busy`](lockstep_core::Kind) when a coordinator is at work;
/// [`Kind::Refused`](lockstep_core::Kind) for a state that only a person may decide; the stores'.
///
/// # Cancel safety
/// Run it again.
#[crate::boxed]
pub async fn repair_state(
    migration: &MigrationContext,
    options: &ValidateOptions,
    observer: &dyn Observer,
    cancel: &CancellationToken,
) -> Result<StateRepaired> {
    let mut all = StateRepaired::default();
    for _ in 0..PASSES_MAX {
        let pass = once(migration, options, observer, cancel).await?;
        let is_more =
            !pass.done.is_empty() && pass.left.as_ref().is_some_and(|left| !plan(&left.findings).is_empty());
        all.add(pass);
        if !is_more {
            break;
        }
    }
    Ok(all)
}

async fn once(
    migration: &MigrationContext,
    options: &ValidateOptions,
    observer: &dyn Observer,
    cancel: &CancellationToken,
) -> Result<StateRepaired> {
    let source = &migration.source;
    source.migrate_schema().await?;
    let lock = source.lock_coordinator().await?;
    // An epoch, a record and a truth are one for all tables: what is read before they are changed, and
    // compared after it, has to be all of them.
    source.contract().await?.require_known(&migration.tables, &[])?;
    let mut seen = observe(source, &migration.target, &migration.tables).await?;
    require_settings(&seen)?;
    // It is we.
    seen.at_work.coordinator = None;
    let diagnosis = examine(&seen);
    let remedies = planned(migration, &diagnosis).await?;
    let mut outcome = StateRepaired::default();
    let open = open(migration).await?;
    if remedies.is_empty() && open.is_none() {
        lock.release().await;
        return Ok(StateRepaired { left: Some(diagnosis), ..outcome });
    }
    alone::require_alone(migration, &seen.histories, observer).await?;
    let (id, plan) = journalled(migration, open, &remedies, &diagnosis).await?;
    for remedy in &remedies {
        if cancel.is_cancelled() {
            return Err(CoordinatorError::Interrupted);
        }
        if is_long(remedy) {
            continue;
        }
        observer.note(&remedy.to_string());
        remedies::apply(migration, id, remedy, &plan, options, observer, cancel).await?;
        outcome.done.push(remedy.clone());
    }
    lock.release().await;
    copy_and_compare(migration, &remedies, options, observer, cancel, &mut outcome).await?;
    source
        .journal_outcome(
            &migration.actor,
            id,
            EntryKind::Done,
            REPAIR_STATE,
            &json!({ "done": outcome.done, "repaired": outcome.repaired }),
        )
        .await?;
    outcome.left = Some(examine(&observe(source, &migration.target, &migration.tables).await?));
    Ok(outcome)
}

/// Refuses to repair by settings that are not those of the migration: what DynamoDB has of a row is looked up
/// at the place that they say.
fn require_settings(seen: &Observation) -> Result<()> {
    let changed = seen.tables.iter().filter(|table| table.is_set_otherwise());
    let changed: Vec<&str> =
        changed.flat_map(|table| table.settings_changed.iter().map(String::as_str)).collect();
    if changed.is_empty() {
        return Ok(());
    }
    Err(StoreError::source(Kind::Misconfigured, "repairing the state", changed.join("; ")).into())
}

async fn copy_and_compare(
    migration: &MigrationContext,
    remedies: &[Remedy],
    options: &ValidateOptions,
    observer: &dyn Observer,
    cancel: &CancellationToken,
    outcome: &mut StateRepaired,
) -> Result<()> {
    if remedies.contains(&Remedy::Backfill) {
        observer.note(&Remedy::Backfill.to_string());
        let coordinator = Coordinator::open(migration.clone()).await?;
        let copied = coordinator.backfill(cancel).await;
        coordinator.close().await;
        outcome.backfilled = copied?;
        outcome.done.push(Remedy::Backfill);
    }
    // In PostgresOnly the stores need not hold the same; the step to HybridRead asks for a verdict all the
    // same.
    if !migration.source.control().await?.phase.writes_both() {
        return Ok(());
    }
    // No relay may be running, so what is pending is not waited for: it is on its way.
    let options = ValidateOptions { wait_for_pending: false, quality: false, ..options.clone() };
    if remedies.contains(&Remedy::List) {
        observer.note(&Remedy::List.to_string());
        outcome.findings = Some(find_repairs(migration, &options, cancel).await?);
        outcome.done.push(Remedy::List);
    } else if remedies.contains(&Remedy::Compare) {
        observer.note(&Remedy::Compare.to_string());
        for _ in 0..ROUNDS_MAX {
            let found = find_repairs(migration, &options, cancel).await?;
            if cancel.is_cancelled() {
                return Err(CoordinatorError::Interrupted);
            }
            // A row that may have been deleted in a time that is lost stays listed: a person decides.
            let sure: Vec<_> = found.repairable.iter().filter(|key| !key.may_be_deleted()).cloned().collect();
            let repaired = repair(migration, &sure, &options, cancel).await?;
            let more = found.unlisted > 0 && repaired.verified > 0;
            outcome.repaired.add(repaired);
            outcome.findings = Some(found);
            if !more {
                break;
            }
        }
        outcome.done.push(Remedy::Compare);
    }
    if cancel.is_cancelled() { Err(CoordinatorError::Interrupted) } else { Ok(()) }
}
