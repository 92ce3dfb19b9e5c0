//! Progress of the comparison before the way back, kept for the command that is given again.
//!
//! It is of everything that was changed in DynamoOnly, and may take hours. What is kept is not what the
//! verdict rests on for long: a writer past Lockstep changes rows without a trace in what the feed remembers,
//! so what was compared an hour before the last of it, or a day before now, is compared from the beginning.

use lockstep_core::{Doing, Result};

use super::FedTable;
use super::changed::{Since, TakenItem, parsed};
use crate::Source;
use crate::clock::is_younger;
use crate::sql;

/// Progress of the comparison of one table.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// Moment before which everything that was touched has been compared; `None` in the first pass.
    pub since: Option<Since>,
    /// Moment at which the pass under way began.
    pub began: Since,
    /// The place up to which it has come, in the order of [`Source::reverse_taken`].
    pub after: Option<String>,
    /// Items that were not equal, and are to be looked at again.
    pub unequal: Vec<TakenItem>,
}

impl Source {
    /// Returns how far the comparison of a table has come in this DynamoOnly; `None` where it begins.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn compared(&self, table: &FedTable) -> Result<Option<Compared>> {
        let doing = "reading how far a comparison has come";
        let Some(server) = self.history().await? else { return Ok(None) };
        let sql = format!(
            "SELECT c.since::text, c.began::text, c.after_place, c.unequal::text
             FROM lockstep.compared c JOIN lockstep.control l ON l.epoch = c.epoch
             WHERE c.table_name = $1 AND c.server = $2 AND l.phase = 'DynamoOnly'
                 AND c.began <= pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())
                 AND {} AND {}",
            is_younger("c.at", "interval '1 hour'"),
            is_younger("c.begun_at", "interval '1 day'"),
        );
        let found: Option<(Option<String>, String, Option<String>, String)> =
            sql::query_as(sqlx::AssertSqlSafe(sql))
                .bind(table.binding().name())
                .bind(server)
                .fetch_optional(self.pool())
                .await
                .doing(doing)?;
        let Some((since, began, after, unequal)) = found else { return Ok(None) };
        // What cannot be read is compared from the beginning.
        let Ok(unequal) = serde_json::from_str::<Vec<(String, String)>>(&unequal) else { return Ok(None) };
        let unequal = parsed(unequal, doing)?;
        Ok(Some(Compared { since: since.map(Since), began: Since(began), after, unequal }))
    }

    /// Keeps how far the comparison of a table has come. Where the server does not say which it is, nothing
    /// is kept.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn keep_compared(&self, table: &FedTable, compared: &Compared) -> Result<()> {
        let Some(server) = self.history().await? else { return Ok(()) };
        let unequal: Vec<(&str, String)> =
            compared.unequal.iter().map(|taken| (taken.place.as_str(), taken.key.to_json())).collect();
        sql::query(
            "INSERT INTO lockstep.compared AS c
                 (table_name, epoch, server, since, began, after_place, unequal)
             SELECT $1, l.epoch, $2, $3::text::xid8, $4::text::xid8, $5, $6 FROM lockstep.control l
             ON CONFLICT (table_name) DO UPDATE SET epoch = excluded.epoch, server = excluded.server,
                 since = excluded.since, began = excluded.began, after_place = excluded.after_place,
                 unequal = excluded.unequal, at = excluded.at,
                 begun_at = CASE WHEN excluded.epoch <> c.epoch
                                OR excluded.since IS NULL AND excluded.began <> c.began
                            THEN excluded.begun_at ELSE c.begun_at END",
        )
        .bind(table.binding().name())
        .bind(server)
        .bind(compared.since.as_ref().map(|since| &since.0))
        .bind(&compared.began.0)
        .bind(&compared.after)
        .bind(serde_json::json!(unequal))
        .execute(self.pool())
        .await
        .doing("keeping how far a comparison has come")
        .map(drop)
    }
}
