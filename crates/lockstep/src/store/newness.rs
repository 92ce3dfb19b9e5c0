//! Guess of each table's rows, whether they are mostly new, as this process has seen.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use lockstep_dynamo::Inserts;

/// Guesses, by the names of the target tables.
#[derive(Debug, Default)]
pub(super) struct Newness(Mutex<HashMap<String, Arc<Inserts>>>);

impl Newness {
    pub(super) fn of(&self, table: &str) -> Arc<Inserts> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(table.to_owned()).or_default().clone()
    }
}
