//! Marking the rows of a table whose columns are others, so that a relay brings them: those that have a value
//! in a column which was added, or all of them.
//!
//! 1. A column is added, and builds that know it are deployed one by one. 2. An older one puts a row that has
//! a value there already, and delivers it at once, without it; its mark goes. 3. The column is taken. The item
//! lacks the value, nothing says so, and a put of the older build may still be on its way. So each such row
//! is marked in the epoch that began when the column was taken: whatever was sent before loses to that.

use lockstep_core::{Doing, Error, Kind, Phase, Result};

use super::barrier::limit_lock_waits;
use super::binding::quote_identifier;
use super::take_in::{LOCK_TIMEOUT, LOCKED, ROWS_AT_ONCE, mark_next, try_shared};
use super::{KeyBound, Source, TableBinding, lock_tries};

const DOING: &str = "marking the rows of a table whose columns are others";

impl Source {
    /// Marks the next rows after a key, of those that have a value in one of these columns, or of all where
    /// `columns` is `None`: under their locks, as their trigger would have. Returns their keys in order; none
    /// where there are no more.
    ///
    /// # Errors
    /// [`Kind::Refused`] in DynamoOnly; [`Kind::Busy`] where a row stays locked for minutes; the driver's.
    ///
    /// # Cancel safety
    /// Repeat it: rows are marked once more.
    #[crate::boxed]
    pub async fn mark_rows_after(
        &self,
        binding: &TableBinding,
        columns: Option<&[String]>,
        after: Option<&KeyBound>,
    ) -> Result<Vec<KeyBound>> {
        let has = columns.map(|columns| {
            let has = columns.iter().map(|name| format!("s.{} IS NOT NULL", quote_identifier(name)));
            format!("({})", has.collect::<Vec<_>>().join(" OR "))
        });
        lock_tries::TABLE.repeat(|| self.mark_page(binding, after, has.as_deref())).await
    }

    async fn mark_page(
        &self,
        binding: &TableBinding,
        after: Option<&KeyBound>,
        has: Option<&str>,
    ) -> Result<Vec<KeyBound>> {
        let mut transaction = self.begin(DOING).await?;
        limit_lock_waits(&mut transaction, LOCK_TIMEOUT).await?;
        if try_shared(&mut transaction, DOING).await?.phase == Phase::DynamoOnly {
            return Err(Error::source(Kind::Refused, DOING, "DynamoDB is the truth by now"));
        }
        let (relation, page) = (binding.relation.sql(), (ROWS_AT_ONCE, LOCKED));
        let places =
            mark_next(&mut transaction, binding, &relation, (after, has), page).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(places)
    }
}
