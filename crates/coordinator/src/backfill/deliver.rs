//! Getting one batch into the target, however often it takes: nothing is dropped (R10).

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use lockstep_core::{Error as StoreError, Kind, Retry};
use lockstep_dynamo::{Backoff, LoadPath};
use lockstep_postgres::RangeProgress;
use tokio::time::Instant;

use super::encode::Batch;
use super::table::TableRun;
use crate::error::Result;
use crate::foreign_index::explained;

impl TableRun {
    /// Sends a batch until each of its rows is in the target, was there, or is a dead letter.
    ///
    /// # Errors
    /// What no retry can repair, or a target that stayed away for minutes.
    pub(super) async fn deliver(&self, mut batch: Batch) -> Result<RangeProgress> {
        let mut done = RangeProgress::default();
        let mut items = batch.take_items();
        // A target that is away ends the run after minutes, resumable; one that throttles is waited for
        // without end, visibly, because it is there and takes some.
        let mut away = Backoff::patient();
        let mut throttled = Backoff::new(Duration::from_millis(50), Duration::from_secs(5), u32::MAX);
        loop {
            self.shared.rate.acquire(batch.units).await;
            self.shared.budget.acquire(batch.units).await?;
            let lane = self.shared.rate.lane().await;
            if !batch.read_at.may_leave() {
                let Some(read_again) = self.in_time(batch, &mut done).await? else { return Ok(done) };
                batch = read_again;
                items = batch.take_items();
            }
            self.lease.require()?;
            let sent_at = Instant::now();
            let answer = self
                .migration
                .target
                .insert_initial_load(batch.read_at, self.path_now(), &self.binding.target_name, items)
                .await;
            self.shared.rate.answered(sent_at);
            drop(lane);
            let (indices, kind) = match answer {
                Ok(outcome) => {
                    done.rows_written += outcome.written as i64;
                    done.rows_present += outcome.present as i64;
                    self.progress().add_initial_load(outcome.capacity_units);
                    for (index, reason) in outcome.refused {
                        self.set_aside(&batch, index, &reason).await?;
                        done.dead_letters += 1;
                    }
                    let kinds = || outcome.again.iter().map(|(_, kind)| *kind);
                    let kind = if kinds().all(|kind| kind == Kind::Fenced) {
                        Kind::Fenced
                    } else if kinds().all(|kind| matches!(kind, Kind::Throttled | Kind::Fenced)) {
                        Kind::Throttled
                    } else {
                        Kind::Unknown
                    };
                    if outcome.written + outcome.present > 0 {
                        (away, throttled) = (
                            Backoff::patient(),
                            Backoff::new(Duration::from_millis(50), Duration::from_secs(5), u32::MAX),
                        );
                    }
                    (outcome.again.into_iter().map(|(index, _)| index).collect::<Vec<_>>(), kind)
                }
                Err(error)
                    if error.is_validation()
                        && (error.kind == Kind::Invalid || batch.len() > 1 || self.may_go_singly()) =>
                {
                    // The target refuses the request and does not say for which row: ask row by row. Or it is
                    // no row's fault, and an endpoint with half of PartiQL takes them one by one.
                    done += self.deliver_singly(&batch, error).await?;
                    (Vec::new(), Kind::Invalid)
                }
                Err(error) if error.kind == Kind::Fenced => ((0..batch.len()).collect(), Kind::Fenced),
                Err(error) if error.kind.retry() == Retry::Never => return Err(error.into()),
                Err(error) => {
                    if error.kind == Kind::Unknown {
                        self.progress().lost_replies.fetch_add(1, Relaxed);
                    }
                    if error.kind != Kind::Throttled {
                        self.progress().pause(Some(error.to_string()));
                        away.pause(error).await?;
                        self.progress().pause(None);
                        items = batch.whole(&self.binding);
                        continue;
                    }
                    ((0..batch.len()).collect(), Kind::Throttled)
                }
            };
            if indices.is_empty() {
                return Ok(done);
            }
            items = batch.again(&self.binding, &indices);
            if kind == Kind::Fenced {
                // Nothing failed: they were read too long ago by the time they had left, and are read again.
                continue;
            }
            if kind == Kind::Throttled {
                self.progress().throttles.fetch_add(indices.len() as u64, Relaxed);
                self.progress().history_throttles.fetch_add(indices.len() as u64, Relaxed);
                self.shared.rate.throttled();
                self.progress().ceiling.store(self.shared.rate.ceiling().unwrap_or(0.0) as u64, Relaxed);
                self.progress().pause(Some(format!("{} throttles", self.binding.target_name)));
            }
            let error = StoreError::target(kind, "inserting", "part of a batch was not taken");
            if kind == Kind::Throttled {
                throttled.pause(error).await?
            } else {
                away.pause(error).await?
            }
            self.progress().pause(None);
        }
    }

    /// Finds the rows that spoil a request. Conditional puts may be repeated as well.
    async fn deliver_singly(&self, batch: &Batch, error: StoreError) -> Result<RangeProgress> {
        let mut done = RangeProgress::default();
        if error.kind != Kind::Invalid {
            self.go_singly(&error);
        } else if batch.len() == 1 {
            self.set_aside(batch, 0, &error.message).await?;
            done.dead_letters += 1;
            return Ok(done);
        }
        for index in 0..batch.len() {
            self.deliver_one(batch.only(index), &mut done).await?;
        }
        Ok(done)
    }

    async fn deliver_one(&self, mut row: Batch, done: &mut RangeProgress) -> Result<()> {
        let (mut backoff, target) = (Backoff::patient(), &self.migration.target);
        loop {
            let Some(mut in_time) = self.in_time(row, done).await? else { return Ok(()) };
            let item = in_time.whole(&self.binding);
            row = in_time;
            self.lease.require()?;
            let (path, table) = (LoadPath::ConditionalPut, &self.binding.target_name);
            let answer = target.insert_initial_load(row.read_at, path, table, item).await?;
            done.rows_written += answer.written as i64;
            done.rows_present += answer.present as i64;
            for (_, reason) in answer.refused {
                self.set_aside(&row, 0, &reason).await?;
                done.dead_letters += 1;
            }
            match answer.again.first() {
                None => return Ok(()),
                Some((_, Kind::Fenced)) => {}
                Some((_, kind)) => {
                    backoff.pause(StoreError::target(*kind, "inserting", "a row was not taken")).await?
                }
            }
        }
    }

    /// Returns how batches go in now: one by one, once the endpoint has refused statements for no row's
    /// fault.
    fn path_now(&self) -> LoadPath {
        if self.shared.no_statements.load(Relaxed) && self.path == LoadPath::GuardedBatch {
            return LoadPath::ConditionalPut;
        }
        self.path
    }

    fn may_go_singly(&self) -> bool {
        self.path_now() != LoadPath::ConditionalPut
    }

    fn go_singly(&self, error: &StoreError) {
        if self.path == LoadPath::GuardedBatch && !self.shared.no_statements.swap(true, Relaxed) {
            tracing::warn!(
                "the endpoint refuses statements that are no row's fault ({}): the rest goes in by {}",
                error.message,
                LoadPath::ConditionalPut
            );
        }
    }

    async fn set_aside(&self, batch: &Batch, index: usize, reason: &str) -> Result<()> {
        let key =
            batch.key(&self.binding, index).map_err(|e| StoreError::unholdable(self.binding.name(), &e))?;
        let reason = explained(reason, &self.binding.table.target());
        self.set_aside_key(&key, batch.tuple(index), &reason).await
    }
}
