//! The calls that change rows. Each runs its statements in a transaction behind the barrier and notes which
//! keys have which state now; how that ends, and how it reaches the target, is the writer's.

use lockstep_core::{
    AttributeValue, Column, Doing, Error, Fields, Kind, MigratableTable, Result, Row, SourceKey, Unholdable,
};
use lockstep_postgres::{Call, WITH_ID, id_of};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{AssertSqlSafe, Row as _};

use super::acknowledge::{Started, beside};
use super::at_once::Reached;
use super::transaction::{Change, State, WriteTransaction, Written};
use super::{Begun, Delivery, Store, WriteOutcome};

/// A primary key, one value a column, for statements.
pub trait PrimaryKey {
    /// Binds the values in order.
    fn bind(&self, arguments: &mut PgArguments);

    /// The values in order, as attributes of items.
    ///
    /// # Errors
    /// When DynamoDB cannot hold one of them.
    fn attributes(&self) -> Result<Vec<AttributeValue>, Unholdable>;
}

impl<C: Column> PrimaryKey for C {
    fn bind(&self, arguments: &mut PgArguments) {
        Column::bind(self, arguments);
    }

    fn attributes(&self) -> Result<Vec<AttributeValue>, Unholdable> {
        Ok(Column::to_attribute(self)?.into_iter().collect())
    }
}

/// The effect of one call on a transaction: the row as PostgreSQL holds it, and the indices of its keys among
/// the deliveries.
pub(crate) struct Touched<R> {
    pub(crate) row: Option<R>,
    indices: Vec<usize>,
}

impl<R> Touched<R> {
    pub(super) fn of(row: Option<R>, indices: Vec<usize>) -> Self {
        Self { row, indices }
    }

    pub(super) const NOTHING: Self = Self { row: None, indices: Vec::new() };

    /// Whether there was a row.
    pub(crate) fn found(&self) -> bool {
        !self.indices.is_empty()
    }

    /// The outcome of this call, once its transaction has committed.
    pub(crate) fn outcome(self, written: &Written) -> WriteOutcome<R> {
        let found = self.found();
        // A row that moves has two keys. Of those the one that is not there yet is the one to tell.
        let deliveries = || self.indices.iter().map(|index| &written.deliveries[*index]);
        let late = deliveries().rfind(|delivery| matches!(delivery, Delivery::Deferred(_)));
        let due = || deliveries().find(|delivery| !matches!(delivery, Delivery::NotDue));
        let target = late.or_else(due).cloned().unwrap_or(Delivery::NotDue);
        WriteOutcome { row: self.row, found, control: written.control, target }
    }
}

impl<T: MigratableTable> Store<T> {
    /// Writes a row: inserts it, or replaces the row with the same primary key.
    ///
    /// ```no_run
    /// # use lockstep::{Delivery, MigratableTable, Result, Store};
    /// # async fn example<Payments: MigratableTable>(payments: Store<Payments>, payment: Payments::Row) -> Result<()> {
    /// let outcome = payments.put(&payment).await?;
    /// if let Delivery::Deferred(why) = outcome.target {
    ///     eprintln!("a relay brings it to DynamoDB: {why}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Nothing was written, except for [`Kind::Unknown`]: then it is unknown (I8).
    /// [`WriteFailed`](super::WriteFailed) says more of each store.
    ///
    /// # Cancel safety
    /// Before the commit nothing is written, and what may be in the target by then is undone; after it the
    /// key is pending and will be delivered.
    pub async fn put(&self, row: &T::Row) -> Result<WriteOutcome<T::Row>> {
        let mut write = match self.reach(Call::Upsert, None, || bound(row)).await? {
            Reached::Done(outcome) => return Ok(outcome),
            Reached::Begun(Begun::Source(write)) => write,
            Reached::Begun(Begun::Target(permit)) => return Box::pin(self.put_in_target(permit, row)).await,
        };
        let touched = self.put_in(&mut write, row).await?;
        Ok(touched.outcome(&self.shared.writer.finish(write).await?))
    }

    /// Writes a new row whose primary key PostgreSQL gives; the one in `row` is not looked at. The outcome
    /// has the row with its key.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Result, Store};
    /// # async fn example<Payments: MigratableTable>(payments: Store<Payments>, payment: Payments::Row) -> Result<()> {
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
        let mut write = match self.reach(Call::Insert, None, || bound(row)).await? {
            Reached::Done(outcome) => return Ok(outcome),
            Reached::Begun(Begun::Source(write)) => write,
            Reached::Begun(Begun::Target(permit)) => {
                return Box::pin(self.insert_in_target(permit, row)).await;
            }
        };
        let touched = self.insert_in(&mut write, row).await?;
        Ok(touched.outcome(&self.shared.writer.finish(write).await?))
    }

    /// The same beside an operation: best effort in every phase, so that a target that is away does not keep
    /// it out, and what it brings to the target is on its way when this returns.
    pub(crate) async fn insert_beside(&self, row: &T::Row) -> Result<Started> {
        let (beside, started) = beside();
        match self.reach(Call::Insert, Some(&beside), || bound(row)).await? {
            Reached::Done(_) => {}
            Reached::Begun(Begun::Source(mut write)) => {
                self.insert_in(&mut write, row).await?;
                self.shared.writer.finish_beside(write, &beside).await?;
            }
            Reached::Begun(Begun::Target(permit)) => {
                drop(Box::pin(self.insert_in_target(permit, row)).await?)
            }
        }
        Ok(started)
    }

    /// Changes the present state of a row. `change` sees the row locked; where there is none it is not
    /// called, and the outcome says so. In DynamoOnly nothing is locked: it is called again, on the row as it
    /// is then, when another was faster.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Result, Store};
    /// # async fn example<Payments: MigratableTable>(payments: Store<Payments>, settle: fn(&mut Payments::Row)) -> Result<()> {
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
        let mut write = match self.shared.writer.begin_where_the_truth_is().await? {
            Begun::Source(write) => write,
            Begun::Target(permit) => return Box::pin(self.update_in_target(permit, &key, change)).await,
        };
        let mut arguments = PgArguments::default();
        key.bind(&mut arguments);
        let touched = self.update_in(&mut write, arguments, change).await?;
        Ok(touched.outcome(&self.shared.writer.finish(write).await?))
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
        let arguments = || {
            let mut arguments = PgArguments::default();
            key.bind(&mut arguments);
            arguments
        };
        let mut write = match self.reach(Call::Delete, None, arguments).await? {
            Reached::Done(outcome) => return Ok(outcome),
            Reached::Begun(Begun::Source(write)) => write,
            Reached::Begun(Begun::Target(permit)) => {
                return Box::pin(self.delete_in_target(permit, &key)).await;
            }
        };
        let arguments = arguments();
        let touched = self.delete_in(&mut write, arguments).await?;
        Ok(touched.outcome(&self.shared.writer.finish(write).await?))
    }

    pub(crate) async fn put_in(&self, write: &mut WriteTransaction, row: &T::Row) -> Result<Touched<T::Row>> {
        self.require_place(&mut write.sql, write.control.epoch).await?;
        let upsert = &self.writes(&mut write.sql).await?.sql.upsert;
        // A trigger did something else instead, and that is committed.
        let Some(returned) = self.change(write, upsert, bound(row)).await? else {
            return Ok(Touched::NOTHING);
        };
        let (key, row) = self.read_row(&returned)?;
        let old_key = self.read_old_key(&returned)?;
        Ok(self.note(&mut write.changes, Some((key, row)), old_key))
    }

    pub(crate) async fn insert_in(
        &self,
        write: &mut WriteTransaction,
        row: &T::Row,
    ) -> Result<Touched<T::Row>> {
        self.require_place(&mut write.sql, write.control.epoch).await?;
        let insert = &self.writes(&mut write.sql).await?.sql.insert;
        let inserted = self.change(write, insert, bound(row)).await?;
        let inserted = inserted.map(|row| self.read_row(&row)).transpose()?;
        Ok(self.note(&mut write.changes, inserted, None))
    }

    pub(crate) async fn update_in(
        &self,
        write: &mut WriteTransaction,
        key: PgArguments,
        change: impl FnOnce(&mut T::Row),
    ) -> Result<Touched<T::Row>> {
        let Some((old_key, mut row)) = self.lock(write, key).await? else { return Ok(Touched::NOTHING) };
        change(&mut row);
        self.replace_in(write, old_key, &row).await
    }

    pub(crate) async fn delete_in(
        &self,
        write: &mut WriteTransaction,
        key: PgArguments,
    ) -> Result<Touched<T::Row>> {
        self.require_place(&mut write.sql, write.control.epoch).await?;
        let deleted = self.change(write, &self.shared.sql.delete, key).await?;
        let deleted = deleted.map(|row| self.read_key(&row)).transpose()?;
        Ok(self.note(&mut write.changes, None, deleted))
    }

    /// Reads a row and locks it until the transaction ends.
    pub(super) async fn lock(
        &self,
        write: &mut WriteTransaction,
        key: PgArguments,
    ) -> Result<Option<(SourceKey, T::Row)>> {
        self.require_place(&mut write.sql, write.control.epoch).await?;
        let sql = AssertSqlSafe(self.shared.sql.select_for_update.clone());
        let found = sqlx::query_with(sql, key).fetch_optional(&mut *write.sql).await;
        found.doing(&format!("writing {}", T::NAME))?.map(|row| self.read_row(&row)).transpose()
    }

    /// Gives a row that is locked its new state.
    pub(super) async fn replace_in(
        &self,
        write: &mut WriteTransaction,
        old_key: SourceKey,
        row: &T::Row,
    ) -> Result<Touched<T::Row>> {
        self.require_place(&mut write.sql, write.control.epoch).await?;
        let update = &self.writes(&mut write.sql).await?.sql.update;
        let written = self.change(write, update, bound(row)).await?;
        let written = written.map(|row| self.read_row(&row)).transpose()?;
        let gone = written.is_some().then_some(old_key);
        Ok(self.note(&mut write.changes, written, gone))
    }

    /// Notes where the row is now, and which key it left, if it is another one.
    pub(super) fn note(
        &self,
        changes: &mut Vec<Change>,
        row: Option<(SourceKey, T::Row)>,
        left: Option<SourceKey>,
    ) -> Touched<T::Row> {
        let binding = &self.shared.binding;
        let left = left.filter(|left| row.as_ref().is_none_or(|(key, _)| key != left));
        let mut touched = Touched::NOTHING;
        if let Some((key, row)) = row {
            touched.indices.push(Change::note(
                changes,
                binding,
                key,
                State::Row(self.shared.table.encode(&row)),
            ));
            touched.row = Some(row);
        }
        touched.indices.extend(left.map(|key| Change::note(changes, binding, key, State::Gone)));
        touched
    }

    /// Runs a statement that changes one row at most, and returns what it returned. The number of the
    /// transaction comes with it.
    async fn change(
        &self,
        write: &mut WriteTransaction,
        sql: &str,
        arguments: PgArguments,
    ) -> Result<Option<PgRow>> {
        let sql = AssertSqlSafe(format!("{sql}{WITH_ID}"));
        let found = sqlx::query_with(sql, arguments).fetch_optional(&mut *write.sql).await;
        let found = found.doing(&format!("writing {}", T::NAME))?;
        if let Some(row) = &found {
            write.id = Some(id_of(row)?);
        }
        Ok(found)
    }

    pub(super) fn read_row(&self, row: &PgRow) -> Result<(SourceKey, T::Row)> {
        Ok((self.read_key(row)?, self.read_fields(row)?))
    }

    /// The key that a statement returned.
    pub(super) fn read_key(&self, row: &PgRow) -> Result<SourceKey> {
        let key: String = row.try_get(self.shared.sql.key_at).map_err(|e| bad_row::<T>(e.to_string()))?;
        self.parse_key(&key)
    }

    pub(super) fn parse_key(&self, key: &str) -> Result<SourceKey> {
        SourceKey::parse(key).map_err(|e| bad_row::<T>(e.to_string()))
    }

    /// The row itself.
    pub(super) fn read_fields(&self, row: &PgRow) -> Result<T::Row> {
        Fields::of_query(row, 0, T::Row::from_fields).map_err(|e| bad_row::<T>(e.to_string()))
    }

    /// The key that the row had before an upsert.
    pub(super) fn read_old_key(&self, row: &PgRow) -> Result<Option<SourceKey>> {
        let key: Option<String> =
            row.try_get(self.shared.sql.key_at + 1).map_err(|e| bad_row::<T>(e.to_string()))?;
        key.map(|text| self.parse_key(&text)).transpose()
    }
}

fn bad_row<T: MigratableTable>(why: String) -> Error {
    Error::source(Kind::Invalid, format!("reading a row of {}", T::NAME), why)
}

fn bound(row: &impl Row) -> PgArguments {
    let mut arguments = PgArguments::default();
    row.bind(&mut arguments);
    arguments
}
