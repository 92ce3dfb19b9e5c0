//! Sample of a table's rows, and what it tells about its items.

use std::collections::HashMap;

use lockstep_core::{AttributeValue, Fields, Item, PK, TableHandle};
use serde::Serialize;

/// A mean over a sample, with the half width of its band of 95 percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// Nineteen times of twenty the mean over all rows is not further away than this, for rows chosen at
    /// random.
    pub plus_minus: f64,
}

/// Adds up values for a [`Mean`] (Welford's recurrence, so that large sums lose nothing).
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (value - self.mean);
    }

    fn mean(&self) -> Mean {
        let variance = if self.count > 1.0 { self.squares / (self.count - 1.0) } else { 0.0 };
        let plus_minus = if self.count > 0.0 { 1.96 * (variance / self.count).sqrt() } else { 0.0 };
        Mean { value: self.mean, plus_minus }
    }
}

/// The share of the sample that the most frequent partition has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Largest {
    /// `table`, or the index's name.
    pub of: String,
    /// Share of the sampled items that are in the largest partition, from 0 to 1.
    pub share: f64,
}

/// Results of the sample.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ItemSample {
    /// Rows looked at.
    pub rows: usize,
    /// Rows of these that no item can hold: dead letters.
    pub unholdable: usize,
    /// Bytes of an item as DynamoDB counts them.
    pub item_bytes: Mean,
    /// Write units of putting a row, the table's alone.
    pub table_units: Mean,
    /// The same with those of every index the item appears in.
    pub units: Mean,
    /// Largest partitions, which show how even they are.
    pub largest: Vec<Largest>,
}

/// Looks at rows, given as PostgreSQL's bytes.
pub(super) fn look<'a>(table: &TableHandle, tuples: impl Iterator<Item = &'a [u8]>) -> ItemSample {
    let indexes = table.target().indexes;
    let (mut bytes, mut of_table, mut of_all) = (Moments::default(), Moments::default(), Moments::default());
    let names: Vec<(String, &str)> = std::iter::once(("table".to_owned(), PK))
        .chain(indexes.iter().map(|i| (i.name.to_owned(), i.partition.name)))
        .collect();
    let mut partitions: Vec<HashMap<String, usize>> = vec![HashMap::new(); names.len()];
    let (mut rows, mut unholdable) = (0, 0);
    for tuple in tuples {
        rows += 1;
        let Ok(item) = table.encode(&mut Fields::of_copy(tuple)) else {
            unholdable += 1;
            continue;
        };
        bytes.add(item.bytes() as f64);
        of_table.add(item.write_units() as f64);
        of_all.add(item.write_units_with(indexes) as f64);
        for ((_, attribute), counts) in names.iter().zip(&mut partitions) {
            if let Some(partition) = text_of(&item, attribute) {
                *counts.entry(partition).or_default() += 1;
            }
        }
    }
    let largest = names.into_iter().zip(partitions).filter_map(|((of, _), counts)| {
        let (all, most) = (counts.values().sum::<usize>(), counts.values().max()?);
        Some(Largest { of, share: *most as f64 / all as f64 })
    });
    ItemSample {
        rows,
        unholdable,
        item_bytes: bytes.mean(),
        table_units: of_table.mean(),
        units: of_all.mean(),
        largest: largest.collect(),
    }
}

fn text_of(item: &Item, attribute: &str) -> Option<String> {
    match item.get(attribute)? {
        AttributeValue::S(text) | AttributeValue::N(text) => Some(text.clone()),
        AttributeValue::B(blob) => Some(String::from_utf8_lossy(blob.as_ref()).into_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_band_of_a_mean_narrows_with_the_sample_and_is_nothing_for_equal_values() {
        let of = |values: &[f64]| {
            let mut moments = Moments::default();
            values.iter().for_each(|value| moments.add(*value));
            moments.mean()
        };
        assert_eq!(of(&[]), Mean::default());
        assert_eq!(of(&[3.0, 3.0, 3.0]), Mean { value: 3.0, plus_minus: 0.0 });
        let (few, many) = (of(&[1.0, 3.0]), of(&[1.0, 3.0].repeat(50)));
        assert!((few.value - 2.0).abs() < 1e-9 && (many.value - 2.0).abs() < 1e-9);
        assert!(many.plus_minus < few.plus_minus / 5.0, "{few:?} {many:?}");
    }
}
