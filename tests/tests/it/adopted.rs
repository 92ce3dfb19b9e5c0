//! Behaviour of a target table beside holding items: it expires them by an attribute, and refuses them for an
//! index that another program gave it.

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, CreateGlobalSecondaryIndexAction, GlobalSecondaryIndex,
    GlobalSecondaryIndexUpdate, KeySchemaElement, KeyType, LocalSecondaryIndex, Projection, ProjectionType,
    ScalarAttributeType, TimeToLiveSpecification,
};
use lockstep_coordinator::{
    CoordinatorError, GateReport, Progress, RelayUntil, Remedy, Severity, relay, remedies,
};
use lockstep_core::{Kind, MigratableTable, Naming, Phase};
use lockstep_dynamo::TableExpiry;
use lockstep_integration_logs::IntegrationLogs;
use lockstep_payments::Payments;
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, Rule};
use lockstep_tests::world::rows::{log, log_key, payments};
use lockstep_tests::world::{LOGS, PAYMENTS};
use lockstep_validator::CancellationToken;

use crate::gates::check;
use crate::history::{diagnosis, mended};

async fn refused(world: &World) -> GateReport {
    match world.coordinator().await.prepare(&()).await {
        Err(CoordinatorError::Refused(report)) => report,
        other => panic!("preparation was not refused: {other:?}"),
    }
}

async fn expire_by(world: &World, table: &str, attribute: &str, on: bool) {
    let specification = TimeToLiveSpecification::builder().attribute_name(attribute).enabled(on).build();
    let request = world.plain_target.client().update_time_to_live().table_name(table);
    request.time_to_live_specification(specification.expect("named")).send().await.expect("switched");
}

/// 1. A table was made beforehand, with expiry on an attribute that is a column of the source. 2. In
/// DynamoOnly it would remove rows that live, and none that has expired.
#[tokio::test]
async fn a_table_whose_items_expire_by_another_attribute_is_neither_adopted_nor_kept() {
    let world = World::start().await;
    let target = &world.plain_target;
    // One whose rows expire, and one whose rows never do.
    target.create(LOGS, &IntegrationLogs::TARGET, false).await.expect("created");
    target.create(PAYMENTS, &Payments::TARGET, false).await.expect("created");
    for (table, attribute) in [(LOGS, "log_timestamp"), (PAYMENTS, "processed_date")] {
        expire_by(&world, table, attribute, true).await;
        check(&refused(&world).await, Some(table), "expiry", attribute, "update-time-to-live --table-name");
        let error = target.ensure_expiry(table).await.expect_err("it is on, by another attribute");
        assert!(error.kind == Kind::Misconfigured && error.message.contains(attribute), "{error}");
        expire_by(&world, table, attribute, false).await;
    }
    world.migrated_to(Phase::DualWrite).await.close().await;
    assert_eq!(target.expiry(LOGS).await.expect("asked"), TableExpiry::Ours);
    expire_by(&world, PAYMENTS, "ttl", false).await;
    expire_by(&world, PAYMENTS, "processed_date", true).await;
    let found = diagnosis(&world).await;
    let wrong = found.findings.iter().find(|finding| finding.what.contains("`processed_date`"));
    let wrong = wrong.unwrap_or_else(|| panic!("{:?}", found.findings));
    assert_eq!(wrong.severity, Severity::Broken);
    assert!(wrong.next.contains("Enabled=false,AttributeName=processed_date"), "{wrong:?}");
}

/// 1. A table is restored, which never brings expiry back. 2. What expired stayed for ever, and nothing
/// told.
#[tokio::test]
async fn expiry_that_is_off_is_refused_told_of_and_switched_on_by_the_repair_of_the_state() {
    let world = World::start().await;
    let coordinator = world.migrated_to(Phase::DualWrite).await;
    world.record_verdict().await;
    expire_by(&world, LOGS, "ttl", false).await;
    match coordinator.step(Phase::HybridRead, None, &()).await {
        Err(CoordinatorError::Refused(report)) => {
            check(&report, Some(LOGS), "expiry is on", "removes none of them", "run `backfill`");
        }
        other => panic!("it was not refused: {other:?}"),
    }
    coordinator.close().await;
    let remedy = Remedy::SwitchExpiryOn { table: LOGS.to_owned() };
    let found = diagnosis(&world).await;
    assert_eq!(remedies(&found.findings), std::slice::from_ref(&remedy), "{:?}", found.findings);
    assert!(found.sound, "nothing is lost: {:?}", found.findings);
    assert_eq!(mended(&world).await.done, [remedy]);
    assert_eq!(world.plain_target.expiry(LOGS).await.expect("asked"), TableExpiry::Ours);
}

#[tokio::test]
async fn a_right_to_ask_about_expiry_or_to_switch_it_on_that_is_missing_is_told_of_before_anything_is_made() {
    let world = World::behind_proxy().await;
    world.proxy().script(Rule::new(Fault::AccessDenied).on("UpdateTimeToLive"));
    check(&refused(&world).await, Some(LOGS), "expiry", "not authorized", "grant dynamodb:UpdateTimeToLive");
    world.proxy().clear();
    world.plain_target.create(LOGS, &IntegrationLogs::TARGET, false).await.expect("created");
    world.proxy().script(Rule::new(Fault::AccessDenied).on("UpdateTimeToLive"));
    check(&refused(&world).await, Some(LOGS), "expiry", "not authorized", "grant dynamodb:UpdateTimeToLive");
    world.proxy().clear();
    world.proxy().script(Rule::new(Fault::AccessDenied).on("DescribeTimeToLive"));
    check(
        &refused(&world).await,
        Some(LOGS),
        "expiry",
        "not authorized",
        "grant dynamodb:DescribeTimeToLive",
    );
    world.proxy().clear();
    // The request that proves the right changes nothing.
    world.target.prove_expiry(LOGS).await.expect("it is allowed");
    assert_eq!(world.plain_target.expiry(LOGS).await.expect("asked"), TableExpiry::Off);
}

/// 1. An emulator knows no UpdateTimeToLive. 2. Capture was installed and the tables were made, and only then
/// it showed: the backfill asks for an expiry that nothing there switches on.
#[tokio::test]
async fn an_endpoint_that_cannot_expire_items_is_refused_before_anything_is_made() {
    let world = World::behind_proxy().await;
    for operation in ["UpdateTimeToLive", "ListStreams", "TransactWriteItems"] {
        world.proxy().script(Rule::new(Fault::Code("UnknownOperationException")).on(operation));
    }
    let report = refused(&world).await;
    check(&report, Some(LOGS), "expiry", "no UpdateTimeToLive", "ttl_days = 0");
    for (gate, told) in [("streams", "knows no streams"), ("transactions", "knows no transactions")] {
        let found = report.results.iter().find(|result| result.name == gate).expect("a gate");
        assert!(found.passed && found.detail.contains(told), "{found:?}");
    }
    let tables = world.plain_target.client().list_tables().send().await.expect("asked");
    assert!(tables.table_names().is_empty(), "{:?}", tables.table_names());
    let captured = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%lockstep%'";
    assert_eq!(world.value::<i64>(captured).await, 0);
}

fn key(name: &str, key_type: KeyType) -> KeySchemaElement {
    KeySchemaElement::builder().attribute_name(name).key_type(key_type).build().expect("a key")
}

fn text(name: &str) -> AttributeDefinition {
    let text = AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S);
    text.build().expect("a type")
}

fn keys_only() -> Projection {
    Projection::builder().projection_type(ProjectionType::KeysOnly).build()
}

/// 1. Another team adds an index by a column that may be empty. 2. From then on each row with nothing there
/// is refused: it gives way to a tombstone, and its dead letter spoke of a key.
#[tokio::test]
async fn an_index_of_another_program_is_refused_told_of_and_named_by_the_rows_that_it_refuses() {
    let world = World::start().await;
    let coordinator = world.migrated_to(Phase::DualWrite).await;
    world.sql(&log(1, "a")).await;
    world.relay_until_empty().await;
    let index = CreateGlobalSecondaryIndexAction::builder()
        .index_name("by_user")
        .key_schema(key("user_id", KeyType::Hash))
        .projection(keys_only())
        .build()
        .expect("an index");
    let update = world.plain_target.client().update_table().table_name(LOGS);
    let update = update.attribute_definitions(text("user_id"));
    let added = GlobalSecondaryIndexUpdate::builder().create(index).build();
    update.global_secondary_index_updates(added).send().await.expect("added");
    world.plain_target.until_active(LOGS, &IntegrationLogs::TARGET).await.expect("it is there");
    world.record_verdict().await;
    match coordinator.step(Phase::HybridRead, None, &()).await {
        Err(CoordinatorError::Refused(report)) => {
            check(
                &report,
                Some(LOGS),
                "indexes of others",
                "index by_user by user_id",
                "delete a global one",
            );
        }
        other => panic!("it was not refused: {other:?}"),
    }
    coordinator.close().await;
    let found = diagnosis(&world).await;
    let named = found.findings.iter().find(|finding| finding.what.contains("index by_user by user_id"));
    assert!(named.is_some_and(|named| named.next.contains("update-table")), "{:?}", found.findings);
    world.sql("UPDATE integration_logs SET user_id = '' WHERE log_id = 1").await;
    world.relay_until_empty().await;
    let letters = world.source.dead_letters(LOGS, 10).await.expect("listed");
    assert!(letters.len() == 1 && letters[0].reason.contains("index by_user is none"), "{letters:?}");
}

/// A local index bounds a partition to 10 GB, and goes with its table only.
#[tokio::test]
async fn a_table_with_a_local_index_is_not_adopted() {
    let world = World::start().await;
    let index = LocalSecondaryIndex::builder()
        .index_name("by_time")
        .key_schema(key("PK", KeyType::Hash))
        .key_schema(key("created_date", KeyType::Range))
        .projection(keys_only())
        .build()
        .expect("an index");
    // As the table's design says, but for that index.
    let attributes = Naming::USUAL.key_attributes(&Payments::TARGET).into_iter().map(|attribute| {
        let of_type = match attribute.key_type {
            lockstep_core::KeyType::S => ScalarAttributeType::S,
            lockstep_core::KeyType::N => ScalarAttributeType::N,
        };
        let named = AttributeDefinition::builder().attribute_name(attribute.name).attribute_type(of_type);
        named.build().expect("a type")
    });
    let global = Payments::TARGET.indexes.iter().map(|index| {
        let sort = index.sort.map(|sort| key(sort.name, KeyType::Range));
        let all = Projection::builder().projection_type(ProjectionType::All).build();
        GlobalSecondaryIndex::builder()
            .index_name(index.name)
            .set_key_schema(Some(
                std::iter::once(key(index.partition.name, KeyType::Hash)).chain(sort).collect(),
            ))
            .projection(all)
            .build()
            .expect("an index")
    });
    let create = world.plain_target.client().create_table().table_name(PAYMENTS);
    let create = create.key_schema(key("PK", KeyType::Hash)).key_schema(key("SK", KeyType::Range));
    let create = create.set_attribute_definitions(Some(attributes.chain([text("created_date")]).collect()));
    let create = create.set_global_secondary_indexes(Some(global.collect()));
    let create = create.billing_mode(BillingMode::PayPerRequest);
    create.local_secondary_indexes(index).send().await.expect("created");
    let report = refused(&world).await;
    let gate = "indexes of others";
    check(&report, Some(PAYMENTS), gate, "local index by_time by created_date", "tables.payments.target");
}

/// 1. A partition is full, by an index that shares it, and takes neither a row nor a tombstone in its
/// place. 2. That ended the relay of every table, at each of its starts.
#[tokio::test]
async fn a_partition_that_is_full_sets_new_rows_aside_keeps_old_ones_pending_and_ends_no_relay() {
    let world = World::behind_proxy().await;
    world.prepared().await.close().await;
    world.sql(&log(1, "a")).await;
    world.relay_until_empty().await;
    let full = || {
        let code = Fault::Code("ItemCollectionSizeLimitExceededException");
        Rule::new(code).on("PutItem").on("BatchExecuteStatement").table(LOGS)
    };
    world.proxy().script(full());
    world.sql(&log(2, "b")).await;
    world.sql(&payments(1, 3)).await;
    world.relay_until_empty().await;
    let letters = world.source.dead_letters(LOGS, 10).await.expect("listed");
    assert!(letters.len() == 1 && letters[0].reason.contains("ItemCollectionSizeLimit"), "{letters:?}");
    assert_eq!(world.live_items(PAYMENTS).await, 3, "the others are delivered");
    // A row that is served already is not hidden behind a dead letter: its change waits.
    world.sql("UPDATE integration_logs SET user_id = 'later' WHERE log_id = 1").await;
    let migration = world.migration();
    let (progress, never) = (Progress::new(&migration.tables), CancellationToken::new());
    let stays = relay(&migration, RelayUntil::Empty, &progress, &never).await.expect_err("it stays pending");
    assert!(matches!(&stays, CoordinatorError::Store(e) if e.kind == Kind::Unavailable), "{stays}");
    assert_eq!(world.pending(LOGS).await.len(), 1);
    assert_eq!(world.source.count_dead_letters(LOGS).await.expect("counted").0, 1);
    world.proxy().clear();
    world.relay_until_empty().await;
    let item = world.live_at(&world.logs_table(), &log_key(1, "a")).await;
    assert_eq!(IntegrationLogs::decode(&item).expect("a log").user_id.as_deref(), Some("later"));
}
