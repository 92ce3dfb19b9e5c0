//! Looking whether a table carries the guard that a completed migration leaves.

use lockstep_core::{Doing, Result};
use sqlx::postgres::PgConnection;

use super::{Source, TableBinding};
use crate::sql;

pub(crate) const GUARD: &str = "zz_lockstep_moved";

impl Source {
    /// Returns those of `tables` whose relation carries the guard that a completed migration leaves.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn guarded<'a>(&self, tables: &'a [TableBinding]) -> Result<Vec<&'a TableBinding>> {
        let mut connection = self.pool().acquire().await.doing(LOOKING)?;
        let mut guarded = Vec::new();
        for binding in tables {
            if is_guarded(&mut connection, binding).await? {
                guarded.push(binding);
            }
        }
        Ok(guarded)
    }
}

const LOOKING: &str = "looking for the guard of a table";

pub(crate) async fn is_guarded(connection: &mut PgConnection, binding: &TableBinding) -> Result<bool> {
    sql::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_trigger WHERE tgrelid = pg_catalog.to_regclass($1)::oid
        AND tgname = $2)",
    )
    .bind(binding.relation.sql())
    .bind(GUARD)
    .fetch_one(connection)
    .await
    .doing(LOOKING)
}

/// Tells whether the guard of a table is the one that was left when it was moved to this binding's target. 1.
/// A table is moved and dropped. 2. Another one is made under its name, and a second migration moves that. 3.
/// A repeated removal of the first one's tables would drop it, behind the guard of the second.
pub(crate) async fn is_guarded_as_moved(
    connection: &mut PgConnection,
    binding: &TableBinding,
) -> Result<bool> {
    sql::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_trigger WHERE tgrelid = pg_catalog.to_regclass($1)::oid
        AND tgname = $2 AND tgargs = pg_catalog.convert_to($3, pg_catalog.getdatabaseencoding())
            || pg_catalog.decode('00', 'hex'))",
    )
    .bind(binding.relation.sql())
    .bind(GUARD)
    .bind(&binding.target_name)
    .fetch_one(connection)
    .await
    .doing(LOOKING)
}
