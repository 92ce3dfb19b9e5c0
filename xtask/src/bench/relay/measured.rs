//! The measured process: one relay and a writer beside it, so that its time is its own and the target's is
//! not.

use std::time::{Duration, Instant};

use anyhow::Context;
use lockstep_coordinator::{Coordinator, RelayUntil};
use lockstep_postgres::Source;
use serde::{Deserialize, Serialize};
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Asked;
use crate::bench::{process, rows, worker};

/// Interval at which the writer commits, and the one at which the lag is looked at.
const WRITE_EVERY: Duration = Duration::from_millis(10);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Part of the writes of one round that another must have made for their lags to be compared.
const COMPARABLE: f64 = 0.95;

/// Result of one round.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Delivered {
    /// New rows delivered a second.
    pub inserts_per_s: f64,
    /// Changed rows delivered a second.
    pub updates_per_s: f64,
    /// Lag that 99 of 100 samples do not exceed.
    pub lag_p99_ms: f64,
    /// The greatest.
    pub lag_max_ms: f64,
    /// Writes a second that were really made meanwhile.
    pub lag_writes_per_s: f64,
}

impl Delivered {
    /// The better of each: what was taken away can only have made a reading worse. The lag goes with its own
    /// writes.
    pub fn better_than(self, best: Option<Self>) -> Self {
        let Some(best) = best else { return self };
        // A writer that was held up made less to deliver: a round in which clearly less was written says
        // nothing of this one.
        let lag = match self.lag_writes_per_s / best.lag_writes_per_s {
            less if less < COMPARABLE => best,
            more if more > 1.0 / COMPARABLE => self,
            _ if self.lag_p99_ms < best.lag_p99_ms => self,
            _ => best,
        };
        Self {
            inserts_per_s: self.inserts_per_s.max(best.inserts_per_s),
            updates_per_s: self.updates_per_s.max(best.updates_per_s),
            ..lag
        }
    }
}

/// Starts the measured process and waits for what it says.
pub(super) async fn spawn(source_url: &str, endpoint_url: &str, asked: &Asked) -> anyhow::Result<Delivered> {
    let numbers = [asked.rows, asked.writes_per_s, asked.lag_seconds].map(|number| number.to_string());
    let [rows, writes, seconds] = &numbers;
    process::measured(&["bench", "deliver", endpoint_url, rows, writes, seconds], source_url).await
}

/// The measured process itself; prints [`Delivered`] as JSON.
///
/// # Errors
/// The stores'; when not every change was delivered.
pub async fn run(endpoint_url: &str, rows: u64, writes_per_s: u64, lag_seconds: u64) -> anyhow::Result<()> {
    let source = worker::connect(&process::source_url()?).await?;
    let coordinator =
        worker::coordinator(source.clone(), endpoint_url, worker::binding(), Default::default()).await?;
    let mut connection = PgConnection::connect_with(&source.pool().connect_options()).await?;
    rows::add(&mut connection, rows).await?;
    let inserts_per_s = deliver(&coordinator, rows).await?;
    sqlx::query("UPDATE public.integration_logs SET status_code = '201'").execute(&mut connection).await?;
    let updates_per_s = deliver(&coordinator, rows).await?;
    let lag =
        lag(&coordinator, &source, &mut connection, writes_per_s, Duration::from_secs(lag_seconds.max(1)))
            .await?;
    coordinator.close().await;
    println!("{}", serde_json::to_string(&Delivered { inserts_per_s, updates_per_s, ..lag })?);
    Ok(())
}

/// Delivers everything that is pending, which is `rows` changes; returns how many a second.
async fn deliver(coordinator: &Coordinator, rows: u64) -> anyhow::Result<f64> {
    let started = Instant::now();
    let summary = coordinator.relay(RelayUntil::Empty, &CancellationToken::new()).await?;
    let rate = rows as f64 / started.elapsed().as_secs_f64();
    anyhow::ensure!(summary.delivered == rows, "{} of {rows} changes were delivered", summary.delivered);
    Ok(rate)
}

/// Writes steadily beside a relay, and samples how old the oldest change is that it has not delivered.
async fn lag(
    coordinator: &Coordinator,
    source: &Source,
    connection: &mut PgConnection,
    writes_per_s: u64,
    lasting: Duration,
) -> anyhow::Result<Delivered> {
    let per_commit = (writes_per_s * WRITE_EVERY.as_millis() as u64 / 1_000).max(1);
    let (started, stop) = (Instant::now(), CancellationToken::new());
    let relaying = async { Ok(coordinator.relay(RelayUntil::Cancelled, &stop).await.map(drop)?) };
    let writing = async {
        let (mut ticks, mut written) = (tokio::time::interval(WRITE_EVERY), 0_u64);
        // A writer that was held up goes on at its pace; bursts would be another load.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while started.elapsed() < lasting {
            ticks.tick().await;
            rows::add(connection, per_commit).await?;
            written += per_commit;
        }
        let rate = written as f64 / started.elapsed().as_secs_f64();
        stop.cancel();
        anyhow::Ok(rate)
    };
    let looking = async {
        let (mut ticks, mut samples) = (tokio::time::interval(LOOK_EVERY), Vec::new());
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            samples.push(source.lag(worker::binding().name()).await?.oldest_s * 1_000.0);
        }
        anyhow::Ok(samples)
    };
    let ((), lag_writes_per_s, mut samples) = tokio::try_join!(relaying, writing, looking)?;
    samples.sort_unstable_by(f64::total_cmp);
    let lag_max_ms = *samples.last().context("the lag was looked at")?;
    let lag_p99_ms = samples[(samples.len() * 99).div_ceil(100).saturating_sub(1)];
    Ok(Delivered { inserts_per_s: 0.0, updates_per_s: 0.0, lag_p99_ms, lag_max_ms, lag_writes_per_s })
}
