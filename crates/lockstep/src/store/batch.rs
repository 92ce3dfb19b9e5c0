//! Many rows in few transactions.

use std::sync::Arc;

use futures::{StreamExt, stream};
use lockstep_core::{Doing, Error, Kind, MigratableTable, Result, Row};
use lockstep_postgres::{WITH_ID, id_of};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgArguments;

use super::route::Calling;
use super::transaction::WriteTransaction;
use super::verb::Verb;
use super::ways::Begun;
use super::{Store, WriteOutcome};

/// Most parameters of one statement, by PostgreSQL's protocol.
const PARAMETERS_MAX: usize = 65_535;

type Outcomes<R> = Vec<Result<WriteOutcome<R>, Arc<Error>>>;

/// The call that a batch makes of each of its rows.
#[derive(Clone, Copy, Debug)]
enum Each {
    Put,
    Insert,
}

impl<T: MigratableTable> Store<T> {
    /// Writes rows as [`Store::put`] does, up to `batch_rows_max` of them in one transaction. The outcomes
    /// are in the order of `rows`; those of one transaction that failed share its error, and the transactions
    /// after it are still tried, but where PostgreSQL gives no connection.
    ///
    /// In a batch where both stores are written, the puts of one transaction are under way at once, up to
    /// `puts_in_flight_max`, and best effort those of many new rows go 25 by a request; each row is delivered
    /// or deferred by itself. In DynamoOnly each row is a write of its own.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Store};
    /// # async fn example<Payments: MigratableTable>(payments: Store<Payments>, rows: Vec<Payments::Row>) {
    /// let written = payments.put_batch(&rows).await;
    /// let failed = written.iter().filter(|outcome| outcome.is_err()).count();
    /// # }
    /// ```
    ///
    /// # Cancel safety
    /// Transactions that had committed stay; the rest as for [`Store::put`].
    pub async fn put_batch(&self, rows: &[T::Row]) -> Vec<Result<WriteOutcome<T::Row>, Arc<Error>>> {
        self.batch(Each::Put, self.shared.writer.options().batch_rows_max, rows).await
    }

    /// Writes new rows whose primary keys PostgreSQL gives, as [`Store::insert`] does, up to `batch_rows_max`
    /// of them in one statement and one transaction. The outcomes are in the order of `rows` and have the
    /// rows with their keys; those of one transaction that failed share its error, and the transactions after
    /// it are still tried, but where PostgreSQL gives no connection.
    ///
    /// In DynamoOnly each row is a write of its own, with an id of this process's block.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Store};
    /// # async fn example<Events: MigratableTable>(events: Store<Events>, rows: Vec<Events::Row>) {
    /// for outcome in events.insert_batch(&rows).await {
    ///     match outcome {
    ///         Ok(written) => drop(written.row),
    ///         Err(error) => eprintln!("not written: {error}"),
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Cancel safety
    /// As for [`Store::put_batch`].
    pub async fn insert_batch(&self, rows: &[T::Row]) -> Vec<Result<WriteOutcome<T::Row>, Arc<Error>>> {
        let of_statement = PARAMETERS_MAX / T::Row::COLUMNS.len().max(1);
        let size = self.shared.writer.options().batch_rows_max.clamp(1, of_statement.max(1));
        self.batch(Each::Insert, size, rows).await
    }

    /// Writes rows in transactions of up to `size` rows; those of a target that decides, and those of which a
    /// trigger kept some out, each by itself.
    async fn batch(&self, each: Each, size: usize, rows: &[T::Row]) -> Outcomes<T::Row> {
        let mut outcomes = Vec::with_capacity(rows.len());
        for chunk in rows.chunks(size.max(1)) {
            let written = match self.shared.writer.begin(Calling::Batch).await {
                Ok(Begun::Target(write)) => {
                    // Each takes its own, and a pause waits for no more than is under way.
                    drop(write);
                    Ok(None)
                }
                Ok(Begun::Source(write)) => match each {
                    Each::Put => self.put_chunk(write, chunk).await.map(Some),
                    Each::Insert => self.insert_chunk(write, chunk).await,
                },
                Err(error) if error.kind == Kind::Unavailable => {
                    // PostgreSQL has given no connection for as long as a write waits, and the caller would
                    // wait as long for each transaction that is left.
                    let error = Arc::new(error);
                    outcomes.resize_with(rows.len(), || Err(error.clone()));
                    return outcomes;
                }
                Err(error) => Err(error),
            };
            match (written, each) {
                (Ok(Some(written)), _) => outcomes.extend(written.into_iter().map(Ok)),
                (Ok(None), Each::Put) => outcomes.extend(self.put_each(chunk).await),
                (Ok(None), Each::Insert) => outcomes.extend(self.insert_each(chunk).await),
                (Err(error), _) => {
                    let error = Arc::new(error);
                    outcomes.extend(chunk.iter().map(|_| Err(error.clone())));
                }
            }
        }
        outcomes
    }

    /// Puts each row by itself, several at once; one after another where a row comes twice.
    async fn put_each(&self, rows: &[T::Row]) -> Outcomes<T::Row> {
        let width = match self.are_distinct(rows) {
            true => self.shared.writer.options().puts_in_flight_max.max(1),
            false => 1,
        };
        let putting: Vec<_> =
            rows.iter().map(|row| Box::pin(async { self.put(row).await.map_err(Arc::new) })).collect();
        stream::iter(putting).buffered(width).collect().await
    }

    async fn insert_each(&self, rows: &[T::Row]) -> Outcomes<T::Row> {
        let width = self.shared.writer.options().puts_in_flight_max.max(1);
        let inserting: Vec<_> =
            rows.iter().map(|row| Box::pin(async { self.insert(row).await.map_err(Arc::new) })).collect();
        stream::iter(inserting).buffered(width).collect().await
    }

    /// All of them in one statement; `None`, with nothing written, where a trigger kept some of them out, so
    /// that what came back cannot be told apart.
    async fn insert_chunk(
        &self,
        mut write: WriteTransaction,
        rows: &[T::Row],
    ) -> Result<Option<Vec<WriteOutcome<T::Row>>>> {
        let writer = &self.shared.writer;
        self.require_place(&mut write.sql, write.control.epoch).await?;
        let sql = self.writes(&mut write.sql).await?.sql.insert_many(rows.len()) + WITH_ID;
        let mut arguments = PgArguments::default();
        rows.iter().for_each(|row| row.bind(&mut arguments));
        let inserted = sqlx::query_with(AssertSqlSafe(sql), arguments).fetch_all(&mut *write.sql).await;
        let inserted = inserted.doing(&format!("inserting into {}", T::NAME))?;
        if inserted.len() != rows.len() {
            // A rollback that fails is one all the same: no commit was sent.
            let _ = write.sql.rollback().await;
            return Ok(None);
        }
        if let Some(row) = inserted.first() {
            write.id = Some(id_of(row)?);
        }
        let mut touched = Vec::with_capacity(rows.len());
        for row in &inserted {
            let row = self.read_row(row)?;
            touched.push(self.note(&mut write.changes, Some(row), None));
        }
        let written = writer.finish(write, None).await?;
        Ok(Some(touched.into_iter().map(|touched| touched.outcome(&written)).collect()))
    }

    async fn put_chunk(
        &self,
        mut write: WriteTransaction,
        rows: &[T::Row],
    ) -> Result<Vec<WriteOutcome<T::Row>>> {
        let writer = &self.shared.writer;
        let mut touched = Vec::with_capacity(rows.len());
        for row in rows {
            touched.push(self.change_in_source(&mut write, Verb::put(row)).await?.touched());
        }
        let written = writer.finish(write, None).await?;
        Ok(touched.into_iter().map(|touched| touched.outcome(&written)).collect())
    }
}
