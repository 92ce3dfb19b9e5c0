//! Writers of a schedule: applications through stores, strangers round them. Every write has a token of its
//! own, and tells the model before it begins and when it has ended.

use std::sync::Arc;

use lockstep::migration::Migration;
use lockstep::operation::Operation;
use lockstep::store::{Store, Swap, WriteOutcome};
use lockstep_core::{Error, Kind, MigratableTable, Phase, Retry};
use lockstep_integration_logs::{IntegrationLog, IntegrationLogs, OperationLogs};
use lockstep_payments::{Payment, Payments};
use lockstep_tests::World;
use lockstep_tests::world::rows::{log_row, payment_row};
use lockstep_tests::world::{CutShort, LOGS, PAYMENTS};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::model::{Key, Model, State, Told, Trying};

/// Rows that every actor writes.
pub(crate) const SHARED: std::ops::Range<i64> = 1..7;
/// Share of writes whose caller dies.
const CRASHES: f64 = 0.12;
/// Pause before a write that must succeed is tried again.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(20);
/// Awaits of a write, at most; one that dies later has got through.
const POLLS_MAX: usize = 40;

/// A part of a process that writes.
pub(crate) struct Actor {
    pub(crate) name: usize,
    pub(crate) world: Arc<World>,
    pub(crate) model: Arc<Model>,
    rng: StdRng,
    writes: usize,
}

impl Actor {
    pub(crate) fn new(name: usize, seed: u64, world: &Arc<World>, model: &Arc<Model>) -> Self {
        let rng = StdRng::seed_from_u64(seed * 1_000 + name as u64);
        Self { name, world: world.clone(), model: model.clone(), rng, writes: 0 }
    }

    fn token(&mut self) -> String {
        self.writes += 1;
        format!("{}.{}", self.name, self.writes)
    }

    fn shared_id(&mut self) -> i64 {
        self.rng.random_range(SHARED)
    }

    /// A row that no other actor writes.
    fn own_id(&mut self) -> i64 {
        self.name as i64 * 100 + self.rng.random_range(1..4)
    }

    fn any_id(&mut self) -> i64 {
        if self.rng.random_bool(0.5) { self.own_id() } else { self.shared_id() }
    }

    fn holds(&mut self, table: &'static str, id: i64) -> (Trying, String) {
        let token = self.token();
        (self.model.begin(Key(table, id), State::Holds(token.clone())), token)
    }

    fn goes(&self, table: &'static str, id: i64) -> Trying {
        self.model.begin(Key(table, id), State::Absent)
    }

    /// Writes through its stores until one write is acknowledged: who is well again can write.
    pub(crate) async fn apply_one(&mut self, app: &Migration) {
        let logs = app.store::<IntegrationLogs>();
        loop {
            let (trying, token) = self.holds(LOGS, self.name as i64 * 100 + 1);
            let told = written(logs.put(&log_row(self.name as i64 * 100 + 1, &token)).await);
            self.model.end(trying, told);
            if told.is_acknowledged() {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Writes through the stores, `times` times.
    pub(crate) async fn apply(&mut self, app: &Migration, times: usize) {
        let (logs, payments) = (app.store::<IntegrationLogs>(), app.store::<Payments>());
        for _ in 0..times {
            match self.rng.random_range(0..10) {
                0 | 1 => self.put_log(&logs).await,
                2 => self.put_payment(&payments).await,
                3 => self.change_log(&logs).await,
                4 => self.change_payment(&payments).await,
                5 => self.delete_and_insert(&logs).await,
                6 => self.delete_payment(&payments).await,
                7 => self.put_batch(&logs).await,
                8 => self.swap_payment(&payments).await,
                _ => self.coordinate(app, &logs, &payments).await,
            }
            self.read_own(&logs).await;
        }
    }

    async fn put_log(&mut self, logs: &Store<IntegrationLogs>) {
        let id = self.any_id();
        let (trying, token) = self.holds(LOGS, id);
        let told = self.cut_short(async { written(logs.put(&log_row(id, &token)).await) }).await;
        self.model.end(trying, told);
    }

    async fn put_payment(&mut self, payments: &Store<Payments>) {
        let (id, customer_id) = (self.any_id(), self.rng.random_range(1..4));
        let (trying, token) = self.holds(PAYMENTS, id);
        let told = self
            .cut_short(async { written(payments.put(&payment_row(id, customer_id, &token)).await) })
            .await;
        self.model.end(trying, told);
    }

    /// Shared rows move as well; own ones stay where their reader looks for them.
    async fn change_log(&mut self, logs: &Store<IntegrationLogs>) {
        let (id, service) = (self.any_id(), format!("moved-{}", self.rng.random_range(0..3)));
        let (trying, token) = self.holds(LOGS, id);
        let change = move |log: &mut IntegrationLog| {
            log.user_id = Some(token.clone());
            if SHARED.contains(&id) {
                log.service_name.clone_from(&service);
            }
        };
        let told = self.cut_short(async { written(logs.update(id, change).await) }).await;
        self.model.end(trying, told);
    }

    async fn change_payment(&mut self, payments: &Store<Payments>) {
        let (id, customer_id) = (self.any_id(), self.rng.random_range(1..4));
        let (trying, token) = self.holds(PAYMENTS, id);
        let change = move |p: &mut Payment| {
            (p.transaction_reference, p.customer_id) = (Some(token.clone()), customer_id)
        };
        let told = self.cut_short(async { written(payments.update(id, change).await) }).await;
        self.model.end(trying, told);
    }

    async fn delete_and_insert(&mut self, logs: &Store<IntegrationLogs>) {
        let id = self.any_id();
        let trying = self.goes(LOGS, id);
        let told = self.cut_short(async { written(logs.delete(id).await) }).await;
        self.model.end(trying, told);
        if told.is_acknowledged() {
            let (trying, token) = self.holds(LOGS, id);
            let told = self.cut_short(async { written(logs.put(&log_row(id, &token)).await) }).await;
            self.model.end(trying, told);
        }
    }

    async fn delete_payment(&mut self, payments: &Store<Payments>) {
        let id = self.any_id();
        let trying = self.goes(PAYMENTS, id);
        let told = self.cut_short(async { written(payments.delete(id).await) }).await;
        self.model.end(trying, told);
    }

    async fn put_batch(&mut self, logs: &Store<IntegrationLogs>) {
        // In one order for all actors, or they would lock each other out.
        let ids = [self.shared_id(), self.name as i64 * 100 + 1, self.name as i64 * 100 + 2];
        let (mut trying, mut rows) = (Vec::new(), Vec::new());
        for id in ids {
            let (one, token) = self.holds(LOGS, id);
            trying.push(one);
            rows.push(log_row(id, &token));
        }
        let done = self.cut_short_of(logs.put_batch(&rows)).await;
        for (at, trying) in trying.into_iter().enumerate() {
            let told = done.as_ref().map_or(Told::Unknown, |outcomes| match &outcomes[at] {
                Ok(outcome) => acknowledged_in(outcome.control.phase),
                Err(error) => told_by(error),
            });
            self.model.end(trying, told);
        }
    }

    async fn swap_payment(&mut self, payments: &Store<Payments>) {
        let id = self.any_id();
        let (trying, token) = self.holds(PAYMENTS, id);
        let swap = async {
            let change = move |p: &mut Payment| p.transaction_reference = Some(token.clone());
            match payments.update_if(id, |p| p.customer_id != 2, change).await {
                Ok(Swap::Changed(outcome)) => acknowledged_in(outcome.control.phase),
                Ok(_) => Told::Nothing,
                Err(error) => told_by(&error),
            }
        };
        let told = self.cut_short(swap).await;
        self.model.end(trying, told);
    }

    /// A payment and a log, under one token each, in one operation.
    async fn coordinate(
        &mut self,
        app: &Migration,
        logs: &Store<IntegrationLogs>,
        payments: &Store<Payments>,
    ) {
        let (log_id, payment_id) = (self.any_id(), self.any_id());
        let (log, log_token) = self.holds(LOGS, log_id);
        let (payment, payment_token) = self.holds(PAYMENTS, payment_id);
        let operation = async {
            let sink = Arc::new(OperationLogs::of("schedules"));
            let both = Operation::run(app, sink, "Both", &payment_token, async |operation| {
                operation.put(payments, &payment_row(payment_id, 1, &payment_token)).await?;
                operation.put(logs, &log_row(log_id, &log_token)).await
            });
            both.await
                .map_or_else(|error| told_by(&error), |(_, outcome)| acknowledged_in(outcome.control.phase))
        };
        let told = self.cut_short(operation).await;
        self.model.end(log, told);
        self.model.end(payment, told);
    }

    /// Read your writes: of a row that only this actor writes, its own handle answers nothing older than what
    /// it acknowledged, whichever store that comes from.
    async fn read_own(&mut self, logs: &Store<IntegrationLogs>) {
        let id = self.own_id();
        let moment = self.model.moment();
        // An answer that does not come is none; who may not answer says so.
        if let Ok(answer) = logs.get_marked(&IntegrationLogs::key(&log_row(id, ""))).await {
            let state =
                answer.value.map_or(State::Absent, |log| State::Holds(log.user_id.unwrap_or_default()));
            let objection = self.model.objection(Key(LOGS, id), &state, moment);
            assert_eq!(objection, None, "read your writes, from {:?}", answer.from);
        }
    }

    /// Runs a write, or a part of it: some callers die.
    async fn cut_short(&mut self, write: impl Future<Output = Told>) -> Told {
        self.cut_short_of(write).await.unwrap_or(Told::Unknown)
    }

    async fn cut_short_of<T>(&mut self, write: impl Future<Output = T>) -> Option<T> {
        let dies = self.rng.random_bool(CRASHES);
        let polls = if dies { self.rng.random_range(1..POLLS_MAX) } else { usize::MAX };
        CutShort::after(polls, write).await
    }

    /// Writes as a stranger, past everything, `times` times.
    pub(crate) async fn apply_raw(&mut self, times: usize) {
        for _ in 0..times {
            let id = self.shared_id();
            let table = if self.rng.random_bool(0.5) { LOGS } else { PAYMENTS };
            let (key, token_column, moving) = match table {
                LOGS => {
                    ("log_id", "user_id", format!("service_name = 'moved-{}'", self.rng.random_range(0..3)))
                }
                _ => (
                    "payment_id",
                    "transaction_reference",
                    format!("customer_id = {}", self.rng.random_range(1..4)),
                ),
            };
            let (trying, sql) = match self.rng.random_range(0..3) {
                0 => (self.goes(table, id), format!("DELETE FROM {table} WHERE {key} = {id}")),
                1 => {
                    let (trying, token) = self.holds(table, id);
                    (
                        trying,
                        format!("UPDATE {table} SET {token_column} = '{token}', {moving} WHERE {key} = {id}"),
                    )
                }
                _ => {
                    let (trying, token) = self.holds(table, id);
                    (trying, insert(table, id, &token))
                }
            };
            let told = match self.world.try_sql(&sql).await {
                Ok(0) | Err(sqlx::Error::Database(_)) => Told::Nothing,
                Ok(_) => Told::Acknowledged,
                Err(error) => panic!("strangers have no proxy: {error}"),
            };
            self.model.end(trying, told);
        }
    }
}

/// Inserts a row, where there is none, and says so by how many it has changed.
fn insert(table: &str, id: i64, token: &str) -> String {
    let at = lockstep_tests::world::rows::AT;
    match table {
        LOGS => format!(
            "INSERT INTO integration_logs (log_id, log_type, service_name, is_success, log_timestamp, user_id)
             VALUES ({id}, 'Check', 'a', true, '{at}', '{token}') ON CONFLICT DO NOTHING"
        ),
        _ => format!(
            "INSERT INTO payments (payment_id, customer_id, loan_id, payment_amount, currency, payment_date, payment_method,
                                   payment_status, created_date, transaction_reference)
             VALUES ({id}, 1, 1, 1, 'EUR', '{at}', 'Card', 'Pending', '{at}', '{token}') ON CONFLICT DO NOTHING"
        ),
    }
}

fn written<R>(outcome: Result<WriteOutcome<R>, Error>) -> Told {
    match outcome {
        Ok(outcome) if outcome.found => acknowledged_in(outcome.control.phase),
        Ok(_) => Told::Nothing,
        Err(error) => told_by(&error),
    }
}

/// Returns the answer of a caller whose write was acknowledged in a phase.
pub(crate) fn acknowledged_in(phase: Phase) -> Told {
    if phase == Phase::DynamoOnly { Told::AcknowledgedByTarget } else { Told::Acknowledged }
}

#[track_caller]
fn told_by(error: &Error) -> Told {
    assert_ne!(error.kind.retry(), Retry::Never, "{error}");
    if error.kind == Kind::Unknown { Told::Unknown } else { Told::Nothing }
}
