//! Compare and set: a change that is made only while the row is as expected.

use lockstep_core::{MigratableTable, Result};

use super::verb::{Met, Verb};
use super::{PrimaryKey, Store, WriteOutcome};

/// The outcome of a compare-and-set.
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
    /// Says whether the change was made.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Result, Store};
    /// # async fn example<Payments: MigratableTable>(
    /// #     payments: Store<Payments>, is_open: fn(&Payments::Row) -> bool, settle: fn(&mut Payments::Row),
    /// # ) -> Result<()> {
    /// let swap = payments.update_if(42_i64, is_open, settle).await?;
    /// if !swap.is_changed() {
    ///     println!("there is no such payment, or another caller was faster");
    /// }
    /// # Ok(())
    /// # }
    /// ```
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
        let verb = Verb::Update(&key, |row: &mut T::Row| {
            let is_expected = expected(row);
            if is_expected {
                change(row);
            }
            is_expected
        });
        let mut begun = self.shared.writer.begin(verb.calling()).await?;
        match self.change(&mut begun, verb).await? {
            Met::Changed(touched) => Ok(Swap::Changed(self.end(begun, touched, None).await?)),
            Met::Nothing => Ok(Swap::NotFound),
            Met::Other(row) => Ok(Swap::WasOther(row)),
        }
    }
}
