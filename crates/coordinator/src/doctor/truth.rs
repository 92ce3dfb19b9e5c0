//! Findings of the two control records together, where they do not simply agree. Pure.

use lockstep_core::Advice::{ControlTable, Doctor};
use lockstep_core::{Control, Epoch, Phase, Side, TargetRecord, Truth, Writes, truth};
use lockstep_postgres::{Entry, control_schema};

use super::finding::Finding;
use super::observation::Observation;
use crate::journal::{CHANGE_PHASE, Intent};
use crate::records::how_set_back;
use crate::remedy::Remedy;

/// The phase by both records: a source that was set back does not know of the newest.
pub(super) fn phase(seen: &Observation) -> Phase {
    let (Some(control), record) = (seen.control(), seen.target_record) else {
        return seen.target_record.map_or(Phase::PostgresOnly, |record| record.phase);
    };
    match (truth(&control, record.as_ref()), record) {
        (Truth::InTarget, _) => Phase::DynamoOnly,
        (Truth::ToSource(phase, _), _) => phase,
        (Truth::Lost, Some(record)) if is_source_behind(&control, &record) && !seen.target_record_unnamed => {
            record.phase
        }
        _ => control.phase,
    }
}

/// Whether it is the source that was set back, of two records that contradict each other.
fn is_source_behind(control: &Control, record: &TargetRecord) -> bool {
    record.epoch > control.epoch || control.phase == Phase::DynamoOnly
}

/// The epoch that instances should have acknowledged: pauses in DynamoDB are epochs of their own.
pub(super) fn epoch(seen: &Observation) -> Option<Epoch> {
    let of_source = seen.control().map(|control| control.epoch);
    match seen.target_record {
        Some(record) if record.holds_truth() => of_source.max(Some(record.epoch)),
        _ => of_source,
    }
}

/// Whether no application can write, although every store answers.
pub(super) fn no_application_writes(seen: &Observation) -> bool {
    let Some(control) = seen.control() else { return false };
    match truth(&control, seen.target_record.as_ref()) {
        Truth::ToSource(..) | Truth::ToTarget(_) => true,
        Truth::InTarget => seen.target_record.is_some_and(|record| record.writes == Writes::Paused),
        Truth::Lost => control.phase == Phase::DynamoOnly,
        Truth::InSource => false,
    }
}

/// Judges the two records.
pub(super) fn findings(seen: &Observation) -> Vec<Finding> {
    let Some(control) = seen.control() else { return Vec::new() };
    if seen.foreign_control_table.is_some() || seen.target_record_error.is_some() {
        // What is not ours, or cannot be read, says nothing of us: not that a record was lost either.
        return Vec::new();
    }
    let moving = seen.open_steps.iter().any(moves_truth);
    if moving && seen.at_work.coordinator.is_some() {
        // What was read of the records, one after the other, may be of two moments.
        return Vec::new();
    }
    // A journal that was set back does not know what came after it.
    let forgot = seen.histories.losses().iter().any(|loss| loss.side() == Side::Source);
    let decided_here = moving && !forgot;
    let record = seen.target_record;
    match (truth(&control, record.as_ref()), record) {
        (Truth::InSource, _) => Vec::new(),
        // Who died at it is told by its entry in the journal.
        (Truth::ToSource(..), _) if decided_here => Vec::new(),
        (Truth::InTarget | Truth::ToTarget(_), _) if decided_here && !seen.target_written => Vec::new(),
        (Truth::InTarget, Some(record)) => in_target(seen, &control, &record, moving),
        (Truth::ToTarget(_), _) => vec![Finding::broken(
            "PostgreSQL says DynamoOnly, writes were let go on there, and DynamoDB has no control record \
            of it: the control table was lost",
            "applications cannot know the phase, and write nothing; what they wrote is in the target tables",
            "do not restore it from a backup, which knows nothing of ids that were handed out since: it is \
            created again",
        )
        .repaired_by(Remedy::RemakeControl)],
        (Truth::ToSource(phase, epoch), _) => vec![left_behind(&control, phase, epoch)],
        (_, Some(record)) if seen.target_record_unnamed && control.phase != Phase::DynamoOnly => {
            vec![unnamed(&control, &record)]
        }
        (_, Some(record)) => lost(&control, &record, moving),
        (_, None) => Vec::new(),
    }
}

/// Whether an entry of the journal is of a step that moves the truth; one that cannot be read may be.
fn moves_truth(open: &Entry) -> bool {
    let intent = serde_json::from_value::<Intent>(open.detail.clone());
    open.step == CHANGE_PHASE && intent.map_or(true, |intent| intent.moves_truth())
}

/// Both say that the truth is in DynamoDB.
fn in_target(seen: &Observation, control: &Control, record: &TargetRecord, moving: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    if record.since > control.epoch {
        let what = format!(
            "PostgreSQL was set back to an earlier DynamoOnly: it says epoch {}, and DynamoDB is the truth \
            since epoch {}",
            control.epoch, record.since
        );
        let means = "DynamoDB is the truth and has lost nothing; PostgreSQL does not know what was \
                     written between the two";
        findings.push(
            Finding::broken(what, means, "PostgreSQL is made to follow DynamoDB again")
                .repaired_by(Remedy::FollowTarget),
        );
    }
    // 1. DynamoDB is written on in the epoch of a pause that was given up. 2. PostgreSQL is set back to before
    // it knew of that epoch, by less than marks of history tell. 3. The feed stands still before what it reads.
    let newest = seen.newest_target_epoch.filter(|newest| *newest < record.epoch);
    if let (Some(newest), true, false) = (newest, findings.is_empty(), moving) {
        let what = format!(
            "PostgreSQL was set back: it knows DynamoDB as the truth up to epoch {newest}, and DynamoDB says {}",
            record.epoch
        );
        let means = "DynamoDB is the truth and has lost nothing; PostgreSQL takes nothing of what was written \
                     there since";
        findings.push(
            Finding::broken(what, means, "PostgreSQL is made to follow DynamoDB again")
                .repaired_by(Remedy::FollowTarget),
        );
    }
    findings.extend(how_set_back(record, seen.newest_target_epoch, &seen.ids_set_back).map(set_back));
    let remade = findings.iter().any(|finding| finding.remedy == Some(Remedy::RemakeControl));
    findings.extend((record.writes == Writes::Paused && !moving && !remade).then(paused));
    findings
}

fn paused() -> Finding {
    Finding::broken(
        "writes are paused in DynamoDB's control record, and no step is under way",
        "no application can write; nothing is lost. A step was broken off, and the journal that knew of it \
        was set back",
        "let writes go on",
    )
    .repaired_by(Remedy::LetGoOn)
}

fn set_back(how: String) -> Finding {
    Finding::broken(
        format!("DynamoDB's control table was set back: {how}"),
        "ids may be handed out twice, and who holds a lease is not known; what was written is in the target tables",
        "stop each application before this is repaired: an id that is handed out twice makes one row of two",
    )
    .repaired_by(Remedy::RemakeControl)
}

/// The truth went back to PostgreSQL, which was restored to before that.
fn left_behind(control: &Control, phase: Phase, epoch: Epoch) -> Finding {
    Finding::broken(
        format!(
            "DynamoDB says that the truth went back to PostgreSQL ({phase}, epoch {epoch}), and PostgreSQL \
            says DynamoOnly in epoch {}: \
             it was restored to before the way back",
            control.epoch
        ),
        "no application can write: PostgreSQL sends them to DynamoDB, and DynamoDB to PostgreSQL. What \
        PostgreSQL forgot is in DynamoDB as \
         far as it was delivered, perhaps there alone; what was not delivered is in no store that is left",
        "PostgreSQL reads everything that DynamoDB holds, and is the truth again",
    )
    .repaired_by(Remedy::ReturnToSource)
}

/// 1. Another program makes the control table before this migration does, with a record that says DynamoOnly.
/// 2. PostgreSQL would be made to follow a truth that was never there. Which of the two it is only a person
/// knows, so nothing is done by itself.
fn unnamed(control: &Control, record: &TargetRecord) -> Finding {
    Finding::broken(
        format!(
            "DynamoDB's control record says {} in epoch {}, PostgreSQL says {} in epoch {}, and the record \
            names no migration",
            record.phase, record.epoch, control.phase, control.epoch
        ),
        "either another program made it, and PostgreSQL is the truth; or it was made by a version that named \
        no owner, and PostgreSQL was set back. Applications that run go on by PostgreSQL, and none begins",
        format!(
            "if another program made it: delete item CONTROL / CONTROL of the control table, or set \
             {ControlTable} to a name of this migration's own. If it is this migration's: write its id \
             (column migration_id of {}.control) into attribute `owner` of that item. Then run {Doctor} \
             again",
            control_schema()
        ),
    )
}

fn lost(control: &Control, record: &TargetRecord, moving: bool) -> Vec<Finding> {
    let what = format!(
        "the control records contradict each other: PostgreSQL is in epoch {}, DynamoDB says {} in epoch {}",
        control.epoch, record.phase, record.epoch
    );
    if control.phase == Phase::DynamoOnly {
        return vec![left_behind(control, record.phase, record.epoch)];
    }
    if record.epoch <= control.epoch {
        let means = "the control table was set back; PostgreSQL is the truth, and those who work go by it. \
                     No instance begins before it is repaired";
        let next = "make DynamoDB's record say so; what only DynamoDB has is listed";
        return vec![Finding::broken(what, means, next).repaired_by(Remedy::CloseRecord)];
    }
    if record.holds_truth() {
        let means = "PostgreSQL was set back to before DynamoOnly, and would take writes that no application reads. DynamoDB is the truth and has lost nothing";
        let next = "start no application before this is repaired: PostgreSQL is made to follow DynamoDB \
                    again";
        let mut findings = vec![Finding::broken(what, means, next).repaired_by(Remedy::FollowTarget)];
        findings.extend((record.writes == Writes::Paused && !moving).then(paused));
        return findings;
    }
    let means = "PostgreSQL was set back to before the truth came back to it: it is the truth, and what it forgot is lost to it";
    let next = "raise the epoch above both, then compare, and decide which store is right";
    vec![Finding::broken(what, means, next).repaired_by(Remedy::RaiseEpoch)]
}
