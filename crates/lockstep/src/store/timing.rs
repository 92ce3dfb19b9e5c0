//! Asking one store alone, whatever the phase: so that the same question can be timed on both (R28).

use lockstep_core::{Error, MigratableTable, Result, Unholdable};

use super::Store;
use super::query::Selection;

impl<T: MigratableTable> Store<T> {
    /// Reads a key from the source alone; says whether there is a row.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Result, Store};
    /// # async fn example<Payments: MigratableTable>(
    /// #     payments: Store<Payments>, key: Payments::Key,
    /// # ) -> Result<()> {
    /// let began = std::time::Instant::now();
    /// let is_there = payments.ask_source(&key).await?;
    /// println!("PostgreSQL took {:?}; there is a row: {is_there}", began.elapsed());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The source's.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    pub async fn ask_source(&self, key: &T::Key) -> Result<bool> {
        Ok(self.get_from_source(key).await?.is_some())
    }

    /// Reads a key from the target alone; says whether there is a row.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Result, Store};
    /// # async fn example<Payments: MigratableTable>(
    /// #     payments: Store<Payments>, key: Payments::Key,
    /// # ) -> Result<()> {
    /// let began = std::time::Instant::now();
    /// let is_there = payments.ask_target(&key).await?;
    /// println!("DynamoDB took {:?}; there is a row: {is_there}", began.elapsed());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The target's.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    pub async fn ask_target(&self, key: &T::Key) -> Result<bool> {
        let bad = |reason: Unholdable| Error::unholdable(T::NAME, &reason);
        let place = self.shared.table.target_key(key).map_err(bad)?;
        Ok(self.get_from_target(&place).await?.is_some())
    }
}

impl<T: MigratableTable> Selection<T> {
    /// Asks the source alone for the first `rows_max` rows; says how many there were.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Result, Selection};
    /// # async fn example<Payments: MigratableTable>(selection: Selection<Payments>) -> Result<()> {
    /// let began = std::time::Instant::now();
    /// let rows = selection.ask_source(50).await?;
    /// println!("PostgreSQL took {:?} for {rows} rows", began.elapsed());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The source's.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    pub async fn ask_source(&self, rows_max: usize) -> Result<usize> {
        Ok(self.read_source(rows_max).await?.len())
    }

    /// Asks the target alone for the first `rows_max` rows; says how many there were.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Result, Selection};
    /// # async fn example<Payments: MigratableTable>(selection: Selection<Payments>) -> Result<()> {
    /// let began = std::time::Instant::now();
    /// let rows = selection.ask_target(50).await?;
    /// println!("DynamoDB took {:?} for {rows} rows", began.elapsed());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The target's.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    pub async fn ask_target(&self, rows_max: usize) -> Result<usize> {
        Ok(self.read_target(rows_max).await?.len())
    }
}
