//! The index by primary key, which has to show what was delivered before applications write the target alone.

use std::collections::BTreeSet;
use std::time::Duration;

use lockstep_coordinator::StepOptions;
use lockstep_core::Phase;
use lockstep_postgres::KeyDigest;
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, FaultKind, Gate, Rule};
use lockstep_tests::world::PAYMENTS;
use lockstep_tests::world::rows::payments;

/// Number of times that the index hides the last row.
const HIDDEN: u64 = 30;

/// 1. The relay of a step delivers five thousand keys. 2. An application changes one more row, which is
/// delivered behind the barrier. 3. The index shows the five thousand, and not that row yet. 4. Two thousand
/// keys were looked at, whichever they were: writes went on, and an update of the last row by its id found no
/// such row.
#[tokio::test]
async fn the_last_delivery_is_waited_for_behind_thousands_of_others() {
    let world = World::behind_proxy().await;
    world.sql(&payments(1, 5_040)).await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    world.relay_until_empty().await;
    assert!(world.record_verdict().await.verdict.is_consistent());
    let mut migration = world.migration();
    migration.options.steps = StepOptions {
        pending_keys_max: 10_000,
        pending_age_max: Duration::from_mins(5),
        catch_up_max: Duration::from_mins(2),
        ..migration.options.steps
    };
    let coordinator = world.coordinator_of(migration).await;
    world.sql("UPDATE payments SET loan_id = loan_id + 1 WHERE payment_id <= 5000").await;
    let asked = Gate::new();
    world.proxy().script(Rule::new(Fault::Delay(asked.clone())).on("Query").table(PAYMENTS).times(1));
    world.proxy().script(Rule::new(Fault::EmptyIndex).table(PAYMENTS).naming("\"5001\"").times(HIDDEN));
    let last = async {
        asked.until_held(1).await;
        assert_eq!(world.proxy().counts().injected(FaultKind::EmptyIndex), 0, "it is not delivered yet");
        world.sql("UPDATE payments SET customer_id = 900 WHERE payment_id = 5001").await;
        asked.open();
    };
    let (stepped, ()) = tokio::join!(coordinator.step(Phase::DynamoOnly, None, &()), last);
    stepped.expect("the index has caught up in time");
    assert_eq!(
        world.proxy().counts().injected(FaultKind::EmptyIndex),
        HIDDEN,
        "it was looked at until it was shown"
    );
    coordinator.close().await;
}

#[tokio::test]
async fn deliveries_are_listed_page_by_page_and_each_once() {
    let world = World::start().await;
    world.sql(&payments(1, 60)).await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    world.sql("UPDATE payments SET loan_id = 8 WHERE payment_id > 40").await;
    world.relay_until_empty().await;
    let number = world.source.note_deliveries().await.expect("noted");
    world.sql("UPDATE payments SET loan_id = 9 WHERE payment_id <= 25").await;
    world.relay_until_empty().await;
    let (mut after, mut seen, mut pages): (Option<KeyDigest>, _, _) = (None, BTreeSet::new(), 0);
    loop {
        let asked = [(PAYMENTS, after.as_ref())];
        let mut found = world.source.delivered_since(&asked, number, 10).await.expect("listed");
        let page = found.remove(0);
        pages += 1;
        for key in page.keys {
            assert!(seen.insert(key.clone()), "{key:?} comes twice");
        }
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    let ids: BTreeSet<i64> = seen.iter().map(|key| key[0].parse().expect("an id")).collect();
    assert_eq!((ids, pages), ((1..=25).collect(), 3), "those of before are not among them");
}
