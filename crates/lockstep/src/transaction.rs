//! Transactions of an application's own (R42): its SQL on tables that stay, and writes of moved tables
//! through their stores, committed together.
//!
//! It is one transaction of PostgreSQL, so it can only be while PostgreSQL is the truth. In DynamoOnly it is
//! refused, before anything is done; an [`Operation`](crate::Operation) is what works in every phase.

use lockstep_core::{Error, Kind, MigratableTable, Result};
use sqlx::postgres::PgConnection;

use crate::migration::Migration;
use crate::operation::OperationOutcome;
use crate::store::{Calling, Met, PrimaryKey, Store, Verb, WriteTransaction, Writer, once};

const DOING: &str = "working in a transaction";

/// One transaction of PostgreSQL. Dropped, it is rolled back.
///
/// PostgreSQL ends it when it does nothing for 30 s, and a step waits until it is over.
pub struct Transaction {
    writer: Writer,
    write: WriteTransaction,
}

impl Migration {
    /// Begins a transaction in which the application runs its own SQL on tables that stay, and writes moved
    /// tables through their stores. Delivery to DynamoDB follows the write mode of the phase.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Migration, Result};
    /// # async fn example<Payments: MigratableTable>(
    /// #     migration: Migration, payment: Payments::Row,
    /// # ) -> Result<()> {
    /// let payments = migration.store::<Payments>();
    /// let mut transaction = migration.begin().await?;
    /// sqlx::query("UPDATE loans SET paid = paid + 100 WHERE loan_id = 7")
    ///     .execute(transaction.sql())
    ///     .await
    ///     .expect("a statement of the application's own");
    /// transaction.put(&payments, &payment).await?;
    /// transaction.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Kind::Refused`] in DynamoOnly, where no transaction of PostgreSQL can hold a write: nothing was
    /// done.
    /// PostgreSQL's.
    ///
    /// # Cancel safety
    /// Nothing is written by it.
    pub async fn begin(&self) -> Result<Transaction> {
        let writer = self.writer().clone();
        let write = writer.begin(Calling::Own).await?.in_source()?;
        Ok(Transaction { writer, write: write.numbered().await? })
    }
}

impl Transaction {
    /// Returns the connection, for the application's own SQL. Changes of moved tables that are made by it are
    /// captured, and a relay delivers them.
    ///
    /// It must not end the transaction: [`Transaction::commit`] then fails, whatever was committed by it.
    /// What it sets for the session holds until the transaction ends, whether it says `LOCAL` or not, but for
    /// `synchronous_commit`: a commit is on disk before it is answered.
    ///
    /// ```no_run
    /// # use lockstep::{Result, Transaction};
    /// # async fn example(transaction: &mut Transaction) -> Result<()> {
    /// sqlx::query("UPDATE loans SET paid = paid + 100 WHERE loan_id = 7")
    ///     .execute(transaction.sql())
    ///     .await
    ///     .expect("a statement of the application's own");
    /// # Ok(())
    /// # }
    /// ```
    pub fn sql(&mut self) -> &mut PgConnection {
        self.write.sql.lend()
    }

    /// Writes a row, as [`Store::put`] does; returns it as PostgreSQL holds it.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Result, Store, Transaction};
    /// # async fn example<Payments: MigratableTable>(
    /// #     transaction: &mut Transaction, payments: &Store<Payments>, payment: Payments::Row,
    /// # ) -> Result<()> {
    /// let as_held = transaction.put(payments, &payment).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// PostgreSQL's. The transaction can then only be rolled back.
    ///
    /// # Cancel safety
    /// Nothing is committed before [`Transaction::commit`]. Whether the transaction has this write is not
    /// known: roll it back, or drop it.
    pub async fn put<T: MigratableTable>(&mut self, store: &Store<T>, row: &T::Row) -> Result<T::Row> {
        self.change(store, Verb::put(row)).await?.held(T::NAME)
    }

    /// Writes a new row, as [`Store::insert`] does; returns it with its key.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Result, Store, Transaction};
    /// # async fn example<Payments: MigratableTable>(
    /// #     transaction: &mut Transaction, payments: &Store<Payments>, payment: Payments::Row,
    /// # ) -> Result<()> {
    /// let with_its_key = transaction.insert(payments, &payment).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// PostgreSQL's. The transaction can then only be rolled back.
    ///
    /// # Cancel safety
    /// As for [`Transaction::put`]; an id may be used up.
    pub async fn insert<T: MigratableTable>(&mut self, store: &Store<T>, row: &T::Row) -> Result<T::Row> {
        self.change(store, Verb::insert(row)).await?.held(T::NAME)
    }

    /// Changes a row, as [`Store::update`] does; `None` where there is none. It stays locked until the
    /// transaction ends.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Result, Store, Transaction};
    /// # async fn example<Payments: MigratableTable>(
    /// #     transaction: &mut Transaction, payments: &Store<Payments>, book: fn(&mut Payments::Row),
    /// # ) -> Result<()> {
    /// if transaction.update(payments, 42_i64, book).await?.is_none() {
    ///     println!("there is no payment 42");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// PostgreSQL's. The transaction can then only be rolled back.
    ///
    /// # Cancel safety
    /// As for [`Transaction::put`].
    pub async fn update<T: MigratableTable>(
        &mut self,
        store: &Store<T>,
        key: impl PrimaryKey,
        change: impl FnOnce(&mut T::Row),
    ) -> Result<Option<T::Row>> {
        Ok(self.change(store, Verb::Update(&key, once(change))).await?.touched().row)
    }

    /// Deletes a row, as [`Store::delete`] does; says whether there was one.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Result, Store, Transaction};
    /// # async fn example<Payments: MigratableTable>(
    /// #     transaction: &mut Transaction, payments: &Store<Payments>,
    /// # ) -> Result<()> {
    /// let was_there = transaction.delete(payments, 42_i64).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// PostgreSQL's. The transaction can then only be rolled back.
    ///
    /// # Cancel safety
    /// As for [`Transaction::put`].
    pub async fn delete<T: MigratableTable>(
        &mut self,
        store: &Store<T>,
        key: impl PrimaryKey,
    ) -> Result<bool> {
        Ok(self.change(store, Verb::delete(&key)).await?.touched().found)
    }

    /// Commits what the application's SQL and the stores have written, together, and brings the rows of moved
    /// tables to DynamoDB as the write mode says.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Result, Store, Transaction};
    /// # async fn example<Payments: MigratableTable>(
    /// #     mut transaction: Transaction, payments: Store<Payments>, payment: Payments::Row,
    /// # ) -> Result<()> {
    /// transaction.put(&payments, &payment).await?;
    /// let outcome = transaction.commit().await?;
    /// println!("{} keys in {}", outcome.keys, outcome.control.phase);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Nothing was committed; or, with [`Kind::Unknown`], it is unknown whether it was (I8).
    /// [`Kind::Invalid`] where the application's own SQL has ended the transaction: what that committed is
    /// committed, and its rows of moved tables are a relay's to deliver.
    ///
    /// # Cancel safety
    /// As for [`Store::put`], for all of it together.
    pub async fn commit(mut self) -> Result<OperationOutcome> {
        if !self.write.is_under_way().await? {
            let message = "a statement of the application's own has ended the transaction; what it \
            committed stays committed, and is \
                           delivered by a relay: end it by `commit` or `rollback` of this handle alone";
            return Err(Error::source(Kind::Invalid, DOING, message));
        }
        Ok(OperationOutcome::of(self.writer.finish(self.write, None).await?))
    }

    /// Rolls everything back.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Result, Store, Transaction};
    /// # async fn example<Payments: MigratableTable>(
    /// #     mut transaction: Transaction, payments: Store<Payments>,
    /// # ) -> Result<()> {
    /// if transaction.delete(&payments, 42_i64).await? {
    ///     transaction.commit().await?;
    /// } else {
    ///     transaction.rollback().await;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    /// It is rolled back all the same, no later than its connection is used again or closed.
    pub async fn rollback(self) {
        // A rollback that fails is one all the same: no commit was sent.
        let _ = self.write.sql.rollback().await;
    }

    async fn change<T: MigratableTable, K: PrimaryKey, F: FnMut(&mut T::Row) -> bool>(
        &mut self,
        store: &Store<T>,
        verb: Verb<'_, T::Row, K, F>,
    ) -> Result<Met<T::Row>> {
        self.writer.require_own(store);
        store.change_in_source(&mut self.write, verb).await
    }
}
