//! Record of a captured table: its fingerprint, and how it follows what changes no value.

use std::time::{Duration, Instant};

use lockstep_core::{Doing, Error, Kind, Result};

use super::partitions::{Leaf, NONE, guard_what_is_free};
use super::reverse::lose;
use super::shape::{is_moved, leaves_of, with_leaves};
use super::{Shape, Source, TableBinding};
use crate::sql;

/// Tells whether the record says all that there is to say of a captured relation: it is the one that was
/// captured, and neither a file nor a partition is to be recorded.
pub(super) fn is_as_recorded(captured: &str, now: &str) -> bool {
    match Shape::of(captured, now) {
        Shape::Same => {}
        Shape::Grown(_) => return false,
        // Nothing is recorded over what is wrong.
        _ => return true,
    }
    let there = leaves_of(now);
    let known: Vec<_> = leaves_of(captured).into_iter().map(|leaf| leaf.followed(&there)).collect();
    known.iter().all(|leaf| leaf.guard != NONE) && with_leaves(now, &known) == captured
}

/// Tells whether what is there differs from the record in a way that changes no value, and is recorded before
/// it is judged.
pub(super) fn is_to_be_recorded(shape: &Shape, captured: &str, now: &str) -> bool {
    matches!(shape, Shape::Grown(_)) || (*shape == Shape::Same && is_moved(captured, now))
}

impl Source {
    /// Compares a captured table with what was captured. Partitions that were added are taken in first.
    ///
    /// # Errors
    /// The driver's; [`Kind::Busy`] where rows of a new partition are locked.
    #[crate::boxed]
    pub async fn shape(&self, binding: &TableBinding) -> Result<Shape> {
        let captured = self.table_state(binding.name()).await?.map(|state| state.fingerprint);
        let now = self.fingerprint(binding).await?;
        let captured = captured.as_deref().unwrap_or(&now);
        let shape = Shape::of(captured, &now);
        if !is_to_be_recorded(&shape, captured, &now) {
            return Ok(shape);
        }
        let captured = self.record_shape(binding).await?.unwrap_or_default();
        Ok(Shape::of(&captured, &self.fingerprint(binding).await?))
    }

    /// Records the shape of a captured table where that of the record is out of date and no value has
    /// changed: after an upgrade from a Lockstep that recorded none, or after `VACUUM FULL`; and takes in
    /// partitions that were added. Returns what was captured, as it is recorded now.
    ///
    /// Without it an old record would never find a rewrite, and a `VACUUM FULL` of today together with a `SET
    /// STATISTICS` of tomorrow would be taken for one.
    ///
    /// Where the file of rows is another one, nothing stops, and no comparison from before counts any more.
    /// 1. `SET UNLOGGED`, for a load. 2. The server crashes, and the table is empty. 3. `SET LOGGED`: no
    /// column was touched, and no trigger fired. 4. Keys that changed since the full pass agree. In
    /// DynamoOnly it is for the way back what lost records are: PostgreSQL may lack rows that no feed brings.
    ///
    /// # Errors
    /// The driver's; [`Kind::Busy`] where rows of a new partition are locked.
    ///
    /// # Cancel safety
    /// Rows of a new partition that are marked are marked again by the next call.
    #[crate::boxed]
    pub async fn record_shape(&self, binding: &TableBinding) -> Result<Option<String>> {
        self.record_shape_until(binding, None).await
    }

    /// Records as [`Source::record_shape`] does, for a caller that has other tables to see to.
    ///
    /// # Errors
    /// As [`Source::record_shape`]; [`Kind::Busy`] also once `within` is over, while there are rows to be
    /// marked. The next call goes on there.
    ///
    /// # Cancel safety
    /// As [`Source::record_shape`].
    #[crate::boxed]
    pub async fn record_shape_within(
        &self,
        binding: &TableBinding,
        within: Duration,
    ) -> Result<Option<String>> {
        self.record_shape_until(binding, Some(Instant::now() + within)).await
    }

    async fn record_shape_until(
        &self,
        binding: &TableBinding,
        until: Option<Instant>,
    ) -> Result<Option<String>> {
        let Some(captured) = self.table_state(binding.name()).await?.map(|state| state.fingerprint) else {
            return Ok(None);
        };
        let now = self.fingerprint(binding).await?;
        if is_as_recorded(&captured, &now) {
            return Ok(Some(captured));
        }
        let known = leaves_of(&captured);
        let taken = match Shape::of(&captured, &now) {
            Shape::Same => Vec::new(),
            Shape::Grown(_) => {
                let new = leaves_of(&now);
                let new: Vec<Leaf> =
                    new.into_iter().filter(|leaf| !known.iter().any(|known| known.is(leaf))).collect();
                self.take_in(binding, &new, until).await?
            }
            _ => return Ok(Some(captured)),
        };
        let now = self.fingerprint(binding).await?;
        if !matches!(Shape::of(&captured, &now), Shape::Same | Shape::Grown(_)) {
            return Ok(Some(captured));
        }
        let mut leaves: Vec<Leaf> = known.into_iter().map(|known| known.followed(&leaves_of(&now))).collect();
        // One that went again, or was emptied, since its rows were marked is not known: the next call judges.
        leaves.extend(taken.into_iter().filter(|taken| taken.is_still_among(&leaves_of(&now))));
        guard_what_is_free(self, binding, &mut leaves).await?;
        let recorded = with_leaves(&now, &leaves);
        if recorded == captured {
            return Ok(Some(captured));
        }
        // Only over what was read: another process may have installed capture again meanwhile.
        let doing = "recording the shape of a table";
        let mut transaction = self.begin(doing).await?;
        let is_moved = is_moved(&captured, &recorded);
        let done = sql::query(
            "UPDATE lockstep.tables SET fingerprint = $3,
                 captured_at = CASE WHEN $4 THEN pg_catalog.clock_timestamp() ELSE captured_at END
             WHERE name = $1 AND fingerprint = $2",
        )
        .bind(binding.name())
        .bind(&captured)
        .bind(&recorded)
        .bind(is_moved)
        .execute(&mut *transaction)
        .await
        .doing(doing)?;
        if done.rows_affected() == 1 {
            if is_moved {
                let why = format!("the rows of {} lie in another file than before", binding.relation);
                lose(&mut transaction, binding.name(), &why).await?;
            }
            transaction.commit().await.doing(doing)?;
            return Ok(Some(recorded));
        }
        Ok(self.table_state(binding.name()).await?.map(|state| state.fingerprint))
    }

    /// Takes a captured table as it is now for the one that was captured; every conclusion from before is
    /// void. Rows of partitions that came are marked, and so are those that a detached partition still has;
    /// the keys of a dropped one are for a comparison to find. In DynamoOnly the way back is closed with it,
    /// until a reverse backfill has read the whole target.
    ///
    /// # Errors
    /// [`Kind::Refused`] where its columns are others, or rows of it cannot be seen; and in DynamoOnly where
    /// a partition came with rows that DynamoDB may not have.
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn take_shape(&self, binding: &TableBinding) -> Result<()> {
        let doing = format!("taking {} as it is now", binding.relation);
        let now = self.fingerprint(binding).await?;
        let captured =
            self.table_state(binding.name()).await?.map(|state| state.fingerprint).unwrap_or_default();
        let shape = Shape::of(&captured, &now);
        if matches!(shape, Shape::Columns { .. } | Shape::Changed | Shape::Hidden(_)) {
            let wrong = shape.wrong().unwrap_or_default();
            return Err(Error::source(Kind::Refused, doing, format!("{wrong}; {}", shape.next())));
        }
        let (known, there) = (leaves_of(&captured), leaves_of(&now));
        let new = there.iter().filter(|leaf| !known.iter().any(|known| known.is(leaf))).cloned();
        let mut leaves = self.take_in(binding, &new.collect::<Vec<_>>(), None).await?;
        if let Some(strange) = leaves.iter().find(|leaf| leaf.is_strange()) {
            let message = format!(
                "partition {} was attached with rows, and DynamoDB is the truth: DETACH it, move its rows through an application if \
                 they are wanted, and attach it empty",
                strange.name
            );
            return Err(Error::source(Kind::Refused, doing, message));
        }
        let (stay, gone): (Vec<Leaf>, Vec<Leaf>) =
            known.into_iter().partition(|known| there.iter().any(|leaf| known.is(leaf)));
        self.mark_what_is_left_in(
            binding,
            gone.iter().filter(|gone| !there.iter().any(|leaf| leaf.has_oid_of(gone))),
        )
        .await?;
        leaves.extend(stay.into_iter().map(|known| known.followed(&there)));
        guard_what_is_free(self, binding, &mut leaves).await?;
        let mut transaction = self.begin(&doing).await?;
        sql::query(
            "UPDATE lockstep.tables SET fingerprint = $2, captured_at = pg_catalog.clock_timestamp()
            WHERE name = $1",
        )
        .bind(binding.name())
        .bind(with_leaves(&now, &leaves))
        .execute(&mut *transaction)
        .await
        .doing(&doing)?;
        // From here on the table looks as it is to be, and nothing else shows that values are missing from
        // it, should the reading of the target that follows be broken off.
        lose(&mut transaction, binding.name(), &format!("{} was changed past Lockstep", binding.relation))
            .await?;
        transaction.commit().await.doing(&doing)
    }
}
