//! Rows of about 600 bytes, all alike, made where they are needed: the sample's rows differ too much to count
//! by.

use lockstep_core::Doing;
use sqlx::Connection;
use sqlx::postgres::PgConnection;

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

/// Adds `rows` logs in one commit.
///
/// # Errors
/// The source's.
pub async fn add(connection: &mut PgConnection, rows: u64) -> anyhow::Result<()> {
    sqlx::query(INSERT).bind(rows as i64).execute(connection).await.doing("making rows")?;
    Ok(())
}
