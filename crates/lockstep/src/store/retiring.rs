//! The answer of the target's record, once an epoch, to whether tombstones may go by themselves.

use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use lockstep_core::Epoch;

/// The answer of the record in an epoch: the time since which the migration is complete, if it is.
#[derive(Debug, Default)]
pub(super) struct Retiring(Mutex<Option<(Epoch, Option<DateTime<Utc>>)>>);

impl Retiring {
    /// The answer, if the record was asked in this epoch.
    pub(super) fn known(&self, epoch: Epoch) -> Option<Option<DateTime<Utc>>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.filter(|(of, _)| *of == epoch).map(|(_, since)| since)
    }

    /// Keeps the answer of the record.
    pub(super) fn learn(&self, epoch: Epoch, since: Option<DateTime<Utc>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((epoch, since));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_record_said_counts_for_its_epoch_alone() {
        let retiring = Retiring::default();
        assert_eq!(retiring.known(Epoch(3)), None);
        retiring.learn(Epoch(3), None);
        assert_eq!((retiring.known(Epoch(3)), retiring.known(Epoch(4))), (Some(None), None));
    }
}
