//! One renewal in DynamoDB, where the lease is kept while the truth is there.

use std::time::Duration;

use lockstep_core::Advice::Doctor;
use lockstep_core::{Epoch, Error, Kind, Result, TargetRecord};
use lockstep_dynamo::TargetControl;
use tokio::time::Instant;

use super::{Home, Keeper, POLL, POLL_TARGET};
use crate::phase::Moment;

/// Looks at the marks of all tables while one lease runs.
const LOOKS_IN_A_LEASE: u32 = 6;

impl Keeper {
    /// Renews in the target; says whether there is nothing more to do in this turn.
    pub(super) async fn at_target(&mut self) -> Result<bool> {
        let Some(target) = self.target.clone() else {
            self.home = Home::Source;
            return Ok(false);
        };
        if !self.registered_in_target {
            // Before the record is there, so is no table to register in.
            match target.record().await {
                Ok(Some(record)) => self.require_same_tables(&target, &record).await?,
                Err(error) if error.kind != Kind::Misconfigured => return Err(error),
                // That of another migration says nothing of ours, as if there were none.
                other => {
                    if let Some(error) = other.err().filter(|_| !std::mem::replace(&mut self.warned, true)) {
                        tracing::warn!(
                            instance = self.who.name,
                            "this instance does not go by the control table in DynamoDB: {error}"
                        );
                    }
                    self.home = Home::Source;
                    return Ok(true);
                }
            }
            target.register(&self.who).await?;
            (self.registered_in_target, self.acknowledged_in_target) = (true, None);
        }
        let acknowledged = self.known.acknowledgeable();
        if !self.has_to_renew(acknowledged) && self.is_as_known(target.record().await?) {
            return Ok(true);
        }
        let asked = Moment::now();
        let renewed = target.renew(self.who.id, acknowledged).await?;
        self.acknowledged_in_target = renewed.as_ref().and(acknowledged);
        let Some(record) = renewed else {
            self.known.forget();
            self.registered_in_target = false;
            tracing::warn!(instance = self.who.name, "a step gave this instance up; it registers again");
            return Ok(false);
        };
        if let Some(record) = &record
            && let Err(error) = self.require_same_tables(&target, record).await
        {
            // It serves nothing, and says so: no step has to wait for it.
            self.known.forget();
            target.deregister(self.who.id).await?;
            (self.registered_in_target, self.acknowledged_in_target) = (false, None);
            return Err(error);
        }
        let last = self.known.last().map(|last| last.epoch);
        match record {
            Some(record) if record.holds_truth() && last.is_none_or(|last| last <= record.epoch) => {
                self.known.learn(record.control(), asked, Some(self.who.lease));
                self.leave_source().await;
                Ok(self.known.acknowledgeable() == acknowledged)
            }
            // On its way here: the source has said so, the target has not been told. The lease is kept in the
            // source.
            Some(record) if last.is_some_and(|last| record.epoch < last) => {
                self.home = Home::Source;
                Ok(true)
            }
            // The truth went back. Our knowledge wears out until the source has told us more.
            _ => {
                self.home = Home::Source;
                Ok(false)
            }
        }
    }

    /// Refuses to answer from a table that was made again while this process answered from it: it is read as
    /// if every row had been deleted. Complete, a migration has no marks.
    async fn require_same_tables(&mut self, target: &TargetControl, record: &TargetRecord) -> Result<()> {
        if !record.holds_truth() || record.completed_at.is_some() {
            return Ok(());
        }
        // Leases are renewed each second, and a look is a request for each table. A table that was opened
        // since the last look is looked at by the next renewal: one that is made again before it was ever
        // seen with its mark would be answered from as if it were empty.
        let between = self.who.lease / LOOKS_IN_A_LEASE;
        let is_recent = self.same_tables_at.is_some_and(|at| at.elapsed() < between);
        if self.registered_in_target && is_recent && !target.target().serves_unseen() {
            return Ok(());
        }
        // A look that takes long must leave time for the lease. One that shows too little is no look.
        let looked = target.target().look_at_served(self.who.lease / 12).await;
        let otherwise = looked.otherwise;
        self.same_tables_at = (looked.all && otherwise.is_empty()).then(Instant::now);
        if otherwise.is_empty() {
            return Ok(());
        }
        let message = format!(
            "{} has lost the mark of this migration: it was deleted or made again, and is not answered from; \
            see {Doctor}",
            otherwise.join(" and ")
        );
        Err(Error::target(Kind::Misconfigured, "renewing this instance's lease", message))
    }

    /// Tells whether something is to be acknowledged, or the lease would be older than a second, or a third
    /// of it, by the next look.
    fn has_to_renew(&self, acknowledged: Option<Epoch>) -> bool {
        let every = POLL.min(self.who.lease / 3);
        let next = Duration::from_millis(*POLL_TARGET.end());
        let left = self.known.left(Moment::now());
        acknowledged.is_none()
            || acknowledged != self.acknowledged_in_target
            || left.is_none_or(|left| left + every < self.who.lease + next)
    }

    /// Tells whether the record says nothing new. It was read without a renewal, so nothing is learned from
    /// it: an instance that no step waits for must not serve by what it reads.
    fn is_as_known(&self, record: Option<TargetRecord>) -> bool {
        let known = self.known.last().map(|last| (last.phase, last.epoch, last.writes_paused));
        let found = record.filter(TargetRecord::holds_truth).map(|record| record.control());
        found.is_some() && found.map(|found| (found.phase, found.epoch, found.writes_paused)) == known
    }
}
