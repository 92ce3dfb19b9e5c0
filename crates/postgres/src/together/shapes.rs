//! Relation of several tables to what was captured of them.

use std::sync::LazyLock;

use lockstep_core::{Doing, Result};
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;

use crate::fingerprint::FINGERPRINT;
use crate::recorded::{is_as_recorded, is_to_be_recorded};
use crate::shape::{HELD_UP_FOR, read_order};
use crate::sql;
use crate::{Shape, Source, TableBinding};

const DOING: &str = "reading the columns of all tables";

/// The recorded fingerprint and that of now of each table that is asked for.
static FINGERPRINTS: LazyLock<String> = LazyLock::new(|| {
    let of_one = FINGERPRINT.replace("$1", "asked.relation").replace("$2::text[]", "asked.key");
    format!(
        "SELECT recorded.fingerprint, coalesce(found.fingerprint, '')
         FROM (SELECT listed.name, listed.relation, listed.nth,
                   ARRAY(SELECT pg_catalog.jsonb_array_elements_text(listed.columns::jsonb)) AS key
               FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]),
                   pg_catalog.unnest($3::text[])) WITH ORDINALITY AS listed (name, relation, columns, nth)
              ) AS asked
         LEFT JOIN lockstep.tables recorded ON recorded.name = asked.name
         LEFT JOIN LATERAL ({of_one}) AS found (fingerprint) ON true
         ORDER BY asked.nth"
    )
});

/// Returns, of each table, the recorded fingerprint, if it is captured, and that of now, which is empty where
/// there is no such relation.
async fn fingerprints(
    executor: impl PgExecutor<'_>,
    tables: &[TableBinding],
) -> Result<Vec<(Option<String>, String)>> {
    let names: Vec<&str> = tables.iter().map(TableBinding::name).collect();
    let relations: Vec<String> = tables.iter().map(|binding| binding.relation.sql()).collect();
    let key = |binding: &TableBinding| {
        serde_json::Value::from(binding.primary_key().collect::<Vec<_>>()).to_string()
    };
    let keys: Vec<String> = tables.iter().map(key).collect();
    sql::query_as(FINGERPRINTS.as_str())
        .bind(names)
        .bind(relations)
        .bind(keys)
        .fetch_all(executor)
        .await
        .doing(DOING)
}

impl Source {
    async fn fingerprints(&self, tables: &[TableBinding]) -> Result<Vec<(Option<String>, String)>> {
        let found = fingerprints(self.pool(), tables).await?;
        for (binding, (_, now)) in tables.iter().zip(&found) {
            self.see_order(binding, read_order(now));
        }
        Ok(found)
    }

    /// Compares each of these tables with what was captured, in their order: as [`Source::shape`], by one
    /// statement and three more for each table whose record is out of date.
    ///
    /// # Errors
    /// As there.
    #[crate::boxed]
    pub async fn shapes(&self, tables: &[TableBinding]) -> Result<Vec<Shape>> {
        let mut shapes = Vec::with_capacity(tables.len());
        for (binding, (captured, now)) in tables.iter().zip(self.fingerprints(tables).await?) {
            let captured = captured.as_deref().unwrap_or(&now);
            let shape = Shape::of(captured, &now);
            let is_known = !is_to_be_recorded(&shape, captured, &now);
            shapes.push(if is_known { shape } else { self.shape(binding).await? });
        }
        Ok(shapes)
    }

    /// Returns those of these tables, by their place, that [`Source::record_shape`] has something to do for.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    #[crate::boxed]
    pub async fn shapes_to_record(&self, tables: &[TableBinding]) -> Result<Vec<usize>> {
        let found = self.fingerprints(tables).await?;
        let is_due = |(captured, now): &(Option<String>, String)| {
            captured.as_ref().is_some_and(|captured| !is_as_recorded(captured, now))
        };
        Ok(found.iter().enumerate().filter(|(_, found)| is_due(found)).map(|(at, _)| at).collect())
    }
}

/// Returns the shapes of several tables inside a transaction, after which no statement can change them until
/// it ends: `ALTER TABLE` waits for our locks, and we for one that is under way.
///
/// # Errors
/// [`Kind::Busy`](lockstep_core::Kind::Busy) when such a statement holds a table for longer than
/// `lock_timeout`.
#[crate::boxed]
pub async fn hold_shapes(transaction: &mut PgConnection, tables: &[TableBinding]) -> Result<Vec<Shape>> {
    if tables.is_empty() {
        return Ok(Vec::new());
    }
    crate::barrier::limit_lock_waits(transaction, HELD_UP_FOR).await?;
    let relations: Vec<String> = tables.iter().map(|binding| binding.relation.sql()).collect();
    let lock = format!("LOCK TABLE {} IN ACCESS SHARE MODE", relations.join(", "));
    sql::query(sqlx::AssertSqlSafe(lock)).persistent(false).execute(&mut *transaction).await.doing(DOING)?;
    let found = fingerprints(transaction, tables).await?;
    Ok(found.iter().map(|(captured, now)| Shape::of(captured.as_deref().unwrap_or_default(), now)).collect())
}
