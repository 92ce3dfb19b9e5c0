//! Tables that a process answers from, and whether each is still the one that it was.
//!
//! 1. In DynamoOnly a target table is deleted and made again under its name. 2. An application reads it as if
//! every row had been deleted, and tells its callers so. So a process looks at the mark of each table that it
//! answers from, which no table that was made again has.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
    /// Whether its mark was there at the last look that was answered: a table that never had one says nothing
    /// by having none. `None` before the first answer.
    marked: Option<bool>,
}

/// Findings of a look at the tables of a process.
#[derive(Debug)]
pub struct Looked {
    /// Tables that have lost the mark that they had: they were deleted, made again, or set back to before
    /// they were adopted. In the order of their names.
    pub otherwise: Vec<String>,
    /// Whether each table has answered. One that does not answer says nothing, and is to be asked again.
    pub all: bool,
}

impl Served {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Table>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Target {
    /// Says that this process answers from `table`. Told again, it changes nothing.
    pub fn serve(&self, table: &str, schema: TargetSchema) {
        self.served.lock().entry(table.to_owned()).or_insert(Table { schema, marked: None });
    }

    /// Tells whether a table that this process answers from has never been looked at.
    #[must_use]
    pub fn serves_unseen(&self) -> bool {
        self.served.lock().values().any(|table| table.marked.is_none())
    }

    /// Looks at the mark of each table that this process answers from, for at most `limit`.
    ///
    /// # Cancel safety
    /// What was answered is kept.
    #[crate::boxed]
    pub async fn look_at_served(&self, limit: Duration) -> Looked {
        let tables: Vec<(String, Table)> =
            self.served.lock().iter().map(|(name, table)| (name.clone(), *table)).collect();
        let asked = tables.len();
        let look = |(name, table): (String, Table)| async move {
            let marked = self.continuity_mark(&name, &table.schema).await.ok()?.is_some();
            let lost = table.marked == Some(true) && !marked;
            if let Some(table) = self.served.lock().get_mut(&name).filter(|_| !lost) {
                table.marked = Some(marked);
            }
            Some((name, lost))
        };
        let mut answers = pin!(stream::iter(tables.into_iter().map(look)).buffer_unordered(ASKED_AT_ONCE));
        let mut looked = Looked { otherwise: Vec::new(), all: false };
        let mut answered = 0;
        let all = async {
            while let Some(answer) = answers.next().await {
                let Some((name, lost)) = answer else { continue };
                answered += 1;
                looked.otherwise.extend(lost.then_some(name));
            }
        };
        // An answer that came in time counts.
        let _ = tokio::time::timeout(limit, all).await;
        looked.all = answered == asked;
        looked.otherwise.sort();
        looked
    }
}
