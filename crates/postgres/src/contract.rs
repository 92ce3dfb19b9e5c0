//! The contract (I13): which tables the migration has, and where each of them goes. Everything that writes or
//! judges the target compares its own settings with it first, and touches nothing where they differ.
//!
//! It stands beside phase and epoch, so that an application can read it with the rights that it has.

use std::collections::BTreeSet;

use lockstep_core::Advice::RepairState;
use lockstep_core::{Advice, Doing, Error, Kind, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::postgres::PgConnection;
use sqlx::types::Json;

use super::columns::{ColumnTaken, columns_in, unknown_columns};
use super::stamp::unstamp;
use super::{Shape, Source, TableBinding, TableState};
use crate::sql;

const READING: &str = "reading the tables of the migration";

/// Settings that the migration holds of one of its tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// Table name.
    pub name: String,
    /// Relation of the table.
    pub relation: String,
    /// Name of the table in the target, once adopted.
    pub target_name: Option<String>,
    /// DynamoDB's id of it.
    pub target_id: Option<String>,
    /// The settings that decide keys; of a declared table also attributes and expiry.
    pub layout: String,
    /// The settings that decide when items expire; `None` where an earlier Lockstep captured the table.
    pub expiry: Option<String>,
    /// Columns of the relation when it was taken; `None` where an earlier Lockstep took it.
    #[serde(default)]
    pub columns: Option<Vec<ColumnTaken>>,
}

/// The tables of a migration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Contract {
    /// All of them.
    pub tables: Vec<Adopted>,
}

impl Contract {
    /// Reads it on `connection`; empty where the schema is older than the contract.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn read(connection: &mut PgConnection) -> Result<Self> {
        Ok(Self::read_with_id(connection).await?.0)
    }

    /// Reads it with the identity of its migration.
    async fn read_with_id(connection: &mut PgConnection) -> Result<(Self, Option<String>)> {
        // A column that is not there would end the transaction.
        let sql = "SELECT coalesce(pg_catalog.to_jsonb(c) -> 'contract', '[]'),
                pg_catalog.to_jsonb(c) ->> 'migration_id' FROM lockstep.control c";
        let found: Option<(Json<Vec<Adopted>>, Option<String>)> =
            sql::query_as(sql).fetch_optional(connection).await.doing(READING)?;
        let of = |mut tables: Vec<Adopted>| {
            tables.iter_mut().for_each(|table| unstamp(&mut table.layout));
            Self { tables }
        };
        Ok(found.map(|(Json(tables), id)| (of(tables), id)).unwrap_or_default())
    }

    /// Returns the migration's settings of a table; `None` where the table is not part of it.
    pub fn of(&self, name: &str) -> Option<&Adopted> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// Refuses settings that are not those of the migration. A table that is not part of it yet is no mistake
    /// here.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`], which names table and setting.
    pub fn require<'a>(&self, tables: impl IntoIterator<Item = &'a TableBinding>) -> Result<()> {
        for binding in tables {
            let wrong =
                self.of(binding.name()).map(|adopted| adopted.differences(binding)).unwrap_or_default();
            if !wrong.is_empty() {
                return Err(misconfigured(wrong.join("; ")));
            }
        }
        Ok(())
    }

    /// Refuses settings that are not those of the migration, and a list that leaves out one of its tables.
    ///
    /// # Errors
    /// As there.
    pub fn require_all(&self, tables: &[TableBinding]) -> Result<()> {
        self.require_known(tables, &[])?;
        self.require(tables)
    }

    /// Refuses a list that leaves out one of the migration's tables, but for `unread`: all move together.
    ///
    /// # Errors
    /// As there.
    pub fn require_known(&self, tables: &[TableBinding], unread: &[String]) -> Result<()> {
        let missing = |table: &&Adopted| {
            !tables.iter().any(|binding| binding.name() == table.name) && !unread.contains(&table.name)
        };
        let missing: Vec<&str> = self.tables.iter().filter(missing).map(|of| of.name.as_str()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(misconfigured(format!(
            "the migration has {} too, and this process does not know it: use the same build and configuration everywhere, for the phase \
             is one for all tables",
            missing.join(" and ")
        )))
    }
}

impl Adopted {
    /// Returns how a process's settings differ from the migration's, one sentence each; empty when they do
    /// not.
    pub fn differences(&self, binding: &TableBinding) -> Vec<String> {
        let name = binding.name();
        let mut wrong = Vec::new();
        let mut compare = |setting: &str, adopted: &str, configured: &str| {
            if adopted != configured {
                wrong.push(differing(name, setting, adopted, configured));
            }
        };
        compare("source", &self.relation, &binding.relation.to_string());
        if let Some(adopted) = &self.target_name {
            compare("target", adopted, &binding.target_name);
        }
        wrong.extend(self.decided_otherwise(binding));
        wrong.extend(self.not_known_to(binding));
        wrong
    }

    /// Returns the differences that decide keys, attributes and expiry, one sentence each; empty where there
    /// is none.
    pub fn decided_otherwise(&self, binding: &TableBinding) -> Vec<String> {
        self.decided_by(binding.name(), &binding.table.layout(), &binding.table.expiry())
    }

    /// Returns what is known of a captured table where the schema is older than the contract.
    pub fn of_state(state: &TableState) -> Self {
        let TableState { name, relation, target_name, layout, .. } = state.clone();
        Self { name, relation, target_name, target_id: None, layout, expiry: None, columns: None }
    }

    /// As [`Adopted::decided_otherwise`], of a table whose fingerprint was `captured` and is `now`: what is
    /// said of columns that came or went since then cannot be put back.
    pub fn decided_otherwise_since(&self, binding: &TableBinding, captured: &str, now: &str) -> Vec<String> {
        let Shape::Columns { came, .. } = Shape::of(captured, now) else {
            return self.decided_otherwise(binding);
        };
        let columns = columns_in(now, binding);
        let stayed = columns.iter().filter(|column| !came.contains(&column.line()));
        let stayed: Vec<&str> = stayed.map(|column| column.name.as_str()).collect();
        self.decided_otherwise_of(binding, &stayed)
    }

    /// As [`Adopted::decided_otherwise`], but for what is said of columns other than `stayed`. 1. A column
    /// `ttl` is added, which is called as an attribute of Lockstep's. 2. Its declaration gives it another one,
    /// and no other declaration of it can be read. 3. That setting is not one to be put back.
    fn decided_otherwise_of(&self, binding: &TableBinding, stayed: &[&str]) -> Vec<String> {
        let of = |layout: &str| match declared(layout) {
            Some(layout) => Value::Object(said_of(layout, stayed)).to_string(),
            None => called_of(layout, stayed),
        };
        let adopted = Self { layout: of(&self.layout), ..self.clone() };
        adopted.decided_by(binding.name(), &of(&binding.table.layout()), &binding.table.expiry())
    }

    /// Says which columns of the migration's a process does not know. What it writes would go without them.
    fn not_known_to(&self, binding: &TableBinding) -> Option<String> {
        let unknown = unknown_columns(self.columns.as_deref().unwrap_or_default(), binding);
        (!unknown.is_empty()).then(|| {
            format!(
                "{}: the migration has taken {}, which this process does not know, and what it writes \
                 would not have it; run the build that the table is of (a declared table is read again at \
                 each start). Where the table has changed since then, {RepairState} takes it as it is now",
                binding.name(),
                unknown.join(" and ")
            )
        })
    }

    fn decided_by(&self, name: &str, layout: &str, expiry: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        let compare = |wrong: &mut Vec<String>, setting: &str, adopted: &str, configured: &str| {
            if adopted != configured {
                wrong.push(differing(name, setting, adopted, configured));
            }
        };
        match (declared(&self.layout), declared(layout)) {
            // A declaration is told setting by setting.
            (Some(_), Some(_)) => wrong.extend(layout_differences(name, &self.layout, layout)),
            _ => compare(&mut wrong, "* (what decides keys)", &self.layout, layout),
        }
        if let Some(adopted) = self.expiry.as_ref().filter(|adopted| !is_finer(adopted, expiry)) {
            compare(&mut wrong, "* (what decides expiry)", adopted, expiry);
        }
        wrong
    }
}

fn differing(table: &str, setting: &str, adopted: &str, configured: &str) -> String {
    told(table, setting, &format!("{adopted:?}"), &format!("{configured:?}"))
}

fn told(table: &str, setting: &str, adopted: &str, configured: &str) -> String {
    let setting = Advice::TableSetting(table.to_owned(), setting.to_owned());
    format!(
        "{setting}: the migration has {adopted}, and {configured} is configured here; put the setting back"
    )
}

/// Returns the least parts in which two layouts of declared tables differ, one sentence each; none where they
/// are alike, or where one of them is of no declared table.
pub fn layout_differences(table: &str, adopted: &str, configured: &str) -> Vec<String> {
    let (Some(adopted), Some(configured)) = (declared(adopted), declared(configured)) else {
        return Vec::new();
    };
    let mut parts = Vec::new();
    parts_that_differ("", &Value::Object(adopted), &Value::Object(configured), &mut parts);
    let shown = |value: Option<Value>| match value {
        None | Some(Value::Null) => "nothing".to_owned(),
        Some(value) => value.to_string(),
    };
    let sentence = |(setting, adopted, configured): (String, _, _)| {
        told(table, &setting, &shown(adopted), &shown(configured))
    };
    parts.into_iter().map(sentence).collect()
}

/// Collects the least parts in which two declarations differ, with what each has there. 1. A table has ten
/// indexes. 2. The sort key of one is changed. 3. Both declarations are shown whole, and a person looks for
/// it.
fn parts_that_differ(
    at: &str,
    adopted: &Value,
    configured: &Value,
    found: &mut Vec<(String, Option<Value>, Option<Value>)>,
) {
    let (Value::Object(one), Value::Object(other)) = (adopted, configured) else {
        if adopted != configured {
            found.push((at.to_owned(), Some(adopted.clone()), Some(configured.clone())));
        }
        return;
    };
    let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    for name in names {
        let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        match (one.get(name), other.get(name)) {
            (Some(one), Some(other)) => parts_that_differ(&at, one, other, found),
            // One that is not there is as one that is null.
            (one, other) if one.or(other).is_some_and(|only| !only.is_null()) => {
                found.push((at, one.cloned(), other.cloned()));
            }
            _ => {}
        }
    }
}

/// Returns the layout of a table that was declared.
fn declared(layout: &str) -> Option<Map<String, Value>> {
    serde_json::from_str(layout).ok()
}

/// Returns a layout with what it says of single columns left out, but for those of `columns`.
fn said_of(mut layout: Map<String, Value>, columns: &[&str]) -> Map<String, Value> {
    let is_of = |name: &str| columns.contains(&name);
    for setting in ["omit", "lists"] {
        if let Some(Value::Array(names)) = layout.get_mut(setting) {
            names.retain(|name| name.as_str().is_some_and(is_of));
        }
    }
    // A layout has no list where there is none.
    if layout.get("lists").and_then(Value::as_array).is_some_and(Vec::is_empty) {
        layout.remove("lists");
    }
    for setting in ["attributes", "held_as"] {
        if let Some(Value::Object(attributes)) = layout.get_mut(setting) {
            attributes.retain(|name, _| is_of(name));
        }
    }
    if layout.get("held_as").and_then(Value::as_object).is_some_and(Map::is_empty) {
        layout.remove("held_as");
    }
    layout
}

/// Returns a layout of a row type without the names (`column->attribute`) that it gives to columns other than
/// `columns`.
fn called_of(layout: &str, columns: &[&str]) -> String {
    let is_kept = |word: &&str| word.split_once("->").is_none_or(|(column, _)| columns.contains(&column));
    layout.split(' ').filter(is_kept).collect::<Vec<_>>().join(" ")
}

/// Word that an earlier Lockstep noted of a table whose items expire, without saying when.
const EXPIRES: &str = "on";

/// Tells whether `configured` says when items expire, where an earlier Lockstep noted only that they do: the
/// next coordinator notes it.
fn is_finer(adopted: &str, configured: &str) -> bool {
    adopted == EXPIRES && configured != "off"
}

fn misconfigured(message: String) -> Error {
    Error::source(Kind::Misconfigured, "comparing the settings with those of the migration", message)
}

impl Source {
    /// Returns the tables of the migration; none where Lockstep was never installed, and where schema
    /// `lockstep` is another migration's ([`Source::is_aside`]).
    ///
    /// # Errors
    /// The driver's; [`Kind::Refused`] where the schema is known to be another migration's by now.
    #[crate::boxed]
    pub async fn contract(&self) -> Result<Contract> {
        if self.is_aside() {
            return Ok(Contract::default());
        }
        let mut connection = self.pool().acquire().await.doing(READING)?;
        match Contract::read_with_id(&mut connection).await {
            Err(error) if error.is_missing_table() => Ok(Contract::default()),
            read => {
                let (contract, id) = read?;
                self.own().require(id.as_deref(), Kind::Refused, READING)?;
                Ok(contract)
            }
        }
    }

    /// Makes sure that the settings of `tables` are the migration's, before anything of it is written or
    /// judged.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`], which names the setting; the driver's.
    #[crate::boxed]
    pub async fn require_contract(&self, tables: &[TableBinding]) -> Result<()> {
        self.contract().await?.require(tables)
    }

    /// Notes when items of a table expire, where an earlier Lockstep has not, or only that they do.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn note_expiry(&self, binding: &TableBinding) -> Result<()> {
        let sql = "UPDATE lockstep.tables SET expiry = $2
            WHERE name = $1 AND (expiry IS NULL OR (expiry = $3 AND $2 NOT IN ('off', $3)))";
        sql::query(sql)
            .bind(binding.name())
            .bind(binding.table.expiry())
            .bind(EXPIRES)
            .execute(self.pool())
            .await
            .doing("noting when items expire")
            .map(drop)
    }
}

#[cfg(test)]
mod tests;
