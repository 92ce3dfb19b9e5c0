//! A probe: capture is seen to work in a transaction that is rolled back, and no row is read, locked or
//! written for it.
//!
//! Why not a row of the table: every key that it could have, an application can have; and every trigger of an
//! application that it fires may take a number from a sequence, which no rollback gives back. So the table's
//! own capture function is fired by a relation that exists in this transaction only, and has the key columns
//! alone, all of them NULL: no primary key holds NULL, so the mark that it makes is of a key that no row can
//! have, and no writer ever waits for it.

use std::time::Duration;

use lockstep_core::{Doing, Result};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::barrier::limit_lock_waits;
use super::binding::{digest_sql, list, quote_identifier};
use super::trigger_names::function_name;
use super::{CaptureState, Source, TableBinding};
use crate::sql::{self, Run as _};

/// Longest wait for a lock: for a step that is closing the barrier, or another probe.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// The relation that exists inside the transaction only. Unlogged, because such a relation is in no
/// publication.
const PROBE: &str = "lockstep.test_operation_probe";

/// Result of a probe of capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaptureProbe {
    /// A write and a deletion were each marked, the deletion under the higher version, and everything was
    /// rolled back.
    Captured,
    /// The triggers of the table are not as they were installed, or were never.
    Off(CaptureState),
    /// The capture function ran and made no mark, or not the one that it should.
    Unmarked(String),
}

impl Source {
    /// Fires the capture function of a table inside a transaction, looks for its marks, and rolls everything
    /// back.
    ///
    /// # Errors
    /// The driver's: of a capture function that fails as well.
    ///
    /// # Cancel safety
    /// The transaction is rolled back.
    #[crate::boxed]
    pub async fn probe_capture(&self, binding: &TableBinding) -> Result<CaptureProbe> {
        let doing = format!("probing capture of {}", binding.relation);
        let mut transaction = self.begin(&doing).await?;
        limit_lock_waits(&mut transaction, LOCK_TIMEOUT).await?;
        let found = probe(&mut transaction, binding, &doing).await;
        transaction.rollback().await.doing(&doing)?;
        found
    }
}

async fn probe(transaction: &mut PgConnection, binding: &TableBinding, doing: &str) -> Result<CaptureProbe> {
    let state = CaptureState::read(transaction, binding).await?;
    if state != CaptureState::On {
        return Ok(CaptureProbe::Off(state));
    }
    let columns = binding
        .table
        .key_columns()
        .iter()
        .map(|column| format!("{} {}", quote_identifier(column.name), column.sql_type));
    let statements = [
        format!("CREATE UNLOGGED TABLE {PROBE} ({})", list(columns)),
        format!(
            "CREATE TRIGGER probe AFTER INSERT OR DELETE ON {PROBE} FOR EACH ROW EXECUTE FUNCTION {}()",
            function_name(binding)
        ),
        // A session in replica role captures as well.
        format!("ALTER TABLE {PROBE} ENABLE ALWAYS TRIGGER probe"),
        format!("INSERT INTO {PROBE} DEFAULT VALUES"),
    ];
    for statement in statements {
        transaction.execute(AssertSqlSafe(statement)).await.doing(doing)?;
    }
    let Some(written) = mark(transaction, binding, doing).await? else {
        return Ok(CaptureProbe::Unmarked("a row that is written is not marked".to_owned()));
    };
    transaction
        .execute(AssertSqlSafe(format!("DELETE FROM {PROBE} WHERE ctid IS NOT NULL")))
        .await
        .doing(doing)?;
    Ok(match mark(transaction, binding, doing).await? {
        Some(deleted) if deleted > written => CaptureProbe::Captured,
        _ => CaptureProbe::Unmarked("a row that is deleted is not marked under a higher version".to_owned()),
    })
}

/// Returns the version of the mark of the key that no row can have.
async fn mark(transaction: &mut PgConnection, binding: &TableBinding, doing: &str) -> Result<Option<i64>> {
    let nothing = binding
        .table
        .key_columns()
        .iter()
        .map(|column| format!("NULL::{} AS {}", column.sql_type, quote_identifier(column.name)));
    let sql = format!(
        "SELECT p.version FROM (SELECT {}) AS s JOIN lockstep.pending p ON p.table_name = $1 AND {} = {}",
        list(nothing),
        digest_sql("p.key"),
        digest_sql(&binding.key_sql("s")),
    );
    sql::query_scalar(AssertSqlSafe(sql))
        .persistent(false)
        .bind(binding.name())
        .fetch_optional(transaction)
        .await
        .doing(doing)
}
