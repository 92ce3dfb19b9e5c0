//! The two ways that steps lead, and the phases on them.

use std::cmp::Ordering;

use lockstep_core::Phase;
use serde::{Deserialize, Serialize};

use crate::exit::Failure;

/// Direction of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Direction {
    Forward,
    Back,
}

impl Direction {
    pub(super) fn next(self, from: Phase) -> Option<Phase> {
        match self {
            Self::Forward => from.next(),
            Self::Back => from.previous(),
        }
    }

    /// Steps from one phase to another; `None` if they lie the other way.
    fn path(self, from: Phase, to: Phase) -> Option<Vec<Phase>> {
        let ahead = match self {
            Self::Forward => Ordering::Greater,
            Self::Back => Ordering::Less,
        };
        match to.cmp(&from) {
            Ordering::Equal => Some(Vec::new()),
            way if way == ahead => Some(
                std::iter::successors(
                    self.next(from),
                    |phase| if *phase == to { None } else { self.next(*phase) },
                )
                .collect(),
            ),
            _ => None,
        }
    }
}

/// The steps from one phase to another.
pub(super) fn path(way: Direction, from: Phase, to: Phase) -> anyhow::Result<Vec<Phase>> {
    way.path(from, to).ok_or_else(|| {
        let other = if way == Direction::Forward { "rollback" } else { "advance" };
        Failure::usage(format!("the phase is {from}: to get to {to}, use `{other} --to {to}`"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Phase::{DualWrite, DynamoOnly, HybridRead, PostgresOnly};

    #[track_caller]
    fn check(way: Direction, from: Phase, to: Phase, expected: Option<&[Phase]>) {
        assert_eq!(way.path(from, to).as_deref(), expected);
    }

    #[test]
    fn every_phase_between_is_visited_and_only_that_way() {
        check(Direction::Forward, PostgresOnly, HybridRead, Some(&[DualWrite, HybridRead]));
        check(Direction::Forward, PostgresOnly, DynamoOnly, Some(&[DualWrite, HybridRead, DynamoOnly]));
        check(Direction::Back, HybridRead, PostgresOnly, Some(&[DualWrite, PostgresOnly]));
        check(Direction::Back, DualWrite, DualWrite, Some(&[]));
        check(Direction::Forward, HybridRead, DualWrite, None);
        check(Direction::Back, PostgresOnly, DualWrite, None);
    }
}
