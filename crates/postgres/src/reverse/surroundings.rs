//! Surroundings of a table: what an application has on it that rides along when the feed writes it,
//! triggers and actions of foreign keys.

use lockstep_core::{Doing, Kind, Result};
use sqlx::AssertSqlSafe;
use sqlx::postgres::types::Oid;

use super::operators::operator_sql;
use crate::binding::quote_literal;
use crate::lookup::keys_sql;
use crate::sql::{self, Run as _};
use crate::trigger_names::{trigger_name, truncate_trigger_name};
use crate::{Source, TableBinding};

/// A trigger of the application's.
#[derive(Clone, Debug, PartialEq, Eq, sqlx_macros::FromRow)]
pub struct Trigger {
    /// Name of the trigger.
    pub name: String,
    /// The function that it calls.
    pub calls: String,
    /// It runs before the row is written, and may change it.
    pub before: bool,
    /// It fires in the replica role as well, or there alone.
    pub on_replicas: bool,
}

/// Triggers and constraints on a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Row triggers that are on, in the order of their names.
    pub triggers: Vec<Trigger>,
    /// Foreign keys that act on rows of a table when rows of this one go or change: `table.constraint ON
    /// DELETE CASCADE`, with the name of that relation before it.
    pub actions: Vec<(String, String)>,
    /// Foreign keys by which rows of this table go or change when rows of another one do, with the name of
    /// that other relation before each.
    pub acted_on: Vec<(String, String)>,
    /// Conditions that PostgreSQL puts to a row that goes in, and nothing asks in DynamoOnly: CHECK
    /// constraints, those of its domains too, foreign keys, and what is unique beside the primary key.
    pub unasked: Vec<String>,
    /// Whether foreign keys refer to it, and whether any to other columns than its key.
    pub(super) referred_to: (bool, bool),
    /// Whether a unique constraint of it is deferrable.
    pub(super) checks_late: bool,
}

const DOING: &str = "asking what is on a table";

/// Name, table that is referred to, columns, comparisons of the pairs of columns, whether it is MATCH FULL,
/// and the partition whose rows alone it is about.
type ForeignKey = (String, String, Vec<String>, Vec<String>, bool, Option<Oid>);

/// Our table `$1` and what it is made of: each partition may have triggers and foreign keys of its own.
pub(super) const OURS: &str = "pg_catalog.to_regclass($1)::oid UNION ALL
                 SELECT relid::oid FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass($1))";

/// Returns an expression of SQL for the comparisons of foreign key `c`, an array: of the rows that are
/// referred to, called `to`, with those that refer, called `from`, by the operators that it has itself.
pub(super) fn comparisons_sql(to: &str, from: &str) -> String {
    let [between, after] = operator_sql("k.equal");
    format!(
        "ARRAY(SELECT pg_catalog.format('{to}.%I', b.attname) || {between}
                   || pg_catalog.format('{from}.%I', a.attname) || {after}
               FROM unnest(c.conkey, c.confkey, c.conpfeqop) WITH ORDINALITY AS k (at, to_at, equal, n)
               JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.at
               JOIN pg_catalog.pg_attribute b ON b.attrelid = c.confrelid AND b.attnum = k.to_at
               ORDER BY k.n)"
    )
}

impl Source {
    /// Reads what the application has on a table.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn surroundings(&self, binding: &TableBinding) -> Result<Surroundings> {
        let relation = binding.relation.sql();
        let triggers = sql::query_as(AssertSqlSafe(format!(
            // Those too that a partition has from its table: they are switched off and on one by one.
            "SELECT t.tgname::text AS name, t.tgfoid::pg_catalog.regproc::text AS calls,
                    pg_catalog.bool_or(t.tgtype & 2 <> 0) AS before,
                    pg_catalog.bool_or(t.tgenabled IN ('A', 'R')) AS on_replicas
             FROM pg_catalog.pg_trigger t
             WHERE t.tgrelid IN (SELECT {OURS}) AND NOT t.tgisinternal
                 AND t.tgenabled <> 'D' AND t.tgtype & 1 <> 0 AND t.tgname NOT IN ($2, $3)
             GROUP BY t.tgname, t.tgfoid ORDER BY t.tgname, t.tgfoid",
        )))
        .bind(&relation)
        .bind(trigger_name(binding))
        .bind(truncate_trigger_name(binding))
        .fetch_all(self.pool())
        .await
        .doing(DOING)?;
        let actions = sql::query_as(AssertSqlSafe(format!(
            "SELECT n.nspname || '.' || r.relname,
                    pg_catalog.concat_ws(' ', n.nspname || '.' || r.relname || '.' || c.conname,
                        'ON DELETE ' || CASE c.confdeltype WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL'
                            WHEN 'd' THEN 'SET DEFAULT' END,
                        'ON UPDATE ' || CASE c.confupdtype WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL'
                            WHEN 'd' THEN 'SET DEFAULT' END)
             FROM pg_catalog.pg_constraint c
             JOIN pg_catalog.pg_class r
                 ON r.oid = coalesce(pg_catalog.pg_partition_root(c.conrelid)::oid, c.conrelid)
             JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
             WHERE c.contype = 'f' AND c.conparentid = 0 AND c.confrelid IN (SELECT {OURS})
                 AND (c.confdeltype IN ('c', 'n', 'd') OR c.confupdtype IN ('c', 'n', 'd')) ORDER BY 2",
        )))
        .bind(&relation)
        .fetch_all(self.pool())
        .await
        .doing(DOING)?;
        let acted_on = sql::query_as(AssertSqlSafe(format!(
            "SELECT n.nspname || '.' || f.relname,
                    pg_catalog.concat_ws(' ', c.conname,
                        'ON DELETE ' || CASE c.confdeltype WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL'
                            WHEN 'd' THEN 'SET DEFAULT' END,
                        'ON UPDATE ' || CASE c.confupdtype WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL'
                            WHEN 'd' THEN 'SET DEFAULT' END)
             FROM pg_catalog.pg_constraint c
             JOIN pg_catalog.pg_class f
                 ON f.oid = coalesce(pg_catalog.pg_partition_root(c.confrelid)::oid, c.confrelid)
             JOIN pg_catalog.pg_namespace n ON n.oid = f.relnamespace
             WHERE c.contype = 'f' AND c.conparentid = 0 AND c.conrelid IN (SELECT {OURS})
                 AND (c.confdeltype IN ('c', 'n', 'd') OR c.confupdtype IN ('c', 'n', 'd')) ORDER BY 2",
        )))
        .bind(&relation)
        .fetch_all(self.pool())
        .await
        .doing(DOING)?;
        let unasked = sql::query_scalar(
            "SELECT pg_catalog.format('%s (%s)', name, what) FROM (
                 SELECT c.conname AS name, CASE c.contype WHEN 'c' THEN 'CHECK' WHEN 'f' THEN 'FOREIGN KEY'
                        WHEN 'x' THEN 'EXCLUDE' END AS what
                 FROM pg_catalog.pg_constraint c
                 WHERE c.conrelid = pg_catalog.to_regclass($1)::oid AND c.contype IN ('c', 'f', 'x')
                 UNION SELECT c.conname, 'CHECK of domain ' || c.contypid::pg_catalog.regtype::text
                 FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_attribute a ON a.atttypid = c.contypid
                 WHERE a.attrelid = pg_catalog.to_regclass($1)::oid AND a.attnum > 0 AND NOT a.attisdropped
                     AND c.contype = 'c'
                 UNION SELECT r.relname, 'UNIQUE'
                 FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class r ON r.oid = i.indexrelid
                 WHERE i.indrelid = pg_catalog.to_regclass($1)::oid AND i.indisunique AND NOT i.indisprimary
             ) AS found ORDER BY what, name",
        )
        .bind(&relation)
        .fetch_all(self.pool())
        .await
        .doing(DOING)?;
        let (is_referred_to, to_others, checks_late): (bool, bool, bool) =
            sql::query_as(AssertSqlSafe(format!(
                "WITH key AS (SELECT k.conkey AS columns FROM pg_catalog.pg_constraint k
                          WHERE k.contype = 'p' AND k.conrelid = pg_catalog.to_regclass($1)::oid),
                  refers AS (SELECT c.confkey AS columns FROM pg_catalog.pg_constraint c
                             WHERE c.contype = 'f' AND c.confrelid IN (SELECT {OURS}))
             SELECT EXISTS (SELECT FROM refers),
                    EXISTS (SELECT FROM refers WHERE NOT EXISTS (SELECT FROM key
                        WHERE key.columns @> refers.columns AND key.columns <@ refers.columns)),
                    EXISTS (SELECT FROM pg_catalog.pg_constraint u WHERE u.contype IN ('p', 'u', 'x')
                        AND u.condeferrable AND u.conrelid IN (SELECT {OURS}))",
            )))
            .bind(&relation)
            .fetch_one(self.pool())
            .await
            .doing(DOING)?;
        let referred_to = (is_referred_to, to_others);
        Ok(Surroundings { triggers, actions, acted_on, unasked, referred_to, checks_late })
    }

    /// Whether our role may write in the replica role, in which triggers of the application do not fire. By
    /// trying it: since PostgreSQL 15 the right can be granted, and providers have ways of their own.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn may_silence(&self) -> Result<bool> {
        let mut transaction = self.begin(DOING).await?;
        let set = transaction.execute("SET LOCAL session_replication_role = replica").await.doing(DOING);
        transaction.rollback().await.doing(DOING)?;
        match set {
            Ok(_) => Ok(true),
            Err(error) if error.kind == Kind::Denied => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns one statement for each foreign key of a table, which fails as PostgreSQL does where a row of
    /// those keys refers to nothing; its parameters are those of [`keys_sql`].
    pub(super) async fn reference_checks(&self, binding: &TableBinding) -> Result<Vec<String>> {
        let found: Vec<ForeignKey> = sql::query_as(AssertSqlSafe(format!(
            "SELECT c.conname::text, pg_catalog.format('%I.%I', n.nspname, r.relname),
                    ARRAY(SELECT pg_catalog.format('s.%I', a.attname)
                          FROM pg_catalog.unnest(c.conkey) WITH ORDINALITY AS k (at, n)
                          JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.at
                              ORDER BY k.n),
                    {},
                    c.confmatchtype = 'f',
                    CASE WHEN c.conrelid <> pg_catalog.to_regclass($1)::oid THEN c.conrelid END
             FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_class r ON r.oid = c.confrelid
             JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
             WHERE c.contype = 'f' AND c.conparentid = 0 AND c.conrelid IN (SELECT {OURS})
             ORDER BY c.conname",
            comparisons_sql("r", "s"),
        )))
        .bind(binding.relation.sql())
        .fetch_all(self.pool())
        .await
        .doing(DOING)?;
        let check = |(name, to, columns, equal, full, partition): ForeignKey| {
            let set = columns.iter().map(|column| format!("{column} IS NOT NULL")).collect::<Vec<_>>();
            format!(
                "SELECT lockstep.refuse_dangling({}) FROM {} AS s JOIN {} AS k ON {}
                 WHERE {} ({}) AND NOT EXISTS (SELECT FROM {to} AS r WHERE {})",
                quote_literal(&name),
                binding.relation.sql(),
                keys_sql(binding, 1),
                binding.row_of_primary_key_sql("s", "k.key"),
                partition.map_or_else(String::new, |Oid(oid)| format!("s.tableoid = {oid} AND")),
                // MATCH FULL: all of them are set, or none.
                set.join(if full { " OR " } else { " AND " }),
                equal.join(" AND "),
            )
        };
        Ok(found.into_iter().map(check).collect())
    }
}
