//! Items to be read from the target once more.
//!
//! PostgreSQL may refuse a row that is only early: it refers to a row of another table, or of another shard,
//! that comes later; it takes a unique value that another row still has. A deleted row may live on in another
//! item. And a record of an earlier DynamoOnly does not say whether it is news. Such items are read from the
//! target, which is the truth, until PostgreSQL agrees. While there is one, the feed is not through.

use lockstep_core::{Attributes, Doing, Phase, Result, is_tombstone, version_of};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use super::FedTable;
use super::epochs::Epochs;
use super::feeding::finish_feeding;
use super::remember::note_others;
use super::rows::{delete_key, is_about_the_row, is_for_good, reason, upsert};
use crate::Source;
use crate::binding::text_digest_sql;
use crate::path::{lend, take_back};

/// An item to be read again.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Again {
    /// Its key, as [`place`](lockstep_core::place) prints it.
    pub place: String,
    /// Source key of its row, as PostgreSQL prints it, where it is known.
    pub key: Option<String>,
}

/// What is at that place now; `None` when nothing is.
#[derive(Clone, Debug)]
pub struct Found {
    /// What was asked for.
    pub again: Again,
    /// The item.
    pub item: Option<Attributes>,
}

impl Source {
    /// Up to `limit` items of a table that have to be read again, the least often tried first.
    ///
    /// # Errors
    /// The driver's.
    pub async fn reverse_again(&self, name: &str, limit: i64) -> Result<Vec<Again>> {
        sqlx::query_as(
            "SELECT place, key::text AS key FROM lockstep.reverse_again WHERE table_name = $1 ORDER BY tries, place LIMIT $2",
        )
        .bind(name)
        .bind(limit)
        .fetch_all(self.pool())
        .await
        .doing("listing items to be read again")
    }

    /// Brings the rows of items that were read again to what they say now; returns how many are settled.
    ///
    /// # Errors
    /// The driver's. A row that PostgreSQL refuses once more stays noted, and is no error.
    pub async fn apply_again(&self, table: &FedTable, found: &[Found]) -> Result<u64> {
        let (mut transaction, epochs) = self.begin_feeding(table).await?;
        if epochs.now.phase != Phase::DynamoOnly {
            // The source decides again: what was left is for the validator to find.
            return Ok(0);
        }
        let (mut settled, doing) = (0, "bringing rows to what their items say");
        for found in found {
            let mut savepoint = transaction.begin().await.doing(doing)?;
            let mut for_good = false;
            let left = match settle(&mut savepoint, table, &epochs, found).await {
                Ok(left) => {
                    savepoint.commit().await.doing(doing)?;
                    left
                }
                Err(error) if is_about_the_row(&error) => {
                    savepoint.rollback().await.doing(doing)?;
                    for_good = is_for_good(&error);
                    Some(reason(&error))
                }
                Err(error) => return Err(error),
            };
            settled += u64::from(left.is_none());
            let here =
                format!("table_name = $1 AND {} = {}", text_digest_sql("place"), text_digest_sql("$2::text"));
            let sql = match left {
                Some(_) => {
                    format!(
                        "UPDATE lockstep.reverse_again SET tries = tries + 1, why = $3, for_good = for_good OR $4 WHERE {here}"
                    )
                }
                None => {
                    format!("DELETE FROM lockstep.reverse_again WHERE {here} AND $3::text IS NULL AND NOT $4")
                }
            };
            sqlx::query(AssertSqlSafe(sql))
                .bind(table.binding.name())
                .bind(&found.again.place)
                .bind(left)
                .bind(for_good)
                .execute(&mut *transaction)
                .await
                .doing(doing)?;
        }
        finish_feeding(transaction, table.binding.name()).await?;
        Ok(settled)
    }
}

/// Brings one row to what its item says; says why not, where it is left for later.
async fn settle(
    connection: &mut PgConnection,
    table: &FedTable,
    epochs: &Epochs,
    found: &Found,
) -> Result<Option<String>> {
    // The feed may have had a newer state of this item since it was read. It takes this note out before it
    // writes the row, so who holds the note has the row to himself; and a note made again since is recognised
    // by its version.
    let doing = "looking at a note again";
    let sql = format!(
        "SELECT (SELECT p.version FROM lockstep.reverse_places p WHERE p.table_name = a.table_name AND {} = {of_note})
         FROM lockstep.reverse_again a WHERE a.table_name = $1 AND {of_note} = {} FOR UPDATE",
        text_digest_sql("p.place"),
        text_digest_sql("$2::text"),
        of_note = text_digest_sql("a.place"),
    );
    let noted: Option<(Option<i64>,)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(table.binding.name())
        .bind(&found.again.place)
        .fetch_optional(&mut *connection)
        .await
        .doing(doing)?;
    let Some((known,)) = noted else { return Ok(None) };
    // Nothing is there: expired, which is retention, or removed by hand, which was counted.
    let Some(item) = &found.item else { return Ok(None) };
    // An item without a version was written by hand; what is there is what there is.
    if let Some(version) = version_of(item) {
        if known > Some(version.0) {
            return Ok(Some("it changed while it was read".to_owned()));
        }
        if !epochs.may_be_news(version) {
            // The record was old: the source has written the row since.
            return Ok(None);
        }
    }
    if !is_tombstone(item) {
        return match table.binding.table.row_of_item(item) {
            // If it is to go, its tombstone is still in the stream and comes after this.
            Ok(row) => {
                lend(connection).await?;
                upsert(connection, table, &[&*row]).await?;
                take_back(connection).await.map(|()| None)
            }
            Err(reason) => Ok(Some(format!("the item is no row of this table: {reason}"))),
        };
    }
    // PostgreSQL would not let its row go, or it went late.
    if let Some(key) = &found.again.key {
        lend(connection).await?;
        let is_gone = delete_key(connection, table, key).await?;
        take_back(connection).await?;
        if is_gone {
            note_others(connection, table.binding.name(), &[&found.again.place]).await?;
        }
    }
    Ok(None)
}
