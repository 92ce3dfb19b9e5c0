//! Rows that wait for each other.
//!
//! 1. In DynamoDB, which knows no unique values, rows 1 and 2 swap theirs. 2. The feed brings row 1;
//! PostgreSQL refuses it, as row 2 has the value. 3. It brings row 2, and row 1 has that one. Each of them is
//! tried for ever. So those that were refused for such a reason make way together and come back together.

use lockstep_core::{AnyRow, Doing, Result, Version};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::epochs::Epochs;
use super::expired::{Expired, give_way};
use super::noted::{ItemNow, Next, compare_later, look};
use super::rows::is_about_the_row;
use super::writer::{How, Writer};

/// Number of times that rows that do not fit in are left out. Each time there are fewer, so this only
/// bounds the time.
const TRIES_MAX: usize = 8;

const DOING: &str = "writing rows that wait for each other";

/// Writes as many of `waiting` together as fit; returns which.
pub(super) async fn unblock<'a>(
    connection: &mut PgConnection,
    writer: &Writer<'_>,
    epochs: &Epochs,
    waiting: &[&'a ItemNow],
    expired: Expired<'_>,
) -> Result<Vec<&'a ItemNow>> {
    let mut group = waiting.to_vec();
    for _ in 0..TRIES_MAX {
        if group.len() < 2 || !writer.can_displace() {
            break;
        }
        let mut savepoint = connection.begin().await.doing(DOING)?;
        let mut rows = read(&mut savepoint, writer, epochs, &group).await?;
        let together: Vec<&dyn AnyRow> = rows.iter().map(|row| &*row.row).collect();
        match put(&mut savepoint, writer, &together, expired).await {
            Ok(()) => {
                let written: Vec<&ItemNow> = rows.iter().map(|row| row.found).collect();
                for row in rows.drain(..).filter(|row| row.compared) {
                    compare_later(&mut savepoint, writer.table, row.found, row.row, row.version).await?;
                }
                savepoint.commit().await.doing(DOING)?;
                return Ok(written);
            }
            Err(error) if is_about_the_row(&error) => savepoint.rollback().await.doing(DOING)?,
            Err(error) => return Err(error),
        }
        let fitting = fitting(connection, writer, &rows, expired).await?;
        if fitting.len() == rows.len() {
            break;
        }
        group = fitting;
    }
    Ok(Vec::new())
}

/// Writes rows together, once those that have expired have made way for them.
async fn put(
    connection: &mut PgConnection,
    writer: &Writer<'_>,
    rows: &[&dyn AnyRow],
    expired: Expired<'_>,
) -> Result<()> {
    make_way(connection, writer, rows, expired).await?;
    writer.put(connection, rows, How::Displacing).await
}

async fn make_way(
    connection: &mut PgConnection,
    writer: &Writer<'_>,
    rows: &[&dyn AnyRow],
    expired: Expired<'_>,
) -> Result<()> {
    // None of them is known to be without an item: nothing would go.
    if expired.removed.is_empty() {
        return Ok(());
    }
    for row in rows {
        give_way(connection, writer, *row, expired).await?;
    }
    Ok(())
}

struct Waiting<'a> {
    found: &'a ItemNow,
    row: Box<dyn AnyRow>,
    version: Version,
    compared: bool,
}

/// Those of a group that are still to be written, each row once.
async fn read<'a>(
    connection: &mut PgConnection,
    writer: &Writer<'_>,
    epochs: &Epochs,
    group: &[&'a ItemNow],
) -> Result<Vec<Waiting<'a>>> {
    let parts = writer.table.binding.table.primary_key_columns();
    let (mut rows, mut keys) = (Vec::new(), Vec::new());
    for found in group {
        let next = look(connection, writer.table, epochs, found).await?;
        let Next::Put { row, version, compared, .. } = next else { continue };
        let Ok(key) = row.key() else { continue };
        if !keys.contains(&key[..parts].to_vec()) {
            keys.push(key[..parts].to_vec());
            rows.push(Waiting { found, row, version, compared });
        }
    }
    Ok(rows)
}

/// Those that PostgreSQL takes one after the other, once all have made way. Nothing stays written.
async fn fitting<'a>(
    connection: &mut PgConnection,
    writer: &Writer<'_>,
    rows: &[Waiting<'a>],
    expired: Expired<'_>,
) -> Result<Vec<&'a ItemNow>> {
    let mut savepoint = connection.begin().await.doing(DOING)?;
    let all: Vec<&dyn AnyRow> = rows.iter().map(|row| &*row.row).collect();
    let mut fitting = Vec::new();
    let displaced = match make_way(&mut savepoint, writer, &all, expired).await {
        Ok(()) => writer.displace(&mut savepoint, &all).await,
        refused => refused,
    };
    match displaced {
        Ok(()) => {
            for row in rows {
                let mut one = savepoint.begin().await.doing(DOING)?;
                match writer.put(&mut one, &[&*row.row], How::Plain).await {
                    Ok(()) => {
                        one.commit().await.doing(DOING)?;
                        fitting.push(row.found);
                    }
                    Err(error) if is_about_the_row(&error) => one.rollback().await.doing(DOING)?,
                    Err(error) => return Err(error),
                }
            }
        }
        Err(error) if is_about_the_row(&error) => {}
        Err(error) => return Err(error),
    }
    savepoint.rollback().await.doing(DOING)?;
    Ok(fitting)
}
