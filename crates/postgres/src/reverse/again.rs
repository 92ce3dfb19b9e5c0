//! Items to be read from the target once more.
//!
//! PostgreSQL may refuse a row that is only early: it refers to a row of another table, or of another shard,
//! that comes later; it takes a unique value that another row still has. A deleted row may live on in another
//! item. A row that rode along is to be what its item says. And a record of an earlier DynamoOnly does not
//! say whether it is news. Such items are read from the target, which is the truth, until PostgreSQL agrees.
//! While there is one, the feed is not through.

use std::collections::{BTreeSet, HashSet};

use lockstep_core::{Doing, Phase, Result};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use super::FedTable;
use super::absent::WITHOUT_ITEM;
use super::accepted::{becomes, noted_of};
use super::epochs::Epochs;
use super::expired::{Expired, InTheWay, give_way};
use super::feeding::finish_feeding;
use super::foreign;
use super::noted::{Again, ItemNow, Next, compare_later, look};
use super::own_place::row_at_place;
use super::positions::{DISOWNED, lose};
use super::rows::{is_about_the_row, is_for_good, is_taken, reason};
use super::texts::{make_way_for_heirs, note_heirs};
use super::unblock::unblock;
use super::writer::{How, Writer};
use crate::Source;
use crate::binding::text_digest_sql;
use crate::sql;

impl Source {
    /// Up to `limit` items of a table that have to be read again, the least often tried first.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn reverse_again(&self, name: &str, limit: i64) -> Result<Vec<Again>> {
        sql::query_as(AssertSqlSafe(format!(
            "SELECT a.place, a.key::text AS key, a.version,
                        (SELECT p.version FROM lockstep.reverse_places p
                         WHERE p.table_name = a.table_name AND {} = {}) AS known
                 FROM lockstep.reverse_again a WHERE a.table_name = $1 ORDER BY a.tries, a.place LIMIT $2",
            text_digest_sql("p.place"),
            text_digest_sql("a.place"),
        )))
        .bind(name)
        .bind(limit)
        .fetch_all(self.pool())
        .await
        .doing("listing items to be read again")
    }

    /// Brings the rows of items that were read again to what they say now. Rows that PostgreSQL refuses
    /// because others have values of theirs are written together.
    ///
    /// # Errors
    /// The driver's. A row that PostgreSQL refuses once more stays noted, and is no error.
    pub async fn apply_again(&self, table: &FedTable, found: &[ItemNow]) -> Result<ReadAgain> {
        self.apply_again_over(table, found, &HashSet::new()).await
    }

    /// The same over rows that have expired and are in the way, where `removed` has their places: at these
    /// the target was seen to have no live item.
    ///
    /// # Errors
    /// As [`Source::apply_again`].
    #[crate::boxed]
    pub async fn apply_again_over(
        &self,
        table: &FedTable,
        found: &[ItemNow],
        removed: &HashSet<String>,
    ) -> Result<ReadAgain> {
        let (mut transaction, epochs, writer) = self.begin_feeding(table).await?;
        let mut outcome = ReadAgain::default();
        if epochs.now.phase != Phase::DynamoOnly {
            // The source decides again: what was left is for the validator to find.
            return Ok(outcome);
        }
        let doing = "bringing rows to what their items say";
        let expired = Expired { removed, now_s: self.now_at_least().timestamp() };
        let (mut done, mut refused) = (Vec::new(), Vec::new());
        for found in found {
            let mut savepoint = transaction.begin().await.doing(doing)?;
            match follow_item(&mut savepoint, &writer, &epochs, found, expired.now_s).await {
                Ok(left) => {
                    savepoint.commit().await.doing(doing)?;
                    match left {
                        Left::Nothing => done.push(found),
                        Left::Gone => {}
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
                    if is_taken {
                        let over = over_expired(&mut transaction, &writer, &epochs, found, expired).await?;
                        outcome.in_the_way.extend(over.unknown);
                        if over.done {
                            done.push(found);
                            continue;
                        }
                    }
                    refused.push(Refused { for_good, is_taken, ..Refused::of(found, reason(&error)) });
                }
                Err(error) => return Err(error),
            }
        }
        let waiting: Vec<&ItemNow> =
            refused.iter().filter(|refused| refused.is_taken).map(|refused| refused.found).collect();
        let together = unblock(&mut transaction, &writer, &epochs, &waiting, expired).await?;
        refused.retain(|refused| !together.iter().any(|found| std::ptr::eq(*found, refused.found)));
        done.extend(together);
        for found in &done {
            take_out(&mut transaction, table.binding.name(), &found.again.place).await?;
        }
        for refused in &refused {
            leave(&mut transaction, table.binding.name(), refused).await?;
        }
        finish_feeding(transaction, table.binding.name()).await?;
        outcome.done = done.len() as u64;
        Ok(outcome)
    }
}

/// Outcome of items that were read again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadAgain {
    /// Number of those that are done.
    pub done: u64,
    /// Places of rows that have expired and keep others out: where the target has no live item of them they
    /// may go.
    pub in_the_way: BTreeSet<String>,
}

/// Outcome of an item whose row took a value from another.
#[derive(Default)]
struct Over {
    done: bool,
    /// Places of expired rows that may still have an item.
    unknown: Vec<String>,
}

/// Tries a row once more that was refused for a value of another, in a savepoint in which expired rows have
/// made way for it.
async fn over_expired(
    connection: &mut PgConnection,
    writer: &Writer<'_>,
    epochs: &Epochs,
    found: &ItemNow,
    expired: Expired<'_>,
) -> Result<Over> {
    let doing = "writing a row over one that has expired";
    let mut savepoint = connection.begin().await.doing(doing)?;
    let tried = try_over(&mut savepoint, writer, epochs, found, expired).await;
    match tried {
        Ok(over) if over.done => savepoint.commit().await.doing(doing).map(|()| over),
        Ok(over) => savepoint.rollback().await.doing(doing).map(|()| over),
        // A row refers to the expired one, or the row is refused for another reason as well.
        Err(error) if is_about_the_row(&error) => {
            savepoint.rollback().await.doing(doing).map(|()| Over::default())
        }
        Err(error) => Err(error),
    }
}

async fn try_over(
    connection: &mut PgConnection,
    writer: &Writer<'_>,
    epochs: &Epochs,
    found: &ItemNow,
    expired: Expired<'_>,
) -> Result<Over> {
    let Next::Put { row, .. } = look(connection, writer.table, epochs, found).await? else {
        return Ok(Over::default());
    };
    let InTheWay { deleted, unknown } = give_way(connection, writer, &*row, expired).await?;
    let done = deleted > 0
        && matches!(follow_item(connection, writer, epochs, found, expired.now_s).await?, Left::Nothing);
    Ok(Over { done, unknown })
}

/// An item whose row PostgreSQL does not take now.
struct Refused<'a> {
    found: &'a ItemNow,
    why: String,
    for_good: bool,
    /// Another row has a value of it.
    is_taken: bool,
    /// Whether its version is another program's.
    foreign: bool,
}

impl<'a> Refused<'a> {
    fn of(found: &'a ItemNow, why: String) -> Self {
        Self { found, why, for_good: false, is_taken: false, foreign: false }
    }
}

/// The condition that a note is of table `$1` and place `$2`.
fn of_place() -> String {
    format!("table_name = $1 AND {} = {}", text_digest_sql("place"), text_digest_sql("$2::text"))
}

async fn take_out(connection: &mut PgConnection, name: &str, place: &str) -> Result<()> {
    sql::query(AssertSqlSafe(format!("DELETE FROM lockstep.reverse_again WHERE {}", of_place())))
        .bind(name)
        .bind(place)
        .execute(connection)
        .await
        .doing("taking out a note")
        .map(drop)
}

async fn leave(connection: &mut PgConnection, name: &str, refused: &Refused<'_>) -> Result<()> {
    let sql = format!(
        "UPDATE lockstep.reverse_again AS a SET tries = tries + 1, why = $3, for_good = for_good OR $4,
             foreign_version = $5, {} WHERE {}",
        // Of a place without an item it is of the state that went.
        becomes("coalesce($6::bigint, a.version)"),
        of_place()
    );
    sql::query(AssertSqlSafe(sql))
        .bind(name)
        .bind(&refused.found.again.place)
        .bind(&refused.why)
        .bind(refused.for_good)
        .bind(refused.foreign)
        .bind(refused.found.item.as_ref().map(|item| noted_of(Some(item))))
        .execute(connection)
        .await
        .doing("leaving a note")
        .map(drop)
}

/// Work that is left to do about an item.
enum Left {
    Nothing,
    /// None that is ours: its note has gone.
    Gone,
    /// It waits, for this reason.
    Waits(String),
    /// It waits for a version of ours.
    Foreign,
}

/// Brings one row to what its item says, unless it is left for later.
async fn follow_item(
    connection: &mut PgConnection,
    writer: &Writer<'_>,
    epochs: &Epochs,
    found: &ItemNow,
    now_s: i64,
) -> Result<Left> {
    let place = &found.again.place;
    match look(connection, writer.table, epochs, found).await? {
        Next::Nothing => {}
        Next::Heirs => {
            if let Some(key) = &found.again.key {
                let _: bool = make_way_for_heirs(connection, writer, place, key).await?;
            }
        }
        Next::End { removed } => return end(connection, writer, found, removed, now_s).await,
        Next::Gone => return Ok(Left::Gone),
        Next::Later(why) => return Ok(Left::Waits(why)),
        Next::Foreign => return Ok(Left::Foreign),
        Next::Put { row, version, ridden, compared } => {
            let how = if ridden { How::Alone } else { How::Plain };
            writer.put(connection, &[&*row], how).await?;
            if compared {
                compare_later(connection, writer.table, found, row, version).await?;
            }
        }
        Next::Delete => match &found.again.key {
            Some(key) => {
                if writer.delete_key(connection, place, key).await? {
                    note_heirs(connection, writer.table, &[place]).await?;
                }
            }
            // A program had written over it: which row is to go is not known.
            None => lose(connection, writer.table.binding.name(), DISOWNED).await?,
        },
        Next::Unmake => {
            if let Some(key) = &found.again.key {
                writer.unmake(connection, place, key).await?;
            }
        }
    }
    Ok(Left::Nothing)
}

/// Reasons why a note stays whose item is gone.
const NO_ROW_TOLD: &str = "its item is gone, and nothing tells of which row it was";
const ROW_OF_BEFORE: &str =
    "its item is gone, and PostgreSQL has a row of before a state of it that it would not have";

/// Ends the note of a state that PostgreSQL has not had, once its item is gone.
///
/// 1. PostgreSQL refuses a state of row 5, by which it expires soon. 2. DynamoDB removes the item. 3. That
/// is retention only where PostgreSQL has the state that expired: its row of before would live for another
/// year, be compared with nothing, and be copied to DynamoDB after the way back. So that row goes. Where the
/// stream does not say that DynamoDB removed the item, as it has not come that far, or as another program did,
/// the note stays: an operator accepts it, or has a reverse backfill delete rows without items. So it does
/// of a row that a reverse backfill has found without an item.
async fn end(
    connection: &mut PgConnection,
    writer: &Writer<'_>,
    found: &ItemNow,
    removed: bool,
    now_s: i64,
) -> Result<Left> {
    let (binding, place) = (&writer.table.binding, &found.again.place);
    let Some(key) = &found.again.key else { return Ok(Left::Waits(NO_ROW_TOLD.to_owned())) };
    let row = row_at_place(connection, binding, place, key).await?;
    let lives = row.is_some_and(|row| row.expires_at_s.is_none_or(|at_s| at_s > now_s));
    match (lives, removed) {
        (false, _) => {
            let _: bool = make_way_for_heirs(connection, writer, place, key).await?;
        }
        (true, false) => {
            // The row may be that of an item under another text of its key, which is there.
            if make_way_for_heirs(connection, writer, place, key).await? {
                return Ok(Left::Nothing);
            }
            let of_no_state = found.again.version == Some(noted_of(None));
            let why = if of_no_state { WITHOUT_ITEM } else { ROW_OF_BEFORE };
            return Ok(Left::Waits(why.to_owned()));
        }
        (true, true) => {
            if writer.delete_key(connection, place, key).await? {
                note_heirs(connection, writer.table, &[place]).await?;
            }
        }
    }
    Ok(Left::Nothing)
}
