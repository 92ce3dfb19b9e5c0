//! Items of the control table that another program wrote: the doctor answers and names them, and the way back
//! is there over each of them.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use lockstep_core::{Attributes, Epoch, InstanceState, Kind, LEASE_MAX, PK, Phase, SK};
use lockstep_integration_logs::IntegrationLogs;
use lockstep_tests::World;
use lockstep_tests::world::rows::logs;
use lockstep_tests::world::within;

use crate::history::{diagnosis, mended};

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn number(number: &str) -> AttributeValue {
    AttributeValue::N(number.to_owned())
}

/// A world that has stepped to DynamoOnly, as a coordinator does.
async fn dynamo_only() -> World {
    let world = World::start().await;
    world.sql(&logs(1, 3)).await;
    world.migrated_to(Phase::DynamoOnly).await.close().await;
    world
}

/// Puts an item into the control table, as any program with the rights of an application may.
async fn plant(world: &World, at: (&str, &str), attributes: &[(&str, AttributeValue)]) {
    let mut item = Attributes::from([(PK.to_owned(), text(at.0)), (SK.to_owned(), text(at.1))]);
    item.extend(attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    let put = world.plain_target.client().put_item().table_name(world.control().table());
    put.set_item(Some(item)).send().await.expect("planted");
}

#[tokio::test]
async fn what_stands_among_leases_and_is_none_is_named_and_ends_no_way_back() {
    let world = dynamo_only().await;
    plant(&world, ("INSTANCES#03", "x"), &[]).await;
    plant(&world, ("INSTANCES", "9223372036854775808"), &[("state", text("live"))]).await;
    // A partition in which no instance of this number has its lease: noting that it is over would never help.
    plant(&world, ("INSTANCES#03", "4"), &[("state", text("live")), ("renewals", number("1"))]).await;
    let said = diagnosis(&world).await;
    let named = said.findings.iter().find(|finding| finding.what.contains("INSTANCES#03 / x"));
    assert!(named.is_some_and(|finding| finding.what.starts_with("3 items")), "{said:#?}");
    assert!(mended(&world).await.left.is_none_or(|left| left.sound), "the repair goes by the doctor");
    world.feed_until_drained().await;
    within(Duration::from_secs(30), world.stepped_to(Phase::HybridRead)).await;
    world.assert_converged().await;
}

#[tokio::test]
async fn a_lease_that_says_to_last_for_ever_is_over_after_the_longest() {
    let world = dynamo_only().await;
    let for_ever = number("9223372036854775807");
    for (id, count) in [("3", Some(text("many"))), ("4", Some(number("1e30"))), ("5", None)] {
        let mut lease = vec![("state", text("live")), ("lease_ms", for_ever.clone())];
        lease.extend(count.map(|count| ("renewals", count)));
        plant(&world, ("INSTANCES", id), &lease).await;
    }
    let listed = world.control().instances().await.expect("listed");
    assert_eq!(listed.len(), 3);
    for row in listed {
        assert_eq!((row.state, row.lease(), row.epoch), (InstanceState::Live, LEASE_MAX, None), "{row:?}");
        assert!(world.control().expire_instance(&row).await.expect("noted"), "{row:?}");
    }
    // Over for longer than a day: the next look that notes it takes it out.
    for row in world.control().instances().await.expect("listed") {
        assert_eq!(row.state, InstanceState::Expired, "{row:?}");
        assert!(world.control().expire_instance(&row).await.expect("taken out"), "{row:?}");
    }
    assert!(world.control().instances().await.expect("listed").is_empty());
}

#[tokio::test]
async fn a_counter_that_is_none_is_mended_and_one_above_every_id_does_not_end_the_way_back() {
    let world = dynamo_only().await;
    for next in [text("none"), number("1e30")] {
        plant(&world, ("IDS#integration_logs", "IDS"), &[("next", next)]).await;
        let refused = world.control().next_id("integration_logs").await.expect_err("no counter");
        assert_eq!(refused.kind, Kind::Misconfigured, "{refused}");
        let said = diagnosis(&world).await;
        assert!(said.findings.iter().any(|f| f.what.contains("ids of integration_logs")), "{said:#?}");
        let raised = world.control().seed_ids("integration_logs", 500, None).await.expect("seeded");
        assert_eq!(raised, Some(500));
    }
    world.sql("ALTER SEQUENCE integration_logs_log_id_seq MAXVALUE 1000").await;
    plant(&world, ("IDS#integration_logs", "IDS"), &[("next", number("9000000000000000000"))]).await;
    world.feed_until_drained().await;
    within(Duration::from_secs(30), world.stepped_to(Phase::HybridRead)).await;
    let next: i64 = world.value("SELECT nextval('integration_logs_log_id_seq')").await;
    assert_eq!(next, 4, "after what is in use");
}

#[tokio::test]
async fn a_record_that_has_counted_further_than_any_migration_is_damaged() {
    let world = World::start().await;
    world.control().create().await.expect("a control table");
    for epoch in [i64::MAX, 1 << 22, -1] {
        let record = [
            ("phase", text("DynamoOnly")),
            ("epoch", number(&epoch.to_string())),
            ("since", number("3")),
            ("writes", text("open")),
            ("changed_at", text("2026-01-01T00:00:00Z")),
        ];
        plant(&world, ("CONTROL", "CONTROL"), &record).await;
        let refused = world.control().record().await.expect_err("no record");
        assert!(refused.message.contains("does not parse"), "{epoch}: {refused}");
    }
    assert!(world.control().enter(Epoch(4)).await.is_ok(), "nothing is written over it");
}

#[tokio::test]
async fn a_place_that_says_nothing_keeps_no_writer_out() {
    let world = dynamo_only().await;
    let app = world.app_without_source(Duration::from_secs(10)).await;
    let store = app.store::<IntegrationLogs>();
    let places = [
        vec![("key", text("somewhere")), ("made_by", text("a writer"))],
        vec![("key", text("somewhere"))],
        vec![],
    ];
    for (n, place) in places.iter().enumerate() {
        plant(&world, ("ID#integration_logs#2", "PLACE"), place).await;
        let changed = store.update(2, |log| log.user_id = Some(format!("user {n}"))).await.expect("written");
        assert!(changed.found, "{place:?}");
    }
    app.shutdown().await;
    world.feed_until_drained().await;
    world.assert_fed().await;
}
