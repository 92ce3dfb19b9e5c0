//! What capture costs a writer: the same single-row insert, with the triggers and without.

use std::time::{Duration, Instant};

use lockstep_core::source::Source;
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::worker;

/// Median time of one insert.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct CaptureCost {
    /// Without capture, in microseconds.
    pub plain_us: f64,
    /// With it.
    pub captured_us: f64,
}

impl CaptureCost {
    /// How many times a plain insert a captured one takes.
    pub fn ratio(&self) -> f64 {
        self.captured_us / self.plain_us
    }
}

const INSERT: &str = "INSERT INTO public.integration_logs
    (application_id, log_type, service_name, request_data, status_code, is_success, processing_time_ms, log_timestamp, correlation_id)
    VALUES (7, 'Request', 'credit-bureau', '{\"score\": 700, \"bureau\": \"north\"}', '200', true, 12, clock_timestamp(), 'bench')";

/// Measures `inserts` of each kind, one statement and one commit each, on a table that is not captured yet.
///
/// # Errors
/// The source's.
pub async fn measure(source: &Source, inserts: usize) -> anyhow::Result<CaptureCost> {
    let mut connection = PgConnection::connect_with(&source.pool().connect_options()).await?;
    // Warms caches and the plan, so that the kind measured first is not the slower one for that.
    median(&mut connection, inserts / 4).await?;
    let plain = median(&mut connection, inserts).await?;
    let binding = worker::binding();
    source.migrate_schema().await?;
    source.install_capture(&binding, &source.fingerprint(&binding).await?).await?;
    source.adopt_target(binding.name(), &binding.target_name, None).await?;
    median(&mut connection, inserts / 4).await?;
    let captured = median(&mut connection, inserts).await?;
    let us = |duration: Duration| duration.as_secs_f64() * 1e6;
    Ok(CaptureCost { plain_us: us(plain), captured_us: us(captured) })
}

async fn median(connection: &mut PgConnection, inserts: usize) -> anyhow::Result<Duration> {
    let mut times = Vec::with_capacity(inserts);
    for _ in 0..inserts.max(1) {
        let started = Instant::now();
        sqlx::query(INSERT).execute(&mut *connection).await?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}
