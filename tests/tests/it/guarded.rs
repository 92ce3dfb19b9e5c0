//! I2 and I3 against a real store: whatever the order, the repetition and the path, the highest version
//! stays.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};

use futures::future::join_all;
use lockstep_core::{
    Attributes, Item, MigratableTable, Scaled, TargetKey, Version, is_tombstone, tombstone, version_of,
};
use lockstep_dynamo::{LoadPath, Target, TargetOptions};
use lockstep_embedded::Dynamo;
use lockstep_payments::{Payment, Payments};
use lockstep_tests::seeds::seed;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rust_decimal::Decimal;

/// State of a row of one key at each version, from the initial load on; `false` is deleted.
type States = Vec<bool>;

/// Deliveries: of which key, up to which of its versions, and whether history goes by conditional put.
#[derive(Clone, Debug)]
struct Schedule {
    states: Vec<States>,
    /// Those of one inner list are sent at once.
    deliveries: Vec<Vec<(usize, usize, bool)>>,
}

fn schedule() -> impl Strategy<Value = Schedule> {
    proptest::collection::vec(proptest::collection::vec(any::<bool>(), 1..5), 1..4).prop_flat_map(
        |mut states| {
            // History is of rows that exist.
            states.iter_mut().for_each(|of_key| of_key[0] = true);
            let every: Vec<(usize, usize)> = states
                .iter()
                .enumerate()
                .flat_map(|(key, of_key)| (0..of_key.len()).map(move |n| (key, n)))
                .collect();
            let one = (proptest::sample::select(every), any::<bool>())
                .prop_map(|((key, n), by_put)| (key, n, by_put));
            let deliveries = proptest::collection::vec(proptest::collection::vec(one, 1..4), 1..8);
            deliveries.prop_map(move |deliveries| Schedule { states: states.clone(), deliveries })
        },
    )
}

fn payment(payment_id: i64, version: usize) -> Payment {
    let at = lockstep_core::parse_fixed_width("2099-03-04T05:06:07.000008Z").expect("a time");
    Payment {
        payment_id,
        customer_id: 7,
        loan_id: 9,
        payment_amount: Scaled::new(Decimal::new(100 + version as i64, 2)).expect("fits"),
        currency: "EUR".to_owned(),
        payment_date: at,
        payment_method: "Card".to_owned(),
        payment_status: "Pending".to_owned(),
        transaction_reference: None,
        processed_date: None,
        created_date: at,
        updated_date: None,
    }
}

fn item(payment_id: i64, version: usize) -> Item {
    MigratableTable::encode(&Payments::default(), &payment(payment_id, version)).expect("fits")
}

fn key(payment_id: i64) -> TargetKey {
    Payments::default().target_key(&Payments::key(&payment(payment_id, 0))).expect("fits")
}

async fn deliver(target: &Target, payment_id: i64, version: usize, exists: bool, by_put: bool) {
    match (version, exists) {
        (0, _) => {
            let path = if by_put { LoadPath::ConditionalPut } else { LoadPath::GuardedBatch };
            let outcome = target
                .insert_initial_load(target.reading(), path, Payments::NAME, vec![item(payment_id, 0)])
                .await
                .expect("answers");
            assert_eq!((outcome.written + outcome.present, outcome.again.len()), (1, 0), "{outcome:?}");
        }
        (_, true) => {
            let version = Version(version as i64);
            let item = item(payment_id, version.0 as usize).at(version);
            target.put_guarded(Payments::NAME, item, version).await.expect("answers");
        }
        (_, false) => {
            let version = Version(version as i64);
            target
                .put_guarded(Payments::NAME, tombstone(key(payment_id), version), version)
                .await
                .expect("answers");
        }
    }
}

/// Checks what the item of one key must be after all of `schedule`: that of the highest version delivered.
#[track_caller]
fn check(found: Option<Attributes>, payment_id: i64, states: &States, highest: Option<usize>) {
    let Some(highest) = highest else {
        assert_eq!(found, None);
        return;
    };
    let found = found.expect("something was delivered");
    assert_eq!(version_of(&found), Some(Version(highest as i64)), "I2: the highest version stays");
    assert_eq!(is_tombstone(&found), !states[highest], "I3: deleted stays deleted, and only that");
    if states[highest] {
        assert_eq!(Payments::decode(&found).expect("a payment"), payment(payment_id, highest));
    }
}

#[test]
fn the_highest_version_stays_whatever_the_order_and_repetition() {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let (_dynamo, target) = runtime.block_on(async {
        let dynamo = Dynamo::start().await.expect("the emulator starts");
        let target = Target::connect(TargetOptions {
            endpoint_url: Some(dynamo.endpoint_url().to_owned()),
            region: Some("eu-central-1".to_owned()),
            emulator_credentials: true,
            ..TargetOptions::default()
        })
        .await;
        target.create(Payments::NAME, &Payments::TARGET, false).await.expect("a table");
        (dynamo, target)
    });
    // Fresh keys for each case, so that cases need no cleaning up.
    let next_id = AtomicI64::new(1);
    let config = ProptestConfig {
        cases: 64,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed()),
        ..ProptestConfig::default()
    };
    proptest!(config, |(schedule in schedule())| {
        let first_id = next_id.fetch_add(schedule.states.len() as i64, Ordering::Relaxed);
        let mut highest: BTreeMap<usize, usize> = BTreeMap::new();
        runtime.block_on(async {
            for together in &schedule.deliveries {
                let sent = together.iter().map(|&(key, n, by_put)| {
                    deliver(&target, first_id + key as i64, n, schedule.states[key][n], by_put)
                });
                join_all(sent).await;
                for &(key, n, _) in together {
                    let so_far = highest.entry(key).or_insert(n);
                    *so_far = n.max(*so_far);
                }
            }
            for (place, states) in schedule.states.iter().enumerate() {
                let payment_id = first_id + place as i64;
                let found = target.get(Payments::NAME, &key(payment_id)).await.expect("answers");
                check(found, payment_id, states, highest.get(&place).copied());
            }
        });
    });
}
