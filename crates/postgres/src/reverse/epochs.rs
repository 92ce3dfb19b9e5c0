//! Epochs that a version may be of, and what that says of where it came from.

use std::collections::BTreeSet;

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use lockstep_core::{Control, Doing, EPOCH_SHIFT, Epoch, Phase, Result, Version};

use crate::control_of_row;
use crate::sql;

/// Origin of a version, seen from the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Written in this DynamoOnly, before or after a pause: it is news here.
    Target,
    /// Written under a DynamoOnly that is over, while there is another one: it may be news, and its item says
    /// whether it is.
    ///
    /// News it is so: 1. A write of DynamoOnly is given up by its writer; its request is still under way. 2.
    /// There is a way back, and a DynamoOnly again. 3. The request lands, now or between the last look of the
    /// flip and its commit: its item has not changed, so its condition holds. It is the truth, under an epoch
    /// that is over.
    ///
    /// And old so: 1. A write of DynamoOnly is taken. 2. After the way back the source writes the row again.
    /// 3. In the next DynamoOnly the stream is read from the oldest record. Versions do not tell one from the
    /// other, as the record of what the source wrote is passed over.
    Earlier,
    /// Written in an epoch in which the source decided: it came from here.
    Source,
    /// Written in an epoch that the source has never begun.
    Ahead,
    /// Written in a DynamoOnly that is over, and landed only now that the source decides.
    ///
    /// So: 1. A write of DynamoOnly times out, and no caller was told that it succeeded; its request is still
    /// under way. 2. The way back is taken: everything that has landed is in the source. 3. The request
    /// lands. Its version outranks what the item holds, and the source knows nothing of it: the item would
    /// differ for good.
    Late,
}

/// The epochs as they are behind the barrier.
#[derive(Clone, Debug)]
pub(super) struct Epochs {
    /// The phase, and the epoch that it began with.
    pub(super) now: Control,
    /// The newest epoch whose versions the source hands out. Later than `now` after a flip that was rolled
    /// back.
    handed_out: Epoch,
    /// Those in which the target was the truth.
    of_target: BTreeSet<Epoch>,
}

impl Epochs {
    /// Reads them inside a transaction that has entered the barrier.
    pub(super) async fn read(connection: &mut PgConnection) -> Result<Self> {
        let sql = "SELECT c.phase, c.epoch, c.changed_at, s.last_value,
                          ARRAY(SELECT t.epoch FROM lockstep.target_epochs t) AS of_target
                   FROM lockstep.control c, lockstep.version_seq s";
        let row = sql::query(sql).fetch_one(connection).await.doing("reading the epochs")?;
        Ok(Self {
            now: control_of_row(&row)?,
            handed_out: Epoch(row.get::<i64, _>("last_value") >> EPOCH_SHIFT),
            of_target: row.get::<Vec<i64>, _>("of_target").into_iter().map(Epoch).collect(),
        })
    }

    pub(super) fn origin(&self, version: Version) -> Origin {
        let epoch = version.epoch();
        let frozen = self.now.phase == Phase::DynamoOnly;
        match self.of_target.contains(&epoch) {
            // Later than `now` as well: each pause that the target counts is an epoch of its own.
            true if frozen && epoch >= self.now.epoch => Origin::Target,
            true if frozen => Origin::Earlier,
            true => Origin::Late,
            // An epoch of a flip that was rolled back is one in which the source went on deciding.
            false if epoch > self.now.epoch.max(self.handed_out) => Origin::Ahead,
            false => Origin::Source,
        }
    }

    /// Whether it is of an epoch that the source has never begun.
    pub(super) fn is_ahead(&self, version: Version) -> bool {
        self.origin(version) == Origin::Ahead
    }

    /// Whether a state that is in the target now is one that the source may not have.
    pub(super) fn may_be_news(&self, version: Version) -> bool {
        matches!(self.origin(version), Origin::Target | Origin::Earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_any_dynamo_only_wrote_may_be_news_in_one_and_is_late_after_it() {
        // 3 and 6 were DynamoOnly, and 9 is a pause of the second; the flip to 8 was rolled back.
        let epochs = |phase, epoch: i64| Epochs {
            now: Control {
                phase,
                epoch: Epoch(epoch),
                changed_at: chrono::DateTime::UNIX_EPOCH,
                writes_paused: false,
            },
            handed_out: Epoch(if epoch == 7 { 8 } else { epoch }),
            of_target: [3, 6]
                .into_iter()
                .filter(|of| *of <= epoch)
                .chain((epoch == 6).then_some(9))
                .map(Epoch)
                .collect(),
        };
        for (phase, epoch, of, expected) in [
            (Phase::DynamoOnly, 3, 3, Origin::Target),
            (Phase::DynamoOnly, 3, 2, Origin::Source),
            (Phase::DynamoOnly, 3, 4, Origin::Ahead),
            (Phase::HybridRead, 4, 3, Origin::Late),
            (Phase::HybridRead, 4, 4, Origin::Source),
            (Phase::HybridRead, 4, 5, Origin::Ahead),
            (Phase::DualWrite, 5, 3, Origin::Late),
            (Phase::DynamoOnly, 6, 6, Origin::Target),
            (Phase::DynamoOnly, 6, 5, Origin::Source),
            (Phase::DynamoOnly, 6, 3, Origin::Earlier),
            (Phase::DynamoOnly, 6, 9, Origin::Target),
            (Phase::DynamoOnly, 6, 10, Origin::Ahead),
            (Phase::HybridRead, 7, 6, Origin::Late),
            (Phase::HybridRead, 7, 3, Origin::Late),
            (Phase::HybridRead, 7, 8, Origin::Source),
            (Phase::HybridRead, 7, 9, Origin::Ahead),
        ] {
            let found = epochs(phase, epoch).origin(Version(Epoch(of).floor() + 1));
            assert_eq!(found, expected, "{phase} {epoch}: a version of {of}");
        }
        assert_eq!(epochs(Phase::DynamoOnly, 6).origin(Version::INITIAL_LOAD), Origin::Source);
    }
}
