//! Coordinated operations: one change over several tables, under one correlation id (R16).
//!
//! All rows of an operation are written in one source transaction and put in one target transaction, in one
//! phase. That it was started, that it succeeded or that it failed is logged through a table of the migration
//! itself; which one, a [`LogSink`] says. The log of the success is part of the operation: both become
//! visible together, or neither does. A start without an end means that the process died, or that it is
//! unknown how the commit ended (I8).
//!
//! In DynamoOnly there is only the target transaction: rows are read without a lock, and the operation fails
//! with [`Kind::Busy`](lockstep_core::Kind::Busy) when one of them was changed before it commits. Run it
//! again then. It holds at most 100 items (a new or moved row counts two or three) and 4 MB.

mod end;
mod log;
mod own_log;
mod verbs;

pub use end::OperationOutcome;
pub use log::{LogSink, OperationEvent, Stage};

use std::sync::Arc;

use lockstep_core::{Error, Result};

use crate::migration::Migration;
use crate::store::{Begun, Calling, Store, Writer};

use own_log::OwnLog;

/// An operation under way. Dropped, it is rolled back without a log of its end.
pub struct Operation<S: LogSink> {
    writer: Writer,
    log: OwnLog<S>,
    write: Begun,
}

impl Migration {
    /// Begins a coordinated operation over several of this migration's stores; [`Operation::run`] is the
    /// short way.
    ///
    /// ```no_run
    /// # use std::sync::Arc;
    /// # use lockstep::{LogSink, MigratableTable, Migration, Result};
    /// # async fn example<Payments: MigratableTable, S: LogSink>(
    /// #     migration: Migration, sink: Arc<S>, payment: Payments::Row,
    /// # ) -> Result<()> {
    /// let payments = migration.store::<Payments>();
    /// let mut operation = migration.begin_operation(sink, "book", "request 4711").await?;
    /// operation.put(&payments, &payment).await?; // an error ends here: the operation is rolled back
    /// operation.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// PostgreSQL's, when the start could not be logged; nothing has begun then.
    ///
    /// # Cancel safety
    /// A log of the start may stay, without an end, as of a process that died. Nothing else is written.
    ///
    /// # Panics
    /// When the table of the logs was not added to the options.
    pub async fn begin_operation<S: LogSink>(
        &self,
        sink: Arc<S>,
        name: &str,
        correlation_id: &str,
    ) -> Result<Operation<S>> {
        Operation::begin(self.writer().clone(), self.store::<S::Table>(), sink, name, correlation_id).await
    }
}

impl<S: LogSink> Operation<S> {
    /// Begins an operation, lets `work` write in it, and ends it: committed if `work` says `Ok`, else rolled
    /// back and logged as a failure.
    ///
    /// ```no_run
    /// # use std::sync::Arc;
    /// # use lockstep::{LogSink, MigratableTable, Migration, Operation, Result};
    /// # async fn example<Payments: MigratableTable, Documents: MigratableTable, S: LogSink>(
    /// #     migration: Migration, sink: Arc<S>, payment: Payments::Row, document: Documents::Row,
    /// # ) -> Result<()> {
    /// let (payments, documents) = (migration.store::<Payments>(), migration.store::<Documents>());
    /// let (booked, outcome) = Operation::run(&migration, sink, "book", "request 4711", async |operation| {
    ///     operation.put(&documents, &document).await?;
    ///     operation.put(&payments, &payment).await
    /// })
    /// .await?;
    /// println!("{} keys in {}", outcome.keys, outcome.control.phase);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The error of `work`, or as for [`Operation::commit`].
    ///
    /// # Cancel safety
    /// As for [`Operation::commit`].
    pub async fn run<R, F>(
        migration: &Migration,
        sink: Arc<S>,
        name: &str,
        correlation_id: &str,
        work: F,
    ) -> Result<(R, OperationOutcome)>
    where
        F: AsyncFnOnce(&mut Self) -> Result<R>,
    {
        let mut operation = migration.begin_operation(sink, name, correlation_id).await?;
        match work(&mut operation).await {
            Ok(done) => Ok((done, operation.commit().await?)),
            Err(error) => {
                operation.fail(&error).await;
                Err(error)
            }
        }
    }

    async fn begin(
        writer: Writer,
        logs: Store<S::Table>,
        sink: Arc<S>,
        name: &str,
        correlation_id: &str,
    ) -> Result<Self> {
        let log = OwnLog::new(logs, sink, name, correlation_id);
        let started = log.start().await?;
        writer.central().count("", "operation.begun");
        let mut write = match writer.begin(Calling::Operation).await {
            Ok(write) => write,
            // Its start is logged and counted: without an end it would stay open for all who look.
            Err(error) => return Err(failed(&writer, &log, error).await),
        };
        if let Begun::Source(write) = &mut write {
            write.beside = started;
        }
        Ok(Self { writer, log, write })
    }
}

/// For the recorder of metrics that the application has, if it has one. An operation that the application
/// itself gives up is not counted as failed: nothing was wrong with the stores.
fn counted(writer: &Writer, outcome: &'static str) {
    writer.central().count("", outcome);
    let outcome = outcome.trim_start_matches("operation.");
    metrics::counter!("lockstep_coordinated_operations_total", "outcome" => outcome).increment(1);
}

/// Counts and logs an operation that the stores did not let happen; returns why.
async fn failed<S: LogSink>(writer: &Writer, log: &OwnLog<S>, error: Error) -> Error {
    counted(writer, "operation.failed");
    log.failure(&error).await;
    error
}
