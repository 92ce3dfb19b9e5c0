//! Tables that a process answers from, and whether each is still the one that it was.
//!
//! 1. In DynamoOnly a target table is deleted and made again under its name. 2. An application reads it as if
//! every row had been deleted, and tells its callers so. So a process looks at the mark of each table that it
//! answers from, which no table that was made again has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::stream::{self, StreamExt};
use lockstep_core::TargetSchema;

use super::Target;

/// Tables that are asked at once.
const ASKED_AT_ONCE: usize = 16;

/// The tables of a process; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Served(Arc<Mutex<BTreeMap<String, Table>>>);

#[derive(Clone, Copy, Debug)]
struct Table {
    schema: TargetSchema,
    /// Whether its mark was seen: a table that never had one says nothing by having none.
    marked: bool,
}

impl Served {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Table>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Target {
    /// Says that this process answers from `table`. Told again, it changes nothing.
    pub fn serve(&self, table: &str, schema: TargetSchema) {
        self.served.lock().entry(table.to_owned()).or_insert(Table { schema, marked: false });
    }

    /// Those of the tables that this process answers from which have lost the mark that they had: they were
    /// deleted, made again, or set back to before they were adopted. A table that does not answer says
    /// nothing.
    #[crate::boxed]
    pub async fn served_otherwise(&self) -> Vec<String> {
        let tables: Vec<(String, Table)> =
            self.served.lock().iter().map(|(name, table)| (name.clone(), *table)).collect();
        let look = |(name, table): (String, Table)| async move {
            let mark = self.continuity_mark(&name, &table.schema).await;
            (name, table.marked, mark.map(|mark| mark.is_some()))
        };
        let looked: Vec<_> =
            stream::iter(tables.into_iter().map(look)).buffer_unordered(ASKED_AT_ONCE).collect().await;
        let mut otherwise = Vec::new();
        for (name, was_marked, marked) in looked {
            match marked {
                Ok(true) => {
                    if let Some(table) = self.served.lock().get_mut(&name) {
                        table.marked = true;
                    }
                }
                Ok(false) if was_marked => otherwise.push(name),
                Ok(false) | Err(_) => {}
            }
        }
        otherwise.sort();
        otherwise
    }
}
