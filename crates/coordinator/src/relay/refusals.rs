//! Refused puts of one read: what is there all the same, what has a newer mark, and what no delivery of this
//! history explains.
//!
//! A key that its row does not have is looked at once more before it says anything. Two keys of one row may
//! share a place: 1. A row moves within a day of which the target knows no more: A and B are marked. 2. A
//! relay reads both marks, and the row. 3. The row is changed; that is marked under B, delivered, and taken
//! out. 4. What was read at first is put for A, and refused by it; the mark of A stands as it was read. So of
//! such a key the row is read again: where the place holds that, it was delivered under the other key.

use lockstep_core::{Attributes, SourceKey};
use lockstep_postgres::{Delivered, RefusedPut};

use super::Table;
use super::deliver::{Due, Refusal, version_in};
use crate::error::Result;
use crate::loss::Loss;

impl Table<'_> {
    /// Judges what was refused: adds what the target holds all the same to what was delivered, and returns
    /// what no delivery of this history explains. The rest has a newer mark, or none any more.
    pub(super) async fn judge(
        self,
        refused: Vec<Refusal>,
        delivered: &mut Vec<Delivered>,
    ) -> Result<Vec<Loss>> {
        let (judged, asked): (Vec<_>, Vec<_>) =
            refused.into_iter().partition(|refusal| refusal.is_present || refusal.put.is_same);
        let mut refused: Vec<RefusedPut> = judged.into_iter().map(|refusal| refusal.put).collect();
        refused.extend(self.looked_at_again(asked).await?);
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

    /// Of puts of keys that their rows do not have: those to be judged. What is left out is met by the next
    /// pass.
    async fn looked_at_again(self, refused: Vec<Refusal>) -> Result<Vec<RefusedPut>> {
        if refused.is_empty() {
            return Ok(Vec::new());
        }
        let source = &self.run.migration.source;
        let keys: Vec<SourceKey> = refused.iter().map(|refusal| refusal.put.key.clone()).collect();
        let (mut judged, mut doubtful) = (Vec::new(), Vec::new());
        for row in source.read_marked(self.binding, &keys).await?.rows {
            let is_of = |refusal: &&Refusal| refusal.put.key == row.key && refusal.put.version == row.version;
            let (Some(refusal), Due::Item(item) | Due::Tombstone(item)) =
                (refused.iter().find(is_of), self.due(&row))
            else {
                continue;
            };
            let Some(there) = self.there(&row.key).await? else { continue };
            let seen = version_in(&there, row.version);
            if item.is_same_state(&there, chrono::Utc::now().timestamp()) {
                judged.push(RefusedPut { seen, is_same: true, ..refusal.put.clone() });
            } else if seen == refusal.put.seen {
                doubtful.push(refusal.put.clone());
            }
        }
        if doubtful.is_empty() {
            return Ok(judged);
        }
        // What stood there before and after the row was read is not the row of then. Within one history the
        // row's other key waits, or has been delivered since.
        let keys: Vec<SourceKey> = doubtful.iter().map(|put| put.key.clone()).collect();
        let waiting = source.waiting_beside(self.binding, &keys).await?;
        for put in doubtful.into_iter().filter(|put| !waiting.contains(&put.key)) {
            let there = self.there(&put.key).await?;
            if there.is_some_and(|there| version_in(&there, put.version) == put.seen) {
                judged.push(put);
            }
        }
        Ok(judged)
    }

    /// What the place of a key holds.
    async fn there(self, key: &SourceKey) -> Result<Option<Attributes>> {
        match self.binding.table.target_key(key) {
            Ok(place) => Ok(self.run.migration.target.get(&self.binding.target_name, &place).await?),
            Err(_) => Ok(None),
        }
    }
}
