//! The set without a source: who is in it, and who may leave.

use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use lockstep_core::{Item, KeyType, MigratableTable, TargetKey, TargetSchema, Unholdable};

use super::*;

lockstep_core::row! {
    struct Thing {
        id: i64,
    }
}

struct Things;

impl MigratableTable for Things {
    type Row = Thing;
    type Key = Thing;
    const NAME: &'static str = "things";
    const TARGET: TargetSchema = TargetSchema { partition: KeyType::N, sort: None, indexes: &[] };

    fn key(row: &Thing) -> Thing {
        row.clone()
    }

    fn target_key(&self, key: &Thing) -> Result<TargetKey, Unholdable> {
        Ok(TargetKey { partition: AttributeValue::N(key.id.to_string()), sort: None })
    }

    fn expiry(&self) -> String {
        "off".to_owned()
    }

    fn index_attributes(&self, _row: &Thing, _item: &mut Item) -> Result<(), Unholdable> {
        Ok(())
    }
}

fn key(id: i64) -> SourceKey {
    SourceKey(vec![id.into()])
}

fn asked(id: i64) -> Asked {
    Asked::Key(hash_of_place(&Things.target_key(&Thing { id }).expect("a place")))
}

fn deferred(ids: impl IntoIterator<Item = i64>) -> Deferred {
    let deferred = Deferred::new(Arc::new(Things));
    deferred.add(ids.into_iter().map(key).collect());
    deferred
}

#[test]
fn a_deferred_key_is_read_from_the_source_and_so_is_every_query() {
    let deferred = deferred([1, 2]);
    assert_eq!(deferred.holds(asked(1)), OwnWrites::Deferred);
    assert_eq!(deferred.holds(asked(3)), OwnWrites::Arrived);
    assert_eq!(deferred.holds(Asked::Query(9)), OwnWrites::Deferred);
    let taken = deferred.take();
    deferred.take_out(&taken, &[key(2)], Some(Duration::ZERO), Instant::now());
    assert_eq!(
        (deferred.holds(asked(1)), deferred.holds(asked(2))),
        (OwnWrites::Arrived, OwnWrites::Deferred)
    );
    let taken = deferred.take();
    deferred.take_out(&taken, &[], None, Instant::now());
    assert_eq!(
        (deferred.holds(asked(2)), deferred.holds(Asked::Query(9))),
        (OwnWrites::Arrived, OwnWrites::Arrived)
    );
    assert_eq!(deferred.len(), 0);
}

#[test]
fn an_answer_about_an_earlier_write_does_not_let_a_later_one_go() {
    let deferred = deferred([1]);
    let taken = deferred.take();
    // While the question is under way the key is delivered, written again, and deferred again.
    deferred.add(vec![key(1)]);
    deferred.take_out(&taken, &[], None, Instant::now());
    assert_eq!(deferred.holds(asked(1)), OwnWrites::Deferred);
    assert_eq!(deferred.len(), 1);
}

#[test]
fn what_is_left_out_sends_everything_to_the_source_until_it_has_drained() {
    let deferred = deferred(0..DEFERRED_KEYS_MAX as i64 + 1);
    assert_eq!(deferred.holds(asked(-1)), OwnWrites::Overflow);
    let later = Instant::now() + Duration::from_secs(10);
    let taken = deferred.take();
    deferred.take_out(&taken, &[], Some(Duration::from_secs(11)), later);
    assert_eq!(
        deferred.holds(asked(-1)),
        OwnWrites::Overflow,
        "a mark as old as the key that was left out may be its own"
    );
    let taken = deferred.take();
    deferred.add((0..DEFERRED_KEYS_MAX as i64 + 1).map(key).collect());
    deferred.take_out(&taken, &[], None, later);
    assert_eq!(deferred.holds(asked(-1)), OwnWrites::Overflow, "left out again after the question was sent");
    let taken = deferred.take();
    deferred.take_out(&taken, &[], Some(Duration::from_secs(9)), later);
    assert_eq!(deferred.holds(asked(-1)), OwnWrites::Arrived);
    assert_eq!(deferred.len(), 0);
}
