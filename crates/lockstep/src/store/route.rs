//! The way of a write, by phase, mode and call: the page to read first. It sends nothing and asks nothing.
//! Every way is entered by its answer alone, in `at_once` and `ways`, and its test reads this table:
//!
//! | call | PostgresOnly | best effort | strict | DynamoOnly | paused |
//! |---|---|---|---|---|---|
//! | Row | Statement(Alone) | Statement(ThenPut) | Statement(PutFirst) | Target(EachRow) | Wait |
//! | Log | Statement(Alone) | Statement(ThenPut) | Statement(ThenPut) | Target(EachRow) | Wait |
//! | Update | Transaction(Alone) | Transaction(ThenPut) | Transaction(PutFirst) | Target(EachRow) | Wait |
//! | Batch | Transaction(Alone) | Transaction(ThenPut) | Transaction(PutFirst) | Target(EachRow) | Wait |
//! | Operation | Transaction(Alone) | Transaction(ThenPut) | Transaction(PutFirst) | Target(AsOne) | Wait |
//! | Own | Transaction(Alone) | Transaction(ThenPut) | Transaction(PutFirst) | Refused | Wait |
//!
//! *best effort* and *strict* are the modes of DualWrite and HybridRead, each of which has its own. *paused*
//! is DynamoOnly while a step moves the truth. Up to HybridRead no write is paused: the step holds the
//! barrier, and a transaction waits there.

use lockstep_core::{Control, Phase};

use super::WriteMode;

/// The call that is to be routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calling {
    /// `put`, `insert`, `delete`: one statement says all there is to say.
    Row,
    /// The log of an operation, which must be there whatever becomes of the operation.
    Log,
    /// `update`, `update_if`: the caller sees the row before it is written.
    Update,
    /// `put_batch`, `insert_batch`: rows that need not become visible together.
    Batch,
    /// An operation: its rows become visible together, in the target as well.
    Operation,
    /// A transaction with an application's own SQL.
    Own,
}

/// The way that the call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// PostgreSQL decides: one statement in one round trip (`at_once`). Where this process is behind, or
    /// PostgreSQL has no function for it yet, a transaction does the same.
    Statement(Ending),
    /// PostgreSQL decides: a transaction behind the barrier (`transaction`).
    Transaction(Ending),
    /// DynamoDB decides, under the lease (`target_truth`).
    Target(Sends),
    /// The write waits, for as long as the options say, and is then routed once more.
    Wait,
    /// The call cannot be made in this phase; nothing is done.
    Refused,
}

/// The order of PostgreSQL's commit and the put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Commit alone: the target is not written (`best_effort`).
    Alone,
    /// Commit, then put; a relay delivers what is late (`best_effort`).
    ThenPut,
    /// Put, then commit; both or neither (`strict`).
    PutFirst,
}

/// The requests by which the target gets the rows of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sends {
    /// Each row is a write of its own, and is read and tried again when another writer was faster.
    EachRow,
    /// All rows leave in one transaction at the end, which fails when another writer was faster.
    AsOne,
}

/// Says which way. `mode` is the mode in force in the phase of `control`; `None` where it has none.
pub(super) fn route(control: Control, mode: Option<WriteMode>, calling: Calling) -> Route {
    if control.phase == Phase::DynamoOnly {
        return match calling {
            _ if control.writes_paused => Route::Wait,
            Calling::Row | Calling::Log | Calling::Update | Calling::Batch => Route::Target(Sends::EachRow),
            Calling::Operation => Route::Target(Sends::AsOne),
            Calling::Own => Route::Refused,
        };
    }
    let ending = match (mode, calling) {
        (None, _) => Ending::Alone,
        // A target that is away must not keep the log of a failure out.
        (Some(_), Calling::Log) | (Some(WriteMode::BestEffort), _) => Ending::ThenPut,
        (Some(WriteMode::Strict), _) => Ending::PutFirst,
    };
    match calling {
        Calling::Row | Calling::Log => Route::Statement(ending),
        Calling::Update | Calling::Batch | Calling::Operation | Calling::Own => Route::Transaction(ending),
    }
}

impl Route {
    /// The order of commit and put; `None` where PostgreSQL does not decide.
    pub(super) fn ending(self) -> Option<Ending> {
        match self {
            Self::Statement(ending) | Self::Transaction(ending) => Some(ending),
            Self::Target(_) | Self::Wait | Self::Refused => None,
        }
    }
}

impl Calling {
    /// Says whether the changes of one transaction become visible together in the target as well.
    pub(super) fn is_together(self) -> bool {
        self == Self::Operation
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use lockstep_core::Epoch;

    use super::super::WriteOptions;
    use super::*;

    const CALLS: [Calling; 6] =
        [Calling::Row, Calling::Log, Calling::Update, Calling::Batch, Calling::Operation, Calling::Own];

    /// The table above: for each call and each column the way that it says.
    fn table() -> BTreeMap<(&'static str, &'static str), &'static str> {
        let rows = include_str!("route.rs").lines().filter_map(|line| line.strip_prefix("//! | "));
        let mut rows = rows.map(|row| row.trim_end_matches('|').split('|').map(str::trim));
        let columns: Vec<&str> = rows.next().into_iter().flatten().skip(1).collect();
        let cells = rows.flat_map(|mut row| {
            let call = row.next().unwrap_or_default();
            columns.clone().into_iter().zip(row).map(move |(column, way)| ((call, column), way))
        });
        cells.collect()
    }

    fn column(phase: Phase, mode: WriteMode, writes_paused: bool) -> &'static str {
        match (phase, mode) {
            (Phase::PostgresOnly, _) => "PostgresOnly",
            (Phase::DualWrite | Phase::HybridRead, WriteMode::BestEffort) => "best effort",
            (Phase::DualWrite | Phase::HybridRead, WriteMode::Strict) => "strict",
            (Phase::DynamoOnly, _) if writes_paused => "paused",
            (Phase::DynamoOnly, _) => "DynamoOnly",
        }
    }

    #[test]
    fn every_call_in_every_phase_and_mode_goes_the_way_that_the_table_says_and_the_table_says_no_more() {
        let table = table();
        let mut told = BTreeSet::new();
        for phase in Phase::ALL {
            for (set, other) in
                [(WriteMode::BestEffort, WriteMode::Strict), (WriteMode::Strict, WriteMode::BestEffort)]
            {
                // The other phase has the other mode: only this one's counts.
                let of = |at: Phase| if at == phase { set } else { other };
                let options = WriteOptions {
                    dual_write: of(Phase::DualWrite),
                    hybrid_read: of(Phase::HybridRead),
                    ..WriteOptions::default()
                };
                let mode = options.mode(phase);
                assert_eq!(mode, phase.writes_both().then_some(set), "{phase}");
                for (writes_paused, calling) in CALLS.iter().flat_map(|c| [(false, c), (true, c)]) {
                    let changed_at = chrono::DateTime::UNIX_EPOCH;
                    let control = Control { phase, epoch: Epoch(3), changed_at, writes_paused };
                    let (call, column) = (format!("{calling:?}"), column(phase, set, writes_paused));
                    let way = format!("{:?}", route(control, mode, *calling));
                    let mut cells = table.iter().map(|(cell, expected)| (*cell, *expected));
                    let cell = cells.find(|(cell, _)| *cell == (call.as_str(), column));
                    let (cell, expected) = cell.unwrap_or_else(|| panic!("no {column} of {call}"));
                    assert_eq!(way, expected, "{call} in {phase}, {column}");
                    told.insert(cell);
                }
            }
        }
        assert_eq!(told, table.keys().copied().collect(), "the table has cells of no call");
    }

    #[test]
    fn a_target_that_is_not_written_is_no_part_of_the_commit_and_only_operations_are_together() {
        for calling in CALLS {
            for phase in Phase::ALL {
                let changed_at = chrono::DateTime::UNIX_EPOCH;
                let control = Control { phase, epoch: Epoch(3), changed_at, writes_paused: false };
                let ending = route(control, WriteOptions::default().mode(phase), calling).ending();
                assert_eq!(ending.is_none(), phase == Phase::DynamoOnly, "{calling:?} in {phase}");
                assert_eq!(ending == Some(Ending::Alone), phase == Phase::PostgresOnly, "{calling:?}");
            }
            assert_eq!(calling.is_together(), calling == Calling::Operation);
        }
    }
}
