//! Compare and set: a change that is made only while the row is as expected.

use lockstep_core::{MigratableTable, Result};
use sqlx::postgres::PgArguments;

use super::{Begun, PrimaryKey, Store, WriteOutcome};

/// How a compare-and-set ended.
#[derive(Debug)]
pub enum Swap<R> {
    /// The row was as expected, and was changed.
    Changed(WriteOutcome<R>),
    /// There is no such row.
    NotFound,
    /// The row is another than expected; it was left alone.
    WasOther(R),
}

impl<R> Swap<R> {
    /// Whether the change was made.
    pub fn is_changed(&self) -> bool {
        matches!(self, Self::Changed(_))
    }
}

impl<T: MigratableTable> Store<T> {
    /// Changes a row if `expected` says yes to its present state. Both see the row locked, so of several
    /// callers who expect the same state exactly one changes it, whatever way the others write. In DynamoOnly
    /// nothing is locked: both are called again, on the row as it is then, when another was faster.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Result, Store};
    /// # async fn example<Payments: MigratableTable>(
    /// #     payments: Store<Payments>, is_open: fn(&Payments::Row) -> bool, settle: fn(&mut Payments::Row),
    /// # ) -> Result<()> {
    /// let settled = payments.update_if(42_i64, is_open, settle).await?.is_changed();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Store::put`].
    ///
    /// # Cancel safety
    /// As for [`Store::put`].
    pub async fn update_if(
        &self,
        key: impl PrimaryKey,
        mut expected: impl FnMut(&T::Row) -> bool,
        mut change: impl FnMut(&mut T::Row),
    ) -> Result<Swap<T::Row>> {
        let writer = &self.shared.writer;
        let mut write = match writer.begin_where_the_truth_is().await? {
            Begun::Source(write) => write,
            Begun::Target(permit) => {
                return Box::pin(self.swap_in_target(permit, &key, expected, change)).await;
            }
        };
        let mut arguments = PgArguments::default();
        key.bind(&mut arguments);
        let Some((old_key, mut row)) = self.lock(&mut write, arguments).await? else {
            return Ok(Swap::NotFound);
        };
        if !expected(&row) {
            return Ok(Swap::WasOther(row));
        }
        change(&mut row);
        let touched = self.replace_in(&mut write, old_key, &row).await?;
        Ok(Swap::Changed(touched.outcome(&writer.finish(write).await?)))
    }
}
