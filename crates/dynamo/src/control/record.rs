//! The control record: phase and epoch while the truth is in the target, and whether writes wait.
//!
//! Every change names the epoch and state that it starts from, and each pause is an epoch of its own. So a
//! request that is applied long after it was given up finds another epoch or another state, and changes
//! nothing.

use chrono::{DateTime, SecondsFormat, Utc};
use lockstep_core::{Attributes, Epoch, Error, Kind, Phase, Result, Retry, TargetRecord, Version, Writes};

use super::attributes::{CONTROL, LEASES, OWNER, SPREAD};
use super::{TargetControl, key, number, number_at, text, text_at};
use crate::{Backoff, fault};

impl TargetControl {
    /// The record; `None` where the truth was never in the target.
    ///
    /// # Errors
    /// The driver's; [`Kind::Misconfigured`] where it does not parse, or is another migration's.
    #[crate::boxed]
    pub async fn record(&self) -> Result<Option<TargetRecord>> {
        let Some(item) = self.read(CONTROL, CONTROL).await? else { return Ok(None) };
        self.require_own(&item)?;
        self.target.leases.learn(&item);
        let parsed = parse(&item).ok_or_else(|| self.damaged("the control record"))?;
        Ok(Some(parsed))
    }

    /// Returns the record, whichever migration it is of, and the identity that it carries. To tell migrations
    /// apart only: nothing is gone by one that may be another's.
    ///
    /// # Errors
    /// The driver's; [`Kind::Misconfigured`] where it does not parse.
    #[crate::boxed]
    pub async fn record_of_any(&self) -> Result<Option<(TargetRecord, Option<String>)>> {
        let Some(item) = self.read(CONTROL, CONTROL).await? else { return Ok(None) };
        let parsed = parse(&item).ok_or_else(|| self.damaged("the control record"))?;
        Ok(Some((parsed, text_at(&item, OWNER).map(str::to_owned))))
    }

    /// The truth is in the target since `epoch`, and writes wait. Repeated, or with an older epoch, it
    /// changes nothing.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn enter(&self, epoch: Epoch) -> Result<()> {
        self.begin(epoch, Writes::Paused, epoch).await
    }

    /// The truth is in the target since the epoch `since`, and the record of it was lost or set back: writes
    /// go on in `epoch`, which must be above every one that the lost record may have had. Repeated, or with
    /// an older epoch, it changes nothing.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn enter_again(&self, epoch: Epoch, since: Epoch) -> Result<()> {
        self.begin(epoch, Writes::Open, since).await
    }

    async fn begin(&self, epoch: Epoch, writes: Writes, since: Epoch) -> Result<()> {
        let record = TargetRecord {
            phase: Phase::DynamoOnly,
            epoch,
            writes,
            since,
            changed_at: Utc::now(),
            completed_at: None,
        };
        let condition =
            "(attribute_not_exists(epoch) OR epoch < :before) AND attribute_not_exists(completed_at)";
        match self.change(record, condition, Before { epoch, writes: None }).await {
            Err(error) if error.kind == Kind::Refused => Ok(()),
            done => done,
        }
    }

    /// Lets writes go on in `epoch`.
    ///
    /// # Errors
    /// [`Kind::Refused`] when the record has moved on.
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn open_writes(&self, epoch: Epoch) -> Result<()> {
        let now = self.expect(epoch).await?;
        let open = TargetRecord { writes: Writes::Open, changed_at: Utc::now(), ..now };
        self.step(open, Before { epoch, writes: Some(Writes::Paused) }).await
    }

    /// Makes writes wait; returns the epoch that instances acknowledge once they have stopped. Writes that
    /// were under way are through when each has acknowledged or its lease is over.
    ///
    /// # Errors
    /// [`Kind::Refused`] when the record has moved on.
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn pause_writes(&self, epoch: Epoch) -> Result<Epoch> {
        let now = self.expect(epoch).await?;
        let paused =
            TargetRecord { epoch: Epoch(epoch.0 + 1), writes: Writes::Paused, changed_at: Utc::now(), ..now };
        self.step(paused, Before { epoch, writes: Some(Writes::Open) }).await?;
        Ok(paused.epoch)
    }

    /// The truth goes back to PostgreSQL, from the pause of `epoch`; returns the epoch in which it does. This
    /// is the decision: from here on the step can only be finished.
    ///
    /// # Errors
    /// [`Kind::Refused`] when the record has moved on.
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn leave(&self, epoch: Epoch, to: Phase) -> Result<Epoch> {
        let now = self.expect(epoch).await?;
        let left = TargetRecord { phase: to, epoch: Epoch(epoch.0 + 1), changed_at: Utc::now(), ..now };
        self.step(left, Before { epoch, writes: Some(Writes::Paused) }).await?;
        Ok(left.epoch)
    }

    /// The migration is complete, and the truth stays here for good: no pause and no way back follow. An
    /// epoch of its own, so that what was written before is told from what comes after. Returns the record as
    /// it is then.
    ///
    /// # Errors
    /// [`Kind::Refused`] when the record has moved on.
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn complete(&self, epoch: Epoch) -> Result<TargetRecord> {
        let now = self.expect(epoch).await?;
        if now.completed_at.is_some() {
            return Ok(now);
        }
        let at = Utc::now();
        let completed =
            TargetRecord { epoch: Epoch(epoch.0 + 1), changed_at: at, completed_at: Some(at), ..now };
        self.step(completed, Before { epoch, writes: Some(Writes::Open) }).await?;
        Ok(completed)
    }

    /// The truth is in PostgreSQL, in `phase` and since an epoch no later than `epoch`, whatever the record
    /// says: it was set back, or PostgreSQL was, and a repair has found which store is right. Where there is
    /// no record none is made. Repeated, or late, it changes nothing.
    ///
    /// # Errors
    /// [`Kind::Refused`] when the record has counted further; the driver's.
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn close(&self, epoch: Epoch, phase: Phase) -> Result<()> {
        let Some(now) = self.record().await? else { return Ok(()) };
        let closed = TargetRecord { phase, epoch, writes: Writes::Paused, changed_at: Utc::now(), ..now };
        let condition = "attribute_exists(epoch) AND epoch <= :before AND attribute_not_exists(completed_at)";
        match self.change(closed, condition, Before { epoch, writes: None }).await {
            Err(error) if error.kind == Kind::Refused => {
                let found = self.record().await?;
                let done = found.is_none_or(|found| !found.holds_truth() && found.epoch >= epoch);
                if done { Ok(()) } else { Err(self.moved_on(found, epoch)) }
            }
            done => done,
        }
    }

    /// The record, which is to be of `epoch` or already of the one that follows by this very step.
    async fn expect(&self, epoch: Epoch) -> Result<TargetRecord> {
        let found = self.record().await?;
        let fits = |record: &TargetRecord| record.epoch == epoch || record.epoch == Epoch(epoch.0 + 1);
        found.filter(fits).ok_or_else(|| self.moved_on(found, epoch))
    }

    async fn step(&self, record: TargetRecord, before: Before) -> Result<()> {
        let condition =
            "epoch = :before AND writes = :writes AND phase = :truth AND attribute_not_exists(completed_at)";
        match self.change(record, condition, before).await {
            Err(error) if error.kind == Kind::Refused => {
                // An earlier try whose answer was lost may have done it (I8).
                let found = self.record().await?;
                let same = |found: &TargetRecord| {
                    (found.phase, found.epoch, found.writes) == (record.phase, record.epoch, record.writes)
                };
                if found.as_ref().is_some_and(same) {
                    Ok(())
                } else {
                    Err(self.moved_on(found, before.epoch))
                }
            }
            done => done,
        }
    }

    /// Puts `record` under `condition`; a lost answer is looked up by repeating. It is put under the identity
    /// of this migration, and a record of another one is never written over. Where ours is not known, the one
    /// that is there stays.
    async fn change(&self, record: TargetRecord, condition: &str, before: Before) -> Result<()> {
        let mut item = key(CONTROL, CONTROL);
        item.insert("phase".to_owned(), text(record.phase.name()));
        item.insert("epoch".to_owned(), number(record.epoch));
        item.insert("writes".to_owned(), text(name(record.writes)));
        item.insert("since".to_owned(), number(record.since));
        item.insert(LEASES.to_owned(), text(SPREAD));
        item.insert(
            "changed_at".to_owned(),
            text(record.changed_at.to_rfc3339_opts(SecondsFormat::Micros, true)),
        );
        if let Some(at) = record.completed_at {
            item.insert("completed_at".to_owned(), text(at.to_rfc3339_opts(SecondsFormat::Micros, true)));
        }
        let mut backoff = Backoff::brief();
        loop {
            let owner = match self.owner_there().await {
                Err(error) if error.kind.retry() != Retry::Never => {
                    backoff.pause(error).await?;
                    continue;
                }
                there => there?,
            };
            let owner_after = self.owner().map(str::to_owned).or_else(|| owner.clone());
            let of_owner = match &owner_after {
                Some(owner) => {
                    item.insert(OWNER.to_owned(), text(owner));
                    "(attribute_not_exists(#owner) OR #owner = :owner)"
                }
                None => "attribute_not_exists(#owner)",
            };
            let mut request = self
                .target
                .client
                .put_item()
                .table_name(&self.table)
                .set_item(Some(item.clone()))
                .condition_expression(format!("({condition}) AND {of_owner}"))
                .expression_attribute_names("#owner", OWNER)
                .expression_attribute_values(":before", number(before.epoch));
            if let Some(owner) = &owner_after {
                request = request.expression_attribute_values(":owner", text(owner));
            }
            if let Some(writes) = before.writes {
                request = request
                    .expression_attribute_values(":writes", text(name(writes)))
                    .expression_attribute_values(":truth", text(Phase::DynamoOnly.name()));
            }
            let sent = request.send().await.map_err(|e| fault::error("changing the control record", e));
            let refused = matches!(&sent, Err(error) if error.kind == Kind::Refused);
            if refused && self.owner_there().await? != owner {
                // Another process has written the identity into it meanwhile. Once there it stays, so this is
                // at most once.
                continue;
            }
            match sent {
                Err(error) if error.kind.retry() != Retry::Never => backoff.pause(error).await?,
                done => return done.map(drop),
            }
        }
    }

    /// The identity that the record carries.
    async fn owner_there(&self) -> Result<Option<String>> {
        let Some(item) = self.read(CONTROL, CONTROL).await? else { return Ok(None) };
        self.require_own(&item)?;
        Ok(text_at(&item, OWNER).map(str::to_owned))
    }

    fn moved_on(&self, found: Option<TargetRecord>, epoch: Epoch) -> Error {
        let now = found.map_or_else(
            || "there is none".to_owned(),
            |r| format!("it says {} in epoch {}, writes {}", r.phase, r.epoch, name(r.writes)),
        );
        let message = format!("it is not as it was in epoch {epoch}: {now}");
        Error::target(Kind::Refused, format!("changing the control record in {}", self.table), message)
    }
}

/// State of the record that a change starts from.
#[derive(Clone, Copy)]
struct Before {
    epoch: Epoch,
    writes: Option<Writes>,
}

fn name(writes: Writes) -> &'static str {
    match writes {
        Writes::Open => "open",
        Writes::Paused => "paused",
    }
}

fn parse(item: &Attributes) -> Option<TargetRecord> {
    let moment = |text: &str| DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc());
    // No migration counts so far, and there is no version of an epoch above it: the next one could not begin.
    let epoch = |name| {
        let counted = number_at(item, name).map(Epoch);
        counted.filter(|epoch| (Epoch(0)..Version::MAX.epoch()).contains(epoch))
    };
    Some(TargetRecord {
        phase: text_at(item, "phase")?.parse().ok()?,
        epoch: epoch("epoch")?,
        writes: match text_at(item, "writes")? {
            "open" => Writes::Open,
            "paused" => Writes::Paused,
            _ => return None,
        },
        since: epoch("since")?,
        changed_at: moment(text_at(item, "changed_at")?)?,
        completed_at: match text_at(item, "completed_at") {
            Some(at) => Some(moment(at)?),
            None => None,
        },
    })
}
