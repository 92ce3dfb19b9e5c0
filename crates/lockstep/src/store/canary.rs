//! What canary reads ask of a table beside its keys.

use lockstep_core::MigratableTable;

use super::{Selection, Store};

/// The queries of a table that are asked of both stores before reads move, and timed by `validate --latency`.
///
/// Reads by key are made for every table. A table with queries of its own names them here, so that none of
/// them moves untried:
///
/// ```no_run
/// # use lockstep::store::{CanaryQueries, Selection, Store};
/// # fn asked<T: CanaryQueries>(store: &Store<T>, row: &T::Row) -> Vec<(&'static str, Selection<T>)> {
/// T::canary_queries(store, row)
/// # }
/// ```
pub trait CanaryQueries: MigratableTable {
    /// Each kind of query, by name, with arguments that `row` answers to. Arguments must be derived without
    /// overflow, whatever the row holds. None by default.
    fn canary_queries(_store: &Store<Self>, _row: &Self::Row) -> Vec<(&'static str, Selection<Self>)>
    where
        Self: Sized,
    {
        Vec::new()
    }
}
