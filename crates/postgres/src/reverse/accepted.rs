//! Acceptances: each is of one state of an item, and of the row that PostgreSQL keeps instead.
//!
//! 1. PostgreSQL refuses payment 5, whose amount is negative, and an operator accepts that PostgreSQL keeps
//! the row of before. 2. An application deletes its loan. 3. The feed deletes the loan's row, and a cascade
//! the payment's. 4. The way back goes through under the acceptance of step 1, payment 5 is in DynamoDB
//! alone, and a repair puts a tombstone over it. The same where the item changes to another state that
//! PostgreSQL cannot hold.
//!
//! So a note says of which version of its item it is. With another version the acceptance goes, and with
//! whatever changes the row. With the same one it stays: a reverse backfill notes every such item once more.
//! Where an item may have changed without a new version, all acceptances of its table go.

use std::collections::HashMap;

use lockstep_core::{Attributes, Doing, Epoch, Result, Version, version_of};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::table::among;
use crate::sql;
use crate::{Source, TableBinding};

/// Version in the note of an item that has none. NULL is there where the feed has not read it.
const NONE: i64 = -1;

/// Assignments that take an acceptance back.
pub(super) const WITHDRAWN: &str = "acknowledged_at = NULL, acknowledged_by = NULL";

/// Takes back every acceptance of a table: an item of it was changed without a new version, or may have been.
/// The version that an acceptance names does not tell the state that an operator has seen from this one.
pub(super) async fn withdraw_all(connection: &mut PgConnection, name: &str) -> Result<()> {
    sql::query(AssertSqlSafe(format!(
        "UPDATE lockstep.reverse_again SET {WITHDRAWN} WHERE table_name = $1 AND acknowledged_at IS NOT NULL",
    )))
    .bind(name)
    .execute(connection)
    .await
    .doing("taking back what was accepted to stay behind")
    .map(drop)
}

/// Returns what a note says of the version of an item.
pub(super) fn noted(version: Option<Version>) -> i64 {
    version.map_or(NONE, |version| version.0)
}

/// Returns what a note says of the version of an item that was read.
pub(super) fn noted_of(item: Option<&Attributes>) -> i64 {
    noted(item.and_then(version_of))
}

/// Returns the assignments by which note `a` becomes one of version `now`, an SQL expression. An older
/// version was read before what the note is of, and changes nothing.
pub(super) fn becomes(now: &str) -> String {
    let stays = format!("(a.version IS NOT DISTINCT FROM {now} OR {now} BETWEEN 0 AND a.version)");
    format!(
        "version = CASE WHEN {stays} THEN a.version ELSE {now} END,
         acknowledged_at = CASE WHEN {stays} THEN a.acknowledged_at END,
         acknowledged_by = CASE WHEN {stays} THEN a.acknowledged_by END"
    )
}

impl Source {
    /// The versions of items, by their places, as [`place`](lockstep_core::place) prints them, of which an
    /// operator has accepted that the source stays without that state: of that version alone.
    ///
    /// Asked after the rows were read, the answer holds for them: what changes a row of such an item takes
    /// the acceptance back in the same transaction. A cascade or a trigger notes the row first, and the feed
    /// takes the acceptance back when it takes those notes; until then nothing of the table counts as
    /// accepted.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Asking has no effect.
    pub async fn reverse_accepted(
        &self,
        binding: &TableBinding,
        places: &[String],
    ) -> Result<HashMap<String, Version>> {
        // By `to_jsonb`: a comparison also reads the schema of an older Lockstep, which keeps no version.
        let sql = format!(
            "SELECT a.place, (pg_catalog.to_jsonb(a) ->> 'version')::bigint FROM lockstep.reverse_again a
             WHERE {} AND pg_catalog.to_jsonb(a) ->> 'acknowledged_at' IS NOT NULL
                 AND (pg_catalog.to_jsonb(a) ->> 'version')::bigint >= 0
                 AND NOT EXISTS (SELECT FROM lockstep.reverse_riders r WHERE r.table_name = $1)",
            among(),
        );
        self.versions_by(sql, binding, places).await.doing("asking what was accepted to stay behind")
    }
}

/// Leaves to be decided, inside `transaction`, in which the source becomes the truth in `epoch`, what an
/// operator has accepted to stay behind of these tables: DynamoDB alone has it from then on. The keys, at
/// most a hundred of each table, are kept in the journal. Returns of how many tables there is any.
///
/// # Errors
/// The driver's.
pub async fn leave_accepted(transaction: &mut PgConnection, names: &[&str], epoch: Epoch) -> Result<u64> {
    let kept = sql::query(
        "INSERT INTO lockstep.journal (actor, kind, step, detail)
         SELECT 'reverse feed', 'note', 'left in DynamoDB alone', pg_catalog.jsonb_build_object(
             'epoch', $2::bigint, 'table', a.table_name, 'count', pg_catalog.count(*), 'keys',
             pg_catalog.jsonb_agg(coalesce(a.key, pg_catalog.to_jsonb(a.place)) ORDER BY a.place)
                 FILTER (WHERE a.nth <= 100))
         FROM (SELECT g.*, pg_catalog.row_number() OVER (PARTITION BY g.table_name ORDER BY g.place) AS nth
               FROM lockstep.reverse_again g
               WHERE g.table_name = ANY ($1) AND g.acknowledged_at IS NOT NULL) AS a
         GROUP BY a.table_name",
    )
    .bind(names)
    .bind(epoch.0)
    .execute(&mut *transaction)
    .await
    .doing("keeping what stays behind")?
    .rows_affected();
    if kept > 0 {
        Source::leave_what_differs(transaction, epoch).await?;
    }
    Ok(kept)
}
