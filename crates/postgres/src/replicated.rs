//! Logical replication of schema `lockstep`: what goes out with it, and what comes in.

use lockstep_core::{Doing, Result};

use super::Source;
use crate::sql;

const DOING: &str = "asking what is replicated";

/// Logical replication that has to do with schema `lockstep`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, sqlx_macros::FromRow)]
pub struct Replicated {
    /// Publications that carry tables of the schema, or would once it is there: those of all tables.
    pub publications: Vec<String>,
    /// Logical slots of this database, each a subscriber that WAL is kept for.
    pub slots: Vec<String>,
    /// Subscriptions that bring the schema here: this database is a copy, and marks are for another one.
    pub subscriptions: Vec<String>,
}

impl Replicated {
    /// Returns what goes out, as a sentence; `None` where there is no subscriber, or nothing of the schema
    /// goes with it.
    pub fn carries(&self) -> Option<String> {
        let (publications, slots) = (self.publications.join(", "), self.slots.join(", "));
        (!publications.is_empty() && !slots.is_empty()).then(|| {
            format!("publication {publications} carries schema lockstep, and subscribers have slot {slots}")
        })
    }
}

impl Source {
    /// Returns the publications that carry schema `lockstep`, the logical slots of this database, and the
    /// subscriptions that bring the schema.
    ///
    /// # Errors
    /// The driver's.
    pub async fn replicated(&self) -> Result<Replicated> {
        sql::query_as(
            // Each role may read the view of subscriptions, and not their table.
            "SELECT ARRAY(SELECT p.pubname::text FROM pg_catalog.pg_publication p
                     WHERE p.puballtables OR EXISTS (SELECT FROM pg_catalog.pg_publication_tables t
                     WHERE t.pubname = p.pubname AND t.schemaname = 'lockstep') ORDER BY 1) AS publications,
                 ARRAY(SELECT l.slot_name::text
                         || CASE WHEN l.active THEN '' ELSE ' (no subscriber reads it now)' END
                     FROM pg_catalog.pg_replication_slots l
                     WHERE l.slot_type = 'logical' AND NOT l.temporary
                         AND l.database = pg_catalog.current_database() ORDER BY 1) AS slots,
                 ARRAY(SELECT DISTINCT s.subname::text FROM pg_catalog.pg_subscription_rel r
                     JOIN pg_catalog.pg_class c ON c.oid = r.srrelid
                     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                     JOIN pg_catalog.pg_stat_subscription s ON s.subid = r.srsubid
                     WHERE n.nspname = 'lockstep' ORDER BY 1) AS subscriptions",
        )
        .fetch_one(self.pool())
        .await
        .doing(DOING)
    }
}
