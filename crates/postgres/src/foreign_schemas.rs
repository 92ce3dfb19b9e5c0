//! Whose schema `lockstep` is, and who may go on over one that is another role's.

use lockstep_core::Advice::SourceUrl;
use lockstep_core::{Doing, Error, Kind, Result};
use sqlx::AssertSqlSafe;

use super::{Relation, Source};
use crate::sql;

const DOING: &str = "looking who owns Lockstep's schemas";

/// Everything in both schemas, and whose it is.
const FOUND: &str = "
SELECT what, owner FROM (
    SELECT 'schema ' || n.nspname AS what, n.nspowner AS owner, n.oid AS schema FROM pg_catalog.pg_namespace n
    UNION ALL SELECT c.oid::regclass::text, c.relowner, c.relnamespace FROM pg_catalog.pg_class c
    UNION ALL SELECT p.oid::regprocedure::text, p.proowner, p.pronamespace FROM pg_catalog.pg_proc p
    UNION ALL SELECT 'trigger ' || t.tgname || ' on ' || c.oid::regclass::text, p.proowner, c.relnamespace
              FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
              JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid WHERE NOT t.tgisinternal) AS every
WHERE schema IN (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname IN ('lockstep', 'lockstep_archive'))";

/// Whether the role only looks ($1 and $2: schemas and names of the tables that move).
const ONLY_LOOKS: &str = "
SELECT NOT me.rolsuper AND (SELECT pg_catalog.count(DISTINCT owner) = 1 FROM found)
   AND NOT EXISTS (SELECT FROM found WHERE pg_catalog.pg_has_role(me.oid, found.owner, 'MEMBER'))
   AND pg_catalog.count(c.oid) = pg_catalog.count(*)
   AND pg_catalog.bool_and(NOT pg_catalog.pg_has_role(me.oid, c.relowner, 'MEMBER')
       AND pg_catalog.pg_has_role((SELECT owner FROM found LIMIT 1), c.relowner, 'MEMBER'))
FROM pg_catalog.pg_roles me
CROSS JOIN ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS moved (schema, name)
LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = moved.schema
LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = moved.name
WHERE me.rolname = current_user GROUP BY me.oid, me.rolsuper";

impl Source {
    /// Refuses schemas `lockstep` and `lockstep_archive` that are another role's, or in which another role
    /// has put something.
    ///
    /// 1. The owner of the database makes schema `lockstep` before we do, and a view or a trigger in it.
    /// 2. We create what is not there yet and read the rest.
    /// 3. Functions that the view calls run with the operator's rights.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`] where there is such a thing, and the driver's.
    #[crate::boxed]
    pub async fn refuse_foreign_schemas(&self) -> Result<()> {
        let foreign: Option<(String, String)> = sql::query_as(AssertSqlSafe(format!(
            "SELECT what, pg_catalog.pg_get_userbyid(owner)::text FROM ({FOUND}) AS found
                 WHERE owner <> (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user)
                 ORDER BY what NOT LIKE 'schema %' LIMIT 1"
        )))
        .fetch_optional(self.pool())
        .await
        .doing(DOING)?;
        let Some((what, owner)) = foreign else { return Ok(()) };
        Err(Error::source(
            Kind::Misconfigured,
            DOING,
            format!(
                "{what} belongs to role {owner} and not to the role that {SourceUrl} \
                    names: what is in it could run with your rights. If Lockstep made \
                    it under {owner}, connect as {owner}; if its origin is unknown, \
                    look at it, drop it, and begin again"
            ),
        ))
    }

    /// The same for a command on `tables`, which a role that only looks may give as well: one that owns no
    /// table that moves, by no membership, and is no superuser. It goes on over schemas that belong, with all
    /// that is in them, to the one role that has those tables. Code in them gains nothing over it: the owner
    /// of a table may put a policy on it, and that runs with the rights of the role that reads the table.
    ///
    /// Without this, a role that was granted what the status and a diagnosis read was refused by both.
    ///
    /// # Errors
    /// Those of [`Source::refuse_foreign_schemas`].
    #[crate::boxed]
    pub async fn refuse_untrusted_schemas(&self, tables: &[Relation]) -> Result<()> {
        let refused = match self.refuse_foreign_schemas().await {
            Err(error) if error.kind == Kind::Misconfigured => error,
            other => return other,
        };
        let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
        let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
        let only_looks: Option<bool> =
            sql::query_scalar(AssertSqlSafe(format!("WITH found AS MATERIALIZED ({FOUND}) {ONLY_LOOKS}")))
                .bind(schemas)
                .bind(names)
                .fetch_optional(self.pool())
                .await
                .doing(DOING)?
                .flatten();
        if only_looks == Some(true) { Ok(()) } else { Err(refused) }
    }
}
