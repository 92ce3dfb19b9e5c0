//! Which way a write goes, by the phase, the mode in force and the call: the page to read first. It decides
//! nothing else and sends nothing; what each way does is in the module that its variant names.

use lockstep_core::Phase;

use super::WriteMode;

/// The call that is to be routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Calling {
    /// `put`, `insert`, `delete`: one statement says all there is to say.
    One,
    /// The log of an operation, which must be there whatever becomes of the operation.
    Beside,
    /// `update`, `update_if`, batches, operations, transactions of an application's own; and a single call
    /// that PostgreSQL has no function for yet.
    Several,
}

/// The way that it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// One statement that commits by itself (`at_once`), then the put where both stores are written
    /// (`best_effort`).
    Statement {
        /// Whether both stores are written.
        then_put: bool,
    },
    /// One statement in a transaction, which commits once the target has its state (`at_once`, `strict`).
    StatementThenCommit,
    /// A transaction that commits, then the puts where both stores are written (`best_effort`).
    Transaction {
        /// Whether both stores are written.
        then_put: bool,
    },
    /// A transaction that commits once the target has everything (`strict`).
    PutThenCommit,
    /// DynamoDB alone, under the lease (`target_truth`).
    Target,
}

/// Says which way.
pub(super) fn route(phase: Phase, mode: Option<WriteMode>, calling: Calling) -> Route {
    let then_put = mode.is_some();
    match (phase, mode, calling) {
        (Phase::DynamoOnly, ..) => Route::Target,
        // A target that is away must not keep the log of a failure out.
        (.., Calling::Beside) => Route::Statement { then_put },
        (_, Some(WriteMode::Strict), Calling::One) => Route::StatementThenCommit,
        (_, Some(WriteMode::Strict), Calling::Several) => Route::PutThenCommit,
        (.., Calling::One) => Route::Statement { then_put },
        (.., Calling::Several) => Route::Transaction { then_put },
    }
}

#[cfg(test)]
mod tests {
    use super::super::WriteOptions;
    use super::*;
    use Calling::{Beside, One, Several};
    use Phase::{DualWrite, DynamoOnly, HybridRead, PostgresOnly};
    use Route::{PutThenCommit, Statement, StatementThenCommit, Target, Transaction};

    /// Every phase, with the mode it has, and every call.
    #[test]
    fn the_way_of_every_call_in_every_phase_and_mode() {
        const ALONE: bool = false;
        const BOTH: bool = true;
        let (free, strict) = (Some(WriteMode::BestEffort), Some(WriteMode::Strict));
        let table = [
            (PostgresOnly, None, One, Statement { then_put: ALONE }),
            (PostgresOnly, None, Beside, Statement { then_put: ALONE }),
            (PostgresOnly, None, Several, Transaction { then_put: ALONE }),
            (DualWrite, free, One, Statement { then_put: BOTH }),
            (DualWrite, free, Beside, Statement { then_put: BOTH }),
            (DualWrite, free, Several, Transaction { then_put: BOTH }),
            (DualWrite, strict, One, StatementThenCommit),
            (DualWrite, strict, Beside, Statement { then_put: BOTH }),
            (DualWrite, strict, Several, PutThenCommit),
            (HybridRead, free, One, Statement { then_put: BOTH }),
            (HybridRead, free, Beside, Statement { then_put: BOTH }),
            (HybridRead, free, Several, Transaction { then_put: BOTH }),
            (HybridRead, strict, One, StatementThenCommit),
            (HybridRead, strict, Beside, Statement { then_put: BOTH }),
            (HybridRead, strict, Several, PutThenCommit),
            (DynamoOnly, None, One, Target),
            (DynamoOnly, None, Beside, Target),
            (DynamoOnly, None, Several, Target),
        ];
        for (phase, mode, calling, expected) in table {
            // Of the other phase, the other mode: only this one's counts.
            let other = if mode == free { WriteMode::Strict } else { WriteMode::BestEffort };
            let of = |at: Phase| if at == phase { mode.unwrap_or(other) } else { other };
            let options = WriteOptions {
                dual_write: of(DualWrite),
                hybrid_read: of(HybridRead),
                ..WriteOptions::default()
            };
            assert_eq!(route(phase, options.mode(phase), calling), expected, "{phase} {mode:?} {calling:?}");
            assert_eq!(options.mode(phase), mode, "{phase}");
            assert_eq!(options.mode(phase).is_some(), phase.writes_both(), "{phase}");
        }
    }
}
