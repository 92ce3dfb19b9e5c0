//! Taking Lockstep out: from where PostgreSQL is the truth, out of a copy, and from nowhere else.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use lockstep::store::{ReadOptions, WriteOptions};
use lockstep_core::{AttributeValue, Phase};
use lockstep_dynamo::TableStanding;
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, FaultKind, Rule};
use lockstep_tests::world::rows::{log_key, logs};
use lockstep_tests::world::{LOGS, PAYMENTS};

use crate::history::{mended, repair_rows, set_back};
use crate::process::{command, ended};

/// Everything in the source that is not Lockstep's: relations with their rows' digests, triggers, functions.
const EVERYTHING: &str = "
    SELECT string_agg(line, E'\n' ORDER BY line) FROM (
        SELECT 'trigger ' || tgname::text || ' on ' || tgrelid::regclass FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT 'function ' || oid::regprocedure::text FROM pg_proc
            WHERE pronamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
        UNION ALL SELECT 'relation ' || c.oid::regclass || ' ' || relkind::text FROM pg_class c
            WHERE relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace,
                'pg_toast'::regnamespace)
        UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg_toast%' AND
            nspname NOT LIKE 'pg_temp%'
        UNION ALL SELECT 'logs ' || md5(string_agg(t::text, '|' ORDER BY log_id)) FROM integration_logs t
        UNION ALL SELECT 'payments ' || md5(string_agg(t::text, '|' ORDER BY payment_id)) FROM payments t
    ) AS lines (line)";

async fn everything(world: &World) -> String {
    world.value::<Option<String>>(EVERYTHING).await.unwrap_or_default()
}

/// A folder that journals go to, so that none is written where the tests run.
struct Out(tempfile::TempDir);

impl Out {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn journal(&self) -> PathBuf {
        self.0.path().join("end.jsonl")
    }

    async fn run(&self, world: &World, more: &[&str]) -> (Option<i32>, String) {
        let journal = self.journal();
        let mut arguments = vec!["uninstall", "--yes", "--json", "--quiet", "--journal"];
        arguments.push(journal.to_str().expect("a path"));
        arguments.extend(more);
        let output = ended(command(world, &arguments)).await;
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (output.status.code(), said.concat())
    }
}

/// A key that none of ours has, and behind all of ours.
fn foreign() -> HashMap<String, AttributeValue> {
    let key = [("PK", "zzzz another"), ("SK", "program")];
    key.map(|(name, value)| (name.to_owned(), AttributeValue::S(value.to_owned()))).into()
}

/// Puts it, with what may stand where a version of ours would be.
async fn put_foreign(world: &World, version: Option<AttributeValue>) {
    let item = foreign().into_iter().chain(version.map(|version| ("_v".to_owned(), version))).collect();
    let put = world.plain_target.client().put_item().table_name(LOGS).set_item(Some(item));
    put.send().await.expect("put");
}

async fn take_foreign(world: &World) {
    let delete = world.plain_target.client().delete_item().table_name(LOGS).set_key(Some(foreign()));
    delete.send().await.expect("deleted");
}

async fn is_there(world: &World, table: &str) -> bool {
    let binding = world.tables().into_iter().find(|binding| binding.target_name == table).expect("ours");
    let found = world.plain_target.describe(table, &binding.table.target()).await.expect("described");
    matches!(found, TableStanding::There(_))
}

#[tokio::test]
async fn from_dual_write_triggers_and_schema_leave_and_nothing_else_changes() {
    let (world, out) = (World::start().await, Out::new());
    let before = everything(&world).await;
    world.sql(&logs(1, 20)).await;
    let with_rows = everything(&world).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let (code, told) = out.run(&world, &[]).await;
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(everything(&world).await, with_rows, "rows are as they were, and nothing of Lockstep is left");
    assert_ne!(before, with_rows);
    assert!(world.live_items(LOGS).await >= 20, "DynamoDB was left as it is");
    let kept = std::fs::read_to_string(out.journal()).expect("the journal was kept");
    assert!(kept.contains("change phase"), "{kept}");
    // A stranger writes on, and again nothing is there to be taken out.
    world.sql("UPDATE integration_logs SET status_code = '299' WHERE log_id = 1").await;
    let (code, told) = out.run(&world, &[]).await;
    assert!(code == Some(0) && told.contains("\"was_gone\": true"), "{told}");
}

/// A writer holds its row and waits in the trigger for the barrier, which would be ours while we wait for its
/// table.
#[tokio::test]
async fn tables_that_are_written_all_the_time_are_left_as_well() {
    let (world, out) = (World::start().await, Out::new());
    world.sql(&logs(1, 20)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let (stop, mut writers) = (tokio_util::sync::CancellationToken::new(), tokio::task::JoinSet::new());
    for n in 0..6 {
        let (mut session, stop) = (world.stranger().await, stop.clone());
        writers.spawn(async move {
            let sql = format!("UPDATE integration_logs SET status_code = '{n}' WHERE log_id = 1 + {n}");
            while !stop.is_cancelled() {
                sqlx::Executor::execute(&mut session, sqlx::AssertSqlSafe(sql.clone()))
                    .await
                    .expect("it writes on");
            }
        });
    }
    let (code, told) = out.run(&world, &[]).await;
    stop.cancel();
    while let Some(ended) = writers.join_next().await {
        ended.expect("no writer has met an error");
    }
    assert_eq!(code, Some(0), "{told}");
    assert!(!world.source.has_schema().await.expect("asked"));
}

#[tokio::test]
async fn the_tables_in_dynamodb_go_when_that_is_asked_for_and_only_with_lockstep_s_items() {
    let (world, out) = (World::start().await, Out::new());
    world.sql(&logs(1, 150)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    for version in [None, Some(AttributeValue::S("1.2.3".to_owned()))] {
        put_foreign(&world, version).await;
        let first = world.plain_target.has_foreign_items(LOGS).await.expect("asked");
        assert!(!first, "the first page shows none of it");
        let (code, told) = out.run(&world, &["--drop-target-tables"]).await;
        assert!(code == Some(3) && told.contains("no items of others"), "{code:?} {told}");
        assert!(told.contains("1 of the first "), "{told}");
        assert!(world.source.has_schema().await.expect("asked"), "nothing was changed");
        assert!(is_there(&world, LOGS).await && is_there(&world, PAYMENTS).await);
    }
    take_foreign(&world).await;
    let (code, told) = out.run(&world, &["--drop-target-tables"]).await;
    assert_eq!(code, Some(0), "{told}");
    for table in [LOGS, PAYMENTS] {
        assert!(told.contains(table) && !is_there(&world, table).await, "{table}: {told}");
    }
    assert!(!world.source.has_schema().await.expect("asked"));
}

/// 1. An index of a table is being made, so that DynamoDB deletes the table not. 2. It was taken for deleted,
/// and stayed, with all its items. 3. Schema `lockstep` went, and with it what says whose the table is.
#[tokio::test]
async fn a_table_that_dynamodb_does_not_delete_yet_is_asked_for_again_before_the_schema_goes() {
    let (world, out) = (World::behind_proxy().await, Out::new());
    world.sql(&logs(1, 5)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let in_use = || Rule::new(Fault::Code("ResourceInUseException")).on("DeleteTable").table(LOGS);
    world.proxy().script(in_use());
    let watched = async {
        world.proxy().until_injected(FaultKind::Code, 2).await;
        assert!(is_there(&world, LOGS).await && world.source.has_schema().await.expect("asked"));
        world.proxy().clear();
    };
    let ((code, told), ()) = tokio::join!(out.run(&world, &["--drop-target-tables"]), watched);
    assert_eq!(code, Some(0), "{told}");
    for table in [LOGS, PAYMENTS] {
        assert!(told.contains(table) && !is_there(&world, table).await, "{table}: {told}");
    }

    // By what it is: one that is being changed is asked for again, one that is going is not.
    let world = World::behind_proxy().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let in_use = || Rule::new(Fault::Code("ResourceInUseException")).on("DeleteTable").times(1);
    let says = |said| Rule::new(Fault::Answer(said)).on("DescribeTable").times(1);
    let asked = async |said| {
        world.proxy().script(in_use());
        world.proxy().script(says(said));
        let before = world.proxy().seen("DeleteTable");
        let removed = world.target.remove_table(LOGS).await.expect("it answers");
        (removed, world.proxy().seen("DeleteTable") - before, is_there(&world, LOGS).await)
    };
    let going = asked(r#"{"Table":{"TableName":"integration_logs","TableStatus":"DELETING"}}"#).await;
    assert_eq!(going, (true, 1, true), "nothing more is asked of one that is going");
    let changing = asked(r#"{"Table":{"TableName":"integration_logs","TableStatus":"UPDATING"}}"#).await;
    assert_eq!(changing, (true, 2, false));
    assert!(!world.target.remove_table(LOGS).await.expect("it answers"), "it was gone");
}

/// 1. PostgreSQL was set back, and nothing has noticed. 2. The mark that tells of it cannot be read, for a
/// throttle. 3. The tables are deleted with the only copy.
#[tokio::test]
async fn tables_that_do_not_tell_what_they_know_are_not_deleted() {
    let (world, out) = (World::behind_proxy().await, Out::new());
    world.sql(&logs(1, 5)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    world.proxy().script(Rule::new(Fault::Throttle).on("GetItem").always());
    let (code, told) = out.run(&world, &["--drop-target-tables"]).await;
    assert!(code == Some(3) && told.contains("does not tell whether it knows more"), "{code:?} {told}");
    assert!(is_there(&world, LOGS).await && world.source.has_schema().await.expect("asked"));
    world.proxy().clear();
    let (code, told) = out.run(&world, &["--drop-target-tables"]).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(!is_there(&world, LOGS).await);
}

#[tokio::test]
async fn where_dynamodb_is_read_it_is_refused_with_the_way_back() {
    let (world, out) = (World::start().await, Out::new());
    world.sql(&logs(1, 5)).await;
    for (phase, way) in
        [(Phase::HybridRead, "`rollback` first"), (Phase::DynamoOnly, "`rollback --to PostgresOnly`")]
    {
        world.migrated_to(phase).await.close().await;
        for more in [&[] as &[&str], &["--drop-target-tables"]] {
            let (code, told) = out.run(&world, more).await;
            assert!(code == Some(3) && told.contains(way), "{phase}: {code:?} {told}");
        }
        assert!(world.source.has_schema().await.expect("asked"), "{phase}");
    }
    // Meant for the copy, typed in the window of the source.
    let (code, told) = out.run(&world, &["--copy"]).await;
    assert!(code == Some(3) && told.contains("--migration-id"), "{code:?} {told}");
    assert!(world.source.has_schema().await.expect("asked"));
}

#[tokio::test]
async fn a_source_that_was_set_back_to_before_dynamo_only_is_not_taken_for_the_truth() {
    let (world, out) = (World::start().await, Out::new());
    world.sql(&logs(1, 5)).await;
    world.migrated_to(Phase::DynamoOnly).await.close().await;
    // A snapshot of before the step says this.
    world.sql("UPDATE lockstep.control SET phase = 'DualWrite', epoch = epoch - 2").await;
    let (code, told) = out.run(&world, &[]).await;
    assert!(code == Some(3) && told.contains("PostgreSQL is the truth"), "{code:?} {told}");
    assert!(world.source.has_schema().await.expect("asked"));
}

/// 1. In DualWrite PostgreSQL fails over to a replica that lagged: DynamoDB has the only copy of acknowledged
/// writes. 2. Lockstep is taken out with its tables, or without, and with it every note that there is one.
#[tokio::test]
async fn what_only_dynamodb_has_goes_when_an_operator_gives_it_up_and_not_before() {
    let (world, out) = (set_back().await, Out::new());
    let refused = async |says: &str| {
        for more in [&["--drop-target-tables"] as &[&str], &[]] {
            let (code, told) = out.run(&world, more).await;
            assert!(code == Some(3) && told.contains(says), "{more:?}: {code:?} {told}");
            assert!(told.contains("--give-up-lost") && told.contains("`repair --"), "{told}");
        }
        assert!(world.source.has_schema().await.expect("asked"));
        world.live_at(&world.logs_table(), &log_key(1_000, "lost")).await;
    };
    refused("PostgreSQL was set back").await;
    // The stores are one again, and no operator has decided about what DynamoDB has more.
    mended(&world).await;
    refused("may be the only copy").await;
    repair_rows(&world).await;
    world.relay_until_empty().await;
    world.record_verdict().await;
    // What was accepted to stay in DynamoDB, as PostgreSQL refuses it, is noted the same way.
    world.sql("UPDATE lockstep.history SET lost_before = 1").await;
    let (code, told) = out.run(&world, &[]).await;
    assert!(code == Some(3) && told.contains("may be the only copy"), "{code:?} {told}");
    let (code, told) = out.run(&world, &["--drop-target-tables", "--give-up-lost"]).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(!is_there(&world, LOGS).await && !world.source.has_schema().await.expect("asked"));
}

/// Once everything was decided about, and where DynamoDB is the one that lost something, nothing is in the
/// way.
#[tokio::test]
async fn a_loss_that_was_decided_about_and_one_of_dynamodb_keep_lockstep_in_no_longer() {
    let (world, out) = (set_back().await, Out::new());
    mended(&world).await;
    repair_rows(&world).await;
    world.relay_until_empty().await;
    world.record_verdict().await;
    // Broken off, after the first table had gone: the same command goes on.
    assert!(world.plain_target.remove_table(LOGS).await.expect("removed"));
    let (code, told) = out.run(&world, &["--drop-target-tables"]).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(!is_there(&world, PAYMENTS).await && !world.source.has_schema().await.expect("asked"));
}

#[tokio::test]
async fn a_copy_of_a_frozen_source_is_freed_without_a_word_to_dynamodb() {
    let (world, out) = (World::start().await, Out::new());
    world.sql(&logs(1, 5)).await;
    world.migrated_to(Phase::DynamoOnly).await.close().await;
    let items = world.live_items(LOGS).await;
    // A restore from a snapshot shows this: the same rows of schema lockstep, on another timeline.
    world.sql("UPDATE lockstep.history SET server = 'another/00000001'").await;
    let (code, told) = out.run(&world, &["--copy"]).await;
    assert_eq!(code, Some(0), "{told}");
    world.sql("UPDATE integration_logs SET status_code = '299' WHERE log_id = 1").await;
    assert_eq!(world.live_items(LOGS).await, items);
    let record = world.plain_target.control().record().await.expect("read").expect("the original's");
    assert_eq!(record.phase, Phase::DynamoOnly);
}

#[tokio::test]
async fn an_application_at_work_and_an_operator_s_view_keep_lockstep_in() {
    let (world, out) = (World::start().await, Out::new());
    world.sql(&logs(1, 5)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let lease = Duration::from_secs(30);
    let app = world
        .registered_app(world.source_options(), WriteOptions::default(), ReadOptions::default(), lease)
        .await;
    let (code, told) = out.run(&world, &[]).await;
    assert!(code == Some(3) && told.contains("application under test"), "{code:?} {told}");
    app.shutdown().await;
    world.sql("CREATE VIEW public.steps AS SELECT id, at FROM lockstep.journal").await;
    let (code, told) = out.run(&world, &[]).await;
    assert!(code == Some(3) && told.contains("steps"), "{code:?} {told}");
    world.sql("DROP VIEW public.steps").await;
    let (code, told) = out.run(&world, &[]).await;
    assert_eq!(code, Some(0), "{told}");
}
