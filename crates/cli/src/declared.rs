//! The tables that a configuration declares: bound once, when the source is reached, and the same for the
//! whole command.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use lockstep_core::{Error, Kind, Result};
use lockstep_declared::{Declaration, resolve};
use lockstep_postgres::{Adopted, Relation, Shape, Source, TableBinding, changes_of_key, layout_differences};
use serde::{Deserialize, Serialize};

use lockstep::config::Names;

/// Declared tables, by name, and what became of each.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Declared {
    tables: BTreeMap<String, Declaration>,
    #[serde(skip)]
    bound: Arc<OnceLock<Vec<TableBinding>>>,
    /// Reason why they could not be bound, as of the last try.
    #[serde(skip)]
    away: Arc<Mutex<Option<String>>>,
    /// Tables that do not read, each with the sentence that says why, where a command does without them.
    #[serde(skip)]
    left_out: Arc<OnceLock<Mutex<Vec<LeftOut>>>>,
}

/// A declared table that does not read in PostgreSQL as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Name of the table.
    pub name: &'static str,
    /// Everything that is wrong with it.
    pub why: String,
}

impl PartialEq for Declared {
    fn eq(&self, other: &Self) -> bool {
        self.tables == other.tables
    }
}

impl Declared {
    /// Tells whether no table is declared.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Returns the declaration of a table.
    pub fn declaration(&self, name: &str) -> Option<&Declaration> {
        self.tables.get(name)
    }

    /// Returns every table with both its names, the target's after `prefix`.
    pub fn names(&self, prefix: &str) -> Vec<Names<'_>> {
        let tables = self.tables.iter().map(|(name, declaration)| {
            let name = kept(name);
            let target = declaration.target.as_deref().unwrap_or(name);
            Names {
                name,
                source: declaration.source.as_deref().unwrap_or(name),
                target: format!("{prefix}{target}"),
            }
        });
        tables.collect()
    }

    /// Lets a command do without tables that do not read: it looks, or takes reads back to PostgreSQL. 1. In
    /// HybridRead a table is dropped, or gets another key. 2. Its declaration does not read any more. 3. Were
    /// every command refused for it, no application could be sent back to PostgreSQL, for any table.
    pub fn do_without(&self) {
        let _ = self.left_out.get_or_init(Mutex::default);
    }

    /// Returns the tables that the command does without.
    pub fn left_out(&self) -> Vec<LeftOut> {
        let left_out = self.left_out.get().map(|left| left.lock().unwrap_or_else(PoisonError::into_inner));
        left_out.map(|left| left.clone()).unwrap_or_default()
    }

    /// Reads the columns and keys of every table from `source`, once.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`] with everything that is to be repaired; the driver's.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    pub async fn bind(&self, source: &Source, prefix: &str) -> Result<()> {
        if self.is_empty() || self.bound.get().is_some() {
            return Ok(());
        }
        let (mut bindings, mut problems, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
        for names in self.names(prefix) {
            let name = names.name;
            match self.bound(source, names).await? {
                Ok(binding) => bindings.push(binding),
                Err(wrong) => {
                    left_out.push(LeftOut { name, why: wrong.join("; ") });
                    problems.extend(wrong);
                }
            }
        }
        if let Some(left) = self.left_out.get() {
            *left.lock().unwrap_or_else(PoisonError::into_inner) = left_out;
        } else if !problems.is_empty() {
            let message = if problems.len() == 1 {
                problems.concat()
            } else {
                format!("\n  - {}", problems.join("\n  - "))
            };
            return Err(Error::source(Kind::Misconfigured, "reading the declared tables", message));
        }
        // Another task of this command may have bound them meanwhile, to the same.
        let _ = self.bound.set(bindings);
        Ok(())
    }

    /// Reads one table; what is wrong with it otherwise, one sentence each.
    async fn bound(&self, source: &Source, names: Names<'_>) -> Result<Result<TableBinding, Vec<String>>> {
        let relation: Relation = names.source.parse()?;
        let Some(table) = source.catalog_table(&relation).await? else {
            return Ok(Err(vec![is_missing(source, names.name, &relation).await?]));
        };
        let table = match resolve(names.name, &self.tables[names.name], &table) {
            Ok(table) => Arc::new(table),
            Err(wrong) => return Ok(Err(wrong)),
        };
        let binding = TableBinding { table, relation, target_name: names.target };
        Ok(match is_another(source, &binding).await? {
            Some(wrong) => Err(vec![wrong]),
            None => Ok(binding),
        })
    }

    /// Notes why the source did not answer, for [`Declared::bindings`].
    pub fn note_away(&self, why: &Error) {
        *self.away.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_string());
    }

    /// Returns the tables, once they were bound.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] where the source did not answer.
    pub fn bindings(&self) -> Result<Vec<TableBinding>> {
        if self.is_empty() {
            return Ok(Vec::new());
        }
        self.bound.get().cloned().ok_or_else(|| {
            let why = self.away.lock().unwrap_or_else(PoisonError::into_inner);
            let why = why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
            let message = format!(
                "the columns of declared tables are read from PostgreSQL, and it did not answer{why}; try \
                 again when it does"
            );
            Error::source(Kind::Unavailable, "reading the declared tables", message)
        })
    }
}

/// Returns what is wrong where there is no table of a name. Of one that was moved by that name nothing is
/// to be set: 1. A table is renamed while it is moved. 2. Its source is set to the new name, and is
/// refused, as rows are captured by the old one. 3. It is set back, and there is no such table.
async fn is_missing(source: &Source, name: &str, relation: &Relation) -> Result<String> {
    let is_moved = source.has_schema().await? && source.table_state(name).await?.is_some();
    Ok(match is_moved {
        true => format!(
            "tables.{name}: {relation} was moved, and there is no such table any more: rename or restore it, \
             or take the migration's reads back to PostgreSQL (`rollback --to DualWrite`) and `uninstall`"
        ),
        false => {
            format!("tables.{name}: there is no table {relation}; set tables.{name}.source to where it is")
        }
    })
}

/// Returns what is wrong where rows were captured already under another declaration, or by a key whose
/// columns are others by now.
///
/// Told here, because keys of another type do not even reach the gates: DynamoDB refuses the first read by
/// one.
async fn is_another(source: &Source, binding: &TableBinding) -> Result<Option<String>> {
    if !source.has_schema().await? {
        return Ok(None);
    }
    let (name, layout) = (binding.name(), binding.table.layout());
    let Some(state) = source.table_state(name).await? else { return Ok(None) };
    let now = source.fingerprint(binding).await?;
    if let Shape::Columns { came, gone } = Shape::of(&state.fingerprint, &now) {
        let of_key = changes_of_key(binding, &gone, &came);
        if !of_key.is_empty() {
            return Ok(Some(format!(
                "tables.{name}: its key is made of columns that were others when rows were captured, and \
                 items lie by it: {}; \
                 undo the change",
                of_key.join("; ")
            )));
        }
    }
    let adopted = Adopted::of_state(&state);
    let differing = adopted.decided_otherwise_since(binding, &state.fingerprint, &now);
    let is_declared = !layout_differences(name, &state.layout, &layout).is_empty();
    let differing = match is_declared || differing.is_empty() {
        true => differing.join("; "),
        false => format!("that was {}, and this is {layout}", state.layout),
    };
    Ok((!differing.is_empty()).then(|| {
        format!(
            "tables.{name}: rows are captured under another declaration: {differing}; put the declaration \
             back"
        )
    }))
}

/// Returns a name, kept for as long as the program lives; the same name is kept once.
fn kept(name: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return known;
    }
    let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
    names.insert(name);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_that_could_not_be_bound_say_why() {
        let text = r#"{ "orders": { "key": ["id"] } }"#;
        let declared: Declared = serde_json::from_str(text).expect("a declaration");
        declared.note_away(&Error::source(Kind::Unavailable, "connecting", "connection refused"));
        let why = declared.bindings().expect_err("nothing was bound").to_string();
        assert!(why.contains("connection refused"), "{why}");
    }
}
