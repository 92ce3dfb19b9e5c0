//! What an application holds: one handle a table, the same calls in every phase (R14).
//!
//! In reading order: [`WriteOutcome`], `phase` (which phase this instance believes in, and for how long it may), `write`
//! (one transaction, then the inline put), `read` (one row), [`query`] (many), [`reads`] (which store answers, and why).

mod outcome;
mod phase;
pub mod query;
mod read;
pub mod reads;
mod sql;
mod write;

pub use outcome::{Delivery, WriteOutcome};
pub use phase::{PHASE_LEASE, PhaseView};
pub use query::{Cursor, Page, Query, Selection};
pub use reads::{Answer, ReadFrom, ReadOptions, Reads, Share, SourceCause};
pub use write::PrimaryKey;

use std::sync::Arc;

use crate::source::{Source, TableBinding};
use crate::table::MigratableTable;
use crate::target::Target;
use reads::ReadsOfTables;
use sql::StoreSql;

/// An application's handle on one table; cheap to clone.
///
/// Writes are `best_effort`: PostgreSQL's commit decides. In the phases that write both stores the new state is then put
/// into DynamoDB at once, and if that does not work out the key simply stays pending, and a relay delivers it.
pub struct Store<T: MigratableTable> {
    shared: Arc<Shared<T>>,
}

impl<T: MigratableTable> Clone for Store<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

struct Shared<T> {
    table: Arc<T>,
    binding: TableBinding,
    source: Source,
    target: Target,
    phase: PhaseView,
    sql: StoreSql,
    reads: Reads,
    /// Of every table that is written together with this one.
    all_reads: Arc<ReadsOfTables>,
}

impl<T: MigratableTable> Store<T> {
    /// A handle on `table`. `binding` must be of the same table. Nothing is sent yet.
    ///
    /// # Panics
    /// When `binding` is of another table, which is a mistake in the program.
    pub fn new(source: Source, target: Target, table: Arc<T>, binding: TableBinding) -> Self {
        assert_eq!(binding.name(), T::NAME, "the binding is of another table");
        let sql = StoreSql::new::<T>(&binding);
        let phase = PhaseView::new(source.clone());
        let all_reads = Arc::new(ReadsOfTables::default());
        let reads = all_reads.of(&source, &binding);
        Self { shared: Arc::new(Shared { table, binding, source, target, phase, sql, reads, all_reads }) }
    }

    /// The table.
    pub fn table(&self) -> &T {
        &self.shared.table
    }

    /// How this handle reads: to be turned while it runs, and counted.
    pub fn reads(&self) -> &Reads {
        &self.shared.reads
    }
}
