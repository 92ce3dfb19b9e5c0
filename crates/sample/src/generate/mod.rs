//! Rows from a seed. Pure: no clock, no I/O; the same seed and the same day give the same rows on every
//! machine.

mod documents;
mod log;
mod payment;
pub(crate) mod words;

#[cfg(test)]
mod tests;

pub use log::log;
pub use payment::payment;
pub use words::SERVICES;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use lockstep_integration_logs::IntegrationLog;
use lockstep_payments::Payment;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Branches that stay behind.
pub const BRANCHES: i64 = 12;
/// Loan officers that stay behind.
pub const OFFICERS: i64 = 60;
/// Customers that stay behind; every generated payment refers to one of them.
pub const CUSTOMERS: i64 = 2_000;
/// Loan applications that stay behind; every generated log refers to one of them or to none.
pub const APPLICATIONS: i64 = 3_000;
/// Loans that stay behind, one for each of the first applications.
pub const LOANS: i64 = 2_500;

/// Days of history before the base day.
pub const HISTORY_DAYS: i64 = 30;
/// Rows generated from one stream of random numbers: about 600 KB, so a few chunks in flight are a few
/// megabytes.
pub const CHUNK_ROWS: u64 = 1_000;

/// Returns the customer who borrowed; the loan is that of the application with the same number
/// (standing.sql).
pub const fn customer_of_loan(loan_id: i64) -> i64 {
    1 + loan_id % CUSTOMERS
}

/// Everything that decides the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// Seed of every choice.
    pub seed: u64,
    /// The day that history ends before, normally today in UTC.
    pub base_day: NaiveDate,
    /// Rows of `integration_logs`, with ids from 1.
    pub logs: u64,
    /// Rows of `payments`, with ids from 1.
    pub payments: u64,
}

impl History {
    /// Chunks of logs.
    pub fn log_chunks(&self) -> u64 {
        self.logs.div_ceil(CHUNK_ROWS)
    }

    /// Chunks of payments.
    pub fn payment_chunks(&self) -> u64 {
        self.payments.div_ceil(CHUNK_ROWS)
    }

    /// Returns the logs of one chunk, counted from 0, in the order of their ids.
    pub fn chunk_of_logs(&self, chunk: u64) -> impl Iterator<Item = IntegrationLog> {
        self.chunk(chunk, self.logs, "logs").map(|(mut rng, id, at)| log(&mut rng, id, at))
    }

    /// Returns the payments of one chunk, counted from 0, in the order of their ids.
    pub fn chunk_of_payments(&self, chunk: u64) -> impl Iterator<Item = Payment> {
        self.chunk(chunk, self.payments, "payments").map(|(mut rng, id, at)| payment(&mut rng, id, at))
    }

    /// Returns a generator, an id and a time for each row of a chunk.
    fn chunk(
        &self,
        chunk: u64,
        rows: u64,
        table: &str,
    ) -> impl Iterator<Item = (StdRng, i64, DateTime<Utc>)> {
        let history = *self;
        let mut rng = stream(self.seed, table, chunk);
        let ids = chunk * CHUNK_ROWS..rows.min((chunk + 1) * CHUNK_ROWS);
        ids.map(move |index| {
            let at = history.time_of(index, rows, &mut rng);
            (StdRng::from_rng(&mut rng), index as i64 + 1, at)
        })
    }

    /// History grows with the ids, as it does in a live system, and not quite in their order.
    fn time_of(&self, index: u64, rows: u64, rng: &mut StdRng) -> DateTime<Utc> {
        let end = self.base_day.and_time(NaiveTime::MIN).and_utc();
        let span_us = TimeDelta::days(HISTORY_DAYS).num_microseconds().unwrap_or(i64::MAX);
        let share = (index as f64 + rng.random::<f64>()) / rows.max(1) as f64;
        let jitter_us = rng.random_range(-1_800_000_000_i64..1_800_000_000);
        // Turned back at both ends, not cut off there: hundreds of rows would share one instant.
        let offset_us = ((span_us as f64 * share) as i64 + jitter_us).abs();
        let offset_us = offset_us.min(2 * (span_us - 1) - offset_us);
        // Some clocks are coarse: rows then share a microsecond, and only their ids keep their keys apart.
        let offset_us = if rng.random_ratio(1, 20) { offset_us - offset_us % 60_000_000 } else { offset_us };
        end - TimeDelta::days(HISTORY_DAYS) + TimeDelta::microseconds(offset_us)
    }
}

/// Returns an independent stream of random numbers for each table and chunk.
fn stream(seed: u64, table: &str, chunk: u64) -> StdRng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&chunk.to_le_bytes());
    for (slot, byte) in bytes[16..].iter_mut().zip(table.bytes()) {
        *slot = byte;
    }
    StdRng::from_seed(bytes)
}
