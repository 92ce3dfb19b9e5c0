//! Whether a table is in another migration of this database, one with a control schema of its own.

use lockstep_core::{Doing, Error, Kind, Result};
use sqlx::postgres::PgConnection;

use super::binding::quote_identifier;
use super::{Relation, Source, TableBinding};
use crate::sql;

/// The capture triggers and guards on relation `$1`, on what it is a partition of, and on its own partitions,
/// whose functions are in no schema of `$2`. That which refuses `TRUNCATE` stays on a partition that was
/// detached, and says nothing.
const TAKEN: &str = r"
WITH RECURSIVE above AS (
    SELECT c.oid FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass($1)::oid
    UNION SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN above ON i.inhrelid = above.oid),
below AS (
    SELECT c.oid FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass($1)::oid
    UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN below ON i.inhparent = below.oid)
SELECT n.nspname || '.' || c.relname, pg_catalog.left(t.tgname, 17) = 'zz_lockstep_moved', o.nspname::text
FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
JOIN pg_catalog.pg_namespace o ON o.oid = p.pronamespace
WHERE c.oid IN (SELECT oid FROM above UNION SELECT oid FROM below) AND o.nspname <> ALL ($2)
    AND (t.tgname LIKE 'zz\_lockstep\_capture\_%' OR t.tgname LIKE 'zz\_lockstep\_moved%')
ORDER BY c.oid, t.tgname LIMIT 1";

const LOOKING: &str = "looking whether another migration has a table";

/// Refuses a table that another migration has, by itself or as part of a partitioned one, or of which it has
/// a partition. The lock of the table is held, and with it that of each partition.
///
/// 1. Orders are moved by the migration in schema `lockstep`, and captured. 2. The one in `lockstep_b`
/// captures them too. 3. Its trigger has the name of the first one's, which is dropped: writes of orders are
/// delivered by the second alone, and the first is told consistent by rows that no longer change.
///
/// # Errors
/// [`Kind::Refused`], with the schema of the other one; the driver's.
pub(crate) async fn refuse(connection: &mut PgConnection, binding: &TableBinding, doing: &str) -> Result<()> {
    match taken(connection, binding).await? {
        None => Ok(()),
        Some(message) => Err(Error::source(Kind::Refused, doing, message)),
    }
}

/// Returns the first of these names that a statement about another schema than the usual one would have
/// wrong: in quotes it has what stands for the name of ours. Pure.
fn misread<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names.find(|name| sql::is_taken_for_the_name(&quote_identifier(name)))
}

/// Returns why a table with such a name is not moved here.
fn misnamed(binding: &TableBinding) -> Option<String> {
    if sql::control_schema() == sql::CONTROL_SCHEMA {
        return None;
    }
    let Relation { schema, name } = &binding.relation;
    let columns = binding.table.columns().iter().map(|column| column.name);
    let found = misread([schema.as_str(), name, binding.name()].into_iter().chain(columns))?;
    Some(format!(
        "{} has the name {found:?}, and a migration in schema {} takes what begins with `lockstep.` there \
         for a name of its own: move the table in the migration of schema {}, or give it another name",
        binding.relation,
        sql::control_schema(),
        sql::CONTROL_SCHEMA
    ))
}

async fn taken(connection: &mut PgConnection, binding: &TableBinding) -> Result<Option<String>> {
    if let Some(message) = misnamed(binding) {
        return Ok(Some(message));
    }
    let ours = [sql::control_schema().to_owned(), sql::archive_schema()];
    let found: Option<(String, bool, String)> = sql::query_as(TAKEN)
        .bind(binding.relation.sql())
        .bind(ours.as_slice())
        .fetch_optional(connection)
        .await
        .doing(LOOKING)?;
    Ok(found.map(|(relation, is_moved, schema)| {
        let which = if relation == binding.relation.to_string() {
            relation
        } else {
            format!("{relation}, which holds rows of {},", binding.relation)
        };
        if is_moved {
            format!(
                "{which} was moved by a migration that is complete, in schema {schema}: take it out of this \
                 configuration"
            )
        } else {
            format!(
                "{which} is captured by the migration in schema {schema}, and a table is in one migration at \
                 a time: leave it out of one of the two"
            )
        }
    }))
}

impl Source {
    /// Returns what is said of a table that another migration of this database has; `None` where none has.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn taken_by_another(&self, binding: &TableBinding) -> Result<Option<String>> {
        let mut connection = self.pool().acquire().await.doing(LOOKING)?;
        taken(&mut connection, binding).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_which_that_of_a_schema_stands_is_found_and_any_other_is_not() {
        for name in ["of lockstep.a", "(lockstep_archive)", "a-lockstep.b", "x 'lockstep'"] {
            assert_eq!(misread(["id", name].into_iter()), Some(name));
        }
        for name in ["lockstep", "lockstep.a", "lockstep_b", "a lockstep", "my_lockstep.a", "\"lockstep.a"] {
            assert_eq!(misread([name].into_iter()), None, "{name}");
        }
    }
}
