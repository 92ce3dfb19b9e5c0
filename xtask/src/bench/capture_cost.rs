//! Cost of capture for a writer: the same insert and update of one row, with the triggers and without.

use std::time::Instant;

use lockstep_postgres::Source;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use super::machine::median_us;
use super::worker;

/// Median times of one insert and one update.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct CaptureCost {
    /// An insert without capture, in microseconds.
    pub plain_us: f64,
    /// With it.
    pub captured_us: f64,
    /// An update of one column without capture, in microseconds.
    pub plain_update_us: f64,
    /// With it.
    pub captured_update_us: f64,
    /// A captured insert as a multiple of a plain one; at most [`INSERT_GOAL`] is wanted.
    pub insert_ratio: f64,
    /// The same of updates and [`UPDATE_GOAL`].
    pub update_ratio: f64,
}

/// Multiple of a plain insert that a captured one should not exceed (R56).
pub const INSERT_GOAL: f64 = 1.35;
/// The same of updates.
pub const UPDATE_GOAL: f64 = 1.5;

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

/// The same update in either table, of a row of its own each time.
fn update_of(table: &str) -> String {
    format!("UPDATE {table} SET status_code = '201' WHERE log_id = $1")
}

/// Measures `writes` of each kind in turn, one statement and one commit each, so that whatever else the
/// machine does meets both alike.
///
/// # Errors
/// The source's.
pub async fn measure(source: &Source, writes: usize) -> anyhow::Result<CaptureCost> {
    let mut connection = PgConnection::connect_with(&source.pool().connect_options()).await?;
    sqlx::raw_sql(TWIN).execute(&mut connection).await?;
    let binding = worker::binding();
    source.migrate_schema().await?;
    source.install_capture(&binding, &source.fingerprint(&binding).await?).await?;
    source.adopt_target(binding.name(), &binding.target_name, None).await?;
    let tables = ["public.not_captured", "public.integration_logs"];
    let (plain_us, captured_us) =
        in_turn(&mut connection, writes, tables.map(insert_into), |query, _| query).await?;
    let (plain_update_us, captured_update_us) =
        in_turn(&mut connection, writes, tables.map(update_of), |query, at| query.bind(1 + at as i64))
            .await?;
    sqlx::raw_sql("DROP TABLE public.not_captured").execute(&mut connection).await?;
    Ok(CaptureCost {
        plain_us,
        captured_us,
        plain_update_us,
        captured_update_us,
        insert_ratio: captured_us / plain_us,
        update_ratio: captured_update_us / plain_update_us,
    })
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// Runs one statement after the other and returns the medians of both in microseconds.
async fn in_turn(
    connection: &mut PgConnection,
    writes: usize,
    [plain, captured]: [String; 2],
    bound: impl for<'q> Fn(Query<'q>, usize) -> Query<'q>,
) -> anyhow::Result<(f64, f64)> {
    let (mut of_plain, mut of_captured) = (Vec::with_capacity(writes), Vec::with_capacity(writes));
    for at in 0..writes + writes / 4 {
        let begun = Instant::now();
        let done = bound(sqlx::query(AssertSqlSafe(plain.clone())), at).execute(&mut *connection).await?;
        let between = Instant::now();
        let same = bound(sqlx::query(AssertSqlSafe(captured.clone())), at).execute(&mut *connection).await?;
        let lasted = between.elapsed();
        anyhow::ensure!(done.rows_affected() == 1 && same.rows_affected() == 1, "a write changed no row");
        // The first ones warm caches and plans.
        if at >= writes / 4 {
            of_plain.push(between - begun);
            of_captured.push(lasted);
        }
    }
    Ok((median_us(of_plain), median_us(of_captured)))
}
