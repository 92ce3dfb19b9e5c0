//! Gates: each refuses by its name and says what to do, and a step that was refused has changed nothing.

use std::num::NonZeroU32;
use std::sync::Arc;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use lockstep_coordinator::{Coordinator, CoordinatorError, GateReport};
use lockstep_core::{MigratableTable, Phase};
use lockstep_integration_logs::{IntegrationLogs, IntegrationLogsOptions};
use lockstep_payments::Payments;
use lockstep_tests::World;
use lockstep_tests::world::rows::{log, payments};
use lockstep_tests::world::{LOGS, PAYMENTS, backfill};

#[track_caller]
pub(crate) fn check(report: &GateReport, table: Option<&str>, gate: &str, found: &str, next: &str) {
    let failed = report.results.iter().filter(|result| !result.passed);
    let matching = failed.into_iter().find(|result| result.name == gate && result.table.as_deref() == table);
    let result =
        matching.unwrap_or_else(|| panic!("no refusal by {gate} of {table:?}: {}", report.refusals()));
    assert!(result.detail.contains(found), "{gate}: {}", result.detail);
    let advice = result.next.as_deref().unwrap_or_default();
    assert!(advice.contains(next), "{gate}: {advice}");
}

/// Asks for a step that must be refused, and makes sure that nothing came of it.
async fn refused(world: &World, coordinator: &Coordinator, to: Phase) -> GateReport {
    let before = world.source.control().await.expect("a phase");
    let report = match coordinator.step(to, None, &()).await {
        Err(CoordinatorError::Refused(report)) => report,
        other => panic!("the step to {to} was not refused: {other:?}"),
    };
    assert_eq!(world.source.control().await.expect("a phase"), before, "a refused step changes nothing");
    assert!(world.source.open_intents().await.expect("the journal").is_empty());
    assert_eq!(world.source.journal(1).await.expect("the journal")[0].kind, "refused");
    report
}

async fn refused_preparation(world: &World) -> GateReport {
    match world.coordinator().await.prepare(&()).await {
        Err(CoordinatorError::Refused(report)) => report,
        other => panic!("preparation was not refused: {other:?}"),
    }
}

#[tokio::test]
async fn dual_write_wants_a_finished_backfill() {
    let world = World::start().await;
    let coordinator = world.prepared().await;
    let report = refused(&world, &coordinator, Phase::DualWrite).await;
    check(&report, Some(LOGS), "backfill", "never started", "run `backfill`");
    check(&report, Some(PAYMENTS), "backfill", "never started", "run `backfill`");
    backfill(&coordinator).await;
    coordinator.step(Phase::DualWrite, None, &()).await.expect("nothing refuses any more");
}

#[tokio::test]
async fn hybrid_read_wants_a_clean_verdict_of_this_epoch() {
    let world = World::start().await;
    let coordinator = world.migrated_to(Phase::DualWrite).await;
    let gate = "verdict is clean and fresh";
    check(
        &refused(&world, &coordinator, Phase::HybridRead).await,
        None,
        gate,
        "nothing has been validated",
        "run `validate`",
    );
    let epoch = world.source.control().await.expect("a phase").epoch;
    world.source.record_verdict(epoch, false, &serde_json::json!({})).await.expect("recorded");
    check(
        &refused(&world, &coordinator, Phase::HybridRead).await,
        None,
        gate,
        "not consistent",
        "run `validate`",
    );
    world.record_verdict().await;
    coordinator.step(Phase::PostgresOnly, None, &()).await.expect("back at any time");
    coordinator.step(Phase::DualWrite, None, &()).await.expect("forward again");
    let found = format!("made in epoch {epoch}");
    check(
        &refused(&world, &coordinator, Phase::HybridRead).await,
        None,
        gate,
        &found,
        "run `validate` in this phase",
    );
    world.record_verdict().await;
    world.sql("UPDATE lockstep.verdicts SET at = at - interval '2 hours'").await;
    check(&refused(&world, &coordinator, Phase::HybridRead).await, None, gate, "s old", "counts for 3600 s");
    // Recorded just now, by a run that was killed two hours ago and resumed.
    world.record_verdict().await;
    world
        .sql(
            "UPDATE lockstep.verdicts SET report = jsonb_set(report, '{tables,1,as_of}', to_jsonb(at - interval '2 hours'))
             WHERE id = (SELECT max(id) FROM lockstep.verdicts)",
        )
        .await;
    check(&refused(&world, &coordinator, Phase::HybridRead).await, None, gate, "s old", "counts for 3600 s");
    world.record_verdict().await;
    coordinator.step(Phase::HybridRead, None, &()).await.expect("nothing refuses any more");
}

#[tokio::test]
async fn hybrid_read_wants_little_pending_and_only_whole_backfills() {
    let world = World::start().await;
    let mut migration = world.migration();
    migration.options.steps.pending_keys_max = 2;
    let coordinator = world.coordinator_of(migration).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    backfill(&coordinator).await;
    world.step_to(&coordinator, Phase::DualWrite).await;
    world.record_verdict().await;
    world.sql(&payments(1, 3)).await;
    let report = refused(&world, &coordinator, Phase::HybridRead).await;
    check(&report, Some(PAYMENTS), "pending set is drained", "3 keys pending", "run `relay`");
    check(&report, Some(PAYMENTS), "pending set is drained", "and no relay is running", "run `relay`");
    world
        .sql(
            "DELETE FROM lockstep.pending WHERE key->>0 = '3'; UPDATE lockstep.pending SET marked_at = now() - interval '1 hour'",
        )
        .await;
    let report = refused(&world, &coordinator, Phase::HybridRead).await;
    check(
        &report,
        Some(PAYMENTS),
        "pending set is drained",
        "2 keys pending, the oldest for 36",
        "run `relay`",
    );
    world.relay_until_empty().await;
    world.sql("UPDATE lockstep.tables SET window_start = now() WHERE name = 'payments'").await;
    let report = refused(&world, &coordinator, Phase::HybridRead).await;
    check(&report, Some(PAYMENTS), "backfill", "only a window", "without a window");
}

#[tokio::test]
async fn steps_are_refused_while_the_source_is_not_as_it_was_captured() {
    let world = World::start().await;
    let coordinator = world.migrated_to(Phase::DualWrite).await;
    world.record_verdict().await;
    for (spoil, mend, gate, found, next) in [
        (
            "ALTER TABLE payments ADD COLUMN note text",
            "ALTER TABLE payments DROP COLUMN note",
            "source schema is the captured one",
            "a column was added since capture was installed, and is not taken yet: note text",
            "or drop the column",
        ),
        (
            "ALTER TABLE payments RENAME TO paid",
            "ALTER TABLE paid RENAME TO payments",
            "source table",
            "there is no table public.payments",
            "check tables.*.source",
        ),
    ] {
        world.sql(spoil).await;
        check(&refused(&world, &coordinator, Phase::HybridRead).await, Some(PAYMENTS), gate, found, next);
        coordinator
            .step(Phase::PostgresOnly, None, &())
            .await
            .unwrap_or_else(|e| panic!("{spoil}: the way back is closed: {e}"));
        world.sql(mend).await;
        coordinator.step(Phase::DualWrite, None, &()).await.unwrap_or_else(|e| panic!("{mend}: {e}"));
        world.record_verdict().await;
    }
    // A change that a trigger missed while it was off stays unknown, so switching it on again repairs
    // nothing.
    for (spoil, found) in [
        ("ALTER TABLE payments DISABLE TRIGGER zz_lockstep_truncate_payments", "dropped or disabled"),
        (
            "ALTER TABLE payments ENABLE ALWAYS TRIGGER zz_lockstep_truncate_payments",
            "was disabled for a while",
        ),
        ("DROP TRIGGER zz_lockstep_capture_payments ON payments", "dropped or disabled"),
    ] {
        world.sql(spoil).await;
        check(
            &refused(&world, &coordinator, Phase::HybridRead).await,
            Some(PAYMENTS),
            "capture",
            found,
            "run `doctor`",
        );
    }
    coordinator.step(Phase::PostgresOnly, None, &()).await.expect("the way back is open");
}

#[tokio::test]
async fn a_target_that_is_gone_or_another_one_is_refused() {
    let world = World::start().await;
    let coordinator = world.migrated_to(Phase::DualWrite).await;
    world.record_verdict().await;
    world.plain_target.client().delete_table().table_name(PAYMENTS).send().await.expect("deleted");
    let preparing = async || match coordinator.prepare(&()).await {
        Err(CoordinatorError::Refused(report)) => report,
        other => panic!("not refused by a gate: {:?}", other.map(|_| ())),
    };
    check(&preparing().await, Some(PAYMENTS), "target table", "payments is gone", "run `doctor`");
    world.plain_target.create(PAYMENTS, &Payments::TARGET, false).await.expect("created");
    check(&preparing().await, Some(PAYMENTS), "target is the one in use", "created again", "run `doctor`");
    let lost = coordinator
        .step(Phase::HybridRead, Some("no gate is asked"), &())
        .await
        .expect_err("history is lost");
    assert!(matches!(lost, CoordinatorError::HistoryLost(_)), "{lost}");
}

#[tokio::test]
async fn a_target_with_items_of_others_is_refused() {
    let world = World::start().await;
    world.plain_target.create(PAYMENTS, &Payments::TARGET, false).await.expect("created");
    let put = || {
        let put = world.plain_target.client().put_item().table_name(PAYMENTS);
        put.item("PK", AttributeValue::N("1".into())).item("SK", AttributeValue::S("theirs".into()))
    };
    put().send().await.expect("put");
    let gate = "target holds nothing of others";
    check(
        &refused_preparation(&world).await,
        Some(PAYMENTS),
        gate,
        "this migration did not write",
        "tables.payments.target",
    );
    let has_schema: bool = world.value("SELECT count(*) = 0 FROM lockstep.tables").await;
    assert!(has_schema, "nothing was captured");
    let keys = [("PK", AttributeValue::N("1".into())), ("SK", AttributeValue::S("theirs".into()))];
    let delete = world.plain_target.client().delete_item().table_name(PAYMENTS);
    let delete = keys.into_iter().fold(delete, |delete, (name, value)| delete.key(name, value));
    delete.send().await.expect("deleted");
    let coordinator = world.migrated_to(Phase::PostgresOnly).await;
    put().send().await.expect("put");
    let report = refused(&world, &coordinator, Phase::DualWrite).await;
    check(&report, Some(PAYMENTS), gate, "items without a version", "tables.payments.target");
}

#[tokio::test]
async fn a_target_with_other_keys_is_refused() {
    let world = World::start().await;
    let key =
        KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash).build().expect("a key");
    let id = AttributeDefinition::builder()
        .attribute_name("id")
        .attribute_type(ScalarAttributeType::S)
        .build()
        .expect("a type");
    let create =
        world.plain_target.client().create_table().table_name(LOGS).key_schema(key).attribute_definitions(id);
    create.billing_mode(BillingMode::PayPerRequest).send().await.expect("created");
    let report = refused_preparation(&world).await;
    check(
        &report,
        Some(LOGS),
        "target table",
        "its key is (id), it must be (PK, SK)",
        "delete integration_logs",
    );
}

#[tokio::test]
async fn a_source_without_the_table_or_with_another_one_is_refused() {
    let world = World::start().await;
    world.sql("ALTER TABLE payments RENAME TO paid; ALTER TABLE integration_logs ALTER user_id TYPE integer USING 1").await;
    let report = refused_preparation(&world).await;
    check(
        &report,
        Some(PAYMENTS),
        "source table",
        "there is no table public.payments",
        "check tables.*.source",
    );
    check(
        &report,
        Some(LOGS),
        "source table",
        "column `user_id` is integer, the row type expects text",
        "so that they agree",
    );
}

#[tokio::test]
async fn another_key_layout_is_refused() {
    let world = World::start().await;
    world.migrated_to(Phase::PostgresOnly).await.close().await;
    world.sql(&log(1, "a")).await;
    let mut migration = world.migration();
    let options =
        IntegrationLogsOptions { write_shards: NonZeroU32::new(4).expect("not zero"), ..Default::default() };
    migration.tables[0].table = Arc::new(IntegrationLogs { options });
    let coordinator = world.coordinator_of(migration).await;
    let report = refused(&world, &coordinator, Phase::DualWrite).await;
    check(&report, Some(LOGS), "key layout is the one in use", "write_shards=4", "put the setting back");
}

#[tokio::test]
async fn only_neighbours_are_stepped_to_and_dynamo_only_cannot_be_forced() {
    let world = World::start().await;
    let coordinator = world.migrated_to(Phase::PostgresOnly).await;
    let skipped = coordinator.step(Phase::HybridRead, Some("in a hurry"), &()).await;
    assert!(
        matches!(
            skipped,
            Err(CoordinatorError::NotAdjacent { from: Phase::PostgresOnly, to: Phase::HybridRead })
        ),
        "{skipped:?}"
    );
    coordinator.step(Phase::DualWrite, None, &()).await.expect("nothing refuses");
    coordinator.step(Phase::HybridRead, Some("no verdict, on purpose"), &()).await.expect("forced");
    let forced: String = world
        .value("SELECT detail->>'force' FROM lockstep.journal WHERE kind = 'intent' ORDER BY id DESC LIMIT 1")
        .await;
    assert_eq!(forced, "no verdict, on purpose", "the journal keeps the reason");
    let refused =
        coordinator.step(Phase::DynamoOnly, Some("please"), &()).await.expect_err("there is no way back");
    assert!(
        matches!(&refused, CoordinatorError::Refused(_))
            && refused.to_string().contains("verdict is clean and fresh"),
        "{refused}"
    );
    assert_eq!(world.source.control().await.expect("a phase").phase, Phase::HybridRead);
}
