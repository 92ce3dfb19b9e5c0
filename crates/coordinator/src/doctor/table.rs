//! Findings of one table. Pure.

use lockstep_core::Advice::{
    Backfill, Complete, DeadLetters, Relay, RepairStateAtOnce, ReverseBackfill, RollbackToPostgresOnly,
    SourceUrl, Table, TableSource, TableTarget, Uninstall, Validate,
};
use lockstep_core::Phase;
use lockstep_postgres::control_schema;

use super::finding::{Finding, WAITS_S};
use super::foreign;
use super::observation::{CaptureSeen, ColumnsSeen, Observation, TableSeen, TargetSeen};
use super::target::of_target;
use super::truth::phase;
use crate::feed_alarm;
use crate::planned::planned_in;
use crate::remedy::Remedy;

/// Adds what is found of a table.
pub(super) fn of_table(seen: &Observation, table: &TableSeen, findings: &mut Vec<Finding>) {
    let mut add = |finding: Finding| findings.push(finding.of(&table.name));
    let phase = phase(seen);
    if seen.source_error.is_none() && !seen.installed {
        if let TargetSeen::There { marked: true, .. } = table.target {
            add(of_another_source(seen, table));
        }
        return;
    }
    if let TargetSeen::Unknown(error) = &table.target {
        add(target_unknown(table, error, phase));
    }
    if seen.source_error.is_some() {
        return;
    }
    capture(table, phase, &mut add);
    shape(table, phase, &mut add);
    agreement(table, &mut add);
    target(table, &mut add);
    of_target(table, phase, &mut add);
    waiting(seen, table, phase, &mut add);
}

/// Schema lockstep is not in this PostgreSQL, and the target table has a mark.
fn of_another_source(seen: &Observation, table: &TableSeen) -> Finding {
    let is_truth = seen.target_record.is_some_and(|record| record.holds_truth());
    let (means, next) = match is_truth {
        true => (
            "this is another database, or one that was restored to before its migration began. \
             DynamoDB is the truth, and applications go on with it: delete nothing there",
            format!(
                "check {SourceUrl}, or restore a backup of PostgreSQL that has \
                schema {}. It may be of any moment of the migration: \
                {RepairStateAtOnce:#} makes it follow DynamoDB",
                control_schema()
            ),
        ),
        false => (
            "this is another database, or one that was restored to before its migration began; \
             items may be newer than rows",
            format!(
                "check {SourceUrl}. If the restore is meant, look into the items \
                for what PostgreSQL forgot, then delete the table, or choose \
                another name, and start again"
            ),
        ),
    };
    let what = format!(
        "schema {} is not in this PostgreSQL, but DynamoDB table {} was written by a migration",
        control_schema(),
        table.target_name
    );
    Finding::broken(what, means, next)
}

fn target_unknown(table: &TableSeen, error: &str, phase: Phase) -> Finding {
    let means = match phase {
        Phase::DynamoOnly => "nothing can be read or written until it answers; nothing is lost",
        Phase::HybridRead => {
            "reads are answered by PostgreSQL; strict writes fail and leave nothing, others are deferred"
        }
        _ => "writes go on and are deferred",
    };
    Finding::broken(
        format!("DynamoDB could not be asked about {}: {error}", table.target_name),
        means,
        "bring it back; nothing is to be repaired",
    )
}

/// Whether every change is captured, of the columns that are known.
fn capture(table: &TableSeen, phase: Phase, add: &mut impl FnMut(Finding)) {
    let name = &table.name;
    match &table.capture {
        CaptureSeen::Broken(how) => {
            let (means, remedy) = match phase {
                Phase::DynamoOnly => (
                    "DynamoDB is the truth and has lost nothing. SQL could write to PostgreSQL, where no \
                    application reads it, and what it \
                     wrote there meanwhile is overwritten by what DynamoDB has; rows that it put in, and \
                     that DynamoDB does not have, are deleted",
                    Remedy::Refreeze { table: name.clone() },
                ),
                _ => (
                    "no store knows what was changed meanwhile: DynamoDB may have older states, \
                    or rows that are deleted",
                    Remedy::Recapture { table: name.clone() },
                ),
            };
            let broken = Finding::broken(
                format!("changes of {} are not all captured: {how}", table.relation),
                means,
                "install the triggers again, and compare both stores whole",
            );
            // The schema first: with an unknown column, installing again would bless it.
            let is_other = table.fingerprint_changed || table.columns.are_others();
            add(if is_other || !table.hidden.is_empty() { broken } else { broken.repaired_by(remedy) });
        }
        CaptureSeen::Elsewhere(relation) => add(Finding::broken(
            format!("capture was installed on {relation}, and {} is configured", table.relation),
            "nothing is moved from a relation that is not captured",
            format!("set {} back to {relation}", TableSource(name.clone())),
        )),
        CaptureSeen::Absent | CaptureSeen::On => {}
    }
    if table.fingerprint_changed && matches!(table.capture, CaptureSeen::On | CaptureSeen::Broken(_)) {
        add(Finding::broken(
            format!("the key of {} has changed since capture was installed", table.relation),
            "items lie by the key, and so do marks of changes, so backfill, relay, comparisons and steps \
             stop; what changes is \
             captured all the same",
            format!(
                "undo the change; or end this migration ({RollbackToPostgresOnly}, then \
                {Uninstall}), and start it again with a table that knows the new key"
            ),
        ));
    }
}

/// Whether what is configured is what the migration was begun with.
fn agreement(table: &TableSeen, add: &mut impl FnMut(Finding)) {
    let name = &table.name;
    if table.is_set_otherwise() {
        add(Finding::broken(
            table.settings_changed.join("; "),
            "items that were written have their keys, attributes and expiry by the old one, so whatever \
             moves or compares stops",
            format!("put the settings of {} back", Table(name.clone())),
        ));
    }
    if let Some(adopted) = &table.adopted_another {
        add(Finding::broken(
            format!(
                "this migration writes to DynamoDB table {adopted}, and {} is configured",
                table.target_name
            ),
            "nothing is moved until they agree",
            format!("set {} back", TableTarget(name.clone())),
        ));
    }
}

/// The target table itself.
fn target(table: &TableSeen, add: &mut impl FnMut(Finding)) {
    if let TargetSeen::There { active, mismatches, .. } = &table.target {
        if !mismatches.is_empty() {
            add(Finding::broken(
                format!("DynamoDB table {}: {}", table.target_name, mismatches.join("; ")),
                "writes or queries would fail",
                "bring its keys and indexes to what the table's crate says",
            ));
        } else if !active {
            add(Finding::attention(
                format!("DynamoDB table {} is being changed", table.target_name),
                "it can be slow or refuse meanwhile",
                "wait",
            ));
        }
    }
}

/// Judges what happened to the source table that no trigger tells of.
fn shape(table: &TableSeen, phase: Phase, add: &mut impl FnMut(Finding)) {
    let (keyless, hidden): (Vec<&String>, Vec<&String>) =
        table.hidden.iter().partition(|way| way.starts_with("key: "));
    for way in keyless {
        add(Finding::broken(
            format!("two rows of {} may have one key: {way}", table.relation),
            "one of them would be lost, so backfill, relay, comparisons and steps stop; what applications \
             write is captured all the same",
            "leave one row of each key, and make the unique index, and NOT NULL of its columns, again; then \
             the same command goes on",
        ));
    }
    if !hidden.is_empty() {
        add(Finding::broken(
            format!(
                "not every row of {} can be seen, or is captured: {}",
                table.relation,
                hidden.into_iter().map(String::as_str).collect::<Vec<_>>().join("; ")
            ),
            "a row that cannot be seen would be taken for a deleted one, so backfill, relay, comparisons and steps stop; what \
             applications write is captured all the same",
            "undo it, or run with a role that sees every row: docs/runbook.md, \"Source tables\"",
        ));
    }
    partitions(table, phase, add);
    columns(table, phase, add);
    if table.rewritten {
        let remedy = match phase {
            Phase::DynamoOnly => Remedy::TakeShape { table: table.name.clone() },
            _ => Remedy::Recapture { table: table.name.clone() },
        };
        let rewritten = Finding::broken(
            format!(
                "a statement such as ALTER TABLE has rewritten values of {}, or put another column in the place of one of the same name, \
                 or made its key sort by another collation",
                table.relation
            ),
            format!(
                "no trigger saw it: DynamoDB has the values from before, and every \
                verdict from before is void. In DynamoOnly the rows of PostgreSQL are \
                no longer those that DynamoDB took over: run {Validate} before and \
                after a step back"
            ),
            "take the table as it is now, and compare both stores whole",
        );
        add(rewritten.repaired_by(remedy));
    }
}

/// Judges columns that are others than those that were captured.
fn columns(table: &TableSeen, phase: Phase, add: &mut impl FnMut(Finding)) {
    let ColumnsSeen { came, gone, added, unknown, of_key } = &table.columns;
    if !table.columns.are_others() {
        return;
    }
    let only_added = gone.is_empty();
    let what = if only_added {
        format!("a column was added to {}: {}", table.relation, came.join(", "))
    } else if came.is_empty() {
        format!("a column of {} was dropped: {}", table.relation, gone.join(", "))
    } else {
        format!(
            "columns of {} are others: {} went, {} came",
            table.relation,
            gone.join(", "),
            came.join(", ")
        )
    };
    let means = "items would not have the columns as they are, so backfill, relay, comparisons and steps \
     stop; what changes is captured \
         all the same";
    let undo = if only_added { "drop the column" } else { "undo the change" };
    if !of_key.is_empty() {
        let of_key = format!("{what}. The key is made of them: {}", of_key.join("; "));
        let next = format!(
            "undo the change: items lie by the key, and so do marks of changes. A migration with another \
             key is another one \
             ({RollbackToPostgresOnly}, then {Uninstall})"
        );
        add(Finding::broken(of_key, means, next));
    } else if phase == Phase::DynamoOnly {
        let next = format!("{undo}; it can be repeated and taken after the way back");
        add(Finding::broken(what, means, next));
    } else if !unknown.is_empty() {
        let why = unknown.join("; ");
        let next = format!(
            "run a build that knows the columns as they are, here and in applications, which says how to take \
             them; or {undo}"
        );
        add(Finding::broken(format!("{what}. This build does not know it: {why}"), means, next));
    } else if let TargetSeen::There { mismatches, .. } = &table.target
        && !mismatches.is_empty()
    {
        let next = format!("{undo}: an index of the target table is keyed by it, as said beside this");
        add(Finding::broken(what, means, next));
    } else {
        let rows = if only_added { "each row that has a value of it" } else { "each row" };
        let next = format!(
            "where each application runs a build that knows the columns as they are, take the table as it \
             is now, and bring {rows}. \
             In an epoch of its own, after which older builds write no more, and in DualWrite at most"
        );
        let (name, columns, whole) = (table.name.clone(), added.clone(), !only_added);
        let found = Finding::broken(what, means, next);
        // 1. A build has the column, and another key template. 2. Taken with the column, that is the
        // migration's. 3. Rows go to other places, and their items of before stay.
        let remedy = Remedy::TakeColumns { table: name, columns, whole };
        add(if table.is_set_otherwise() { found } else { found.repaired_by(remedy) });
    }
}

/// Judges what became of partitions. In DynamoOnly PostgreSQL is filled again from DynamoDB; before, DynamoDB
/// follows.
fn partitions(table: &TableSeen, phase: Phase, add: &mut impl FnMut(Finding)) {
    if table.partitions.is_empty() {
        return;
    }
    let (name, what) =
        (table.name.clone(), format!("of {}: {}", table.relation, table.partitions.join("; ")));
    if phase != Phase::DynamoOnly {
        add(Finding::broken(
            what,
            "DynamoDB still has the items of rows that are gone, and every verdict from before is void, so backfill, relay, comparisons \
             and steps stop; what applications write is captured all the same",
            "to keep rows, attach the partition again first. Then take the partitions as they are now, which deletes the items of rows \
             that went",
        )
        .repaired_by(Remedy::TakePartitions { table: name }));
        return;
    }
    add(Finding::broken(
        what,
        "PostgreSQL lacks rows that DynamoDB has, or has rows that DynamoDB has not: there is no way back until they agree",
        "detach a partition that came with rows. A row for which there is no partition waits as a dead letter: make one for it",
    )
    .repaired_by(Remedy::TakeShape { table: name }));
    add(Finding::broken(
        format!("rows of {} may be missing with a partition", table.relation),
        "DynamoDB has them all",
        "read every item of DynamoDB into PostgreSQL",
    )
    .repaired_by(Remedy::ReverseBackfill));
}

/// Judges what waits for an operator.
fn waiting(seen: &Observation, table: &TableSeen, phase: Phase, add: &mut impl FnMut(Finding)) {
    let (keys, oldest_s) = table.pending;
    if keys > 0 && oldest_s > WAITS_S && phase != Phase::PostgresOnly {
        add(Finding::attention(
            format!(
                "{keys} changes wait for delivery, the oldest for {oldest_s:.0} s: no relay seems to be at work"
            ),
            "nothing is lost; DynamoDB is that far behind",
            format!("{Relay:#}"),
        ));
    }
    let foreign = table.reverse.as_ref().map_or(0, |standing| standing.foreign_versions);
    // They are dead letters, with a way on of their own.
    let others = table.dead_letters.1 - foreign;
    if others > 0 {
        let (what, means) = match phase {
            Phase::DynamoOnly => (
                "rows cannot be held by the other store, and no operator has acknowledged them",
                format!(
                    "DynamoDB has them, and PostgreSQL lacks them or has what they were \
                    before: a step back and {Complete} are refused"
                ),
            ),
            _ => (
                "rows cannot be held by DynamoDB, and no operator has acknowledged them",
                "they are in PostgreSQL only; the step to HybridRead is refused".to_owned(),
            ),
        };
        add(Finding::attention(format!("{others} {what}"), means, format!("{DeadLetters:#}")));
    }
    if phase == Phase::DynamoOnly
        && let Some(rows) = table.reverse.as_ref().map(|feed| feed.again - table.dead_letters.1)
        && rows > 0
    {
        let why = table.reverse.as_ref().and_then(|feed| feed.again_why.as_deref()).unwrap_or_default();
        add(Finding::attention(
            format!("{rows} rows wait, as PostgreSQL does not take them now: {why}"),
            format!(
                "DynamoDB has them, and the feed tries them again: a row may wait for one that it refers to. \
                 They are no dead letters yet; after five minutes {DeadLetters} lists them"
            ),
            format!("{DeadLetters:#}, where they wait for longer than five minutes"),
        ));
    }
    if table.cold_open && seen.at_work.coordinator.is_none() {
        add(Finding::attention(
            "a cold load was broken off",
            "one of its requests could still arrive, so changes wait until none can",
            format!("{Backfill:#}, which finishes it"),
        ));
    }
    if table.importing && seen.at_work.coordinator.is_none() {
        add(Finding::attention(
            "an import of its initial load is not over",
            "its target table is made by it, and changes wait until it is",
            format!("{Backfill:#}, which goes on with it"),
        ));
    }
    foreign::versions(table, phase, add);
    behind(seen, table, phase, add);
}

/// Adds what the reverse feed lacks.
fn behind(seen: &Observation, table: &TableSeen, phase: Phase, add: &mut impl FnMut(Finding)) {
    // A repair that makes PostgreSQL the truth again reads what the feed lacks, and no more than that:
    // nothing else may read the whole table meanwhile.
    let is_read = planned_in(&seen.open_steps).contains(&Remedy::ReturnToSource);
    if phase == Phase::DynamoOnly
        && !is_read
        && let Some(alarm) = table.reverse.as_ref().and_then(feed_alarm::behind)
    {
        add(Finding::broken(
            format!("the reverse feed: {alarm}"),
            "PostgreSQL lacks what DynamoDB holds: there is no way back until it has it",
            format!("{ReverseBackfill:#}"),
        ));
    }
}
