//! The calls that write one row. Each makes a verb of itself and goes where `route` says.

use lockstep_core::{MigratableTable, Result};

use super::acknowledge::{Beside, Started, beside};
use super::route::Calling;
use super::verb::{Met, Touched, Verb, always};
use super::ways::Begun;
use super::{PrimaryKey, Store, WriteOutcome};

impl<T: MigratableTable> Store<T> {
    /// Writes a row: inserts it, or replaces the row with the same primary key.
    ///
    /// ```no_run
    /// # use lockstep::{Delivery, MigratableTable, Result, Store};
    /// # async fn example<Payments: MigratableTable>(
    /// #     payments: Store<Payments>, payment: Payments::Row,
    /// # ) -> Result<()> {
    /// let outcome = payments.put(&payment).await?;
    /// if let Delivery::Deferred(why) = outcome.target {
    ///     eprintln!("a relay brings it to DynamoDB: {why}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Nothing was written, except for [`Kind::Unknown`](lockstep_core::Kind::Unknown): then it is unknown
    /// (I8). [`WriteFailed`](super::WriteFailed) says more of each store.
    ///
    /// # Cancel safety
    /// Before the commit nothing is written, and what may be in the target by then is undone; after it the
    /// key is pending and will be delivered.
    pub async fn put(&self, row: &T::Row) -> Result<WriteOutcome<T::Row>> {
        self.write(Verb::put(row), None).await
    }

    /// Writes a new row whose primary key PostgreSQL gives; the one in `row` is not looked at. The outcome
    /// has the row with its key.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Result, Store};
    /// # async fn example<Payments: MigratableTable>(
    /// #     payments: Store<Payments>, payment: Payments::Row,
    /// # ) -> Result<()> {
    /// let with_its_key = payments.insert(&payment).await?.row;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Store::put`].
    ///
    /// # Cancel safety
    /// As for [`Store::put`].
    pub async fn insert(&self, row: &T::Row) -> Result<WriteOutcome<T::Row>> {
        self.write(Verb::insert(row), None).await
    }

    /// Inserts a row beside an operation: best effort in every phase, so that a target that is away does
    /// not keep it out, and what it brings to the target is on its way when this returns.
    pub(crate) async fn insert_beside(&self, row: &T::Row) -> Result<Started> {
        let (beside, started) = beside();
        self.write(Verb::insert(row), Some(&beside)).await?;
        Ok(started)
    }

    /// Changes the present state of a row. `change` sees the row locked; where there is none it is not
    /// called, and the outcome says so. In DynamoOnly nothing is locked: it is called again, on the row as it
    /// is then, when another was faster.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Result, Store};
    /// # async fn example<Payments: MigratableTable>(
    /// #     payments: Store<Payments>, settle: fn(&mut Payments::Row),
    /// # ) -> Result<()> {
    /// let outcome = payments.update(42_i64, settle).await?;
    /// assert!(outcome.found, "there is no payment 42");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Store::put`].
    ///
    /// # Cancel safety
    /// As for [`Store::put`].
    pub async fn update(
        &self,
        key: impl PrimaryKey,
        change: impl FnMut(&mut T::Row),
    ) -> Result<WriteOutcome<T::Row>> {
        self.write(Verb::Update(&key, always(change)), None).await
    }

    /// Deletes a row.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Result, Store};
    /// # async fn example<Payments: MigratableTable>(payments: Store<Payments>) -> Result<()> {
    /// payments.delete(42_i64).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Store::put`].
    ///
    /// # Cancel safety
    /// As for [`Store::put`].
    pub async fn delete(&self, key: impl PrimaryKey) -> Result<WriteOutcome<T::Row>> {
        self.write(Verb::delete(&key), None).await
    }

    /// Writes one row, in one round trip where `route` and PostgreSQL let it. `beside` is where the log of an
    /// operation leaves what it delivers.
    async fn write<K: PrimaryKey, F: FnMut(&mut T::Row) -> bool>(
        &self,
        verb: Verb<'_, T::Row, K, F>,
        beside: Option<&Beside>,
    ) -> Result<WriteOutcome<T::Row>> {
        let calling = if beside.is_some() { Calling::Log } else { verb.calling() };
        if let Some(statement) = verb.statement()
            && let Some(outcome) = self.at_once(statement, calling, beside).await?
        {
            return Ok(outcome);
        }
        let mut begun = self.shared.writer.begin(calling).await?;
        let met = self.change(&mut begun, verb).await?;
        self.end(begun, met.touched(), beside).await
    }

    /// Does what `verb` says where the write has begun.
    pub(crate) async fn change<K: PrimaryKey, F: FnMut(&mut T::Row) -> bool>(
        &self,
        begun: &mut Begun,
        verb: Verb<'_, T::Row, K, F>,
    ) -> Result<Met<T::Row>> {
        match begun {
            Begun::Source(write) => self.change_in_source(write, verb).await,
            // Apart, so that the future of a write in the source does not have room for it.
            Begun::Target(write) => Box::pin(self.change_in_target(write, verb)).await,
        }
    }

    /// Ends a write of one row, and says how it ended.
    pub(super) async fn end(
        &self,
        begun: Begun,
        touched: Touched<T::Row>,
        beside: Option<&Beside>,
    ) -> Result<WriteOutcome<T::Row>> {
        match begun {
            Begun::Source(write) => Ok(touched.outcome(&self.shared.writer.finish(write, beside).await?)),
            Begun::Target(write) => Ok(touched.outcome_in_target(write.control())),
        }
    }
}
