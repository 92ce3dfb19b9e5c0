//! A batch from PostgreSQL: by key set, never by offset, so a batch costs the same wherever it is.

use lockstep_core::{Doing, Error, Fields, Kind, MigratableTable, Result, Row, Unholdable};
use lockstep_postgres::list;
use sqlx::postgres::PgArguments;
use sqlx::{Arguments, AssertSqlSafe};

use super::Query;
use super::place::ordered;
use crate::store::Store;

impl<T: MigratableTable> Query<T> {
    /// The statement of a batch. The same text for every call of one query, so that its plan is kept.
    fn batch_sql(&self, store: &Store<T>, after: bool) -> String {
        let binding = &store.shared.binding;
        let (order, compare) = if self.ascending { ("ASC", ">") } else { ("DESC", "<") };
        let mut conditions = self.conditions.clone();
        let mut places = self.arguments.len();
        if after {
            let place = |name: &str| {
                T::Key::COLUMNS.iter().position(|c| c.name == name).map_or(0, |at| places + at + 1)
            };
            let compared: Vec<_> = self.order_columns().map(|c| ordered(c, place(c.name))).collect();
            let columns = list(compared.iter().map(|(column, _)| column.clone()));
            let values = list(compared.iter().map(|(_, value)| value.clone()));
            conditions.push(format!("({columns}) {compare} ({values})"));
            // PostgreSQL knows an enum by the place of its parameter, so each must have one.
            for label in T::Key::COLUMNS.iter().filter(|column| !column.labels.is_empty()) {
                conditions.push(format!("(${}::text IS NULL OR true)", place(label.name)));
            }
            places += T::Key::COLUMNS.len();
        }
        let conditions = if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") };
        format!(
            "SELECT {} FROM {} AS s WHERE {conditions} ORDER BY {} LIMIT ${}",
            binding.columns_sql("s"),
            binding.relation.sql(),
            list(self.order_columns().map(|column| format!("{} {order}", ordered(column, 0).0))),
            places + 1,
        )
    }

    pub(super) async fn source_batch(
        &self,
        store: &Store<T>,
        after: Option<&T::Key>,
        rows_max: usize,
    ) -> Result<Vec<T::Row>> {
        let bad = |reason: Unholdable| {
            Error::source(Kind::Invalid, format!("querying {}", T::NAME), reason.to_string())
        };
        self.source_rows(store, after, rows_max).await?.into_iter().map(|row| row.map_err(bad)).collect()
    }

    /// A batch, with the reason in the place of each row that cannot be held: a look at many rows does not
    /// stop at one.
    pub(super) async fn source_rows(
        &self,
        store: &Store<T>,
        after: Option<&T::Key>,
        rows_max: usize,
    ) -> Result<Vec<std::result::Result<T::Row, Unholdable>>> {
        let doing = format!("querying {}", T::NAME);
        let mut arguments: PgArguments = self.arguments.clone();
        if let Some(after) = after {
            after.bind(&mut arguments);
        }
        arguments.add(rows_max as i64).map_err(|e| Error::source(Kind::Invalid, &doing, e.to_string()))?;
        let sql = AssertSqlSafe(self.batch_sql(store, after.is_some()));
        let found =
            sqlx::query_with(sql, arguments).fetch_all(store.shared.source.pool()).await.doing(&doing)?;
        Ok(found.iter().map(|row| Fields::of_query(row, 0, T::Row::from_fields)).collect())
    }

    pub(super) async fn source_count(&self, store: &Store<T>) -> Result<u64> {
        let conditions =
            if self.conditions.is_empty() { "true".to_owned() } else { self.conditions.join(" AND ") };
        let sql = format!(
            "SELECT pg_catalog.count(*) FROM {} AS s
            WHERE {conditions}",
            store.shared.binding.relation.sql()
        );
        let counted: i64 = sqlx::query_scalar_with(AssertSqlSafe(sql), self.arguments.clone())
            .fetch_one(store.shared.source.pool())
            .await
            .doing(&format!("counting in {}", T::NAME))?;
        Ok(u64::try_from(counted).unwrap_or_default())
    }
}
