//! Readiness: may this step be taken now?

use std::collections::BTreeSet;

use lockstep_core::settings::DISTRUSTED_REPORTERS;
use lockstep_core::{Epoch, Error as StoreError, Phase, Truth, truth};
use lockstep_postgres::{CaptureState, Relation, TableBinding, VerdictRow, VerdictWord};

use crate::gate::{Collector, GateReport, GateResult, Observer};
use crate::truth::set_back;
use chrono::{DateTime, Utc};

use crate::error::{Error, Result};
use crate::feed_alarm::closed;
use crate::journal::REPAIR_STATE;
use crate::options::Migration;
use crate::records::how_set_back;
use crate::records::is_current;

use super::riders::rides_along;

/// Checks what the table of steps in the protocol asks for, per table. Preflight has run before.
pub(crate) async fn readiness(
    migration: &Migration,
    from: Phase,
    to: Phase,
    epoch: Epoch,
    observer: &dyn Observer,
) -> Result<GateReport> {
    let mut gates = Collector::new(observer);
    if from == Phase::DynamoOnly {
        gates.add(control_table(migration).await?);
        for binding in &migration.tables {
            for gate in way_back(migration, binding).await? {
                gates.add(gate.of(binding.name()));
            }
        }
        return Ok(gates.report);
    }
    if to < from {
        // Going back is always right: PostgreSQL is the truth, capture stays on, and the target only stops
        // being read.
        gates.add(GateResult::pass(
            "way back",
            "PostgreSQL is the truth and capture stays on; no new backfill will be needed",
        ));
        return Ok(gates.report);
    }
    let preflight = super::preflight(migration, observer).await?;
    gates.report.results.extend(preflight.results);
    gates.add(state_is_whole(migration).await?);
    let wrong = migration.source.versions_out_of_order().await?;
    gates.add(GateResult::check(
        "versions are in order",
        wrong.is_none(),
        wrong.unwrap_or_else(|| "lockstep.version_seq has no cache".to_owned()),
        "run `doctor`, which says how to put the sequence back",
    ));
    for binding in &migration.tables {
        migration.source.record_shape(binding).await?;
        let captured = migration.source.capture_state(binding).await?;
        gates.add(
            GateResult::check(
                "capture is on",
                captured == CaptureState::On,
                format!("{captured:?}"),
                "run `backfill`, which installs it",
            )
            .of(binding.name()),
        );
        gates.add(backfilled(migration, binding.name(), to).await?.of(binding.name()));
        if to >= Phase::HybridRead {
            gates.add(drained(migration, binding.name()).await?.of(binding.name()));
            gates.add(no_dead_letters(migration, binding.name()).await?.of(binding.name()));
        }
    }
    if to >= Phase::HybridRead {
        gates.add(fresh_verdict(migration, epoch).await?);
    }
    if to == Phase::HybridRead {
        gates.add(shadow_reads(migration, epoch).await?);
        gates.add(GateResult::pass("way back", "HybridRead → DualWrite is possible at once"));
    }
    if to == Phase::DynamoOnly {
        for binding in &migration.tables {
            for gate in frozen_source(migration, binding).await? {
                gates.add(gate.of(binding.name()));
            }
            for gate in rides_along(migration, binding).await? {
                gates.add(gate.of(binding.name()));
            }
            gates.add(super::ids::can_be_found(binding).of(binding.name()));
            gates.add(super::ids::can_be_made(migration, binding, observer).await?.of(binding.name()));
            if !migration.target.is_emulator()
                && let Some(missing) = migration.target.protection(&binding.target_name).await?.missing()
            {
                observer.note(&format!("WARNING: {} is to be the truth, and {missing}", binding.target_name));
            }
        }
        let detail = "DynamoOnly → HybridRead through the reverse feed, which is begun and seen through before the step";
        gates.add(GateResult::pass("way back", detail));
    }
    Ok(gates.report)
}

/// What a step to `to` would be asked now, without taking it. What a step tries out by writing is not among
/// it.
///
/// # Errors
/// [`Error::NotAdjacent`]; the stores'.
#[crate::boxed]
pub async fn ready(migration: &Migration, to: Phase) -> Result<GateReport> {
    let control = migration.source.control().await?;
    if !control.phase.is_next_to(to) {
        return Err(Error::NotAdjacent { from: control.phase, to });
    }
    readiness(migration, control.phase, to, control.epoch, &()).await
}

/// What must hold of the source before it is frozen.
async fn frozen_source(migration: &Migration, binding: &TableBinding) -> Result<Vec<GateResult>> {
    let current = is_current(migration, binding).await?;
    let detail = if current {
        "they know DynamoOnly"
    } else {
        "those of an older Lockstep would let raw writers through"
    };
    let triggers = GateResult::check(
        "triggers are of this version",
        current,
        detail,
        "run `backfill`, which brings them up to date",
    );
    // A row that refers to one of ours is refused until the feed has brought ours, and holds up its deletion
    // after.
    let depending = migration.source.describe(binding).await?.dependents;
    // By the table and not by how it is printed: 1. A name has capitals, or a partition has a key of its own.
    // 2. Printed, it is in quotes, or it is the partition's. 3. It is taken for a table that stays.
    let ours =
        |by: Option<&Relation>| by.is_some_and(|by| migration.tables.iter().any(|t| t.relation == *by));
    let inbound: Vec<&str> = depending
        .iter()
        .filter(|d| d.kind == "foreign key" && !ours(d.by.as_ref()))
        .map(|d| d.name.as_str())
        .collect();
    let detail = if inbound.is_empty() { "none".to_owned() } else { inbound.join(", ") };
    let next = "drop these constraints first: PostgreSQL follows a moment behind in DynamoOnly, so they would refuse rows";
    Ok(vec![triggers, GateResult::check("foreign keys from other tables", inbound.is_empty(), detail, next)])
}

/// Without the record it is unknown which instance still has a lease to write there, nor which ids were
/// handed out: a step back over a lost one would have to take the phase, the leases and the counters for what
/// they were never seen to be.
async fn control_table(migration: &Migration) -> Result<GateResult> {
    let (source, control) = (&migration.source, migration.target.control());
    let (now, record) = (source.control().await?, control.record().await?);
    let wrong = match (truth(&now, record.as_ref()), record) {
        (Truth::InTarget, Some(record)) => {
            let doing = "asking for ids";
            let mut connection =
                source.pool().acquire().await.map_err(|error| StoreError::of_sqlx(doing, error))?;
            let behind = set_back(&mut connection, &control, &migration.tables).await?;
            let how = how_set_back(&record, source.newest_target_epoch().await?, &behind);
            how.map(|how| format!("it was set back: {how}"))
        }
        _ => Some("its control record was lost: it does not say that it is the truth".to_owned()),
    };
    let next = "run `doctor`, then `repair --state`";
    let ok = "its record is the newest, and its ids are free";
    Ok(GateResult::check(
        "DynamoDB's control table",
        wrong.is_none(),
        wrong.unwrap_or_else(|| ok.to_owned()),
        next,
    ))
}

/// What must hold before the truth goes back. How far the feed is, is seen later.
async fn way_back(migration: &Migration, binding: &TableBinding) -> Result<Vec<GateResult>> {
    migration.source.record_shape(binding).await?;
    let captured = migration.source.capture_state(binding).await?;
    let next = "run `doctor`, then `repair --state --apply`, which installs it again: changes would not be \
                known after the step";
    let mut gates =
        vec![GateResult::check("capture is on", captured == CaptureState::On, format!("{captured:?}"), next)];
    let captured = migration
        .source
        .table_state(binding.name())
        .await?
        .map(|state| state.fingerprint)
        .unwrap_or_default();
    gates.push(super::source_tables::is_captured(&captured, &migration.source.fingerprint(binding).await?));
    let standing = migration.source.reverse_standing(binding.name()).await?;
    gates.push(match standing.as_ref().map(closed) {
        None => GateResult::fail("reverse feed", "it was never begun", "run `reverse-feed --backfill`"),
        Some(Some(why)) => GateResult::fail("reverse feed", why, "run `reverse-feed --backfill`"),
        Some(None) => GateResult::pass("reverse feed", "nothing was lost"),
    });
    Ok(gates)
}

async fn backfilled(migration: &Migration, table: &str, to: Phase) -> Result<GateResult> {
    let ranges = migration.source.ranges(table).await?;
    let state = migration.source.table_state(table).await?;
    let planned = state.as_ref().is_some_and(|state| state.planned_at.is_some());
    let windowed =
        state.as_ref().is_some_and(|state| state.window_start.is_some() || state.window_end.is_some());
    let open = ranges.iter().filter(|range| !range.done).count();
    let detail = match (planned, open) {
        (false, _) => "never started".to_owned(),
        (true, 0) => format!("all {} ranges done", ranges.len()),
        (true, open) => format!("{open} of {} ranges are not done", ranges.len()),
    };
    if state.as_ref().is_some_and(|state| state.importing) {
        let next = "run `backfill`, which goes on with it";
        return Ok(GateResult::fail("backfill", "an import is making the target table", next));
    }
    let done = planned && open == 0;
    if done && windowed && to >= Phase::HybridRead {
        let next = "run `backfill --restart` without a window";
        return Ok(GateResult::fail(
            "backfill",
            "only a window of days was backfilled; reads would miss the rest",
            next,
        ));
    }
    Ok(GateResult::check("backfill", done, detail, "run `backfill`"))
}

async fn drained(migration: &Migration, table: &str) -> Result<GateResult> {
    let lag = migration.source.lag(table).await?;
    let steps = &migration.options.steps;
    let passed = lag.keys <= steps.pending_keys_max && lag.oldest_s <= steps.pending_age_max.as_secs_f64();
    let detail = format!("{} keys pending, the oldest for {:.1} s", lag.keys, lag.oldest_s);
    Ok(GateResult::check(
        "pending set is drained",
        passed,
        detail,
        "run `relay` beside the application until the lag is small",
    ))
}

async fn no_dead_letters(migration: &Migration, table: &str) -> Result<GateResult> {
    let (all, unacknowledged) = migration.source.count_dead_letters(table).await?;
    let detail = format!("{all} dead letters, {unacknowledged} not acknowledged");
    let next = "look at them with `dead-letters`; mend and `--retry` them, or accept that they stay behind with `--acknowledge`";
    Ok(GateResult::check("dead letters", unacknowledged == 0, detail, next))
}

async fn fresh_verdict(migration: &Migration, epoch: Epoch) -> Result<GateResult> {
    let age_max = migration.options.steps.verdict_age_max;
    let name = "verdict is clean and fresh";
    let Some(verdict) = migration.source.latest_verdict().await? else {
        return Ok(GateResult::fail(name, "nothing has been validated yet", "run `validate`"));
    };
    let windowed = ["window_start", "window_end"]
        .iter()
        .any(|bound| verdict.report.get(bound).is_some_and(|at| !at.is_null()));
    if verdict.consistent && windowed {
        return Ok(GateResult::fail(
            name,
            "the newest verdict is of a window of days only",
            "run `validate` without a window",
        ));
    }
    // Those that are recorded, which may be more than this process is configured for.
    let recorded = migration.source.recorded_tables().await?;
    let configured = migration.tables.iter().map(|binding| binding.name().to_owned());
    let names: BTreeSet<String> = configured.chain(recorded).collect();
    let not_in_it: Vec<String> = names.into_iter().filter(|name| !is_of(&verdict.report, name)).collect();
    if verdict.consistent && !not_in_it.is_empty() {
        // It was made before they were part of the migration.
        let detail = format!("the newest verdict says nothing of {}", not_in_it.join(", "));
        return Ok(GateResult::fail(name, detail, "run `validate` with all tables configured"));
    }
    let number = verdict.report.get("began").and_then(serde_json::Value::as_i64);
    if verdict.consistent && number.is_none() {
        let detail =
            "the newest verdict does not say what it began after: an earlier version of Lockstep recorded it";
        return Ok(GateResult::fail(name, detail, "run `validate` with this version"));
    }
    let said = verdict.word();
    let word = match said {
        VerdictWord::Consistent => "consistent",
        VerdictWord::Inconsistent => "not consistent",
        VerdictWord::Incomplete => "incomplete: nothing was found, and not everything was compared",
    };
    let oldest = oldest_reading(&verdict, &["as_of"]);
    let age_s = verdict.age_s + (verdict.at - oldest).as_seconds_f64().max(0.0);
    let fresh = age_s <= age_max.as_secs_f64() && verdict.epoch == epoch.0;
    for binding in &migration.tables {
        let state = migration.source.table_state(binding.name()).await?;
        // By the clock and by numbers: one that was set back between the two would say that it was after.
        let is_before = |state: lockstep_postgres::TableState| {
            state.captured_at > oldest || number.is_some_and(|number| state.captured_number > number)
        };
        if verdict.consistent && fresh && state.is_some_and(is_before) {
            let detail = format!(
                "the newest verdict is of before capture was installed on {}, or of before its rows were written to another file",
                binding.relation
            );
            return Ok(GateResult::fail(name, detail, "run `validate`"));
        }
    }
    let age = match age_s.is_finite() {
        true => format!("{age_s:.0} s old"),
        false => "of a moment that PostgreSQL's clock has not reached".to_owned(),
    };
    let detail = format!("{word}, {age}, made in epoch {}", verdict.epoch);
    let next = format!(
        "run `validate` in this phase{}; a verdict counts for {} s and within its epoch, and what one finds \
         until a whole one that began afterwards finds nothing",
        if said == VerdictWord::Incomplete { " again, with a `relay` running" } else { "" },
        age_max.as_secs()
    );
    Ok(GateResult::check(name, verdict.consistent && fresh, detail, next))
}

/// What shadow reads of applications have found since the newest verdict: it speaks of the moment when both
/// stores were read, and they of what applications are answered since.
async fn shadow_reads(migration: &Migration, epoch: Epoch) -> Result<GateResult> {
    let name = "shadow reads agree";
    let since = match migration.source.latest_verdict().await? {
        // What an incremental one rests on is older, and was looked at again where it changed.
        Some(verdict) => oldest_reading(&verdict, &["verified_as_of", "as_of"]),
        // The gate before this one says that there is none.
        None => DateTime::UNIX_EPOCH,
    };
    let counted = migration.source.counted_in(epoch, since).await?;
    let sum = |name: &str| counted.iter().filter(|row| row.name == name).map(|row| row.count).sum::<i64>();
    let (agree, differ) = (sum("shadow.agree"), sum("shadow.differ"));
    let reporters = match differ {
        0 => Vec::new(),
        _ => migration.source.reporters_of_differences(epoch, since).await?,
    };
    let by: Vec<String> = reporters.iter().map(|(role, count)| format!("{role} ({count})")).collect();
    let by = if by.is_empty() { String::new() } else { format!(", as reported by role {}", by.join(", ")) };
    let settings = migration.source.settings().await?;
    let passed_over =
        settings.iter().find(|row| row.name == DISTRUSTED_REPORTERS).map_or_else(String::new, |row| {
            format!(
                "; reports of {} are passed over, as {} has set ({DISTRUSTED_REPORTERS})",
                row.value, row.actor
            )
        });
    let detail = match (agree, differ) {
        (0, 0) => format!("no application has reported one since the verdict{passed_over}"),
        _ => format!(
            "{differ} of {} that applications made since the verdict differ{by}{passed_over}",
            agree + differ
        ),
    };
    let next = "run `validate`, and `repair` what it finds; a consistent verdict after the last of \
                them passes. If one of the roles makes its reports up, `set distrusted_reporters ROLE` passes over it";
    Ok(GateResult::check(name, differ == 0, detail, next))
}

/// A verdict speaks as of its oldest reading: a run may take hours, or be killed and resumed. What is found
/// while it goes on may be of a key that it has read already.
fn oldest_reading(verdict: &VerdictRow, names: &[&str]) -> DateTime<Utc> {
    let at = |table: &serde_json::Value| {
        names.iter().find_map(|name| table.get(name)?.as_str()?.parse::<DateTime<Utc>>().ok())
    };
    let tables = verdict.report.get("tables").and_then(serde_json::Value::as_array);
    tables.into_iter().flatten().filter_map(at).min().unwrap_or(verdict.at)
}

/// Whether a report is also of this table.
fn is_of(report: &serde_json::Value, table: &str) -> bool {
    let tables = report.get("tables").and_then(serde_json::Value::as_array);
    tables.into_iter().flatten().any(|of| of.get("name").and_then(serde_json::Value::as_str) == Some(table))
}

/// The gate that keeps a step forward from being taken over a repair that was broken off.
pub(crate) async fn state_is_whole(migration: &Migration) -> Result<GateResult> {
    let next = "run `repair --state --apply` again: it goes on where it stopped";
    let is_open = migration.source.open_intents().await?.iter().any(|entry| entry.step == REPAIR_STATE);
    Ok(match is_open {
        false => GateResult::pass("state is whole", "no repair of the state was broken off"),
        true => GateResult::fail("state is whole", "a repair of the state was broken off", next),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_of_the_tables_in_its_report_only() {
        let report = serde_json::json!({ "tables": [{ "name": "payments" }] });
        assert!(is_of(&report, "payments"));
        assert!(!is_of(&report, "integration_logs") && !is_of(&serde_json::json!({}), "payments"));
    }
}
