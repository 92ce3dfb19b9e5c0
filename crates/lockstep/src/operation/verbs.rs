//! The writes of an operation.

use lockstep_core::{MigratableTable, Result};

use super::{LogSink, Operation};
use crate::store::{Met, PrimaryKey, Store, Verb, once};

impl<S: LogSink> Operation<S> {
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
        self.change(store, Verb::put(row)).await?.held(T::NAME)
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
        self.change(store, Verb::insert(row)).await?.held(T::NAME)
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
        Ok(self.change(store, Verb::Update(&key, once(change))).await?.touched().row)
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
        Ok(self.change(store, Verb::delete(&key)).await?.touched().found)
    }

    async fn change<T: MigratableTable, K: PrimaryKey, F: FnMut(&mut T::Row) -> bool>(
        &mut self,
        store: &Store<T>,
        verb: Verb<'_, T::Row, K, F>,
    ) -> Result<Met<T::Row>> {
        self.writer.require_own(store);
        store.change(&mut self.write, verb).await
    }
}
