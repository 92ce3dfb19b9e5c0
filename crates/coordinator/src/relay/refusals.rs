//! Refused puts of one read: those that the target holds all the same, those with a newer mark, and items
//! that no delivery of this migration explains.
//!
//! Where a row may have several keys, each refusal is looked at once more before it says anything, since two
//! of them may share a place. 1. A row moves within a day of which the target knows no more: A and B are
//! marked. 2. A relay reads both marks, and the row. 3. The row is changed; that is marked under B,
//! delivered, and taken out. 4. The row read at first is put for A, and refused by it; the mark of A stands
//! as it was read. Or: 1. A repair marks A, the present key. 2. A strict write moves the row to B; its put
//! for B is there, its intent names B. 3. The row read for A is refused by it, and A's mark stands.
//!
//! So the row is read again, together with the marks that wait under all its keys. Where no mark waits, every
//! state that this migration put there was delivered and taken out of the set by then, and the newest of them
//! is this row. An item that differs from the row and was there both before and after this read was not
//! written by this migration.

use lockstep_core::{Attributes, SourceKey, is_tombstone};
use lockstep_postgres::{Delivered, RefusedPut};

use super::Table;
use super::deliver::{Due, version_in};
use crate::error::Result;
use crate::loss::Loss;

impl Table<'_> {
    /// Judges refused puts. Counts a refused put as delivered if the target already holds that state, and
    /// returns the items that no delivery of this migration explains. The other puts have a newer mark, or no
    /// mark any more.
    pub(super) async fn judge(
        self,
        refused: Vec<RefusedPut>,
        delivered: &mut Vec<Delivered>,
    ) -> Result<Vec<Loss>> {
        let refused =
            if self.binding.has_several_keys() { self.looked_at_again(refused).await? } else { refused };
        if refused.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.run.migration.source.contradicted_by(self.binding.name(), &refused).await?;
        for put in refused.into_iter().filter(|put| put.is_same) {
            if found.iter().all(|contradicted| !contradicted.is_of(&put.key)) {
                delivered.push(Delivered { key: put.key, version: put.version });
            }
        }
        Ok(found.iter().map(Loss::of_change).collect())
    }

    /// Those to be judged. The next pass meets the keys that are left out.
    async fn looked_at_again(self, refused: Vec<RefusedPut>) -> Result<Vec<RefusedPut>> {
        let (mut judged, asked): (Vec<_>, Vec<_>) = refused.into_iter().partition(|put| put.is_same);
        if asked.is_empty() {
            return Ok(judged);
        }
        let standing = self.run.migration.source.read_standing(self.binding, &asked).await?;
        for row in standing.rows {
            let Some(put) = asked.iter().find(|put| put.key == row.key) else { continue };
            let Some(there) = self.there(&row.key).await? else { continue };
            let is_same = match self.due(&row) {
                Due::Item(item) | Due::Tombstone(item) => {
                    item.is_same_state(&there, chrono::Utc::now().timestamp())
                }
                // Any tombstone will do, and the next pass sets the row aside.
                Due::Unholdable(_) if is_tombstone(&there) => continue,
                Due::Unholdable(_) => false,
                Due::Nothing => continue,
            };
            let seen = version_in(&there, row.version);
            if is_same || seen == put.seen {
                judged.push(RefusedPut { seen, is_same, ..put.clone() });
            }
        }
        Ok(judged)
    }

    /// Reads what the place of a key holds.
    async fn there(self, key: &SourceKey) -> Result<Option<Attributes>> {
        match self.binding.table.target_key(key) {
            Ok(place) => Ok(self.run.migration.target.get(&self.binding.target_name, &place).await?),
            Err(_) => Ok(None),
        }
    }
}
