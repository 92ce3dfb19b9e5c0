//! The handle of an application on a table: the same calls in every phase (R14).
//!
//! The phase that a call goes by is in `phase`. In reading order, each above those before it:
//!
//! - values: [`WriteOptions`] (`options`), [`WriteOutcome`] (`outcome`), `route` (which way a write goes),
//!   `primary_key`, `verb` (one call on one row), `change` (one key that a transaction changed);
//! - what a process keeps: `acknowledge`, `counters`, `ids`, `retiring`, `newness`, and `writer`, which holds
//!   them;
//! - the ways: `transaction` (behind the barrier), `in_source` (a verb in it), `deliver` (puts), `new_rows`
//!   (many that are new), `commit` (a lost answer is looked up), `best_effort` and `strict` (how it ends),
//!   `at_once` (in one round trip), `target_truth` (all of that in DynamoOnly);
//! - `ways` (each is entered by the answer of `route`), `write` (the calls), `swap` (compare and set),
//!   `batch`;
//! - `read` (one row), `count`, [`query`] (many), [`reads`] (which store answers, and why), `canary` and
//!   `timing` (what gates ask).

mod acknowledge;
mod at_once;
mod batch;
mod best_effort;
mod canary;
mod change;
mod commit;
mod count;
mod counters;
mod deliver;
mod ids;
mod in_source;
mod new_rows;
mod newness;
mod options;
mod outcome;
mod primary_key;
pub mod query;
mod read;
pub mod reads;
mod retiring;
mod route;
mod strict;
mod swap;
mod target_truth;
mod timing;
mod transaction;
mod verb;
mod ways;
mod write;
mod writer;

#[doc(hidden)]
pub use crate::phase::{PHASE_LEASE, PhaseView};
pub(crate) use acknowledge::Started;
pub use canary::CanaryQueries;
#[doc(hidden)]
pub use canary::{CanaryStore, StoreRead};
#[doc(hidden)]
pub use counters::WriteCounters;
pub use counters::WriteCounts;
pub use options::{WriteMode, WriteOptions};
pub(crate) use outcome::Written;
pub use outcome::{Delivery, WriteFailed, WriteOutcome};
pub use primary_key::PrimaryKey;
pub use query::{Cursor, Page, Query, Selection};
pub use reads::{Answer, ReadFrom, ReadOptions, Reads, Share, SourceCause};
pub(crate) use route::Calling;
pub use swap::Swap;
pub(crate) use transaction::WriteTransaction;
pub(crate) use verb::{Met, Verb, once};
pub(crate) use ways::Begun;
#[doc(hidden)]
pub use writer::Writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use at_once::Calls;
use lockstep_core::{Epoch, MigratableTable, Result};
use lockstep_dynamo::Target;
use lockstep_postgres::{Computed, Contract, RowStatements, Source, TableBinding};
use sqlx::postgres::PgConnection;
use target_truth::Fit;
use tokio::sync::OnceCell;

/// An application's handle on one table; cheap to clone.
///
/// In the phases that write both stores, [`WriteOptions`] say how. *Best effort*: PostgreSQL's commit
/// decides; the new state is then put into DynamoDB at once, and if that does not work out the key simply
/// stays pending, and a relay delivers it. *Strict*: DynamoDB has it before PostgreSQL commits, or the write
/// fails.
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
    binding: Arc<TableBinding>,
    source: Source,
    target: Target,
    phase: PhaseView,
    writer: Writer,
    sql: RowStatements,
    writes: OnceCell<Writes>,
    /// The last epoch in which the binding was seen to be the migration's; 0 for none.
    in_place: AtomicI64,
    reads: Reads,
    fit: Fit,
}

/// Statements that write rows. They depend on the columns that PostgreSQL computes, so the first write makes
/// them.
struct Writes {
    sql: RowStatements,
    calls: Calls,
}

impl<T: MigratableTable> Store<T> {
    /// A handle on `table`, with settings and counters of its own; [`Migration`](crate::migration::Migration)
    /// gives handles that share them. It asks for the phase itself. `binding` must be of the same table.
    /// Nothing is sent yet.
    ///
    /// # Panics
    /// When `binding` is of another table, which is a mistake in the program.
    #[doc(hidden)]
    pub fn new(source: Source, target: Target, table: Arc<T>, binding: TableBinding) -> Self {
        Self::with_writer(Writer::new(source, target, WriteOptions::default()), table, binding)
    }

    /// A handle on `table` that writes through `writer`.
    ///
    /// # Panics
    /// When `binding` is of another table, which is a mistake in the program.
    #[doc(hidden)]
    pub fn with_writer(writer: Writer, table: Arc<T>, binding: TableBinding) -> Self {
        assert_eq!(binding.name(), T::NAME, "the binding is of another table");
        // For reading; see `Store::writes`.
        let sql = RowStatements::new(&binding, &Computed::default());
        let (source, target, phase) =
            (writer.source().clone(), writer.target().clone(), writer.phase().clone());
        target.name_attributes(&binding.target_name, binding.table.naming());
        target.serve(&binding.target_name, binding.table.target());
        let reads = writer.reads().of(&source, &binding);
        let (binding, writes) = (Arc::new(binding), OnceCell::new());
        Self {
            shared: Arc::new(Shared {
                table,
                binding,
                source,
                target,
                phase,
                writer,
                sql,
                writes,
                in_place: AtomicI64::new(0),
                reads,
                fit: Fit::default(),
            }),
        }
    }

    /// The statements that write rows of this table. The first write asks on its own connection which columns
    /// PostgreSQL computes: a store that is made while PostgreSQL is away works in DynamoOnly all the same.
    async fn writes(&self, connection: &mut PgConnection) -> Result<&Writes> {
        let binding = &self.shared.binding;
        let read = async || {
            let sql = RowStatements::new(binding, &Computed::read(connection, binding).await?);
            let calls = Calls::new(binding, &sql);
            Ok(Writes { sql, calls })
        };
        self.shared.writes.get_or_try_init(read).await
    }

    /// Makes sure, once an epoch, that this handle writes where the migration does (I13). 1. An application
    /// starts before its table has a target. 2. A coordinator gives it one, under another name than the
    /// application's. 3. Each write would be acknowledged elsewhere.
    async fn require_place(&self, connection: &mut PgConnection, epoch: Epoch) -> Result<()> {
        if self.shared.in_place.load(Ordering::Relaxed) != epoch.0 {
            Contract::read(connection).await?.require([self.shared.binding.as_ref()])?;
            self.shared.in_place.store(epoch.0, Ordering::Relaxed);
        }
        Ok(())
    }

    /// As [`Store::new`], going by the phase of an [`Instance`](crate::instance::Instance).
    ///
    /// # Panics
    /// As [`Store::new`].
    #[doc(hidden)]
    pub fn with_phase(
        source: Source,
        target: Target,
        table: Arc<T>,
        binding: TableBinding,
        phase: PhaseView,
    ) -> Self {
        Self::with_writer(Writer::with_phase(source, target, WriteOptions::default(), phase), table, binding)
    }

    /// The table.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Store, Unholdable};
    /// # fn example<Payments: MigratableTable>(
    /// #     payments: Store<Payments>, key: Payments::Key,
    /// # ) -> Result<(), Unholdable> {
    /// let item = payments.table().target_key(&key)?; // where DynamoDB has the row of this key
    /// # Ok(())
    /// # }
    /// ```
    pub fn table(&self) -> &T {
        &self.shared.table
    }

    /// The writer of this handle.
    #[doc(hidden)]
    pub fn writer(&self) -> &Writer {
        &self.shared.writer
    }

    /// The reads of this handle: a caller turns them while it runs, and sees them counted.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Store};
    /// # fn example<Payments: MigratableTable>(payments: Store<Payments>) {
    /// let counts = payments.reads().counts();
    /// println!("{} answers by DynamoDB, {} misses", counts.target, counts.source_miss);
    /// # }
    /// ```
    pub fn reads(&self) -> &Reads {
        &self.shared.reads
    }
}
