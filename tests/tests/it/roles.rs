//! Rights: the grants of docs/runbook.md are enough for an application, in every phase; and who never heard
//! of Lockstep needs none.

use std::sync::Arc;
use std::time::Duration;

use lockstep::instance::InstanceOptions;
use lockstep::migration::{Migration, MigrationOptions};
use lockstep::operation::Operation;
use lockstep::store::{ReadOptions, Share, WriteMode, WriteOptions};
use lockstep_core::{Kind, MigratableTable, Phase, Side};
use lockstep_dynamo::TargetOptions;
use lockstep_integration_logs::{IntegrationLogs, LogQueries, OperationLogs};
use lockstep_payments::{PaymentQueries, Payments};
use lockstep_postgres::{Source, SourceOptions};
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, FaultProxy, Rule};
use lockstep_tests::rights::{Asked, asked, refused, unused};
use lockstep_tests::world::rows::{log, log_key, log_row, payment_row};
use lockstep_tests::world::{LOGS, PAYMENTS, eventually, sweeping_never, within};
use sqlx::{Connection, PgConnection};

use crate::rights::printed;
use crate::stage::some;
use crate::strict::failed;

const RUNBOOK: &str = include_str!("../../../docs/runbook.md");

/// The statements that the runbook gives for the role `app`.
pub(crate) fn grants(role: &str) -> String {
    let block = RUNBOOK
        .split("```sql")
        .find(|block| block.contains("GRANT USAGE ON SCHEMA lockstep"))
        .expect("the grants");
    let (grants, _) = block.split_once("```").expect("a block ends");
    assert_eq!(
        grants.matches(" TO app;").count(),
        grants.matches("GRANT ").count(),
        "each is to the application's role"
    );
    grants.replace(" TO app;", &format!(" TO {role};"))
}

/// Makes a role with rights on the tables and nothing else; returns its name and how it connects.
pub(crate) async fn role(world: &World, name: &str) -> (String, SourceOptions) {
    let database: String = world.value("SELECT current_database()::text").await;
    let role = format!("{database}_{name}");
    world.sql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'role'")).await;
    world.sql(&format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {LOGS}, {PAYMENTS} TO {role}")).await;
    let (_, place) = world.url().split_once('@').expect("a URL with a password");
    let options = SourceOptions { url: format!("postgres://{role}:role@{place}"), ..world.source_options() };
    (role, options)
}

async fn application(
    world: &World,
    source: &SourceOptions,
    through: &FaultProxy,
    mode: WriteMode,
) -> Migration {
    let writes = WriteOptions {
        dual_write: mode,
        hybrid_read: mode,
        strict_attempts_max: 1,
        ..WriteOptions::default()
    };
    let reads = ReadOptions { shadow_percent: Share::ALL, ..ReadOptions::default() };
    let target = TargetOptions { endpoint_url: Some(through.endpoint_url()), ..world.target_options() };
    let options = MigrationOptions::new(source.clone(), target)
        .table(IntegrationLogs::default(), LOGS, LOGS)
        .and_then(|options| options.table(Payments::default(), PAYMENTS, PAYMENTS))
        .expect("plain names")
        .instance(InstanceOptions {
            name: "application under test".to_owned(),
            lease: Duration::from_secs(10),
        })
        .writes(writes)
        .reads(reads)
        .sweeper(sweeping_never());
    Migration::connect(options).await.expect("both stores are there")
}

/// Every call that a store has, on rows from `id` on.
async fn everything(app: &Migration, source: &SourceOptions, id: i64) {
    let (logs, payments) = (app.store::<IntegrationLogs>(), app.store::<Payments>());
    let row = log_row(id, "u");
    logs.put(&row).await.expect("put");
    logs.put(&row).await.expect("put again");
    logs.insert(&row).await.expect("insert");
    logs.update(id, |log| log.service_name = "b".to_owned()).await.expect("update");
    logs.delete(id).await.expect("delete");
    // Enough of them for a request of their own, best effort.
    let many: Vec<_> = (id..id + 25).map(|id| log_row(id, "v")).collect();
    for outcome in logs.put_batch(&many).await {
        outcome.expect("put_batch");
    }
    payments.put(&payment_row(id, 1, "r")).await.expect("put");
    assert!(
        Payments::update_status(&payments, id, "Pending", "Completed")
            .await
            .expect("update_status")
            .is_changed()
    );
    let sink = Arc::new(OperationLogs::of("payments"));
    let operation = Operation::run(app, sink, "Settle", "op", async |operation| {
        operation.update(&payments, id, |p| p.customer_id = 2).await?;
        operation.put(&logs, &log_row(id + 2, "w")).await
    });
    operation.await.expect("a coordinated operation");
    let key = IntegrationLogs::key(&log_row(id, "v"));
    assert!(logs.get(&key).await.expect("get").is_some());
    assert!(
        logs.get(&IntegrationLogs::key(&log_row(404, "v"))).await.expect("a miss asks PostgreSQL").is_none()
    );
    assert!(logs.get_source(id).await.expect("get_source").is_some());
    logs.compare(&key).await.expect("compare");
    logs.by_correlation("op").page(some(10), None).await.expect("a query");
    assert!(!payments.by_customer(2, ..).page(some(10), None).await.expect("a query").rows.is_empty());
    let source = Source::connect(source).await.expect("the role connects");
    source.sweep_intents(Duration::ZERO).await.expect("a sweep");
    source.close().await;
}

#[tokio::test]
async fn the_grants_of_the_runbook_are_enough_for_an_application_in_every_phase() {
    let world = World::behind_proxy().await;
    let coordinator = world.migrated_to(Phase::PostgresOnly).await;
    let (name, source) = role(&world, "app").await;
    world.sql(&grants(&name)).await;
    // Requests through this one are the application's alone.
    let of_app = FaultProxy::start(&world.proxy().endpoint_url()).await.expect("the proxy starts");
    of_app.record(100_000);
    let mut id = 1_000;
    for phase in [Phase::PostgresOnly, Phase::DualWrite, Phase::HybridRead] {
        if phase != Phase::PostgresOnly {
            world.step_to(&coordinator, phase).await;
        }
        for mode in [WriteMode::BestEffort, WriteMode::Strict] {
            let app = application(&world, &source, &of_app, mode).await;
            everything(&app, &source, id).await;
            id += 10;
            if mode == WriteMode::Strict && phase != Phase::PostgresOnly {
                // An undone step needs rights of its own: refused leaves nothing, and lost leaves a mark.
                world.relay_until_empty().await;
                for fault in [Fault::Throttle, Fault::LoseReply] {
                    world.proxy().script(Rule::new(fault).on("PutItem").times(1));
                    failed(app.store::<IntegrationLogs>().put(&log_row(id, "undone")).await);
                }
                assert_eq!(
                    (world.intents().await, world.pending(LOGS).await.len()),
                    (0, 1),
                    "settled by the application itself"
                );
            }
            app.shutdown().await;
        }
    }
    coordinator.close().await;
    world.assert_converged().await;
    // R51. What it asks for in DynamoOnly is held against the same policy in `dynamo_only`.
    let asked = asked(&of_app.recorded());
    let policy = printed(&world, "application").await;
    assert_eq!(refused(&policy, &asked), Vec::<Asked>::new(), "an application may not do what it does");
    let unused: Vec<String> = unused(&policy, &asked).into_iter().collect();
    assert_eq!(unused, NOT_BEFORE_DYNAMO_ONLY.map(|(name, _)| name), "{asked:?}");
}

/// Rights that an application has and does not ask for before DynamoOnly, and why it has them.
const NOT_BEFORE_DYNAMO_ONLY: [(&str, &str); 6] = [
    ("LockstepControl DeleteItem", "an instance takes its lease back when it ends in DynamoOnly"),
    ("LockstepControl DescribeTable", "whether the control table is there is asked where the record is not"),
    ("LockstepControl PutItem", "leases are kept in DynamoDB in DynamoOnly"),
    ("LockstepControl Query", "leases are listed in DynamoOnly"),
    ("LockstepControl UpdateItem", "ids are handed out, and leases renewed, in DynamoDB in DynamoOnly"),
    ("LockstepTables DescribeTable", "the shape of a table is looked at by one that starts in DynamoOnly"),
];

/// 1. An application has the connections of its lease, and PostgreSQL gives it no other one. 2. Its lease is
/// renewed. 3. A write asks for a connection again and again, and its caller waits for ever.
#[tokio::test]
async fn a_write_that_gets_no_connection_ends_while_the_lease_is_kept() {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let (name, source) = role(&world, "crowded").await;
    world.sql(&grants(&name)).await;
    let source = SourceOptions { connect_timeout: Duration::from_secs(2), ..source };
    let options = MigrationOptions::new(source, world.target_options())
        .table(Payments::default(), PAYMENTS, PAYMENTS)
        .expect("plain names")
        .instance(InstanceOptions { name: "crowded".to_owned(), lease: Duration::from_secs(5) })
        .writes(WriteOptions { pause_wait_ms_max: 500, ..WriteOptions::default() })
        .sweeper(sweeping_never());
    let app = Migration::connect(options).await.expect("both stores are there");
    let payments = app.store::<Payments>();
    payments.put(&payment_row(1, 7, "crowded")).await.expect("written");
    // It keeps the sessions of its lease.
    let others = format!("usename = '{name}' AND application_name NOT LIKE 'lockstep % of %'");
    world.sql(&format!("ALTER ROLE {name} CONNECTION LIMIT 0")).await;
    eventually("its pool is empty", || async {
        let sql = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}");
        world.sql(&sql).await;
        world.value(&format!("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE {others})")).await
    })
    .await;
    let written = within(Duration::from_secs(30), payments.update(1, |row| row.loan_id = 8)).await;
    let error = written.expect_err("there is no connection");
    assert_eq!((error.side, error.kind), (Side::Source, Kind::Unavailable), "{error}");
    payments.writer().phase().current().await.expect("its lease is kept");
    world.sql(&format!("ALTER ROLE {name} CONNECTION LIMIT -1")).await;
    payments.update(1, |row| row.loan_id = 9).await.expect("written");
    app.shutdown().await;
}

#[tokio::test]
async fn a_stranger_with_rights_on_the_tables_alone_writes_as_ever_and_is_captured() {
    let world = World::start().await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    let (_, source) = role(&world, "stranger").await;
    let mut stranger = PgConnection::connect(&source.url).await.expect("connects");
    for sql in [
        log(1, "a"),
        "UPDATE integration_logs SET service_name = 'b' WHERE log_id = 1".to_owned(),
        log(2, "a"),
        "DELETE FROM integration_logs WHERE log_id = 2".to_owned(),
    ] {
        lockstep_tests::world::run(&mut stranger, &sql).await;
    }
    let pending = world.pending(LOGS).await;
    assert_eq!(
        pending.keys().cloned().collect::<Vec<_>>(),
        [log_key(1, "a"), log_key(1, "b"), log_key(2, "a")]
    );
    let looked = sqlx::raw_sql("SELECT * FROM lockstep.pending").execute(&mut stranger).await;
    let refused = looked.expect_err("it has no right to look").into_database_error().expect("PostgreSQL's");
    assert_eq!(refused.code().as_deref(), Some("42501"));
    world.assert_converged().await;
}
