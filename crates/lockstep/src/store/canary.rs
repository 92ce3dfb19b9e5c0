//! Queries that canary reads ask of a table beside its keys.

use std::sync::Arc;

use futures::future::BoxFuture;
use lockstep_core::{Fields, MigratableTable, Result, Row, Unholdable};

use super::reads::Comparison;
use super::{Selection, Store};

/// The queries of a table that are asked of both stores before reads move, and timed where a comparison
/// measures latency.
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

/// A store, for what is asked of every table whatever its rows are.
#[doc(hidden)]
pub trait CanaryStore: Send + Sync {
    /// The table.
    fn name(&self) -> &'static str;

    /// The reads to make of a row: by its key, and each query of its table.
    ///
    /// # Errors
    /// Where DynamoDB cannot hold the row.
    fn reads_of(&self, fields: &mut Fields<'_>) -> std::result::Result<Vec<StoreRead>, Unholdable>;
}

type Ask<A> = Box<dyn Fn() -> BoxFuture<'static, Result<A>> + Send + Sync>;

/// One query with its arguments.
#[doc(hidden)]
pub struct StoreRead {
    /// Kind of the query.
    pub query: &'static str,
    /// Asks both stores, and compares.
    pub compare: Ask<Comparison>,
    /// Asks PostgreSQL alone how many rows there are.
    pub source: Ask<u64>,
    /// Asks DynamoDB alone.
    pub target: Ask<u64>,
}

/// Most rows that one read compares.
const ROWS_MAX: usize = 50;

impl<T: CanaryQueries> CanaryStore for Store<T> {
    fn name(&self) -> &'static str {
        T::NAME
    }

    fn reads_of(&self, fields: &mut Fields<'_>) -> std::result::Result<Vec<StoreRead>, Unholdable> {
        let row = T::Row::from_fields(fields)?;
        MigratableTable::encode(self.table(), &row)?;
        let mut reads = vec![by_key(self, T::key(&row))];
        let queries = T::canary_queries(self, &row);
        reads.extend(queries.into_iter().map(|(query, selection)| of_query(query, selection)));
        Ok(reads)
    }
}

fn of_query<T: MigratableTable>(query: &'static str, selection: Selection<T>) -> StoreRead {
    let both = Arc::new(selection);
    let (source, target) = (both.clone(), both.clone());
    StoreRead {
        query,
        compare: Box::new(move || {
            let both = both.clone();
            Box::pin(async move { both.compare(ROWS_MAX).await })
        }),
        source: Box::new(move || {
            let source = source.clone();
            Box::pin(async move { source.ask_source(ROWS_MAX).await.map(|rows| rows as u64) })
        }),
        target: Box::new(move || {
            let target = target.clone();
            Box::pin(async move { target.ask_target(ROWS_MAX).await.map(|rows| rows as u64) })
        }),
    }
}

fn by_key<T: MigratableTable>(store: &Store<T>, key: T::Key) -> StoreRead {
    let both = Arc::new((store.clone(), key));
    let (source, target) = (both.clone(), both.clone());
    StoreRead {
        query: "by key",
        compare: Box::new(move || {
            let both = both.clone();
            Box::pin(async move { both.0.compare(&both.1).await })
        }),
        source: Box::new(move || {
            let source = source.clone();
            Box::pin(async move { source.0.ask_source(&source.1).await.map(u64::from) })
        }),
        target: Box::new(move || {
            let target = target.clone();
            Box::pin(async move { target.0.ask_target(&target.1).await.map(u64::from) })
        }),
    }
}
