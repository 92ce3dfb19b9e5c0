//! Canary reads of a table that no application has a handle on: by key, and by each index, through the table
//! itself.

use std::sync::Arc;

use chrono::Utc;
use lockstep::store::reads::Comparison;
use lockstep_core::{AttributeValue, Index, Item, Result, TargetKey, Unholdable, is_tombstone};
use lockstep_dynamo::{PartitionRange, Target};
use lockstep_postgres::{Source, TableBinding};

use crate::canary::{BY_KEY, CanaryRead};
use crate::canary_choice::reads_of_some_rows;

/// Most pages of an index that are read for one row.
const PAGES_MAX: usize = 50;

/// A row to be asked for: its key in PostgreSQL, its place in DynamoDB, and its item as it was when it was
/// chosen.
struct Asked {
    binding: TableBinding,
    source: Source,
    target: Target,
    literals: Vec<String>,
    place: TargetKey,
    item: Item,
}

/// Makes the reads of one table: of its first row, its last one and one between, of those that can be held.
/// None for a table that has no row, or is not there yet. A table of whose rows none can be asked for gets
/// one read, which fails with the reason.
///
/// # Errors
/// When the source does not answer.
///
/// # Cancel safety
/// Reading has no effect.
#[crate::boxed]
pub async fn canary_reads_of_binding(
    binding: &TableBinding,
    source: &Source,
    target: &Target,
) -> Result<Vec<CanaryRead>> {
    reads_of_some_rows(source, binding, |row| {
        let (item, literals, _) = binding.table.encode_keyed(row)?;
        let place = TargetKey::of(&item.clone().into_attributes());
        let place = place.ok_or_else(|| Unholdable::because("the item has no key"))?;
        let (binding, source, target) = (binding.clone(), source.clone(), target.clone());
        let asked = Arc::new(Asked { binding, source, target, literals, place, item });
        let indexes = asked.binding.table.target().indexes.iter();
        let indexed = indexes.filter(|index| asked.is_in(index)).map(|index| by_index(&asked, *index));
        Ok(std::iter::once(by_key(&asked)).chain(indexed).collect())
    })
    .await
}

fn by_key(asked: &Arc<Asked>) -> CanaryRead {
    let (both, in_source, in_target) = (asked.clone(), asked.clone(), asked.clone());
    let read = CanaryRead::new(asked.binding.name(), BY_KEY, move || {
        let asked = both.clone();
        async move { asked.compare().await }
    });
    read.timed(
        move || {
            let asked = in_source.clone();
            async move {
                let states = asked.source.look_up(&asked.binding, std::slice::from_ref(&asked.literals)).await?;
                Ok(states.iter().filter(|state| state.exists()).count() as u64)
            }
        },
        move || {
            let asked = in_target.clone();
            async move { Ok(asked.target.get(&asked.binding.target_name, &asked.place).await?.is_some().into()) }
        },
    )
}

fn by_index(asked: &Arc<Asked>, index: Index) -> CanaryRead {
    let asked = asked.clone();
    CanaryRead::new(asked.binding.name(), index.name, move || {
        let asked = asked.clone();
        async move { asked.compare_by(index).await }
    })
}

impl Asked {
    fn is_in(&self, index: &Index) -> bool {
        let has = |name: &str| self.item.get(name).is_some();
        has(index.partition.name) && index.sort.is_none_or(|sort| has(sort.name))
    }

    /// Returns the row and its item, by key.
    async fn compare(&self) -> Result<Comparison> {
        let item = self.target.get(&self.binding.target_name, &self.place).await?;
        let states = self.source.look_up(&self.binding, std::slice::from_ref(&self.literals)).await?;
        let Some(state) = states.first() else { return Ok(Comparison::NotComparable) };
        if state.pending.is_some() || state.dead_letter {
            return Ok(Comparison::NotComparable);
        }
        let live = item.as_ref().filter(|item| !is_tombstone(item));
        let table = &self.binding.table;
        Ok(match (state.exists(), live) {
            (false, None) => Comparison::Agree,
            (false, Some(_)) => Comparison::Differ("an item has no row".to_owned()),
            (true, None)
                if state.with_fields(|fields| table.expires_at(fields)).flatten().is_some_and(is_past) =>
            {
                Comparison::NotComparable
            }
            (true, None) => Comparison::Differ("a row has no item".to_owned()),
            (true, Some(item)) => match state.with_fields(|fields| table.differences(fields, item)) {
                Some(Ok(differences)) if differences.is_empty() => Comparison::Agree,
                Some(Ok(differences)) => {
                    let columns: Vec<String> =
                        differences.iter().map(lockstep_core::FieldDiff::place).collect();
                    Comparison::Differ(format!("a row and its item differ in {}", columns.join(", ")))
                }
                Some(Err(error)) => Comparison::Differ(error.to_string()),
                None => Comparison::NotComparable,
            },
        })
    }

    /// Checks whether an index shows the item, where the item still has the keys that it had when it was
    /// chosen.
    async fn compare_by(&self, index: Index) -> Result<Comparison> {
        let Some(item) = self.target.get(&self.binding.target_name, &self.place).await? else {
            return Ok(Comparison::NotComparable);
        };
        let same = |name: &str| item.get(name) == self.item.get(name);
        if is_tombstone(&item)
            || !same(index.partition.name)
            || index.sort.is_some_and(|sort| !same(sort.name))
        {
            return Ok(Comparison::NotComparable);
        }
        let Some(partition) = item.get(index.partition.name).cloned() else {
            return Ok(Comparison::NotComparable);
        };
        let sort = match index.sort.and_then(|sort| item.get(sort.name)) {
            Some(AttributeValue::S(text)) => Some(text.clone()),
            _ => None,
        };
        let range = PartitionRange { index: Some(index), partition, from: sort.clone(), to: sort };
        let mut start = None;
        for _ in 0..PAGES_MAX {
            let page = self.target.query_page(&self.binding.target_name, &range, true, None, start).await?;
            if page.items.iter().any(|item| TargetKey::of(item).is_some_and(|place| place == self.place)) {
                return Ok(Comparison::Agree);
            }
            match page.next {
                Some(next) => start = Some(next),
                None => return Ok(Comparison::Differ("the index does not show an item".to_owned())),
            }
        }
        Ok(Comparison::NotComparable)
    }
}

fn is_past(at_s: i64) -> bool {
    at_s <= Utc::now().timestamp()
}
