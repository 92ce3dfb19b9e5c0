//! Dead letters as an operator has seen them, and accepts them: those and no others.
//!
//! 1. An operator lists dead letters, and finds that they may stay behind. 2. Another row is set aside, or an
//! item changes to another state that PostgreSQL refuses. 3. What is accepted is whatever stands then: a row
//! that no operator has looked at is lost, with an operator's name beside it.

use std::time::Duration;

use lockstep_core::{Doing, Result};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::Source;
use super::barrier::limit_lock_waits;
use super::binding::{digest_sql, text_digest_sql};
use super::dead_letters::{DeadLetter, is_letter_sql, letters};
use crate::sql;

/// Longest wait for what sets rows aside to end.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Characters of the mark of a list: 48 bits, which two lists of one migration do not share by chance.
const MARK_CHARS: usize = 12;

/// Dead letters that no operator has acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenLetters {
    /// Number of them.
    pub count: i64,
    /// Text that tells them, each in its state, from any others.
    pub mark: String,
}

/// The open letters of tables `$1`: how many, and their mark. Of what the feed sets aside, with the number of
/// changes by other programs: those leave an item's version as it was.
fn open_sql() -> String {
    format!(
        "SELECT pg_catalog.count(*) AS count, pg_catalog.left(pg_catalog.encode(pg_catalog.sha256(
             pg_catalog.convert_to(coalesce(pg_catalog.string_agg(letter, ' ' ORDER BY letter), ''), 'UTF8')),
             'hex'), {MARK_CHARS}) AS mark
         FROM (SELECT pg_catalog.concat_ws('/', table_name, pg_catalog.encode({of_key}, 'hex'), version)
                   COLLATE \"C\" AS letter
               FROM lockstep.dead_letters WHERE table_name = ANY ($1) AND acknowledged_at IS NULL
               UNION ALL SELECT pg_catalog.concat_ws('/', table_name, pg_catalog.encode({of_place}, 'hex'), 'back',
                   pg_catalog.to_jsonb(a) ->> 'version', (SELECT pg_catalog.to_jsonb(t) ->> 'foreign_count'
                       FROM lockstep.reverse_tables t WHERE t.table_name = a.table_name)) COLLATE \"C\"
               FROM lockstep.reverse_again a WHERE table_name = ANY ($1)
                   AND pg_catalog.to_jsonb(a) ->> 'acknowledged_at' IS NULL AND {is_letter}) AS letters",
        of_key = digest_sql("key"),
        of_place = text_digest_sql("place"),
        is_letter = is_letter_sql(),
    )
}

impl Source {
    /// Returns the dead letters of these tables that no operator has acknowledged, all together.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn open_letters(&self, tables: &[&str]) -> Result<OpenLetters> {
        open_letters(&mut *self.pool().acquire().await.doing(COUNTING)?, tables).await
    }

    /// Returns the dead letters of these tables, at most `limit` of each, in the order of
    /// [`Source::dead_letters`], and which of all are open, both as of one moment: what is set aside between
    /// two looks would be in the mark, and not in the list.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn listed_letters(
        &self,
        tables: &[&str],
        limit: i64,
    ) -> Result<(Vec<DeadLetter>, OpenLetters)> {
        let mut transaction = self.begin(COUNTING).await?;
        let as_of_one = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";
        sql::query(as_of_one).execute(&mut *transaction).await.doing(COUNTING)?;
        let mut listed = Vec::new();
        for table in tables {
            listed.extend(letters(&mut transaction, table, limit).await?);
        }
        let open = open_letters(&mut transaction, tables).await?;
        transaction.rollback().await.doing(COUNTING)?;
        Ok((listed, open))
    }

    /// Accepts that the open dead letters of these tables stay behind, if they are those of this mark;
    /// returns how many were acknowledged, or `None` where others stand by now, and nothing was done.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// All of them are accepted, or none.
    #[crate::boxed]
    pub async fn acknowledge_listed(&self, tables: &[&str], actor: &str, mark: &str) -> Result<Option<i64>> {
        self.migrate_schema().await?;
        let doing = "acknowledging dead letters";
        let mut transaction = self.begin(doing).await?;
        // 1. A page of the feed sets an item's row aside again, in another state, and is not over. 2. What is
        // open is read, as it was before. 3. The page ends, and its row, for which the update has waited, is
        // accepted in a state that was not listed. So nothing is set aside between the two.
        // In the order in which a transaction of the feed takes them.
        let lock = "LOCK TABLE lockstep.reverse_again, lockstep.dead_letters IN SHARE ROW EXCLUSIVE MODE";
        limit_lock_waits(&mut transaction, LOCK_TIMEOUT).await?;
        sql::query(lock).execute(&mut *transaction).await.doing(doing)?;
        let sql = format!(
            "WITH open AS MATERIALIZED ({open}),
                  there AS (UPDATE lockstep.dead_letters SET acknowledged_at = pg_catalog.clock_timestamp(),
                                acknowledged_by = $2
                            WHERE table_name = ANY ($1) AND acknowledged_at IS NULL
                                AND (SELECT mark FROM open) = $3 RETURNING 1),
                  back AS (UPDATE lockstep.reverse_again AS a SET acknowledged_at = pg_catalog.clock_timestamp(),
                               acknowledged_by = $2
                           WHERE table_name = ANY ($1) AND acknowledged_at IS NULL AND {is_letter}
                               AND (SELECT mark FROM open) = $3 RETURNING 1)
             SELECT CASE WHEN (SELECT mark FROM open) = $3 THEN
                 (SELECT pg_catalog.count(*) FROM there) + (SELECT pg_catalog.count(*) FROM back) END",
            open = open_sql(),
            is_letter = is_letter_sql(),
        );
        let acknowledged = sql::query_scalar(AssertSqlSafe(sql))
            .bind(tables)
            .bind(actor)
            .bind(mark)
            .fetch_one(&mut *transaction)
            .await
            .doing(doing)?;
        transaction.commit().await.doing(doing)?;
        Ok(acknowledged)
    }
}

const COUNTING: &str = "counting dead letters";

async fn open_letters(connection: &mut PgConnection, tables: &[&str]) -> Result<OpenLetters> {
    let (count, mark) =
        sql::query_as(AssertSqlSafe(open_sql())).bind(tables).fetch_one(connection).await.doing(COUNTING)?;
    Ok(OpenLetters { count, mark })
}
