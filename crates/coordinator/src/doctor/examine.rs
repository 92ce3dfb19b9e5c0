//! From what is seen to what it means. Pure: it asks no store, and reads no clock.

use lockstep_core::Advice::{
    Complete, ControlTable, Doctor, Relay, RepairStateAtOnce, ReverseFeed, Rights, RollbackToDualWrite,
    SourceUrl, Uninstall, Validate,
};
use lockstep_core::{Epoch, Phase};
use lockstep_postgres::{ForeignHolder, HeldBack, control_schema};

use super::compared;
use super::continuity;
use super::control_table;
use super::finding::{Diagnosis, Finding, Severity, WAITS_S};
use super::observation::{Observation, Unread};
use super::plan::plan;
use super::replicated;
use super::table::of_table;
use super::truth::{self, phase};
use super::words::{next, safe, state};
use crate::journal;
use crate::remedy::Remedy;

/// Says what an observation means.
pub fn examine(seen: &Observation) -> Diagnosis {
    let mut findings = Vec::new();
    if let Some(error) = &seen.source_error {
        findings.push(Finding::broken(
            format!("PostgreSQL does not answer: {error}"),
            "up to HybridRead nothing can be written while it is away, and nothing is lost; in DynamoOnly nothing stops",
            format!("bring it back, or check {SourceUrl}; every command goes on where it \
                stopped"),
        ));
    } else if seen.installed {
        whole(seen, &mut findings);
    } else if let Some(other) = &seen.other_under_way {
        findings.push(Finding::broken(
            format!("schema {} of this PostgreSQL is that of a migration of other tables", control_schema()),
            "nothing of it is read as this one's, or changed. This one has not begun here; or PostgreSQL was \
             restored to before it began, and that is one of the states that the runbook has",
            other,
        ));
    } else {
        findings.extend(after_the_end(seen));
    }
    for table in &seen.tables {
        of_table(seen, table, &mut findings);
    }
    findings.extend(seen.unread.iter().map(|table| unread_table(seen, table).of(&table.name)));
    findings.sort_by_key(|finding| finding.severity);
    let sound = findings.iter().all(|finding| finding.severity != Severity::Broken);
    let remedies = plan(&findings);
    Diagnosis {
        state: state(seen, &findings),
        sound,
        safe: safe(seen, &remedies),
        next: next(seen, &findings, &remedies),
        findings,
    }
}

/// A table that does not read.
fn unread_table(seen: &Observation, table: &Unread) -> Finding {
    let next = match (table.is_configured, phase(seen) >= Phase::HybridRead) {
        (false, _) => "put the table into the configuration again".to_owned(),
        (true, true) => {
            format!(
                "undo that. Until then {RollbackToDualWrite:#} takes reads of all tables back to PostgreSQL"
            )
        }
        (true, false) => format!("undo that; or end the migration of all its tables: {Uninstall:#}"),
    };
    let means =
        "nothing of it is copied, delivered or compared, no step forward is taken, and no verdict is whole";
    Finding::broken(&table.why, means, next)
}

/// Judges what is not of a single table.
fn whole(seen: &Observation, findings: &mut Vec<Finding>) {
    if let Some(why) = &seen.foreign_control_table {
        findings.push(Finding::broken(
            "the control table belongs to another migration",
            "nothing of its record is used here. Applications go by PostgreSQL alone; no step is taken before it is put right",
            why,
        ));
    }
    if seen.target_record.is_some_and(|record| record.completed_at.is_some()) {
        findings.push(complete_in_target(seen));
        return;
    }
    let phase = phase(seen);
    findings.extend(seen.foreign_holders.iter().map(foreign_holder));
    findings.extend(seen.prepared.iter().filter(|prepared| prepared.waits_s > WAITS_S).map(prepared));
    let bloated = seen.held_back.as_ref().filter(|held| held.is_bloated(HeldBack::DEAD));
    findings.extend(bloated.map(held_back));
    findings.extend(replicated::findings(&seen.replicated));
    findings.extend(seen.versions_out_of_order.as_deref().map(out_of_order));
    let of_records = truth::findings(seen);
    let agree = of_records.is_empty();
    findings.extend(of_records);
    let damaged = seen.target_record_damaged;
    findings.extend(seen.target_record_error.as_ref().map(|error| unread(error, damaged, phase)));
    findings.extend(seen.histories.losses().iter().map(|loss| continuity::finding(loss, phase)));
    for open in &seen.open_steps {
        findings.extend(open_step(
            seen,
            &open.step,
            &format!("by {} at {}", open.actor, open.at.format("%Y-%m-%d %H:%M:%S UTC")),
        ));
    }
    let (writes, oldest_s) = seen.open_writes;
    if writes > 0 && oldest_s > WAITS_S {
        findings.push(Finding::attention(
            format!(
                "{writes} keys from interrupted strict writes have been unresolved for {oldest_s:.0} s: their process died and no sweeper is running"
            ),
            "DynamoDB may show a state of them that was never committed; they count as pending",
            format!("{Relay:#}"),
        ));
    }
    findings.extend(compared::findings(seen, phase));
    if let Some(epoch) = truth::epoch(seen) {
        instances(seen, epoch, findings);
    }
    findings.extend(control_table::findings(seen));
    // While a store has lost history, or the truth is between two stores, a feed would refuse.
    let ours = seen.foreign_control_table.is_none();
    let feeds = phase == Phase::DynamoOnly
        && ours
        && agree
        && seen.target_record_error.is_none()
        && seen.histories.losses().is_empty();
    if feeds && seen.at_work.reverse_feed.is_none() {
        findings.push(Finding::attention(
            "no reverse feed runs",
            "PostgreSQL does not follow. DynamoDB's streams keep changes for 24 h; after that the way back needs a reverse backfill",
            format!("{ReverseFeed:#}"),
        ));
    }
}

/// DynamoDB's control record cannot be read.
fn unread(error: &str, damaged: bool, phase: Phase) -> Finding {
    let means = match phase {
        Phase::DynamoOnly => {
            "instances that begin cannot know the phase, and no step is taken; what was written is in the \
            target tables"
        }
        _ => {
            "nothing is concluded from it: PostgreSQL is the truth, and applications go by it. The step to \
            DynamoOnly is refused"
        }
    };
    Finding::attention(
        format!("DynamoDB's control record could not be read: {error}"),
        means,
        match damaged {
            true => {
                format!(
                    "a record that is damaged is deleted by hand (item CONTROL of the \
                    control table); then run {Doctor} again"
                )
            }
            false => format!("bring DynamoDB back, or give the rights that {Rights} prints"),
        },
    )
}

/// DynamoDB says that the migration is complete, and schema `lockstep` is there.
fn complete_in_target(seen: &Observation) -> Finding {
    match seen.control {
        Some((of_source, ..)) if of_source != Phase::DynamoOnly => Finding::broken(
            format!("DynamoDB says that the migration is complete, and PostgreSQL says {of_source}"),
            "the control table is another migration's, made by a version that wrote no owner into it, or PostgreSQL was restored to before \
             DynamoOnly. Nothing is taken out of PostgreSQL",
            format!(
                "if the control table is another migration's, set {ControlTable} to a \
                name of this one's own; if PostgreSQL was restored, restore a newer \
                backup, or leave it: DynamoDB is the truth for good"
            ),
        ),
        _ => Finding::attention(
            "the migration is complete, and PostgreSQL still has what only a migration needs",
            "nothing is moved any more, and its tables refuse every write",
            format!("{Complete:#}, which goes on where it stopped"),
        ),
    }
}

/// A session that no Lockstep opened holds a lock of ours: any role that may connect can take one.
fn foreign_holder(holder: &ForeignHolder) -> Finding {
    let (pid, role) = (holder.pid, &holder.role);
    Finding::broken(
        format!("PostgreSQL backend {pid} of role {role} holds a lock of Lockstep, and is none of ours"),
        if holder.barrier {
            "every write to the tables waits for it"
        } else {
            "no command that needs this lock can begin"
        },
        format!(
            "end it with SELECT pg_terminate_backend({pid}), and take CONNECT from roles that need it not"
        ),
    )
}

/// A transaction that was prepared and not ended: it holds the barrier if it wrote one of our tables.
fn prepared(prepared: &lockstep_postgres::Prepared) -> Finding {
    let lockstep_postgres::Prepared { gid, role, waits_s } = prepared;
    let gid = gid.replace('\'', "''");
    Finding::attention(
        format!(
            "prepared transaction '{gid}' of role {role} has waited for {waits_s:.0} s (pg_prepared_xacts)"
        ),
        "if it wrote a table of the migration every step waits for it, over any restart; no list of \
        sessions shows it",
        format!("ask its application; then COMMIT PREPARED '{gid}' or ROLLBACK PREPARED '{gid}'"),
    )
}

/// 1. A report of last night left its transaction open. 2. Marks come and go, and none of those that went
/// since can be taken out. 3. Each look of the relay reads them all, and it gets slower by the hour.
fn held_back(held: &HeldBack) -> Finding {
    let HeldBack { dead, live, by, for_s } = held;
    let since = for_s.map(|s| format!(", open for {s:.0} s")).unwrap_or_default();
    let by = by.as_deref().map_or("it is not seen for whom".to_owned(), |by| format!("for {by}{since}"));
    Finding::attention(
        format!(
            "{dead} marks that are gone are kept in {}.pending beside {live} that wait: {by}",
            control_schema()
        ),
        "each look of a relay at the pending set reads them all, so delivery gets slower the longer it lasts",
        format!("end that transaction, or drop the slot; then VACUUM {}.pending", control_schema()),
    )
}

/// A program has changed the sequence that versions come from.
fn out_of_order(how: &str) -> Finding {
    Finding::broken(
        format!("{}.version_seq was changed: {how}", control_schema()),
        "versions no longer grow in the order of changes: a newer state can be refused as delivered. Steps \
        forward are refused",
        format!(
            "ALTER SEQUENCE {}.version_seq CACHE 1 INCREMENT 1 NO CYCLE; then \
            {Validate:#}, which compares everything",
            control_schema()
        ),
    )
}

fn open_step(seen: &Observation, name: &str, by: &str) -> Option<Finding> {
    let at_work = seen.at_work.coordinator;
    Some(match (name, at_work) {
        (journal::REPAIR_STATE, None) => Finding::broken(
            format!("a repair of the state {by} was broken off"),
            "everything it did may be repeated; until it has ended no step forward is taken, and none \
             back from DynamoOnly",
            format!("{RepairStateAtOnce:#}"),
        ),
        (journal::COMPLETE, None) => Finding::attention(
            format!("`{name}` {by} was broken off before it was decided"),
            "everything is as it was",
            format!("{Complete:#}, or nothing"),
        ),
        (journal::REPAIR_KEYS, _) => Finding::attention(
            format!("a repair of keys {by} was broken off before the keys were read again"),
            "they are marked, or were not; either way nothing is lost",
            compared::repair(seen),
        ),
        (name, Some(pid)) => Finding::attention(
            format!("`{name}` {by} is under way: PostgreSQL backend {pid} is the coordinator"),
            "it holds the coordinator's lock, so it lives",
            "wait for it",
        ),
        (name, None) if name == journal::CHANGE_PHASE => Finding::broken(
            format!("`{name}` {by} has no outcome, and no coordinator is at work: it died"),
            "the control record decides whether it happened; nothing is lost, and no other step begins before it is settled",
            format!("any command that steps settles it first; so does {RepairStateAtOnce:#}"),
        )
        .repaired_by(Remedy::SettleSteps),
        (name, None) => Finding::attention(
            format!("`{name}` {by} was broken off"),
            "it is repeated as a whole when its command runs again",
            "run its command again",
        )
        .repaired_by(Remedy::SettleSteps),
    })
}

fn instances(seen: &Observation, epoch: Epoch, findings: &mut Vec<Finding>) {
    use lockstep_core::InstanceState;
    for row in
        seen.instances.iter().filter(|row| row.state == InstanceState::Live && !row.has_acknowledged(epoch))
    {
        let finding = if row.lease_left_ms > 0 {
            Finding::attention(
                format!("{} has not acknowledged epoch {epoch} yet", row.title()),
                "it may serve by the phase before; a step waits for it",
                "wait; if it stays so, restart that process",
            )
        } else {
            Finding::attention(
                format!("{} has stopped renewing its lease", row.title()),
                "its lease is over, so it serves nothing; the next step says so and goes on",
                "nothing",
            )
        };
        findings.push(finding);
    }
}

/// Judges what is left where schema `lockstep` is gone, or not yet gone, because the migration is complete.
fn after_the_end(seen: &Observation) -> Option<Finding> {
    let record = seen.target_record?;
    record.completed_at?;
    let done = seen.completed.as_ref().is_some_and(|completed| completed.epoch == record.epoch.0);
    let finding = Finding::broken(
        "DynamoDB says that the migration is complete, and this PostgreSQL knows nothing of it",
        "it is another database, or one that was restored to before the migration; no application reads its tables any more",
        format!("check {SourceUrl}. Applications need nothing of it"),
    );
    let beside = match seen.followed {
        true => ". Schema lockstep is that of another migration, which began since and moves other tables",
        false => "",
    };
    Some(match (done, seen.left.is_empty()) {
        (false, _) => finding,
        (true, true) => Finding::attention(
            "the migration is complete",
            format!("nothing of it is left in PostgreSQL but its record{beside}"),
            "nothing",
        ),
        (true, false) => {
            let left = format!(
                "{}: there until dropped, behind a guard that refuses every write{beside}",
                seen.left.join(", ")
            );
            Finding::attention("the migration is complete", left, "nothing")
        }
    })
}
