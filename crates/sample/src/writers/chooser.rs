//! Decides what a writer does next. Pure: time and outcomes are told to it.

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use lockstep_integration_logs::IntegrationLog;
use lockstep_payments::Payment;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::known::{Effect, Known};
use super::operation::{Kind, Operation};
use crate::generate::words::{chance, weighted};
use crate::generate::{self, CUSTOMERS, HISTORY_DAYS, SERVICES};

/// Weight with which each kind is drawn. Inserts outweigh deletes, so the tables grow; everything hard
/// happens every second at 50 operations a second.
const MIX: [(u32, Kind); 16] = [
    (22, Kind::InsertLog),
    (3, Kind::InsertLogs),
    (10, Kind::TouchLog),
    (2, Kind::TouchLogs),
    (6, Kind::MoveLog),
    (6, Kind::DeleteLog),
    (4, Kind::ReinsertLog),
    (10, Kind::InsertPayment),
    (2, Kind::InsertPayments),
    (12, Kind::TouchPayment),
    (5, Kind::MovePayment),
    (4, Kind::DeletePayment),
    (3, Kind::ReinsertPayment),
    (6, Kind::PayAndLog),
    (3, Kind::SettleAndLog),
    (2, Kind::RollBack),
];

/// Rows of a multi-row statement, at most.
const ROWS_MAX: usize = 8;

/// Origin of the ids of new rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewIds {
    /// Sequences of the source: rows to insert carry the id 0, which the executor leaves out.
    BySequence,
    /// Range from below this id downwards. Give every chooser a range of its own, above what the sequences
    /// will reach. Downwards, because a way back raises the sequences above all ids that are in use: what
    /// they then hand out is never what a chooser takes next.
    From {
        /// The id above the next log's.
        log_id: i64,
        /// The id above the next payment's.
        payment_id: i64,
    },
}

/// Chooses operations from a seed.
#[derive(Debug)]
pub struct Chooser {
    rng: StdRng,
    new_ids: NewIds,
    known: Known,
}

impl Chooser {
    /// Makes a chooser that knows these rows.
    pub fn new(seed: u64, new_ids: NewIds, known: Known) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), new_ids, known }
    }

    /// Takes in what an operation did.
    pub fn learn(&mut self, effect: &Effect) {
        self.known.learn(&mut self.rng, effect);
    }

    /// Returns what it knows.
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// Returns the next operation. Where no row is known that it could change, it inserts one.
    pub fn choose(&mut self, now: DateTime<Utc>) -> Operation {
        let kind = weighted(&mut self.rng, &MIX);
        self.of_kind(kind, now).unwrap_or_else(|| self.insert_instead_of(kind, now))
    }

    /// Returns an operation of this kind, or nothing where it needs a row and none is known.
    pub fn of_kind(&mut self, kind: Kind, now: DateTime<Utc>) -> Option<Operation> {
        Some(match kind {
            Kind::InsertLog => Operation::InsertLog(self.new_log(now)),
            Kind::InsertLogs => {
                Operation::InsertLogs((0..self.several()).map(|_| self.new_log(now)).collect())
            }
            Kind::TouchLog => Operation::TouchLog { log_id: self.a_log()?, to: self.values_of_log(now) },
            Kind::TouchLogs => Operation::TouchLogs { log_ids: self.logs()?, to: self.values_of_log(now) },
            Kind::MoveLog => {
                let (log_id, which) = (self.a_log()?, self.rng.random_range(0..3));
                let service_name = (which != 1).then(|| weighted(&mut self.rng, &SERVICES).to_owned());
                let log_timestamp = (which != 0).then(|| self.some_time_before(now));
                Operation::MoveLog { log_id, service_name, log_timestamp }
            }
            Kind::DeleteLog => Operation::DeleteLog { log_id: self.a_log()? },
            Kind::ReinsertLog => Operation::ReinsertLog {
                log_id: self.a_log()?,
                to: self.values_of_log(now),
                together: self.rng.random(),
            },
            Kind::InsertPayment => Operation::InsertPayment(self.new_payment(now)),
            Kind::InsertPayments => {
                Operation::InsertPayments((0..self.several()).map(|_| self.new_payment(now)).collect())
            }
            Kind::TouchPayment => {
                Operation::TouchPayment { payment_id: self.a_payment()?, to: self.values_of_payment(now) }
            }
            Kind::MovePayment => {
                let (payment_id, which) = (self.a_payment()?, self.rng.random_range(0..3));
                let customer_id = (which != 1).then(|| self.rng.random_range(1..=CUSTOMERS));
                let payment_date = (which != 0).then(|| self.some_time_before(now));
                Operation::MovePayment { payment_id, customer_id, payment_date }
            }
            Kind::DeletePayment => Operation::DeletePayment { payment_id: self.a_payment()? },
            Kind::ReinsertPayment => Operation::ReinsertPayment {
                payment_id: self.a_payment()?,
                to: self.values_of_payment(now),
                together: self.rng.random(),
            },
            Kind::PayAndLog => {
                Operation::PayAndLog { payment: self.new_payment(now), log: self.new_log(now) }
            }
            Kind::SettleAndLog => Operation::SettleAndLog {
                payment_id: self.a_payment()?,
                to: self.values_of_payment(now),
                log: self.new_log(now),
            },
            Kind::RollBack => Operation::RollBack { payment: self.new_payment(now), log: self.new_log(now) },
        })
    }

    fn insert_instead_of(&mut self, kind: Kind, now: DateTime<Utc>) -> Operation {
        match kind {
            Kind::TouchPayment
            | Kind::MovePayment
            | Kind::DeletePayment
            | Kind::ReinsertPayment
            | Kind::SettleAndLog => Operation::InsertPayment(self.new_payment(now)),
            _ => Operation::InsertLog(self.new_log(now)),
        }
    }

    fn a_log(&mut self) -> Option<i64> {
        self.known.logs.pick(&mut self.rng)
    }

    fn a_payment(&mut self) -> Option<i64> {
        self.known.payments.pick(&mut self.rng)
    }

    /// Several logs, each once and in order: two writers that lock the same rows in two orders would only
    /// deadlock.
    fn logs(&mut self) -> Option<Vec<i64>> {
        let mut log_ids: Vec<i64> = (0..self.several()).map_while(|_| self.a_log()).collect();
        log_ids.sort_unstable();
        log_ids.dedup();
        (!log_ids.is_empty()).then_some(log_ids)
    }

    fn several(&mut self) -> usize {
        self.rng.random_range(2..=ROWS_MAX)
    }

    fn new_log(&mut self, now: DateTime<Utc>) -> IntegrationLog {
        let log_id = self.next_id(|log_id, _| log_id);
        let at = self.mostly(now);
        generate::log(&mut self.rng, log_id, at)
    }

    fn new_payment(&mut self, now: DateTime<Utc>) -> Payment {
        let payment_id = self.next_id(|_, payment_id| payment_id);
        let at = self.mostly(now);
        generate::payment(&mut self.rng, payment_id, at)
    }

    fn values_of_log(&mut self, now: DateTime<Utc>) -> IntegrationLog {
        generate::log(&mut self.rng, 0, now.trunc_subsecs(6))
    }

    fn values_of_payment(&mut self, now: DateTime<Utc>) -> Payment {
        generate::payment(&mut self.rng, 0, now.trunc_subsecs(6))
    }

    fn next_id(&mut self, of_table: for<'a> fn(&'a mut i64, &'a mut i64) -> &'a mut i64) -> i64 {
        let NewIds::From { log_id, payment_id } = &mut self.new_ids else { return 0 };
        let next = of_table(log_id, payment_id);
        *next -= 1;
        *next
    }

    /// Most rows are of now; some arrive late and belong to days that were copied already.
    fn mostly(&mut self, now: DateTime<Utc>) -> DateTime<Utc> {
        if chance(&mut self.rng, 85) { now.trunc_subsecs(6) } else { self.some_time_before(now) }
    }

    fn some_time_before(&mut self, now: DateTime<Utc>) -> DateTime<Utc> {
        let back_us = self.rng.random_range(0..HISTORY_DAYS * 86_400_000_000);
        now.trunc_subsecs(6) - TimeDelta::microseconds(back_us)
    }
}
