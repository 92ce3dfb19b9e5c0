//! Memory that a database has of the migrations that are complete in it.
//!
//! A migration is called by its control table in DynamoDB: each has one of its own, and commands and
//! applications both name it. Once a migration is complete, schema `lockstep` is free for the next one. 1.
//! The second has begun. 2. A process of the first asks PostgreSQL, and is answered with the identity, the
//! phase and the tables of the second. So the names of those that are complete stand beside the identity
//! (`lockstep.control.completed`), and a process that finds its own there takes nothing else from the schema.

use crate::sql;
use chrono::{DateTime, Utc};
use lockstep_core::{Doing, Epoch, Result};
use serde::{Deserialize, Serialize};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;

pub(crate) const READING: &str = "reading which migrations are complete";

/// Memory of a migration that is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completed {
    /// Time at which it was completed.
    pub completed_at: DateTime<Utc>,
    /// The epoch that began then.
    pub epoch: i64,
    /// Name of the operator who completed it; empty where only an application's rights read it.
    #[serde(default)]
    pub actor: String,
    /// Address to which the journal was exported; likewise.
    #[serde(default)]
    pub journal_file: String,
    /// Control table, by which it is called; `None` where an earlier version completed it, until the
    /// completion is asked for once more.
    #[serde(default)]
    pub control_table: Option<String>,
    /// Identity; likewise.
    #[serde(default)]
    pub migration_id: Option<String>,
    /// Tables; none are known where it has no name.
    #[serde(default)]
    pub tables: Vec<CompletedTable>,
}

/// A table of a migration that is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletedTable {
    /// Name of the table.
    pub name: String,
    /// Relation of the table.
    pub relation: String,
    /// DynamoDB table in which applications go on with it.
    pub target_name: Option<String>,
}

impl Completed {
    /// Returns its name for people.
    pub fn title(&self) -> String {
        match &self.control_table {
            Some(table) => format!("the one of control table {table}"),
            None => format!("one without a name, of {}", self.completed_at.format("%Y-%m-%d %H:%M:%S UTC")),
        }
    }

    /// Returns what is remembered of it, in a line for people: name, tables, since when, and where its
    /// journal is.
    pub fn told(&self) -> String {
        let mut told = self.title();
        if !self.tables.is_empty() {
            let names: Vec<&str> = self.tables.iter().map(|table| table.name.as_str()).collect();
            told += &format!(", of {}", names.join(", "));
        }
        if self.control_table.is_some() {
            told += &format!(", since {}", self.completed_at.format("%Y-%m-%d %H:%M:%S UTC"));
        }
        if !self.journal_file.is_empty() {
            told += &format!(", its journal in {}", self.journal_file);
        }
        told
    }

    /// Tells whether a table of this name was part of it.
    pub fn has(&self, name: &str) -> bool {
        self.tables.iter().any(|table| table.name == name)
    }
}

/// Owner of schema `lockstep`, and the migrations that were complete before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whose {
    /// The identity of the migration whose the schema is; `None` where there is no schema, or one of a
    /// version that knew none.
    pub id: Option<String>,
    /// Migrations that are complete.
    pub completed: Vec<Completed>,
}

impl Whose {
    /// Returns the completion of the migration of this control table, by its name.
    pub fn named(&self, control_table: &str) -> Option<&Completed> {
        self.completed.iter().find(|done| done.control_table.as_deref() == Some(control_table))
    }

    /// Tells whether one of them has no name.
    pub fn has_unnamed(&self) -> bool {
        self.completed.iter().any(|done| done.control_table.is_none())
    }

    /// Returns the completion without a name of the migration whose record in DynamoDB says that it is
    /// complete since epoch `epoch`, and belongs to `owner`. The record of the migration whose the schema is,
    /// is none: it is complete, and what it leaves is not taken out yet.
    pub fn unnamed(&self, epoch: Epoch, owner: Option<&str>) -> Option<&Completed> {
        if self.id.is_some() && self.id.as_deref() == owner {
            return None;
        }
        self.completed.iter().find(|done| done.control_table.is_none() && done.epoch == epoch.0)
    }
}

/// Reads whose schema `lockstep` is, as far as its own tables say.
///
/// # Errors
/// The driver's.
#[crate::boxed]
pub async fn read_whose(connection: &mut PgConnection) -> Result<Whose> {
    // Asked before it is known whose schema `lockstep` is: what a view or a policy calls would run with our
    // rights, so nothing but plain columns of a plain table are read.
    let (has_id, has_completed): (bool, bool) = sql::query_as(
        "SELECT coalesce(pg_catalog.bool_or(a.attname = 'migration_id'
                    AND a.atttypid = 'pg_catalog.text'::pg_catalog.regtype), false),
                coalesce(pg_catalog.bool_or(a.attname = 'completed'
                    AND a.atttypid = 'pg_catalog.jsonb'::pg_catalog.regtype), false)
         FROM pg_catalog.pg_class c
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped
         WHERE c.oid = pg_catalog.to_regclass('lockstep.control')::oid AND c.relkind = 'r'
             AND NOT c.relrowsecurity",
    )
    .fetch_one(&mut *connection)
    .await
    .doing(READING)?;
    if !has_id && !has_completed {
        return Ok(Whose::default());
    }
    let id = if has_id { "migration_id" } else { "NULL::text" };
    let completed = if has_completed { "completed" } else { "'[]'::jsonb" };
    let sql = format!("SELECT {id}, {completed} FROM ONLY lockstep.control");
    let found: Option<(Option<String>, Json<Vec<Completed>>)> =
        sql::query_as(AssertSqlSafe(sql)).fetch_optional(connection).await.doing(READING)?;
    Ok(found.map(|(id, Json(completed))| Whose { id, completed }).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(epoch: i64, control_table: Option<&str>) -> Completed {
        Completed {
            completed_at: DateTime::UNIX_EPOCH,
            epoch,
            actor: String::new(),
            journal_file: String::new(),
            control_table: control_table.map(str::to_owned),
            migration_id: None,
            tables: Vec::new(),
        }
    }

    #[test]
    fn a_completion_without_a_name_is_known_by_its_epoch_and_is_never_that_of_the_schema_there() {
        let completed = vec![done(7, Some("first")), done(5, None)];
        let whose = Whose { id: Some("b".to_owned()), completed };
        assert!(whose.has_unnamed());
        assert_eq!(whose.named("first").map(|done| done.epoch), Some(7));
        assert_eq!(whose.named("second"), None);
        assert_eq!(whose.unnamed(Epoch(5), Some("a")).map(|done| done.epoch), Some(5));
        assert!(whose.unnamed(Epoch(5), None).is_some(), "of a version that wrote no owner");
        assert_eq!(whose.unnamed(Epoch(6), Some("a")), None, "another one's");
        assert_eq!(whose.unnamed(Epoch(7), Some("a")), None, "it has a name");
        assert_eq!(whose.unnamed(Epoch(5), Some("b")), None, "it is the one whose the schema is");
    }

    #[test]
    fn what_an_earlier_version_remembered_is_read() {
        let earlier = r#"{"singleton": true, "completed_at": "2026-01-02T03:04:05.678901+01:00", "epoch": 9,
            "actor": "a", "journal_file": "f"}"#;
        let read: Completed = serde_json::from_str(earlier).expect("it is read");
        assert_eq!((read.epoch, read.control_table, read.tables.len()), (9, None, 0));
    }
}
