//! Rows are held to what PostgreSQL could hold, as long as they are to come back to it (I16).

use std::sync::{Arc, Mutex, PoisonError};

use lockstep_core::{ColumnTypes, Epoch, Error, MigratableTable, Result, Row as _};

use super::Permit;
use crate::store::Store;

/// The types of a table's columns, as the flip that began an epoch recorded them; `None` within where the
/// migration is complete, and nothing goes back any more.
#[derive(Debug, Default)]
pub(in crate::store) struct Fit(Mutex<Option<(Epoch, Option<Arc<ColumnTypes>>)>>);

impl Fit {
    fn known(&self, epoch: Epoch) -> Option<Option<Arc<ColumnTypes>>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|(of, _)| *of == epoch).map(|(_, types)| types.clone())
    }

    fn learn(&self, epoch: Epoch, types: Option<Arc<ColumnTypes>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((epoch, types));
    }
}

impl<T: MigratableTable> Store<T> {
    /// Tells whether the migration is complete, as far as was asked in this epoch.
    pub(super) fn is_complete(&self, permit: &Permit) -> bool {
        self.shared.fit.known(permit.control.epoch).is_some_and(|types| types.is_none())
    }

    /// The row as PostgreSQL would hold it, by the columns of the epoch that `permit` is of. Asks once an
    /// epoch.
    ///
    /// # Errors
    /// [`Kind::Invalid`](lockstep_core::Kind::Invalid), naming the column, for what PostgreSQL would refuse;
    /// the driver's.
    pub(super) async fn fitted(&self, permit: &Permit, row: T::Row) -> Result<T::Row> {
        let (fit, epoch) = (&self.shared.fit, permit.control.epoch);
        let types = match fit.known(epoch) {
            Some(types) => types,
            None => {
                let control = self.control();
                let complete = control.record().await?.is_some_and(|record| record.completed_at.is_some());
                let types = if complete { None } else { Some(Arc::new(control.columns(T::NAME).await?)) };
                fit.learn(epoch, types.clone());
                types
            }
        };
        match types {
            Some(types) => row.fitted(&types).map_err(|reason| Error::unholdable(T::NAME, &reason)),
            None => Ok(row),
        }
    }
}
