//! Plan of a repair of the state, as the journal keeps it until the repair has ended.

use lockstep_postgres::Entry;
use serde::{Deserialize, Serialize};

use crate::journal::REPAIR_STATE;
use crate::remedy::Remedy;

/// Plan that the journal keeps.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Planned {
    pub(crate) remedies: Vec<Remedy>,
}

/// Returns what the repairs among `open`, steps without an outcome, planned, in order and each once.
pub(crate) fn planned_in(open: &[Entry]) -> Vec<Remedy> {
    let plans = open.iter().filter(|entry| entry.step == REPAIR_STATE);
    let plans = plans.filter_map(|entry| serde_json::from_value::<Planned>(entry.detail.clone()).ok());
    let mut remedies: Vec<Remedy> = plans.flat_map(|planned| planned.remedies).collect();
    remedies.sort();
    remedies.dedup();
    remedies
}

/// Remedies that are part of [`Remedy::ReturnToSource`], or contradict it.
///
/// 1. In DynamoOnly a trigger was off, and a repair that reads the whole target over PostgreSQL is killed. 2.
/// The target table is restored from a backup. 3. The repair that goes on plans the return, which reads from
/// the table only what is newer. Were the first plan carried out as well, rows that are newer than the backup
/// would be written over, and those that it lacks deleted.
pub(crate) fn is_part_of_the_return(remedy: &Remedy) -> bool {
    let part = [
        Remedy::RaiseEpoch,
        Remedy::ReverseBackfill,
        Remedy::RemakeControl,
        Remedy::LetGoOn,
        Remedy::CloseRecord,
    ];
    part.contains(remedy)
}
