//! The tables that stay behind, and the identities of customers and officers.

use lockstep_core::{Doing, Result};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::generate::{APPLICATIONS, BRANCHES, CUSTOMERS, LOANS, OFFICERS};

const STANDING_SQL: &str = include_str!("../standing.sql");

/// Tables with their identity columns.
const IDENTITIES: [(&str, &str); 7] = [
    ("branches", "branch_id"),
    ("loan_officers", "officer_id"),
    ("customers", "customer_id"),
    ("applications", "application_id"),
    ("loans", "loan_id"),
    ("integration_logs", "log_id"),
    ("payments", "payment_id"),
];

/// Inserts the standing rows that are missing.
pub(super) async fn insert(connection: &mut PgConnection) -> Result<()> {
    let counts = [
        ("{branches}", BRANCHES),
        ("{officers}", OFFICERS),
        ("{customers}", CUSTOMERS),
        ("{applications}", APPLICATIONS),
        ("{loans}", LOANS),
    ];
    let sql = counts
        .iter()
        .fold(STANDING_SQL.to_owned(), |sql, (name, count)| sql.replace(name, &count.to_string()));
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await
        .doing("inserting the tables that stay behind")?;
    Ok(())
}

/// Sets each identity that lags behind the ids in its table above them. One that does not is not touched:
/// others may be drawing from it.
pub(super) async fn set_identities(connection: &mut PgConnection) -> Result<()> {
    for (table, column) in IDENTITIES {
        let sql = format!(
            "SELECT setval(sequence.name, ids.last) \
             FROM (SELECT pg_get_serial_sequence('{table}', '{column}')::regclass AS name) AS sequence, \
                  (SELECT max({column}) AS last FROM {table}) AS ids \
             WHERE ids.last > coalesce(pg_sequence_last_value(sequence.name), 0)"
        );
        sqlx::query(AssertSqlSafe(sql))
            .execute(&mut *connection)
            .await
            .doing("setting identities above the loaded ids")?;
    }
    Ok(())
}
