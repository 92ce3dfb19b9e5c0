//! Looking single keys up: the row, whether it is pending, whether it is a dead letter, all in one snapshot.

use lockstep_core::{Doing, Fields, Result, Version};
use sqlx::AssertSqlSafe;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::binding::{list, quote_identifier, quote_literal};
use super::{KeyBound, Source, TableBinding};

/// What the source knows of one key at one moment.
pub struct KeyState {
    /// The version under which it is pending, if it is.
    pub pending: Option<Version>,
    /// Whether it is a dead letter.
    pub dead_letter: bool,
    row: PgRow,
    exists: bool,
}

/// The version under which a key is pending, by its mark or by the open intent of a strict write.
fn pending_sql(key: &str) -> String {
    format!(
        "coalesce(p.version, (SELECT max(i.repair_version) FROM lockstep.intents i WHERE i.table_name = $1 AND i.key = {key}))"
    )
}

/// Columns before the row's own.
const ROW_AT: usize = 3;

impl KeyState {
    fn of(row: PgRow) -> Self {
        Self {
            pending: row.get::<Option<i64>, _>("version").map(Version),
            dead_letter: row.get("dead_letter"),
            exists: row.get("exists"),
            row,
        }
    }

    /// Whether a row with exactly this key exists.
    pub fn exists(&self) -> bool {
        self.exists
    }

    /// Runs `read` over the row's fields, if it exists.
    pub fn with_fields<T>(&self, read: impl FnOnce(&mut Fields<'_>) -> T) -> Option<T> {
        self.exists.then(|| Fields::of_query(&self.row, ROW_AT, read))
    }
}

/// Numbered source keys as rows of a `VALUES` list, from one SQL literal a key column.
pub(super) fn keys_sql(binding: &TableBinding, keys: &[Vec<String>]) -> String {
    list(keys.iter().enumerate().map(|(n, key)| format!("({n}, {})", key_literal_sql(binding, key))))
}

/// A source key as `jsonb`, from one SQL literal a key column.
pub(super) fn key_literal_sql(binding: &TableBinding, key: &[String]) -> String {
    let parts = key
        .iter()
        .zip(binding.table.key_columns())
        .map(|(literal, column)| (column.key_expression)(&format!("{}::{}", quote_literal(literal), column.sql_type)));
    format!("jsonb_build_array({})", list(parts))
}

impl Source {
    /// Looks up source keys, given as one SQL literal a key column; the answer is in the order of `keys`.
    ///
    /// A row is found only under its whole key: one whose key columns have moved on does not answer to its old key.
    ///
    /// # Errors
    /// The driver's.
    pub async fn look_up(&self, binding: &TableBinding, keys: &[Vec<String>]) -> Result<Vec<KeyState>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let columns = binding.table.key_columns();
        let sql = format!(
            "SELECT {pending} AS version, x.key IS NOT NULL AS dead_letter, s.{first_key} IS NOT NULL AS exists, {row}
             FROM (VALUES {rows}) AS k (n, key)
             LEFT JOIN lockstep.pending p ON p.table_name = $1 AND p.key = k.key
             LEFT JOIN lockstep.dead_letters x ON x.table_name = $1 AND x.key = k.key
             LEFT JOIN {relation} AS s ON {same_row} ORDER BY k.n",
            pending = pending_sql("k.key"),
            first_key = quote_identifier(columns[0].name),
            row = binding.columns_sql("s"),
            rows = keys_sql(binding, keys),
            relation = binding.relation.sql(),
            same_row = binding.row_of_key_sql("s", "k.key"),
        );
        let found = sqlx::query(AssertSqlSafe(sql))
            // The text differs with every call: a cached plan would never be used again.
            .persistent(false)
            .bind(binding.name())
            .fetch_all(self.pool())
            .await
            .doing("looking keys up")?;
        Ok(found.into_iter().map(KeyState::of).collect())
    }

    /// Looks up the row of a primary key, with the standing of the key it has now; `None` when there is no such row. For
    /// rows whose whole key cannot be formed.
    ///
    /// # Errors
    /// The driver's.
    pub async fn look_up_row(&self, binding: &TableBinding, primary_key: &KeyBound) -> Result<Option<KeyState>> {
        let types = binding.table.key_columns().iter().map(|column| column.sql_type);
        let literals = list(primary_key.iter().zip(types).map(|(literal, t)| format!("{}::{t}", quote_literal(literal))));
        let sql = format!(
            "SELECT {pending} AS version, x.key IS NOT NULL AS dead_letter, true AS exists, {row}
             FROM {relation} AS s
             LEFT JOIN lockstep.pending p ON p.table_name = $1 AND p.key = {key}
             LEFT JOIN lockstep.dead_letters x ON x.table_name = $1 AND x.key = {key}
             WHERE ({primary_key}) = ({literals})",
            pending = pending_sql(&binding.key_sql("s")),
            row = binding.columns_sql("s"),
            relation = binding.relation.sql(),
            key = binding.key_sql("s"),
            primary_key = binding.primary_key_sql("s"),
        );
        let found = sqlx::query(AssertSqlSafe(sql))
            .persistent(false)
            .bind(binding.name())
            .fetch_optional(self.pool())
            .await
            .doing("looking a row up")?;
        Ok(found.map(KeyState::of))
    }

    /// Whether the row of a primary key is a dead letter. For rows whose whole key cannot be formed.
    ///
    /// # Errors
    /// The driver's.
    pub async fn is_dead_letter(&self, binding: &TableBinding, primary_key: &KeyBound) -> Result<bool> {
        let types = binding.table.key_columns().iter().map(|column| column.sql_type);
        let literals = list(primary_key.iter().zip(types).map(|(literal, t)| format!("{}::{t}", quote_literal(literal))));
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM {} AS s JOIN lockstep.dead_letters x ON x.table_name = $1 AND x.key = {}
                            WHERE ({}) = ({literals}))",
            binding.relation.sql(),
            binding.key_sql("s"),
            binding.primary_key_sql("s"),
        );
        sqlx::query_scalar(AssertSqlSafe(sql)).bind(binding.name()).fetch_one(self.pool()).await.doing("looking a dead letter up")
    }
}
