//! Leases in DynamoDB: spread over partitions, renewed once a second, found where an earlier version looks
//! for them; and whose they are.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use lockstep_core::{Attributes, Epoch, InstanceState, Kind, PK, SK};
use lockstep_dynamo::{Target, TargetControl};
use lockstep_tests::World;
use lockstep_tests::world::rows::logs;
use lockstep_tests::world::{eventually, within};

const LEASE: Duration = Duration::from_secs(10);
const TOGETHER: &str = "INSTANCES";

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

/// Partitions of the control table that hold leases.
async fn partitions_of_leases(world: &World) -> Vec<String> {
    let scan = world.plain_target.client().scan().table_name(world.control().table()).consistent_read(true);
    let items = scan.send().await.expect("scanned").items.unwrap_or_default();
    let partition = |item: &Attributes| item.get(PK)?.as_s().ok().cloned();
    items.iter().filter_map(partition).filter(|partition| partition.starts_with(TOGETHER)).collect()
}

/// Takes out of the record, or puts into it, that leases are spread: an earlier version's change leaves it
/// out.
async fn record_says_spread(world: &World, spread: bool) {
    let key = Attributes::from([(PK.to_owned(), text("CONTROL")), (SK.to_owned(), text("CONTROL"))]);
    let update =
        world.plain_target.client().update_item().table_name(world.control().table()).set_key(Some(key));
    let update = match spread {
        true => update
            .update_expression("SET leases = :spread")
            .expression_attribute_values(":spread", text("spread")),
        false => update.update_expression("REMOVE leases"),
    };
    update.send().await.expect("changed");
}

#[tokio::test]
async fn a_lease_is_spread_and_is_where_an_earlier_version_looks_once_that_changed_the_record() {
    let world = World::start().await.dynamo_only(&logs(1, 3)).await;
    let app = world.app_without_source(LEASE).await;
    let [partition] = &partitions_of_leases(&world).await[..] else { panic!("one lease") };
    assert!(partition.starts_with("INSTANCES#"), "{partition}");
    let id = world.control().instances().await.expect("listed")[0].id;
    for (spread, expected) in [(false, TOGETHER), (true, partition.as_str()), (false, TOGETHER)] {
        record_says_spread(&world, spread).await;
        eventually("the lease is where it is looked for", || async {
            partitions_of_leases(&world).await == [expected.to_owned()]
        })
        .await;
        let listed = world.control().instances().await.expect("listed");
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!((listed[0].id, listed[0].state), (id, InstanceState::Live));
        let record = world.control().record().await.expect("read").expect("a record");
        assert!(listed[0].has_acknowledged(record.epoch), "what it had acknowledged went with it");
    }
    app.shutdown().await;
    assert_eq!(partitions_of_leases(&world).await, [""; 0], "given back where it was");
}

#[tokio::test]
async fn a_lease_of_an_earlier_version_is_listed_and_waited_out() {
    let world = World::start().await.dynamo_only(&logs(1, 3)).await;
    let control = world.control();
    let lease = Attributes::from([
        (PK.to_owned(), text(TOGETHER)),
        (SK.to_owned(), text("77")),
        ("name".to_owned(), text("of before")),
        ("pid".to_owned(), AttributeValue::N("1".to_owned())),
        ("started_at".to_owned(), text("2026-01-01T00:00:00.000000Z")),
        ("renewed_at".to_owned(), text("2026-01-01T00:00:00.000000Z")),
        ("lease_ms".to_owned(), AttributeValue::N("1000".to_owned())),
        ("renewals".to_owned(), AttributeValue::N("5".to_owned())),
        ("state".to_owned(), text("live")),
    ]);
    let put = world.plain_target.client().put_item().table_name(control.table()).set_item(Some(lease));
    put.send().await.expect("registered");
    let listed = control.instances().await.expect("listed");
    assert_eq!((listed.len(), listed[0].id, listed[0].state), (1, 77, InstanceState::Live));
    assert!(control.expire_instance(&listed[0]).await.expect("noted"), "it is noted where it is");
    let listed = control.instances().await.expect("listed");
    assert_eq!(listed[0].state, InstanceState::Expired);
    assert!(
        !control
            .expire_instance(&lockstep_core::InstanceRow { renewals: 4, ..listed[0].clone() })
            .await
            .expect("asked")
    );
}

#[tokio::test]
async fn a_lease_is_renewed_once_a_second_and_the_record_looked_at_more_often() {
    let world = World::behind_proxy().await.dynamo_only(&logs(1, 3)).await;
    let app = world.app_without_source(LEASE).await;
    let renewals = async || world.control().instances().await.expect("listed")[0].renewals;
    let (before, looks) = (renewals().await, world.proxy().seen("GetItem"));
    within(
        Duration::from_secs(30),
        eventually("it has renewed five times", || async { renewals().await >= before + 5 }),
    )
    .await;
    let (renewed, looked) = (renewals().await - before, (world.proxy().seen("GetItem") - looks) as i64);
    assert!(looked >= 2 * renewed, "{looked} looks at the record and {renewed} renewals");
    // Paused and opened again, it acknowledges both at once, not with the next renewal.
    let record = world.control().record().await.expect("read").expect("a record");
    let paused = world.control().pause_writes(record.epoch).await.expect("paused");
    let acknowledged =
        async |epoch: Epoch| world.control().instances().await.expect("listed")[0].has_acknowledged(epoch);
    within(
        Duration::from_secs(30),
        eventually("the pause is acknowledged", || async { acknowledged(paused).await }),
    )
    .await;
    world.control().open_writes(paused).await.expect("opened");
    app.shutdown().await;
}

/// The handle of another migration on the same table.
async fn of_another(world: &World) -> TargetControl {
    let target = Target::connect(world.target_options()).await;
    target.belongs_to("another").expect("told for the first time");
    target.control()
}

async fn of_this(world: &World) -> TargetControl {
    let target = Target::connect(world.target_options()).await;
    target.belongs_to("this").expect("told for the first time");
    target.control()
}

#[tokio::test]
async fn counters_columns_and_leases_of_another_migration_are_not_touched_before_either_has_a_record() {
    // Without a migration of its own, which would claim the table first.
    let world = World::start().await;
    let (ours, theirs) = (of_this(&world).await, of_another(&world).await);
    ours.create().await.expect("a control table");
    ours.seed_ids("payments", 100, None).await.expect("seeded");
    let refused = theirs.seed_ids("payments", 9_000, None).await.expect_err("it is ours");
    assert_eq!(refused.kind, Kind::Misconfigured, "{refused}");
    assert!(refused.message.contains("belongs to another migration"), "{refused}");
    assert_eq!(theirs.take_ids("payments", 5, i64::MAX).await.expect_err("ours").kind, Kind::Misconfigured);
    assert_eq!(ours.next_id("payments").await.expect("read"), Some(100));
    let types = lockstep_core::ColumnTypes::new([("payment_id".to_owned(), "bigint".to_owned())]);
    ours.put_columns("payments", &types).await.expect("recorded");
    ours.put_columns("payments", &types).await.expect("repeated");
    assert_eq!(theirs.put_columns("payments", &types).await.expect_err("ours").kind, Kind::Misconfigured);
    assert!(theirs.columns("payments").await.is_err());

    // One of an earlier version has no owner, and has one after its next change.
    let none = Target::connect(world.target_options()).await.control();
    none.seed_ids("integration_logs", 7, None).await.expect("seeded by a version that names no owner");
    assert_eq!(ours.take_ids("integration_logs", 3, i64::MAX).await.expect("taken").first, 7);
    assert_eq!(
        theirs.take_ids("integration_logs", 3, i64::MAX).await.expect_err("ours now").kind,
        Kind::Misconfigured
    );
}
