//! The end of an operation: it commits with the log of its success, or is rolled back and its failure logged.

use lockstep_core::{Control, Error, Kind, Result};

use super::{LogSink, Operation, Stage, counted, failed};
use crate::store::{Begun, Delivery, Verb, Writer, Written};

/// The outcome of an operation that committed.
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

impl OperationOutcome {
    /// The outcome of a transaction of PostgreSQL.
    pub(crate) fn of(written: Written) -> Self {
        let keys = written.deliveries.len();
        let late = written.deliveries.iter().position(|d| matches!(d, Delivery::Deferred(_)));
        let target = written.deliveries.into_iter().nth(late.unwrap_or(0)).unwrap_or(Delivery::NotDue);
        Self { control: written.control, target, keys }
    }
}

impl<S: LogSink> Operation<S> {
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
    /// As for [`Store::put`](crate::Store::put), for all rows together.
    pub async fn commit(mut self) -> Result<OperationOutcome> {
        let row = self.log.row(Stage::Success, None);
        let logged = self.log.store().change(&mut self.write, Verb::insert(&row)).await;
        let Self { writer, log, write } = self;
        let ended = match (logged, write) {
            (Ok(_), Begun::Source(write)) => writer.finish(write, None).await.map(OperationOutcome::of),
            (Ok(_), Begun::Target(write)) => {
                let control = write.control();
                let committed = write.commit(&writer).await;
                committed.map(|keys| OperationOutcome { control, target: Delivery::Applied, keys })
            }
            (Err(error), write) => {
                // The failure must not wait for the locks of what it reports.
                roll_back(write, &writer).await;
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
            Err(error) => Err(failed(&writer, &log, error).await),
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
        roll_back(write, &writer).await;
        // It has ended as the application wanted: nothing of it is open.
        writer.central().count("", "operation.given_up");
        log.failure(reason).await;
    }
}

async fn roll_back(write: Begun, writer: &Writer) {
    if let Begun::Source(mut write) = write {
        // A rollback that fails is one all the same: no commit was sent.
        let _ = write.sql.rollback().await;
        writer.acknowledge(write.beside.delivered().await);
    }
}
