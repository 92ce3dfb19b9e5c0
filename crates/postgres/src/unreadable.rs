//! Marks that do not read as a key of their table. An application's role may write marks; one malformed mark
//! must not hold up the others.

use lockstep_core::{Doing, Kind, Result, SourceKey, Version};
use sqlx::AssertSqlSafe;

use super::{Source, TableBinding};

/// Reason that the dead letter gives; `dead-letters` and `doctor` show it.
const REASON: &str =
    "the mark does not read as a key of this table: no capture trigger made it, and no row is behind it";

/// Sets aside every mark of the table that does not read as a key; returns how many.
///
/// Goes through the whole set of the table, which is only done after a batch failed to read.
pub(super) async fn set_aside(source: &Source, binding: &TableBinding) -> Result<u64> {
    let doing = format!("looking for marks of {} that are no keys", binding.name());
    let marks: Vec<(String, i64)> =
        sqlx::query_as("SELECT key::text, version FROM lockstep.pending WHERE table_name = $1")
            .bind(binding.name())
            .fetch_all(source.pool())
            .await
            .doing(&doing)?;
    let mut gone = 0;
    for (key, version) in marks {
        if !reads(source, binding, &key, &doing).await? {
            gone += u64::from(source.set_aside_text(binding.name(), &key, Version(version), REASON).await?);
        }
    }
    Ok(gone)
}

async fn reads(source: &Source, binding: &TableBinding, key: &str, doing: &str) -> Result<bool> {
    if SourceKey::parse(key).is_err() {
        return Ok(false);
    }
    let same_row = binding.row_of_key_sql("s", "p.key");
    let sql = format!(
        "SELECT pg_catalog.count(s.*) FROM (SELECT $1::jsonb AS key) AS p LEFT JOIN {} AS s ON {same_row}",
        binding.relation.sql()
    );
    let read = sqlx::query(AssertSqlSafe(sql)).bind(key).execute(source.pool()).await.doing(doing);
    match read {
        Ok(_) => Ok(true),
        Err(error) if error.kind == Kind::Invalid => Ok(false),
        Err(error) => Err(error),
    }
}
