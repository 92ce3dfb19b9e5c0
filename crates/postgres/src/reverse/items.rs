//! Items that were read from the target itself, for a reverse backfill.

use lockstep_core::{Attributes, Phase, Result, Version, is_tombstone, place, version_of};

use super::FedTable;
use super::apply::{Applied, apply};
use super::entry::{Entry, State, misplaced};
use super::feeding::finish_feeding;
use super::foreign::note_ahead;
use super::remember::{Guard, Why, note_again};
use crate::Source;

impl Source {
    /// Applies items that were read from the target itself, under the same guard as the stream's; for a
    /// reverse backfill. Tombstones and what came from the source are passed over; an item without a version
    /// is noted to be read again.
    ///
    /// # Errors
    /// As [`Source::apply_reverse`], but for positions, of which there is none.
    #[crate::boxed]
    pub async fn apply_items(&self, table: &FedTable, items: &[Attributes]) -> Result<Applied> {
        self.apply_some(table, items, false).await
    }

    /// Applies items whose rows were seen to differ from them, whatever their version: where the target is
    /// the truth, what came from here once is the truth as well, and another writer has changed the row past
    /// the feed. In every other phase nothing is done.
    ///
    /// # Errors
    /// As [`Source::apply_items`].
    #[crate::boxed]
    pub async fn put_back_items(&self, table: &FedTable, items: &[Attributes]) -> Result<Applied> {
        self.apply_some(table, items, true).await
    }

    async fn apply_some(&self, table: &FedTable, items: &[Attributes], differ: bool) -> Result<Applied> {
        let name = table.binding.name();
        let (mut transaction, epochs, writer) = self.begin_feeding(table).await?;
        if differ && epochs.now.phase != Phase::DynamoOnly {
            return Ok(Applied::default());
        }
        let (mut entries, mut skipped, mut again) = (Vec::new(), 0, 0);
        for item in items.iter().filter(|item| !is_tombstone(item)) {
            let Some(version) = version_of(item) else {
                again += 1;
                let why = Why { text: "the item has no version", for_good: false };
                note_again(&mut transaction, name, &place(item), None, why).await?;
                continue;
            };
            if epochs.is_ahead(version) {
                again += 1;
                let is_misplaced = misplaced(&*table.binding.table, item, item).is_some();
                let key = table.binding.table.key_of_item(item).ok().filter(|_| !is_misplaced);
                note_ahead(&mut transaction, &table.binding, &[(place(item), version, key)]).await?;
                continue;
            }
            if !differ && !epochs.may_be_news(version) {
                skipped += 1;
                continue;
            }
            let decoded = table
                .binding
                .table
                .row_of_item(item)
                .and_then(|row| row.key().map(|key| State::Live(row, key)))
                .map_err(|why| format!("the item is no row of this table: {why}"));
            let wrong = misplaced(&*table.binding.table, item, item);
            match wrong.map_or(decoded, |why| Err(why.to_owned())) {
                Ok(state) => entries.push(Entry { place: place(item), version, state }),
                Err(why) => {
                    again += 1;
                    let why = Why { text: &why, for_good: true };
                    note_again(&mut transaction, name, &place(item), None, why).await?;
                }
            }
        }
        let applied = apply(&mut transaction, &writer, &entries, Guard::AtLeast).await?;
        finish_feeding(transaction, name).await?;
        Ok(Applied { again: again + applied.again, skipped: applied.skipped + skipped, ..applied })
    }

    /// Deletes rows, by their source keys, whose items went: each with the version of its tombstone, or with
    /// [`Version::INITIAL_LOAD`] where there is nothing at its place. A place of which the feed knows more
    /// is left to the feed.
    ///
    /// # Errors
    /// As [`Source::apply_items`].
    #[crate::boxed]
    pub async fn delete_fed(
        &self,
        table: &FedTable,
        gone: Vec<(String, Version, Vec<String>)>,
    ) -> Result<Applied> {
        let (mut transaction, epochs, writer) = self.begin_feeding(table).await?;
        if epochs.now.phase != Phase::DynamoOnly {
            return Ok(Applied::default());
        }
        // A tombstone that came from the source is of a row that it has had again since, or that no item can
        // hold.
        let ours = |version| version == Version::INITIAL_LOAD || epochs.may_be_news(version);
        let entries = gone.into_iter().filter(|(_, version, _)| ours(*version));
        let entries = entries.map(|(place, version, key)| Entry { place, version, state: State::Gone(key) });
        let entries = entries.collect::<Vec<_>>();
        let applied = apply(&mut transaction, &writer, &entries, Guard::AtLeast).await?;
        finish_feeding(transaction, table.binding.name()).await?;
        Ok(applied)
    }
}
