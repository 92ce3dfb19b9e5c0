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
        let (mut bindings, mut problems) = (Vec::new(), Vec::new());
        for names in self.names(prefix) {
            let relation: Relation = names.source.parse()?;
            let Some(table) = source.catalog_table(&relation).await? else {
                problems.push(format!(
                    "tables.{0}: there is no table {relation}; set tables.{0}.source to where it is",
                    names.name
                ));
                continue;
            };
            match resolve(names.name, &self.tables[names.name], &table) {
                Ok(table) => {
                    let table = Arc::new(table);
                    let binding = TableBinding { table, relation, target_name: names.target };
                    problems.extend(is_another(source, &binding).await?);
                    bindings.push(binding);
                }
                Err(more) => problems.extend(more),
            }
        }
        if !problems.is_empty() {
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

/// Returns what is wrong where rows were captured already under another declaration, or by a key whose columns
/// are others by now.
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
