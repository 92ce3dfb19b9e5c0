//! Batches in which each item has a place of its own: DynamoDB takes no two statements about one item.

use std::collections::HashSet;

use aws_sdk_dynamodb::types::AttributeValue;
use lockstep_core::{Item, PK, SK};

use super::STATEMENTS_MAX;

/// Cuts items of one table into batches of up to [`STATEMENTS_MAX`], with what each belongs to. One whose
/// place another one has already is alone.
pub fn apart<R>(items: Vec<(R, Item)>) -> Vec<Vec<(R, Item)>> {
    let is_first: Vec<bool> = {
        let mut places = HashSet::with_capacity(items.len());
        items.iter().map(|(_, item)| places.insert(place(item))).collect()
    };
    let (mut batches, mut batch) = (Vec::new(), Vec::with_capacity(STATEMENTS_MAX));
    for (one, is_first) in items.into_iter().zip(is_first) {
        if !is_first {
            batches.push(vec![one]);
            continue;
        }
        batch.push(one);
        if batch.len() == STATEMENTS_MAX {
            batches.push(std::mem::replace(&mut batch, Vec::with_capacity(STATEMENTS_MAX)));
        }
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

/// Bytes of the key, by which two places are told apart: within a table keys are of one type. A number is one
/// place however it is written, and is written one way here.
fn place(item: &Item) -> [&[u8]; 2] {
    [PK, SK].map(|name| match item.get(name) {
        Some(AttributeValue::S(text) | AttributeValue::N(text)) => text.as_bytes(),
        Some(AttributeValue::B(blob)) => blob.as_ref(),
        _ => &[],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_batch_has_a_place_twice_and_none_is_left_out() {
        let item = |n: usize| {
            let mut item = Item::default();
            item.push(PK, AttributeValue::S(format!("k{}", n % 40)));
            item.push(SK, AttributeValue::N((n % 2).to_string()));
            (n, item)
        };
        let batches = apart((0..100).map(item).collect());
        for batch in &batches {
            let places: HashSet<_> = batch.iter().map(|(_, item)| place(item)).collect();
            assert!(places.len() == batch.len() && batch.len() <= STATEMENTS_MAX);
        }
        let mut all: Vec<usize> = batches.iter().flatten().map(|(n, _)| *n).collect();
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        let full = batches.iter().filter(|batch| batch.len() == STATEMENTS_MAX).count();
        assert_eq!(full, 1, "there are 40 places");
    }
}
