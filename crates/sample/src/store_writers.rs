//! The other half of the live writers: the application, which writes through the framework's store handles.

use std::time::{Duration, Instant};

use chrono::Utc;
use lockstep::store::{Delivery, Store, WriteOutcome};
use lockstep_core::Retry;
use lockstep_integration_logs::{IntegrationLog, IntegrationLogs, LogQueries};
use lockstep_payments::{Payment, PaymentQueries, Payments};
use lockstep_postgres::Source;
use tokio_util::sync::CancellationToken;

use super::writers::{
    Chooser, Counts, Effect, Ids, Known, NewIds, Operation, Outcome, Pace, WriterOptions, move_log,
    move_payment, reinsert_log, reinsert_payment, touch_log, touch_payment,
};

/// Ids that store writers choose are below this, from there downwards, far above what the sequences reach:
/// the caller of a store names the key.
pub const IDS_FROM: i64 = 1 << 40;
/// Rows that were there before the migration and are written to, per table.
const KNOWN: usize = 2_000;
/// Tries of one operation.
const TRIES: u32 = 6;
/// Pause before another try.
const PAUSE: Duration = Duration::from_millis(100);

/// Outcomes of the application's writes.
#[derive(Debug, Default)]
pub struct StoreCounts {
    /// Counts by kind of operation.
    pub operations: Counts,
    /// Writes that reached DynamoDB at once.
    pub applied: u64,
    /// Writes that were left to the relay.
    pub deferred: u64,
}

/// An application with a store handle for each table.
pub struct Application {
    source: Source,
    logs: Store<IntegrationLogs>,
    payments: Store<Payments>,
    counts: StoreCounts,
}

impl Application {
    /// Makes the application that has these handles; `source` says which rows there are to begin with.
    pub fn new(source: &Source, logs: Store<IntegrationLogs>, payments: Store<Payments>) -> Self {
        Self { source: source.clone(), logs, payments, counts: StoreCounts::default() }
    }

    /// Writes until `stop` is cancelled: to rows that were there before the migration, and to new ones.
    pub async fn write_until(mut self, options: WriterOptions, stop: CancellationToken) -> StoreCounts {
        let new_ids = NewIds::From { log_id: IDS_FROM, payment_id: IDS_FROM };
        let mut chooser = Chooser::new(options.seed, new_ids, self.known().await);
        let mut pace = Pace::new(options.per_second);
        let mut ticks = tokio::time::interval(pace.period());
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut asked = Instant::now();
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let due = pace.due(asked.elapsed());
            asked = Instant::now();
            for _ in 0..due {
                if stop.is_cancelled() {
                    break;
                }
                let operation = chooser.choose(Utc::now());
                if let Some(effect) = self.perform(&operation).await {
                    chooser.learn(&effect);
                }
            }
        }
        self.counts
    }

    /// Some of the rows that exist. None is as good: then only new rows are written to.
    async fn known(&self) -> Known {
        let some = async |id: &'static str, table: &'static str| {
            let sql = format!("SELECT {id} FROM {table} TABLESAMPLE BERNOULLI (5) LIMIT {KNOWN}");
            let found: Vec<i64> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
                .fetch_all(self.source.pool())
                .await
                .unwrap_or_default();
            Ids::new(found)
        };
        Known {
            logs: some("log_id", "public.integration_logs").await,
            payments: some("payment_id", "public.payments").await,
        }
    }

    async fn perform(&mut self, operation: &Operation) -> Option<Effect> {
        let started = Instant::now();
        for attempt in 1..=TRIES {
            let failure = match self.execute(operation).await {
                Ok(effect) => {
                    let outcome =
                        if effect.rows == 0 { Outcome::Missed } else { Outcome::Done { rows: effect.rows } };
                    self.counts.operations.record(operation.kind(), outcome, started.elapsed());
                    return Some(effect);
                }
                Err(error) => error,
            };
            // Every operation here may be repeated as it is: keys are given, and values do not depend on what
            // was there.
            if failure.kind.retry() == Retry::Never {
                let outcome = Outcome::Refused(failure.to_string());
                self.counts.operations.record(operation.kind(), outcome, started.elapsed());
                return None;
            }
            if attempt < TRIES {
                self.counts.operations.retries += 1;
                tokio::time::sleep(PAUSE).await;
            }
        }
        self.counts.operations.record(operation.kind(), Outcome::GivenUp, started.elapsed());
        None
    }

    async fn execute(&mut self, operation: &Operation) -> lockstep_core::Result<Effect> {
        let mut effect = Effect::default();
        match operation {
            Operation::InsertLog(log) => self.put_log(log, &mut effect).await?,
            Operation::InsertLogs(logs) => {
                for log in logs {
                    self.put_log(log, &mut effect).await?;
                }
            }
            Operation::TouchLog { log_id, to } => {
                self.update_log(*log_id, |log| touch_log(log, to), &mut effect).await?
            }
            Operation::TouchLogs { log_ids, to } => {
                for log_id in log_ids {
                    self.update_log(*log_id, |log| touch_log(log, to), &mut effect).await?;
                }
            }
            Operation::MoveLog { log_id, service_name, log_timestamp } => {
                self.update_log(
                    *log_id,
                    |log| move_log(log, service_name.as_deref(), *log_timestamp),
                    &mut effect,
                )
                .await?;
            }
            Operation::DeleteLog { log_id } => self.delete_log(*log_id, &mut effect).await?,
            Operation::ReinsertLog { log_id, to, .. } => {
                if let Some(gone) = self.logs.by_id(*log_id).await? {
                    self.delete_log(*log_id, &mut effect).await?;
                    self.put_log(&reinsert_log(&gone, to), &mut effect).await?;
                    effect.logs_gone.clear();
                }
            }
            Operation::InsertPayment(payment) => self.put_payment(payment, &mut effect).await?,
            Operation::InsertPayments(payments) => {
                for payment in payments {
                    self.put_payment(payment, &mut effect).await?;
                }
            }
            Operation::TouchPayment { payment_id, to } => {
                self.update_payment(*payment_id, |payment| touch_payment(payment, to), &mut effect).await?;
            }
            Operation::MovePayment { payment_id, customer_id, payment_date } => {
                self.update_payment(
                    *payment_id,
                    |p| move_payment(p, *customer_id, *payment_date),
                    &mut effect,
                )
                .await?;
            }
            Operation::DeletePayment { payment_id } => self.delete_payment(*payment_id, &mut effect).await?,
            Operation::ReinsertPayment { payment_id, to, .. } => {
                if let Some(gone) = self.payments.by_id(*payment_id).await? {
                    self.delete_payment(*payment_id, &mut effect).await?;
                    self.put_payment(&reinsert_payment(&gone, to), &mut effect).await?;
                    effect.payments_gone.clear();
                }
            }
            // One transaction over two tables is a later feature of the stores; here they are two writes.
            Operation::PayAndLog { payment, log } => {
                self.put_payment(payment, &mut effect).await?;
                self.put_log(log, &mut effect).await?;
            }
            Operation::SettleAndLog { payment_id, to, log } => {
                self.update_payment(*payment_id, |payment| touch_payment(payment, to), &mut effect).await?;
                self.put_log(log, &mut effect).await?;
            }
            // A store has no half-done writes to think better of.
            Operation::RollBack { .. } => {}
        }
        Ok(effect)
    }

    async fn put_log(&mut self, log: &IntegrationLog, effect: &mut Effect) -> lockstep_core::Result<()> {
        let outcome = self.logs.put(log).await?;
        self.counts.note(&outcome, effect);
        effect.logs_born.push(log.log_id);
        Ok(())
    }

    async fn update_log(
        &mut self,
        log_id: i64,
        change: impl FnMut(&mut IntegrationLog),
        effect: &mut Effect,
    ) -> lockstep_core::Result<()> {
        let outcome = self.logs.update(log_id, change).await?;
        self.counts.note(&outcome, effect);
        Ok(())
    }

    async fn delete_log(&mut self, log_id: i64, effect: &mut Effect) -> lockstep_core::Result<()> {
        let outcome = self.logs.delete(log_id).await?;
        self.counts.note(&outcome, effect);
        effect.logs_gone.push(log_id);
        Ok(())
    }

    async fn put_payment(&mut self, payment: &Payment, effect: &mut Effect) -> lockstep_core::Result<()> {
        let outcome = self.payments.put(payment).await?;
        self.counts.note(&outcome, effect);
        effect.payments_born.push(payment.payment_id);
        Ok(())
    }

    async fn update_payment(
        &mut self,
        payment_id: i64,
        change: impl FnMut(&mut Payment),
        effect: &mut Effect,
    ) -> lockstep_core::Result<()> {
        let outcome = self.payments.update(payment_id, change).await?;
        self.counts.note(&outcome, effect);
        Ok(())
    }

    async fn delete_payment(&mut self, payment_id: i64, effect: &mut Effect) -> lockstep_core::Result<()> {
        let outcome = self.payments.delete(payment_id).await?;
        self.counts.note(&outcome, effect);
        effect.payments_gone.push(payment_id);
        Ok(())
    }
}

impl StoreCounts {
    fn note<R>(&mut self, outcome: &WriteOutcome<R>, effect: &mut Effect) {
        effect.rows += u64::from(outcome.found);
        match outcome.target {
            Delivery::Applied => self.applied += 1,
            Delivery::Deferred(_) => self.deferred += 1,
            _ => {}
        }
    }
}
