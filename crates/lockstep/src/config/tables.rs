//! `[tables]`: where each registered table is on both sides, and its own settings.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use figment::Figment;
use figment::value::{Dict, Value};
use lockstep_core::{MigratableTable, Result};
use lockstep_postgres::TableBinding;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::registry::{Located, Registry};
use super::{ConfigError, explain};
use crate::migration::Tables;
use crate::store::{CanaryStore, Store, Writer};

/// A table's names on both sides.
#[derive(Clone, Debug)]
pub struct Names<'a> {
    /// The table.
    pub name: &'static str,
    /// Relation of the table.
    pub source: &'a str,
    /// DynamoDB table, prefix included.
    pub target: String,
}

/// One section for each table of the registry, and the tables made by them.
#[derive(Clone, Default)]
pub struct TableSections {
    sections: BTreeMap<String, Dict>,
    located: Vec<Arc<dyn Located>>,
}

impl TableSections {
    /// Returns every table of `registry` where it is by default: a relation of its name in schema `public`,
    /// and a DynamoDB table of its name.
    pub fn of(registry: &Registry) -> Self {
        let sections = registry.entries().map(|entry| (entry.name().to_owned(), entry.defaults())).collect();
        let mut tables = Self { sections, located: Vec::new() };
        // Defaults read; the error has no place to come from.
        if tables.resolve(registry, &Figment::new()).is_err() {
            tables.located.clear();
        }
        tables
    }

    /// Makes the tables by what is configured. `figment` says where values came from.
    ///
    /// # Errors
    /// For every key that does not read.
    pub fn resolve(
        &mut self,
        registry: &Registry,
        figment: &Figment,
    ) -> std::result::Result<(), ConfigError> {
        let (mut located, mut problems) = (Vec::new(), Vec::new());
        for entry in registry.entries() {
            let (name, path) = (entry.name(), format!("tables.{}", entry.name()));
            // Where it is known, with the origin of each value.
            let section = figment.find_value(&path).ok().and_then(Value::into_dict);
            let section = section.or_else(|| self.sections.get(name).cloned()).unwrap_or_default();
            match entry.locate(section) {
                Ok((table, canonical)) => {
                    self.sections.insert(name.to_owned(), canonical);
                    located.push(table);
                }
                Err(mut error) => {
                    // It knows the path within the section; `with_path` would put the section's after that.
                    error.path.splice(0..0, ["tables".to_owned(), name.to_owned()]);
                    problems.push(explain(figment, *error));
                }
            }
        }
        self.located = located;
        ConfigError::joined(problems).map_or(Ok(()), Err)
    }

    /// Returns every table with both its names, the target's after `prefix`.
    pub fn names(&self, prefix: &str) -> Vec<Names<'_>> {
        let names = self.located.iter().map(|table| Names {
            name: table.name(),
            source: table.source(),
            target: format!("{prefix}{}", table.target()),
        });
        names.collect()
    }

    /// Returns every table, bound to both its relations.
    ///
    /// # Errors
    /// For a source that is no relation's name.
    pub fn bindings(&self, prefix: &str) -> Result<Vec<TableBinding>> {
        self.located.iter().map(|table| table.binding(prefix)).collect()
    }

    /// Returns a handle on a table, for what is asked of every table; `None` for one that is not registered.
    pub fn canary_store(&self, writer: &Writer, binding: &TableBinding) -> Option<Box<dyn CanaryStore>> {
        let table = self.located.iter().find(|table| table.name() == binding.name())?;
        Some(table.canary_store(writer.clone(), binding.clone()))
    }

    /// Returns a handle on a table, with its settings; `None` for one that is not registered.
    ///
    /// # Errors
    /// For a source that is no relation's name.
    pub fn store<T: MigratableTable>(&self, writer: &Writer, prefix: &str) -> Result<Option<Store<T>>> {
        for located in &self.located {
            if let Some(table) = located.table().downcast_ref::<Arc<T>>() {
                let binding = located.binding(prefix)?;
                return Ok(Some(Store::with_writer(writer.clone(), table.clone(), binding)));
            }
        }
        Ok(None)
    }

    /// Returns all of them as an application opens them.
    pub(crate) fn opened(&self, prefix: &str) -> Result<Tables> {
        self.located.iter().try_fold(Tables::default(), |tables, table| table.add_to(tables, prefix))
    }
}

impl Serialize for TableSections {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.sections.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for TableSections {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Ok(Self { sections: BTreeMap::deserialize(deserializer)?, located: Vec::new() })
    }
}

impl PartialEq for TableSections {
    fn eq(&self, other: &Self) -> bool {
        self.sections == other.sections
    }
}

impl fmt::Debug for TableSections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.sections).finish()
    }
}
