//! One pending key: written under its version, however often that takes, or set aside.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::{RelayUntil, Table};
use crate::error::Result;
use crate::foreign_index::explained;
use lockstep_core::{
    AttributeValue, Attributes, DELETED_ATTRIBUTE, Error as StoreError, ITEM_BYTES_MAX, Item, Kind, Retry,
    TargetKey, Unholdable, VERSION_ATTRIBUTE, Version, is_tombstone, tombstone, version_of,
};
use lockstep_dynamo::{Backoff, Landed, Written};
use lockstep_postgres::{Delivered, PendingRow, RefusedPut};

/// Time for which a relay that is to empty the set waits for a target that answers nothing.
const PATIENCE: Duration = Duration::from_mins(5);

/// Action that is due for one key.
pub(super) enum Due {
    /// The row, as an item.
    Item(Item),
    /// A tombstone: the row is gone.
    Tombstone(Item),
    /// The row cannot be an item.
    Unholdable(Unholdable),
    /// No DynamoDB key can be formed of it, so nothing of that row ever was in the target.
    Nothing,
}

/// Returns the put of `row`, refused by `there`.
fn refused(row: &PendingRow, there: &Attributes, is_same: bool) -> RefusedPut {
    let seen = version_in(there, row.version);
    RefusedPut { key: row.key.clone(), version: row.version, seen, is_same }
}

/// Returns the version of what is there. One that does not read as one is of no history of ours, and outranks
/// `put`.
pub(super) fn version_in(there: &Attributes, put: Version) -> Version {
    version_of(there).unwrap_or(put)
}

/// Fate of one pending key.
pub(super) enum Fate {
    Delivered(Delivered),
    SetAside,
    /// The target has something else at a version at least as high: the source says whether it can be
    /// newer.
    Refused(RefusedPut),
    /// The row could not be held, but is being changed right now, or it was read too long ago: the next pass
    /// judges it again.
    MarkedAgain,
}

impl Fate {
    pub(super) fn of(row: &PendingRow) -> Self {
        Self::Delivered(Delivered { key: row.key.clone(), version: row.version })
    }
}

impl Table<'_> {
    /// Returns the present state of a key, as it is to be written: the row, or a tombstone where it is gone.
    pub(super) fn due(self, row: &PendingRow) -> Due {
        let table = &self.binding.table;
        if let Some(bytes) = row.bytes_too_many() {
            let reason = format!("the row has {bytes} bytes; DynamoDB holds {ITEM_BYTES_MAX}");
            return Due::Unholdable(Unholdable::because(reason));
        }
        match row.with_fields(|fields| table.encode(fields)) {
            Some(Ok(item)) => Due::Item(item.at(row.version)),
            Some(Err(reason)) => Due::Unholdable(reason),
            None => match table.target_key(&row.key) {
                // Two keys of one row may share a place, as when the target knows the day of a time only.
                // 1. The row moves from one to the other, and a repair marks the old key last. 2. Its
                // tombstone would outrank the row. So there the row itself is put, which is what the place
                // holds.
                Ok(key) => match row.with_moved_fields(|fields| table.encode(fields)) {
                    Some(Ok(item)) if TargetKey::of(&item.clone().into_attributes()) == Some(key.clone()) => {
                        Due::Item(item.at(row.version))
                    }
                    _ => Due::Tombstone(tombstone(key, row.version)),
                },
                Err(_) => Due::Nothing,
            },
        }
    }

    /// Writes what is due under the guard.
    pub(super) async fn conclude(self, row: &PendingRow, due: Due) -> Result<Fate> {
        let item = match due {
            Due::Item(item) | Due::Tombstone(item) => item,
            Due::Unholdable(reason) => return self.set_aside(row, &reason).await,
            Due::Nothing => return Ok(Fate::of(row)),
        };
        match self.write(row, item).await {
            Ok(written) => match foreign_version(&written) {
                Some(standing) => match self.due(row) {
                    Due::Item(item) | Due::Tombstone(item) => {
                        let is_put = self.put_over_foreign(item, standing).await?;
                        Ok(if is_put { Fate::of(row) } else { Fate::MarkedAgain })
                    }
                    Due::Unholdable(_) | Due::Nothing => Ok(Fate::MarkedAgain),
                },
                None => Ok(self.answered(row, &written)),
            },
            // It was read too long ago, as where the target takes little: the next pass reads it again.
            Err(e) if e.kind == Kind::Fenced => Ok(Fate::MarkedAgain),
            // Only what DynamoDB says of an item is this (I18): see `codes` of lockstep-dynamo.
            Err(e) if e.kind == Kind::Invalid => {
                let reason = explained(&e.message, &self.binding.table.target());
                self.set_aside(row, &Unholdable::because(reason)).await
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Puts what is due over an item of another program, whose version is none of ours; whether it landed.
    /// The next pass meets a change that comes in between, and reads again a row that was read too long ago.
    async fn put_over_foreign(self, item: Item, standing: AttributeValue) -> Result<bool> {
        let target = &self.run.migration.target;
        match target.put_over_foreign(self.read_at, &self.binding.target_name, item, standing).await {
            Ok(put) => {
                self.progress.add_capacity(put.capacity_units);
                Ok(put.landed == Landed::Applied)
            }
            Err(error) if error.kind == Kind::Fenced => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Judges a put that was answered. A refusal by itself proves nothing: where the source was set back,
    /// what is there may be of the time that is lost.
    fn answered(self, row: &PendingRow, written: &Written) -> Fate {
        let Some(there) = &written.standing else {
            // Refused, and gone since: the next pass puts it.
            return if written.landed == Landed::Applied { Fate::of(row) } else { Fate::MarkedAgain };
        };
        let sent = match self.due(row) {
            Due::Item(item) | Due::Tombstone(item) => item,
            Due::Unholdable(_) | Due::Nothing => return Fate::MarkedAgain,
        };
        if written.holds(&sent, row.version) {
            return Fate::of(row);
        }
        let is_same = sent.is_same_state(there, chrono::Utc::now().timestamp());
        Fate::Refused(refused(row, there, is_same))
    }

    fn item_again(self, row: &PendingRow) -> Option<Item> {
        match self.due(row) {
            Due::Item(item) => Some(item),
            _ => None,
        }
    }

    /// Sets a row aside that the target cannot hold.
    ///
    /// The target may hold an older state of it, which would be served as if it were the newest. 1. A row
    /// of 1 KB is in the target. 2. It grows to 500 KB: no item can hold it. 3. A read from the target
    /// would find the old 1 KB. So the old state gives way to a tombstone under the new version; a read
    /// then misses and goes to the source.
    async fn set_aside(self, row: &PendingRow, reason: &Unholdable) -> Result<Fate> {
        if let Ok(key) = self.binding.table.target_key(&row.key) {
            let deletion = tombstone(key.clone(), row.version);
            let written = match self.write(row, deletion.clone()).await {
                Err(error) if error.kind == Kind::Fenced => return Ok(Fate::MarkedAgain),
                Err(error) if error.kind == Kind::Invalid => {
                    self.require_unserved(&key, error).await?;
                    return self.set_aside_in_source(row, reason).await;
                }
                written => written?,
            };
            match (foreign_version(&written), written.standing) {
                // Any tombstone will do.
                (_, Some(there)) if is_tombstone(&there) => {}
                (Some(standing), _) => {
                    if !self.put_over_foreign(deletion, standing).await? {
                        return Ok(Fate::MarkedAgain);
                    }
                }
                (None, Some(there)) => return Ok(Fate::Refused(refused(row, &there, false))),
                (None, None) => {}
            }
        }
        self.set_aside_in_source(row, reason).await
    }

    async fn set_aside_in_source(self, row: &PendingRow, reason: &Unholdable) -> Result<Fate> {
        let source = &self.run.migration.source;
        let moved =
            source.set_aside_pending(self.binding.name(), &row.key, row.version, &reason.to_string()).await?;
        Ok(if moved { Fate::SetAside } else { Fate::MarkedAgain })
    }

    /// Requires that the target serves no state of a row at `key`, whose tombstone it refused with `error`:
    /// 1. A partition is full, by an index that shares it. 2. It takes a row as little as a tombstone in
    /// its place. 3. Passed on, that would end the relay of every table at each of its starts. Where
    /// nothing is served there is nothing to hide. Else the key stays pending, which holds up none that the
    /// target takes.
    async fn require_unserved(&self, key: &TargetKey, error: StoreError) -> Result<()> {
        let there = self.run.migration.target.get(&self.binding.target_name, key).await?;
        if there.as_ref().is_none_or(is_tombstone) {
            return Ok(());
        }
        let message =
            format!("an older state of the row stays, as its tombstone is refused: {}", error.message);
        Err(StoreError::target(Kind::Unavailable, error.doing, message).into())
    }

    /// Sends one guarded write, repeated while that can help. A lost reply is looked up by repeating it: the
    /// guard answers (I8).
    async fn write(self, row: &PendingRow, item: Item) -> Result<Written, StoreError> {
        let (progress, target_name) = (self.progress, &self.binding.target_name);
        // A relay that runs until told to stop tells of it after some seconds, and tries again with the
        // next pass.
        let mut away = match self.run.until {
            RelayUntil::Empty => Backoff::patient(),
            RelayUntil::Cancelled => Backoff::new(Duration::from_millis(25), Duration::from_secs(2), 10),
        };
        let mut throttled = Backoff::new(Duration::from_millis(25), Duration::from_secs(5), u32::MAX);
        let (mut unanswered, mut failed) = (0, None);
        // To keep a copy of each row would cost more than encoding the few again that are sent twice.
        let tombstone = item.get(DELETED_ATTRIBUTE).is_some().then(|| item.clone());
        let mut next = Some(item);
        loop {
            let item = next.take().or_else(|| tombstone.clone().or_else(|| self.item_again(row)));
            let Some(item) = item else {
                let message = "a row that was encoded once is no item the second time; report it";
                return Err(StoreError::target(Kind::Misconfigured, "delivering", message));
            };
            let target = &self.run.migration.target;
            let paid = self.run.may_write(self.read_at, self.binding, std::slice::from_ref(&item));
            let sent = match paid.await {
                Ok(()) => target.put_guarded_of(self.read_at, target_name, item, row.version).await,
                Err(error) => Err(error),
            };
            let error = match sent {
                Ok(written) => {
                    progress.add_capacity(written.capacity_units);
                    self.kept.answered();
                    return Ok(written);
                }
                Err(error) => error,
            };
            let message = error.to_string();
            let pause = match error.kind.retry() {
                // 1. A target answers nothing. 2. The time of what was read is over before the tries are, and
                // the keys are read again, for ever. 3. No error is told, and nothing is delivered. So the
                // failure counts, and not that time.
                _ if error.kind == Kind::Fenced => return Err(self.told(failed).unwrap_or(error)),
                Retry::Never => return Err(error),
                Retry::Slower => {
                    progress.throttles.fetch_add(1, Relaxed);
                    if self.gives_way() {
                        // It stays pending, and is read again when it is this table's turn.
                        return Err(StoreError::target(Kind::Fenced, error.doing, message));
                    }
                    progress.pause(Some(format!("{target_name} throttles")));
                    throttled.pause(error)
                }
                Retry::Again => {
                    if error.kind == Kind::Unknown {
                        progress.lost_replies.fetch_add(1, Relaxed);
                    }
                    self.kept.failed();
                    failed = Some(StoreError::target(error.kind, error.doing.clone(), error.message.clone()));
                    unanswered += 1;
                    if unanswered > 1 {
                        self.run.shares.doubt();
                    }
                    away.pause(error)
                }
            };
            match self.run.cancel.run_until_cancelled(pause).await {
                Some(paused) => paused?,
                None => {
                    return Err(StoreError::target(
                        Kind::Unavailable,
                        "delivering, and told to stop",
                        message,
                    ));
                }
            }
            progress.pause(None);
        }
    }

    /// Returns the failure that a key met, if it is to end the pass. A caller that needs the set to be empty
    /// waits for some minutes first.
    fn told(&self, failed: Option<StoreError>) -> Option<StoreError> {
        let is_patient = self.run.until == RelayUntil::Empty && self.kept.failing_for() < PATIENCE;
        failed.filter(|_| !is_patient)
    }
}

/// Returns what stands where the version of an item should be, if that is none of ours.
fn foreign_version(written: &Written) -> Option<AttributeValue> {
    let there = written.standing.as_deref().filter(|there| version_of(there).is_none())?;
    there.get(VERSION_ATTRIBUTE).cloned()
}
