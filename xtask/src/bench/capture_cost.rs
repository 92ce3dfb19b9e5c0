//! Cost of capture for a writer: the same single-row insert, with the triggers and without.

use std::time::Instant;

use lockstep_postgres::Source;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use super::machine::median_us;
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
    /// Returns how many times a plain insert a captured one takes.
    pub fn ratio(&self) -> f64 {
        self.captured_us / self.plain_us
    }
}

/// A table of the same shape, rows and indexes, without triggers.
const TWIN: &str = "CREATE TABLE public.not_captured (LIKE public.integration_logs INCLUDING ALL);
    INSERT INTO public.not_captured OVERRIDING SYSTEM VALUE TABLE public.integration_logs;
    SELECT setval(pg_get_serial_sequence('public.not_captured', 'log_id'), max(log_id)) FROM public.not_captured";

/// The same insert into either table.
fn insert_into(table: &str) -> String {
    format!(
        "INSERT INTO {table}
    (application_id, log_type, service_name, request_data, status_code, is_success, processing_time_ms, log_timestamp, correlation_id)
    VALUES (7, 'Request', 'credit-bureau', '{{\"score\": 700, \"bureau\": \"north\"}}', '200', true, 12, clock_timestamp(), 'bench')"
    )
}

/// Measures `inserts` of each kind in turn, one statement and one commit each, so that whatever else the
/// machine does meets both alike.
///
/// # Errors
/// The source's.
pub async fn measure(source: &Source, inserts: usize) -> anyhow::Result<CaptureCost> {
    let mut connection = PgConnection::connect_with(&source.pool().connect_options()).await?;
    sqlx::raw_sql(TWIN).execute(&mut connection).await?;
    let binding = worker::binding();
    source.migrate_schema().await?;
    source.install_capture(&binding, &source.fingerprint(&binding).await?).await?;
    source.adopt_target(binding.name(), &binding.target_name, None).await?;
    let (plain, captured) = (insert_into("public.not_captured"), insert_into("public.integration_logs"));
    let (mut of_plain, mut of_captured) = (Vec::with_capacity(inserts), Vec::with_capacity(inserts));
    for insert in 0..inserts + inserts / 4 {
        let begun = Instant::now();
        sqlx::query(AssertSqlSafe(plain.clone())).execute(&mut connection).await?;
        let between = Instant::now();
        sqlx::query(AssertSqlSafe(captured.clone())).execute(&mut connection).await?;
        // The first ones warm caches and plans.
        if insert >= inserts / 4 {
            of_plain.push(between - begun);
            of_captured.push(between.elapsed());
        }
    }
    sqlx::raw_sql("DROP TABLE public.not_captured").execute(&mut connection).await?;
    Ok(CaptureCost { plain_us: median_us(of_plain), captured_us: median_us(of_captured) })
}
