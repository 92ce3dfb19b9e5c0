//! Coordinated operations: one change over several tables, under one correlation id (R16).
//!
//! All rows of an operation are written in one source transaction and put in one target transaction, in one
//! phase. That it was started, that it succeeded or that it failed is logged through a table of the migration
//! itself; which one, a [`LogSink`] says. The log of the success is part of the operation: both become
//! visible together, or neither does. A start without an end means that the process died, or that it is
//! unknown how the commit ended (I8).
//!
//! In DynamoOnly there is only the target transaction: rows are read without a lock, and the operation fails
//! with [`Kind::Busy`] when one of them was changed before it commits. Run it again then. It holds at most
//! 100 items (a new or moved row counts two or three) and 4 MB.

mod log;
mod own_log;

pub use log::{LogSink, OperationEvent, Stage};

use std::sync::Arc;

use lockstep_core::{Control, Error, Kind, MigratableTable, Result};
use sqlx::postgres::PgArguments;

use crate::migration::Migration;
use crate::store::{Begun, Delivery, PrimaryKey, Store, TargetTransaction, WriteTransaction, Writer};

use own_log::OwnLog;

/// An operation under way. Dropped, it is rolled back without a log of its end.
pub struct Operation<S: LogSink> {
    writer: Writer,
    log: OwnLog<S>,
    write: Write,
}

/// The writes of an operation so far, in the store that is the truth.
#[expect(
    clippy::large_enum_variant,
    reason = "one a running operation; a box would cost each write an allocation"
)]
enum Write {
    Source(WriteTransaction),
    Target(TargetTransaction),
}

impl Write {
    /// A rollback that fails is one all the same: no commit was sent.
    async fn roll_back(self, writer: &Writer) {
        if let Self::Source(mut write) = self {
            let _ = write.sql.rollback().await;
            writer.acknowledge(write.beside.delivered().await);
        }
    }
}

/// How an operation that committed ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct OperationOutcome {
    /// The phase that it happened in.
    pub control: Control,
    /// Delivery to the target: of several states, the one that is not there yet is the one to tell.
    pub target: Delivery,
    /// Number of keys it changed, its log included.
    pub keys: usize,
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
        let write = match writer.begin_where_the_truth_is().await? {
            Begun::Source(mut write) => {
                write.together = true;
                write.beside = started;
                Write::Source(write)
            }
            Begun::Target(permit) => Write::Target(TargetTransaction::new(permit)),
        };
        Ok(Self { writer, log, write })
    }

    /// Writes a row, as [`Store::put`] does; returns it as PostgreSQL holds it.
    ///
    /// ```no_run
    /// # use lockstep::{LogSink, MigratableTable, Operation, Result, Store};
    /// # async fn example<Payments: MigratableTable, S: LogSink>(
    /// #     operation: &mut Operation<S>, payments: &Store<Payments>, payment: Payments::Row,
    /// # ) -> Result<()> {
    /// let as_held = operation.put(payments, &payment).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// PostgreSQL's. The operation can then only fail.
    ///
    /// # Cancel safety
    /// Nothing is in a store before [`Operation::commit`]. Whether the operation has this write is not known:
    /// let it fail, or drop it.
    pub async fn put<T: MigratableTable>(&mut self, store: &Store<T>, row: &T::Row) -> Result<T::Row> {
        self.check(store);
        match &mut self.write {
            Write::Source(write) => store.put_in(write, row).await?.row.ok_or_else(|| vanished(T::NAME)),
            Write::Target(write) => store.put_staged(write, row).await,
        }
    }

    /// Writes a new row, as [`Store::insert`] does; returns it with its key.
    ///
    /// ```no_run
    /// # use lockstep::{LogSink, MigratableTable, Operation, Result, Store};
    /// # async fn example<Payments: MigratableTable, S: LogSink>(
    /// #     operation: &mut Operation<S>, payments: &Store<Payments>, payment: Payments::Row,
    /// # ) -> Result<()> {
    /// let with_its_key = operation.insert(payments, &payment).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// PostgreSQL's. The operation can then only fail.
    ///
    /// # Cancel safety
    /// As for [`Operation::put`]; an id may be used up.
    pub async fn insert<T: MigratableTable>(&mut self, store: &Store<T>, row: &T::Row) -> Result<T::Row> {
        self.check(store);
        match &mut self.write {
            Write::Source(write) => store.insert_in(write, row).await?.row.ok_or_else(|| vanished(T::NAME)),
            Write::Target(write) => store.insert_staged(write, row).await,
        }
    }

    /// Changes a row, as [`Store::update`] does; `None` where there is none. It stays locked until the
    /// operation ends.
    ///
    /// ```no_run
    /// # use lockstep::{LogSink, MigratableTable, Operation, Result, Store};
    /// # async fn example<Payments: MigratableTable, S: LogSink>(
    /// #     operation: &mut Operation<S>, payments: &Store<Payments>, book: fn(&mut Payments::Row),
    /// # ) -> Result<()> {
    /// if operation.update(payments, 42_i64, book).await?.is_none() {
    ///     println!("there is no payment 42");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// PostgreSQL's. The operation can then only fail.
    ///
    /// # Cancel safety
    /// As for [`Operation::put`].
    pub async fn update<T: MigratableTable>(
        &mut self,
        store: &Store<T>,
        key: impl PrimaryKey,
        change: impl FnOnce(&mut T::Row),
    ) -> Result<Option<T::Row>> {
        self.check(store);
        match &mut self.write {
            Write::Source(write) => {
                let mut arguments = PgArguments::default();
                key.bind(&mut arguments);
                Ok(store.update_in(write, arguments, change).await?.row)
            }
            Write::Target(write) => store.update_staged(write, &key, change).await,
        }
    }

    /// Deletes a row, as [`Store::delete`] does; says whether there was one.
    ///
    /// ```no_run
    /// # use lockstep::{LogSink, MigratableTable, Operation, Result, Store};
    /// # async fn example<Payments: MigratableTable, S: LogSink>(
    /// #     operation: &mut Operation<S>, payments: &Store<Payments>,
    /// # ) -> Result<()> {
    /// let was_there = operation.delete(payments, 42_i64).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// PostgreSQL's. The operation can then only fail.
    ///
    /// # Cancel safety
    /// As for [`Operation::put`].
    pub async fn delete<T: MigratableTable>(
        &mut self,
        store: &Store<T>,
        key: impl PrimaryKey,
    ) -> Result<bool> {
        self.check(store);
        match &mut self.write {
            Write::Source(write) => {
                let mut arguments = PgArguments::default();
                key.bind(&mut arguments);
                Ok(store.delete_in(write, arguments).await?.found())
            }
            Write::Target(write) => store.delete_staged(write, &key).await,
        }
    }

    /// Logs the success inside the operation, and commits.
    ///
    /// ```no_run
    /// # use lockstep::{LogSink, MigratableTable, Operation, Result, Store};
    /// # async fn example<Payments: MigratableTable, S: LogSink>(
    /// #     mut operation: Operation<S>, payments: Store<Payments>, payment: Payments::Row,
    /// # ) -> Result<()> {
    /// operation.put(&payments, &payment).await?;
    /// let outcome = operation.commit().await?;
    /// println!("{} keys in {}", outcome.keys, outcome.control.phase);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Nothing was written, and the failure is logged; or, with [`Kind::Unknown`], it is unknown whether
    /// anything was, and nothing is logged.
    ///
    /// # Cancel safety
    /// As for [`Store::put`], for all rows together.
    pub async fn commit(mut self) -> Result<OperationOutcome> {
        let row = self.log.row(Stage::Success, None);
        let logged = match &mut self.write {
            Write::Source(write) => self.log.store().insert_in(write, &row).await.map(drop),
            Write::Target(write) => self.log.store().insert_staged(write, &row).await.map(drop),
        };
        let Self { writer, log, write } = self;
        let ended = match (logged, write) {
            (Ok(()), Write::Source(write)) => writer.finish(write).await.map(|written| {
                let keys = written.deliveries.len();
                let late = written.deliveries.iter().position(|d| matches!(d, Delivery::Deferred(_)));
                let target =
                    written.deliveries.into_iter().nth(late.unwrap_or(0)).unwrap_or(Delivery::NotDue);
                OperationOutcome { control: written.control, target, keys }
            }),
            (Ok(()), Write::Target(write)) => {
                let control = write.control();
                let committed = write.commit(&writer).await;
                committed.map(|keys| OperationOutcome { control, target: Delivery::Applied, keys })
            }
            (Err(error), write) => {
                // The failure must not wait for the locks of what it reports.
                write.roll_back(&writer).await;
                Err(error)
            }
        };
        match ended {
            Ok(outcome) => {
                counted(&writer, "operation.committed");
                Ok(outcome)
            }
            Err(error) if error.kind == Kind::Unknown => {
                counted(&writer, "operation.unknown");
                Err(error)
            }
            Err(error) => {
                counted(&writer, "operation.failed");
                log.failure(&error).await;
                Err(error)
            }
        }
    }

    /// Rolls the operation back, and logs that it failed and why.
    ///
    /// ```no_run
    /// # use lockstep::{LogSink, MigratableTable, Operation, Result, Store};
    /// # async fn example<Payments: MigratableTable, S: LogSink>(
    /// #     mut operation: Operation<S>, payments: Store<Payments>, payment: Payments::Row,
    /// # ) -> Result<()> {
    /// if let Err(error) = operation.put(&payments, &payment).await {
    ///     operation.fail(&error).await;
    ///     return Err(error);
    /// }
    /// operation.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    /// It is rolled back all the same; the log of its failure may be missing.
    pub async fn fail(self, reason: &Error) {
        let Self { writer, log, write } = self;
        write.roll_back(&writer).await;
        // It has ended as the application wanted: nothing of it is open.
        writer.central().count("", "operation.given_up");
        log.failure(reason).await;
    }

    /// A store of another migration writes to other stores, perhaps in another phase.
    fn check<T: MigratableTable>(&self, store: &Store<T>) {
        assert!(
            store.writer().is_same(&self.writer),
            "I5: the store of {} is of another migration handle",
            T::NAME
        );
    }
}

/// For the recorder of metrics that the application has, if it has one. An operation that the application
/// itself gives up is not counted as failed: nothing was wrong with the stores.
fn counted(writer: &Writer, outcome: &'static str) {
    writer.central().count("", outcome);
    let outcome = outcome.trim_start_matches("operation.");
    metrics::counter!("lockstep_coordinated_operations_total", "outcome" => outcome).increment(1);
}

fn vanished(table: &str) -> Error {
    Error::source(
        Kind::Invalid,
        format!("writing {table}"),
        "a trigger or rule of the table swallowed the row",
    )
}
