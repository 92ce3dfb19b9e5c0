//! What the two control records say together, where they do not simply agree. Pure.

use lockstep_core::{Epoch, Phase, TargetRecord, Truth, truth};

use super::finding::Finding;
use super::observation::Observation;
use super::remedy::Remedy;
use crate::journal;
use crate::records::how_set_back;

/// The phase by both records: a source that was set back does not know of the newest.
pub(super) fn phase(seen: &Observation) -> Phase {
    let (Some(control), record) = (seen.control(), seen.target_record) else {
        return seen.target_record.map_or(Phase::PostgresOnly, |record| record.phase);
    };
    match (truth(&control, record.as_ref()), record) {
        (Truth::InTarget, _) => Phase::DynamoOnly,
        (Truth::Lost, Some(record)) if record.epoch > control.epoch => record.phase,
        _ => control.phase,
    }
}

/// The epoch that instances should have acknowledged: pauses in DynamoDB are epochs of their own.
pub(super) fn epoch(seen: &Observation) -> Option<Epoch> {
    let of_source = seen.control().map(|control| control.epoch);
    match seen.target_record {
        Some(record) if record.holds_truth() => of_source.max(Some(record.epoch)),
        _ => of_source,
    }
}

/// What is wrong with them.
pub(super) fn finding(seen: &Observation) -> Option<Finding> {
    let control = seen.control()?;
    if seen.foreign_control_table.is_some() {
        // What is not ours says nothing of us: not that a record was lost either.
        return None;
    }
    let moving = seen.open_steps.iter().any(|open| open.step == journal::CHANGE_PHASE);
    // Not while somebody is at it: what was read of the records, one after the other, may be of two moments.
    let written = seen.target_written && seen.at_work.coordinator.is_none();
    let record = seen.target_record;
    match truth(&control, record.as_ref()) {
        Truth::InSource => None,
        // Who is at it, or died at it, is told by its entry in the journal.
        Truth::ToSource(..) if moving => None,
        Truth::InTarget | Truth::ToTarget(_) if moving && !written => None,
        Truth::InTarget => how_set_back(&record?, seen.newest_target_epoch, &seen.ids_set_back).map(set_back),
        Truth::ToTarget(_) => Some(
            Finding::broken(
                "PostgreSQL says DynamoOnly, writes were let go on there, and DynamoDB has no control record of it: the control table was lost",
                "applications cannot know the phase, and write nothing; what they wrote is in the target tables",
                "do not restore it from a backup, which knows nothing of ids that were handed out since: it is created again",
            )
            .mended_by(Remedy::RemakeControl),
        ),
        Truth::ToSource(..) => Some(
            Finding::broken(
                "DynamoDB says that the truth went back to PostgreSQL, and PostgreSQL was not told",
                "no application can write until it is; nothing is lost",
                "any command that steps finishes it; so does cargo xtask repair --state --apply",
            )
            .mended_by(Remedy::SettleSteps),
        ),
        Truth::Lost => Some(lost(control.epoch, record?)),
    }
}

fn set_back(how: String) -> Finding {
    Finding::broken(
        format!("DynamoDB's control table was set back: {how}"),
        "ids may be handed out twice, and who holds a lease is not known; what was written is in the target tables",
        "stop every application before this is mended: an id that was handed out twice makes one row of two",
    )
    .mended_by(Remedy::RemakeControl)
}

fn lost(epoch: Epoch, record: TargetRecord) -> Finding {
    let what = format!(
        "the control records contradict each other: PostgreSQL is in epoch {epoch}, DynamoDB says {} in epoch {}",
        record.phase, record.epoch
    );
    if record.epoch <= epoch {
        let means = "the control table was set back; PostgreSQL is the truth, and its applications go by it";
        return Finding::broken(
            what,
            means,
            "restore the control table from its newest backup; if there is none, delete its item CONTROL",
        );
    }
    if record.holds_truth() {
        let means = "PostgreSQL was set back to before DynamoOnly, and would take writes that no application reads. DynamoDB is the truth and has lost nothing";
        let next =
            "do not start an application before this is mended: PostgreSQL is made to follow DynamoDB again";
        return Finding::broken(what, means, next).mended_by(Remedy::FollowTarget);
    }
    let means = "PostgreSQL was set back to before the truth came back to it: it is the truth, and what it forgot is lost to it";
    Finding::broken(what, means, "raise the epoch above both, then compare, and decide which store is right")
        .mended_by(Remedy::RaiseEpoch)
}
