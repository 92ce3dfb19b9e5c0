//! Items to be read from the target once more.
//!
//! PostgreSQL may refuse a row that is only early: it refers to a row of another table, or of another shard,
//! that comes later; it takes a unique value that another row still has. A deleted row may live on in another
//! item. A row that rode along is to be what its item says. And a record of an earlier DynamoOnly does not
//! say whether it is news. Such items are read from the target, which is the truth, until PostgreSQL agrees.
//! While there is one, the feed is not through.

use lockstep_core::{AnyRow, Attributes, Doing, Error, Phase, Result, Version, is_tombstone, version_of};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use super::FedTable;
use super::apply::Guard;
use super::entry::{Entry, State};
use super::epochs::Epochs;
use super::feeding::finish_feeding;
use super::foreign;
use super::remember::{note_others, remember};
use super::rows::{is_about_the_row, is_for_good, is_taken, reason};
use super::unblock::unblock;
use super::writer::{How, Writer};
use crate::Source;
use crate::binding::text_digest_sql;

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
    #[crate::boxed]
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

    /// Brings the rows of items that were read again to what they say now; returns how many are settled. Rows
    /// that PostgreSQL refuses because others have values of theirs are written together.
    ///
    /// # Errors
    /// The driver's. A row that PostgreSQL refuses once more stays noted, and is no error.
    #[crate::boxed]
    pub async fn apply_again(&self, table: &FedTable, found: &[Found]) -> Result<u64> {
        let (mut transaction, epochs, writer) = self.begin_feeding(table).await?;
        if epochs.now.phase != Phase::DynamoOnly {
            // The source decides again: what was left is for the validator to find.
            return Ok(0);
        }
        let doing = "bringing rows to what their items say";
        let (mut settled, mut refused) = (Vec::new(), Vec::new());
        for found in found {
            let mut savepoint = transaction.begin().await.doing(doing)?;
            match settle(&mut savepoint, &writer, &epochs, found).await {
                Ok(left) => {
                    savepoint.commit().await.doing(doing)?;
                    match left {
                        Left::Nothing => settled.push(found),
                        Left::Waits(why) => refused.push(Refused::of(found, why)),
                        Left::Foreign => {
                            let why = foreign::WHY.to_owned();
                            refused.push(Refused {
                                for_good: true,
                                foreign: true,
                                ..Refused::of(found, why)
                            });
                        }
                    }
                }
                Err(error) if is_about_the_row(&error) => {
                    savepoint.rollback().await.doing(doing)?;
                    let (for_good, is_taken) = (is_for_good(&error), is_taken(&error));
                    refused.push(Refused { for_good, is_taken, ..Refused::of(found, reason(&error)) });
                }
                Err(error) => return Err(error),
            }
        }
        let waiting: Vec<&Found> =
            refused.iter().filter(|refused| refused.is_taken).map(|refused| refused.found).collect();
        let together = unblock(&mut transaction, &writer, &epochs, &waiting).await?;
        refused.retain(|refused| !together.iter().any(|found| std::ptr::eq(*found, refused.found)));
        settled.extend(together);
        for found in &settled {
            take_out(&mut transaction, table.binding.name(), &found.again.place).await?;
        }
        for refused in &refused {
            leave(&mut transaction, table.binding.name(), refused).await?;
        }
        finish_feeding(transaction, table.binding.name()).await?;
        Ok(settled.len() as u64)
    }
}

/// An item whose row PostgreSQL does not take now.
struct Refused<'a> {
    found: &'a Found,
    why: String,
    for_good: bool,
    /// Another row has a value of it.
    is_taken: bool,
    /// Its version is another program's.
    foreign: bool,
}

impl<'a> Refused<'a> {
    fn of(found: &'a Found, why: String) -> Self {
        Self { found, why, for_good: false, is_taken: false, foreign: false }
    }
}

/// The condition that a note is of table `$1` and place `$2`.
fn of_place() -> String {
    format!("table_name = $1 AND {} = {}", text_digest_sql("place"), text_digest_sql("$2::text"))
}

async fn take_out(connection: &mut PgConnection, name: &str, place: &str) -> Result<()> {
    sqlx::query(AssertSqlSafe(format!("DELETE FROM lockstep.reverse_again WHERE {}", of_place())))
        .bind(name)
        .bind(place)
        .execute(connection)
        .await
        .doing("taking out a note")
        .map(drop)
}

async fn leave(connection: &mut PgConnection, name: &str, refused: &Refused<'_>) -> Result<()> {
    let sql = format!(
        "UPDATE lockstep.reverse_again SET tries = tries + 1, why = $3, for_good = for_good OR $4,
             foreign_version = $5 WHERE {}",
        of_place()
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(name)
        .bind(&refused.found.again.place)
        .bind(&refused.why)
        .bind(refused.for_good)
        .bind(refused.foreign)
        .execute(connection)
        .await
        .doing("leaving a note")
        .map(drop)
}

/// What is to be done about an item that was read again.
pub(super) enum Next {
    /// Nothing.
    Nothing,
    /// To be read again, for this reason.
    Later(String),
    /// To be read again: its version is of an epoch that never began.
    Foreign,
    /// Its row is this one; it rode along, or was only early.
    Put(Box<dyn AnyRow>, Version, bool),
    /// Its row is to go.
    Delete,
    /// Its row is one that a trigger made, and that the target does not have.
    Unmake,
}

/// Decides about one item, and holds its note until the transaction ends.
pub(super) async fn look(
    connection: &mut PgConnection,
    table: &FedTable,
    epochs: &Epochs,
    found: &Found,
) -> Result<Next> {
    // The feed may have had a newer state of this item since it was read. It takes this note out before it
    // writes the row, so who holds the note has the row to himself; and a note made again since is recognised
    // by its version.
    let doing = "looking at a note again";
    let sql = format!(
        "SELECT (SELECT p.version FROM lockstep.reverse_places p WHERE p.table_name = a.table_name AND {} =
            {of_note}),
                a.ridden, a.made
         FROM lockstep.reverse_again a WHERE a.table_name = $1 AND {of_note} = {} FOR UPDATE",
        text_digest_sql("p.place"),
        text_digest_sql("$2::text"),
        of_note = text_digest_sql("a.place"),
    );
    let noted: Option<(Option<i64>, bool, bool)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(table.binding.name())
        .bind(&found.again.place)
        .fetch_optional(&mut *connection)
        .await
        .doing(doing)?;
    let Some((known, ridden, made)) = noted else { return Ok(Next::Nothing) };
    let Some(item) = &found.item else {
        // Nothing is there: expired, which is retention, or removed by hand, which was counted.
        return Ok(if made { Next::Unmake } else { Next::Nothing });
    };
    // An item without a version was written by hand; what is there is what there is.
    let version = version_of(item).unwrap_or(Version::HISTORY);
    if epochs.is_ahead(version) {
        return Ok(Next::Foreign);
    }
    if known > Some(version.0) && version_of(item).is_some() {
        return Ok(Next::Later("it changed while it was read".to_owned()));
    }
    let is_old = version_of(item).is_some_and(|version| !epochs.may_be_news(version));
    match (is_old, is_tombstone(item)) {
        // The record was old: the source has written the row since.
        (true, _) if !ridden => Ok(Next::Nothing),
        // The row of a dead letter has a tombstone of the source's, and stays.
        (true, true) => Ok(if made { Next::Unmake } else { Next::Nothing }),
        // PostgreSQL would not let its row go, or it went late.
        (false, true) => Ok(Next::Delete),
        // If it is to go, its tombstone is still in the stream and comes after this. One that came from the
        // source is what PostgreSQL had before something changed the row in a transaction of the feed.
        (_, false) => Ok(match table.binding.table.row_of_item(item) {
            Ok(row) => Next::Put(row, version, ridden),
            Err(reason) => Next::Later(format!("the item is no row of this table: {reason}")),
        }),
    }
}

/// What is left to do about an item.
enum Left {
    Nothing,
    /// It waits, for this reason.
    Waits(String),
    /// It waits for a version of ours.
    Foreign,
}

/// Brings one row to what its item says, unless it is left for later.
async fn settle(
    connection: &mut PgConnection,
    writer: &Writer<'_>,
    epochs: &Epochs,
    found: &Found,
) -> Result<Left> {
    match look(connection, writer.table, epochs, found).await? {
        Next::Nothing => {}
        Next::Later(why) => return Ok(Left::Waits(why)),
        Next::Foreign => return Ok(Left::Foreign),
        Next::Put(row, version, ridden) => {
            let how = if ridden { How::Alone } else { How::Plain };
            writer.put(connection, &[&*row], how).await?;
            if ridden {
                compare_later(connection, writer.table, found, row, version).await?;
            }
        }
        Next::Delete => {
            if let Some(key) = &found.again.key
                && writer.delete_key(connection, key).await?
            {
                note_others(connection, writer.table.binding.name(), &[&found.again.place]).await?;
            }
        }
        Next::Unmake => {
            if let Some(key) = &found.again.key {
                writer.unmake(connection, key).await?;
            }
        }
    }
    Ok(Left::Nothing)
}

/// Has the row of an item that the stream never brought compared with it before the way back, as those that
/// it brought are.
pub(super) async fn compare_later(
    connection: &mut PgConnection,
    table: &FedTable,
    found: &Found,
    row: Box<dyn AnyRow>,
    version: Version,
) -> Result<()> {
    let key = row.key().map_err(|why| Error::unholdable(table.binding.name(), &why))?;
    let entry = Entry { place: found.again.place.clone(), version, state: State::Live(row, key) };
    remember(connection, table, &[entry], Guard::AtLeast).await.map(drop)
}
