//! Items of one row whose keys are other texts of one value.
//!
//! 1. A table is keyed by an interval; row and item `1 mon` hold a. 2. In DynamoOnly a service puts an item
//! under `30 days`, which PostgreSQL takes for the same: the row stays `1 mon`, and holds b. 3. That item is
//! deleted again. Its tombstone names `30 days`, and deletes no row. 4. The item of `1 mon` never came
//! through the feed, so no comparison before the way back asks for it: PostgreSQL would be the truth with b,
//! and the acknowledged a in DynamoDB alone (I7).
//!
//! So the keys of all rows that the feed changes in such a table are noted as those of rows that ride along,
//! but for those under the text of the item that was put. A row is what the item under its own text says, and
//! where there is none, what another live item of its value says.

use lockstep_core::{Doing, Result};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::FedTable;
use super::accepted::WITHDRAWN;
use super::remember::note_others;
use super::table::among;
use super::writer::Writer;
use crate::binding::{digest_sql, list, text_digest_sql};
use crate::sql;

/// Notes the other live items of rows that were just deleted, of any text of their keys, to be read again.
pub(super) async fn note_heirs(
    connection: &mut PgConnection,
    table: &FedTable,
    deleted: &[&String],
) -> Result<u64> {
    let others = note_others(connection, table.binding.name(), deleted).await?;
    Ok(others + note_equals(connection, table, deleted, None).await?)
}

/// Takes a row away whose own item is not there, by its printed key, where another live item has its value in
/// another text: that is read again, and put under its own text.
///
/// 1. The item of row `1 mon` has expired, and the row stays. 2. An item comes under `30 days`, and the row
/// holds what that says. 3. It would differ from it for ever, whatever is fed.
pub(super) async fn make_way_for_heirs(
    connection: &mut PgConnection,
    writer: &Writer<'_>,
    place: &str,
    key: &str,
) -> Result<bool> {
    let has_heirs = note_equals(connection, writer.table, &[], Some(key)).await? > 0;
    if has_heirs {
        writer.delete_key(connection, place, key).await?;
    }
    Ok(has_heirs)
}

/// Notes live items that have the value of these places' keys, or of this one, in another text; returns how
/// many there are, those among them that were noted before.
async fn note_equals(
    connection: &mut PgConnection,
    table: &FedTable,
    places: &[&String],
    key: Option<&str>,
) -> Result<u64> {
    if !table.has_loose_key || (places.is_empty() && key.is_none()) {
        return Ok(0);
    }
    let parts = (0..table.binding.table.primary_key_columns()).map(|at| format!("$3::text::jsonb -> {at}"));
    let sql = format!(
        "INSERT INTO lockstep.reverse_again AS a (table_name, place, key, why)
         SELECT DISTINCT $1, other.place, other.key, 'another item of its row went'
         FROM (SELECT row_key FROM lockstep.reverse_places WHERE {among}
               UNION ALL SELECT pg_catalog.jsonb_build_array({parts}) WHERE $3::text IS NOT NULL) AS gone
         JOIN lockstep.reverse_places other
             ON {of_other} <> {of_gone} AND {same}
         WHERE other.table_name = $1 AND other.live
         ON CONFLICT (table_name, {place}) DO UPDATE SET {WITHDRAWN}",
        among = among(),
        parts = list(parts),
        of_other = digest_sql("other.row_key"),
        of_gone = digest_sql("gone.row_key"),
        same = table.binding.same_primary_key_sql("other.row_key", "gone.row_key"),
        place = text_digest_sql("place"),
    );
    let noted = sql::query(AssertSqlSafe(sql))
        .bind(table.binding.name())
        .bind(places)
        .bind(key)
        .execute(connection)
        .await
        .doing("noting items that have a key in another text")?;
    Ok(noted.rows_affected())
}
