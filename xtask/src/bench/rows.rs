//! Rows of about 600 bytes, all alike, made where they are needed: the sample's rows differ too much to count
//! by.

use lockstep_core::Doing;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection};

use lockstep_sample::load;

const INSERT: &str = "INSERT INTO public.integration_logs
    (application_id, log_type, service_name, request_data, response_data, status_code, is_success, error_message,
     processing_time_ms, log_timestamp, correlation_id, user_id)
    SELECT 1 + n % 3000, 'Request', 'service-' || n % 7,
           jsonb_build_object('applicant', md5(n::text), 'amount', n % 100000, 'note', repeat('request ', 22)),
           jsonb_build_object('decision', md5((n + 1)::text), 'score', n % 850, 'note', repeat('answer ', 22)),
           '200', n % 16 <> 0, CASE WHEN n % 16 = 0 THEN 'the bureau did not answer in time' END,
           (n % 500)::int, now() - n * interval '1 second', md5((n + 2)::text), 'user-' || n % 1000
    FROM generate_series(1, $1) AS n";

/// Creates the sample's tables and `rows` logs in them.
///
/// # Errors
/// The source's.
pub async fn create(source_url: &str, rows: u64) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(source_url).await?;
    load::create_tables(&mut connection).await?;
    add(&mut connection, rows).await?;
    load::create_indexes(&mut connection).await?;
    sqlx::raw_sql("ANALYZE public.integration_logs")
        .execute(&mut connection)
        .await
        .doing("gathering statistics")?;
    connection.close().await?;
    Ok(())
}

/// Columns of the wide table.
pub const WIDE_COLUMNS: usize = 300;

/// Logs for which the wide table has one row: about as many values.
pub const WIDE_PART: u64 = 20;

/// Adds a copy of the logs, one by a random UUID, and a table of [`WIDE_COLUMNS`] columns with `wide_rows`
/// rows.
///
/// # Errors
/// The source's.
pub async fn add_others(source_url: &str, wide_rows: u64) -> anyhow::Result<()> {
    let columns: Vec<String> = (1..WIDE_COLUMNS)
        .map(|n| format!("c{n} {} NOT NULL", ["integer", "text", "timestamptz", "boolean", "bigint"][n % 5]))
        .collect();
    let values: Vec<&str> =
        (1..WIDE_COLUMNS).map(|n| ["n::int", "'text ' || n", "now()", "n % 2 = 0", "n"][n % 5]).collect();
    let sql = format!(
        "CREATE TABLE public.declared_logs (LIKE public.integration_logs INCLUDING ALL);
         INSERT INTO public.declared_logs OVERRIDING SYSTEM VALUE SELECT * FROM public.integration_logs;
         CREATE TABLE public.random_keys AS
             SELECT gen_random_uuid() AS id, l.* FROM public.integration_logs AS l;
         ALTER TABLE public.random_keys ADD PRIMARY KEY (id);
         CREATE TABLE public.wide (id bigint PRIMARY KEY, {});
         INSERT INTO public.wide SELECT n, {} FROM generate_series(1, {wide_rows}) AS n;
         ANALYZE public.declared_logs; ANALYZE public.random_keys; ANALYZE public.wide",
        columns.join(", "),
        values.join(", ")
    );
    // Else the statement, of 300 columns, is printed as a slow one.
    let options = source_url.parse::<PgConnectOptions>()?.disable_statement_logging();
    let mut connection = PgConnection::connect_with(&options).await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.doing("making other tables")?;
    connection.close().await?;
    Ok(())
}

/// Adds `rows` logs in one commit.
///
/// # Errors
/// The source's.
pub async fn add(connection: &mut PgConnection, rows: u64) -> anyhow::Result<()> {
    sqlx::query(INSERT).bind(rows as i64).execute(connection).await.doing("making rows")?;
    Ok(())
}
