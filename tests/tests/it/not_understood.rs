//! I18: what is not understood is not acted on. An answer that is on no list, and a store that is away for
//! whatever reason, change no data and end nothing for good.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue, BatchStatementRequest};
use lockstep::store::WriteOptions;
use lockstep_coordinator::{
    CoordinatorError, FeedUntil, Progress, RelaySummary, RelayUntil, ReverseFeedOptions, relay,
};
use lockstep_core::{MigratableTable, Phase};
use lockstep_dynamo::LoadPath;
use lockstep_integration_logs::IntegrationLogs;
use lockstep_payments::Payments;
use lockstep_postgres::{Password, Source, SourceOptions};
use lockstep_tests::World;
use lockstep_tests::faults::source::{SourceFault, SourceFaultKind, SourceRule};
use lockstep_tests::faults::{Fault, FaultKind, Rule, STATEMENT_CHARACTERS_MAX};
use lockstep_tests::world::rows::{log, log_key, log_row, logs, payment_key, payment_row, payments};
use lockstep_tests::world::{LOGS, PAYMENTS, WorldOptions, backfill, eventually, sweeping_never};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A relay that runs until it is told to stop.
struct Relaying {
    task: JoinHandle<Result<RelaySummary, CoordinatorError>>,
    progress: Arc<Progress>,
    cancel: CancellationToken,
}

impl Relaying {
    fn start(world: &World, source: Source) -> Self {
        let mut migration = world.migration();
        migration.source = source;
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        let progress = Arc::new(Progress::new(&migration.tables));
        let of_task = Arc::clone(&progress);
        let task =
            tokio::spawn(async move { relay(&migration, RelayUntil::Cancelled, &of_task, &stop).await });
        Self { task, progress, cancel }
    }

    /// Waits until it waits.
    async fn until_it_waits(&self) {
        let waits = || async { self.progress.tables.iter().all(|table| table.pause_reason().is_some()) };
        eventually("the relay waits for a store", waits).await;
        self.runs();
    }

    /// Waits until what it has delivered is acknowledged: from then on no password that is refused ends it.
    async fn until_it_has_delivered(&self) {
        let relayed = || async { self.progress.tables.iter().any(|table| table.relayed() > 0) };
        eventually("the relay has worked once", relayed).await;
    }

    #[track_caller]
    fn runs(&self) {
        assert!(!self.task.is_finished(), "the relay has ended");
    }

    async fn stop(self) -> RelaySummary {
        self.runs();
        self.cancel.cancel();
        self.task.await.expect("no panic").expect("it ends well")
    }
}

async fn user_of(world: &World, log_id: i64) -> Option<String> {
    let item = world.item(&world.logs_table(), &log_key(log_id, "a")).await?;
    if lockstep_core::is_tombstone(&item) {
        return None;
    }
    IntegrationLogs::decode(&item).expect("a log").user_id
}

async fn set_user(world: &World, user: &str) {
    world.sql(&format!("UPDATE integration_logs SET user_id = '{user}' WHERE log_id = 1")).await;
}

async fn until_user(world: &World, user: &str) {
    eventually(&format!("{user} is delivered"), || async {
        user_of(world, 1).await.as_deref() == Some(user)
    })
    .await;
}

async fn no_dead_letters(world: &World) {
    for table in [LOGS, PAYMENTS] {
        assert_eq!(world.source.count_dead_letters(table).await.expect("counts"), (0, 0), "{table}");
    }
}

#[tokio::test]
async fn a_stray_answer_neither_replaces_a_healthy_item_nor_sets_its_row_aside() {
    let world = World::behind_proxy().await;
    world.prepared().await.close().await;
    world.sql(&log(1, "a")).await;
    world.relay_until_empty().await;
    let stray = [
        Fault::Page(429),
        Fault::Page(407),
        Fault::Page(403),
        Fault::Page(408),
        Fault::Page(413),
        Fault::Page(503),
        Fault::Page(200),
        Fault::PageAfter(503),
        Fault::ExpiredToken,
        Fault::Empty(""),
        Fault::Code("ReplicatedWriteConflictException"),
        Fault::Code("RequestTimeTooSkewed"),
        Fault::Code("ThrottledException"),
        Fault::Code("SerializationException"),
        Fault::Code("SomethingOfNextYearException"),
    ];
    for (n, fault) in stray.into_iter().enumerate() {
        let (told, kind) = (format!("{fault:?}"), fault.kind());
        let before = world.proxy().counts().injected_on(kind, "PutItem");
        world.proxy().script(Rule::new(fault).on("PutItem").table(LOGS).times(2));
        let user = format!("user {n}");
        set_user(&world, &user).await;
        world.relay_until_empty().await;
        assert_eq!(world.proxy().counts().injected_on(kind, "PutItem"), before + 2, "{told}");
        assert_eq!(user_of(&world, 1).await, Some(user), "{told}");
        no_dead_letters(&world).await;
        world.proxy().clear();
    }
    world.assert_converged().await;
}

#[tokio::test]
async fn a_relay_outlives_what_it_does_not_understand_and_delivers_every_other_row() {
    let world = World::behind_proxy().await;
    world.prepared().await.close().await;
    world.sql(&log(1, "a")).await;
    let relaying = Relaying::start(&world, world.source.clone());
    eventually("the first row is delivered", || async { world.live_items(LOGS).await == 1 }).await;
    // Each second row meets a validation that says nothing of it; then rights are missing for a while.
    world.proxy().script(Rule::new(Fault::Code("ValidationException")).on("PutItem").table(LOGS).every(2));
    world.sql(&logs(2, 41)).await;
    eventually("the others are delivered", || async { world.live_items(LOGS).await >= 20 }).await;
    world.proxy().clear();
    world.proxy().script(Rule::new(Fault::AccessDenied));
    world.sql(&payments(1, 5)).await;
    world.proxy().until_injected(FaultKind::AccessDenied, 3).await;
    relaying.runs();
    world.proxy().clear();
    eventually("all is delivered", || async {
        world.live_items(LOGS).await == 41 && world.live_items(PAYMENTS).await == 5
    })
    .await;
    relaying.stop().await;
    no_dead_letters(&world).await;
    world.assert_converged().await;
}

#[tokio::test]
async fn a_relay_whose_rights_were_never_there_says_so_at_once() {
    let world = World::behind_proxy().await;
    world.prepared().await.close().await;
    world.sql(&log(1, "a")).await;
    world.proxy().script(Rule::new(Fault::AccessDenied).on("PutItem").table(LOGS));
    let (migration, cancel) = (world.migration(), CancellationToken::new());
    let progress = Progress::new(&migration.tables);
    let ended =
        relay(&migration, RelayUntil::Cancelled, &progress, &cancel).await.expect_err("it has no rights");
    assert!(ended.to_string().contains("AccessDenied"), "{ended}");
    no_dead_letters(&world).await;
}

#[tokio::test]
async fn a_relay_outlives_a_source_that_is_away_shut_down_or_read_only() {
    let world = World::with(WorldOptions {
        source_proxied: true,
        connect_timeout: Duration::from_secs(3),
        ..WorldOptions::default()
    })
    .await;
    world.prepared().await.close().await;
    world.sql(&log(1, "a")).await;
    let relaying = Relaying::start(&world, world.source.clone());
    set_user(&world, "first").await;
    until_user(&world, "first").await;
    world.source_proxy().down().await;
    set_user(&world, "after it was away").await;
    relaying.until_it_waits().await;
    world.source_proxy().up().await;
    until_user(&world, "after it was away").await;
    for (n, code) in ["57P01", "57P03", "53300", "25006", "XX000", "HV000"].into_iter().enumerate() {
        let before = world.source_proxy().injected(SourceFaultKind::Refuse);
        world.source_proxy().script(SourceRule::new(SourceFault::Refuse(code)).times(4));
        let user = format!("after {code}");
        set_user(&world, &user).await;
        world.source_proxy().until_injected(SourceFaultKind::Refuse, before + 4).await;
        until_user(&world, &user).await;
        relaying.runs();
        assert_eq!(world.source_proxy().injected(SourceFaultKind::Refuse), before + 4, "{n}");
    }
    relaying.stop().await;
    world.assert_converged().await;
}

#[tokio::test]
async fn a_node_that_takes_no_writes_is_no_source_until_it_does() {
    let world = World::with(WorldOptions {
        source_proxied: true,
        connect_timeout: Duration::from_secs(3),
        ..WorldOptions::default()
    })
    .await;
    world.prepared().await.close().await;
    world.sql(&log(1, "a")).await;
    let relaying = Relaying::start(&world, world.source.clone());
    set_user(&world, "first").await;
    until_user(&world, "first").await;
    let database: String = world.value("SELECT current_database()::text").await;
    // Connections that are there already may write; all new ones may not, as on a replica.
    world.sql(&format!("ALTER DATABASE {database} SET default_transaction_read_only = on")).await;
    world.source_proxy().cut_all().await;
    let refused = Source::connect(&world.source_options()).await.expect_err("it takes no writes");
    assert!(refused.to_string().contains("takes no writes"), "{refused}");
    assert!(world.source.lock_coordinator().await.is_err(), "a lock on a replica is another lock");
    set_user(&world, "afterwards").await;
    relaying.until_it_waits().await;
    world.sql(&format!("ALTER DATABASE {database} RESET default_transaction_read_only")).await;
    until_user(&world, "afterwards").await;
    relaying.stop().await;
    no_dead_letters(&world).await;
}

#[tokio::test]
async fn a_password_that_is_changed_while_the_relay_runs_is_read_again() {
    let world = World::start().await;
    world.prepared().await.close().await;
    world.sql(&log(1, "a")).await;
    let database: String = world.value("SELECT current_database()::text").await;
    let role = format!("{database}_rotated");
    world.sql(&format!("CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'old'")).await;
    let (_, place) = world.url().split_once('@').expect("a URL with a password");
    let file = std::env::temp_dir().join(format!("lockstep-{role}-{}", std::process::id()));
    std::fs::write(&file, "old\n").expect("a file");
    for password in [Password::File(file.clone()), Password::Command(format!("cat {}", file.display()))] {
        let url = format!("postgres://{role}@{place}");
        let options = SourceOptions { url, password: password.clone(), ..world.source_options() };
        let source = Source::connect(&options).await.expect("by the old password");
        let relaying = Relaying::start(&world, source);
        set_user(&world, "before").await;
        until_user(&world, "before").await;
        relaying.until_it_has_delivered().await;
        world.sql(&format!("ALTER ROLE {role} PASSWORD 'new'")).await;
        world
            .sql(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"))
            .await;
        set_user(&world, "after").await;
        relaying.until_it_waits().await;
        std::fs::write(&file, "new\n").expect("a file");
        until_user(&world, "after").await;
        relaying.stop().await;
        world.sql(&format!("ALTER ROLE {role} PASSWORD 'old'")).await;
        std::fs::write(&file, "old\n").expect("a file");
    }
    std::fs::remove_file(&file).expect("it is there");
    world.assert_converged().await;
}

#[tokio::test]
async fn a_reverse_feed_outlives_a_source_that_is_away_and_a_target_that_it_does_not_understand() {
    let world = World::with(WorldOptions {
        proxied: true,
        source_proxied: true,
        connect_timeout: Duration::from_secs(3),
        ..WorldOptions::default()
    })
    .await;
    world.prepared().await.close().await;
    world.feed_until_drained().await;
    let epoch = world.flip(Phase::DynamoOnly).await;
    let (table, cancel) = (IntegrationLogs::default(), CancellationToken::new());
    let fed = |user: &'static str| {
        let sql = format!(
            "SELECT coalesce((SELECT user_id FROM integration_logs WHERE log_id = 1), '') = '{user}'"
        );
        let world = &world;
        async move {
            eventually(user, || async { world.value::<bool>(&sql).await }).await;
        }
    };
    let work = async {
        world.put_item(&table, &log_row(1, "first"), epoch).await;
        fed("first").await;
        world.source_proxy().down().await;
        world.put_item(&table, &log_row(1, "away"), epoch).await;
        let read = world.proxy().seen("GetRecords");
        world.proxy().until(|counts| counts.seen("GetRecords") > read).await;
        world.source_proxy().up().await;
        fed("away").await;
        world.proxy().script(Rule::new(Fault::Page(407)).on("GetRecords").times(3));
        world.proxy().script(Rule::new(Fault::AccessDenied).on("GetRecords").times(3));
        world
            .proxy()
            .script(Rule::new(Fault::Code("SomethingOfNextYearException")).on("GetRecords").times(3));
        world.put_item(&table, &log_row(1, "refused"), epoch).await;
        fed("refused").await;
        assert_eq!(world.proxy().counts().injected(FaultKind::AccessDenied), 3);
        cancel.cancel();
    };
    let (ended, ()) = tokio::join!(world.feed(FeedUntil::Cancelled, &cancel), work);
    ended.expect("it ends when it is told to, and not before");
    world.feed_until_drained().await;
    world.assert_fed().await;
}

#[tokio::test]
async fn a_backfill_behind_a_proxy_that_wants_a_password_sets_no_row_aside() {
    let world = World::behind_proxy().await;
    world.sql(&format!("{}; {}", logs(1, 300), payments(1, 100))).await;
    let coordinator = world.prepared().await;
    for (fault, times) in
        [(Fault::Page(407), 4), (Fault::Page(429), 4), (Fault::Page(413), 4), (Fault::Page(503), 4)]
    {
        world.proxy().script(Rule::new(fault).on("BatchExecuteStatement").after(2).times(times));
    }
    backfill(&coordinator).await;
    assert_eq!(world.proxy().counts().injected(FaultKind::Page), 16);
    no_dead_letters(&world).await;
    world.assert_converged().await;
}

/// An endpoint that takes the probe and refuses the statements of history.
async fn check_half_partiql(fault: Fault) {
    let kind = fault.kind();
    let world = World::behind_proxy().await;
    world.sql(&format!("{}; {}", logs(1, 200), payments(1, 50))).await;
    let coordinator = world.prepared().await;
    world.proxy().script(Rule::new(fault));
    backfill(&coordinator).await;
    let refused = world.proxy().counts().injected(kind);
    assert!(
        (1..40).contains(&refused),
        "{kind:?}: it is noticed once, by the batches under way, and not asked again: {refused}"
    );
    no_dead_letters(&world).await;
    world.proxy().clear();
    world.assert_converged().await;
}

#[tokio::test]
async fn an_endpoint_with_half_of_partiql_is_loaded_by_conditional_puts() {
    check_half_partiql(Fault::FewParameters(2)).await;
    check_half_partiql(Fault::LongStatements(120)).await;
}

/// V40: the statement of a row with hundreds of columns is longer than DynamoDB takes. Whatever the length is
/// near that bound, none is sent that it refuses.
#[tokio::test]
async fn a_row_of_hundreds_of_columns_goes_in_whatever_the_length_of_its_statement_is() {
    const COLUMNS: usize = 255;
    let world = World::behind_proxy().await;
    world.prepared().await.close().await;
    world.proxy().script(Rule::new(Fault::LongStatements(STATEMENT_CHARACTERS_MAX)));
    let name = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let columns: Vec<&'static str> = (0..COLUMNS).map(|n| name(format!("one_of_hundreds_{n:08}"))).collect();
    let value = || AttributeValue::S("x".to_owned());
    let insert = async |id: i64, length: usize| {
        let mut item = MigratableTable::encode(&IntegrationLogs::default(), &log_row(id, "u")).expect("fits");
        for column in &columns {
            item.push(column, value());
        }
        item.push(name("y".repeat(length)), value());
        let (read_at, path) = (world.target.reading(), LoadPath::GuardedBatch);
        let done = world.target.insert_initial_load(read_at, path, LOGS, vec![item]).await.expect("answers");
        assert_eq!((done.written, done.refused), (1, Vec::new()), "{length}");
    };
    for (id, length) in (1..).zip((1..1_000).step_by(4)) {
        insert(id, length).await;
    }
    let (batches, puts) = (world.proxy().seen("BatchExecuteStatement"), world.proxy().seen("PutItem"));
    assert!(batches > 10 && puts > 10, "both sides of the bound were met: {batches} and {puts}");
    assert_eq!(world.proxy().counts().injected(FaultKind::LongStatements), 0);
    // That the proxy plays it: one character more than DynamoDB takes.
    let (begins, ends) = (format!("INSERT INTO \"{LOGS}\" VALUE {{'PK':'x','SK':'y','"), "':1}");
    let fills = "z".repeat(STATEMENT_CHARACTERS_MAX + 1 - begins.len() - ends.len());
    let statement = BatchStatementRequest::builder().statement(format!("{begins}{fills}{ends}"));
    let request = world.target.client().batch_execute_statement();
    let refused = request.statements(statement.build().expect("a statement")).send().await;
    assert!(refused.is_err() && world.proxy().counts().injected(FaultKind::LongStatements) == 1);
}

#[tokio::test]
async fn a_503_that_comes_after_the_write_makes_nothing_happen_twice() {
    let world = World::behind_proxy().await.dynamo_only(&payments(1, 3)).await;
    let app = world.app(WriteOptions::default());
    let store = app.store::<Payments>();
    let before =
        store.get(&Payments::key(&payment_row(1, 2, "r"))).await.expect("read").expect("a row").loan_id;
    world.proxy().script(Rule::new(Fault::PageAfter(503)).on("PutItem").table(PAYMENTS).times(1));
    let mut runs = 0;
    let updated = store
        .update(1, |payment| {
            runs += 1;
            payment.loan_id += 1;
        })
        .await
        .expect("looked up");
    assert_eq!(world.proxy().counts().injected(FaultKind::PageAfter), 1);
    assert_eq!(updated.row.expect("a row").loan_id, before + 1, "the closure ran {runs} times");
    let item = world.live_at(&world.payments_table(), &payment_key(1, 2)).await;
    assert_eq!(Payments::decode(&item).expect("a payment").loan_id, before + 1);
}

#[tokio::test]
async fn the_step_to_dynamo_only_and_back_keeps_to_the_rate_of_describe_stream() {
    let world = World::behind_proxy().await;
    world.sql(&format!("{}; {}", logs(1, 40), payments(1, 40))).await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    let mut migration = world.migration();
    // As feeds run outside of tests.
    migration.options.reverse_feed = ReverseFeedOptions::default();
    let coordinator = world.coordinator_of(migration).await;
    world.proxy().script(Rule::new(Fault::Calls(10)).on("DescribeStream"));
    world.proxy().script(Rule::new(Fault::ShardCalls(5)));
    let begun = tokio::time::Instant::now();
    world.step_to(&coordinator, Phase::DynamoOnly).await;
    world.step_to(&coordinator, Phase::HybridRead).await;
    let (took_s, asked) = (begun.elapsed().as_secs_f64(), world.proxy().seen("DescribeStream"));
    assert_eq!(world.proxy().counts().injected(FaultKind::Calls), 0, "{asked} calls in {took_s:.1} s");
    assert_eq!(world.proxy().counts().injected(FaultKind::ShardCalls), 0, "of any shard, in {took_s:.1} s");
    assert!(asked as f64 <= 10.0 + 5.0 * took_s, "{asked} calls in {took_s:.1} s");
    coordinator.close().await;
}

#[tokio::test]
async fn writes_wait_until_the_index_shows_what_was_delivered_last() {
    let world = World::behind_proxy().await;
    world.sql(&format!("{}; {}", logs(1, 40), payments(1, 40))).await;
    let coordinator = world.migrated_to(Phase::HybridRead).await;
    // As every validation does: from here on deliveries are noted.
    world.source.begin_pass().await.expect("a pass");
    world.sql("UPDATE payments SET customer_id = customer_id + 100 WHERE payment_id <= 5").await;
    world.proxy().script(Rule::new(Fault::EmptyIndex).times(30));
    world.step_to(&coordinator, Phase::DynamoOnly).await;
    assert_eq!(
        world.proxy().counts().injected(FaultKind::EmptyIndex),
        30,
        "it was looked at until it showed them"
    );
    let app = world.app_of(world.source.clone(), WriteOptions::default(), sweeping_never());
    let store = app.store::<Payments>();
    for id in 1..=5 {
        let outcome = store.update(id, |payment| payment.loan_id = 77).await.expect("written");
        assert_eq!(outcome.row.expect("it is found").loan_id, 77);
    }
    coordinator.close().await;
    drop(Arc::new(app));
}

#[tokio::test]
async fn an_index_that_does_not_catch_up_keeps_the_truth_where_it_is() {
    let world = World::behind_proxy().await;
    world.sql(&payments(1, 40)).await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    let mut migration = world.migration();
    migration.options.steps.catch_up_max = Duration::from_secs(6);
    let coordinator = world.coordinator_of(migration).await;
    world.source.begin_pass().await.expect("a pass");
    world.sql("UPDATE payments SET customer_id = customer_id + 100 WHERE payment_id <= 5").await;
    world.relay_until_empty().await;
    world.record_verdict().await;
    world.proxy().script(Rule::new(Fault::EmptyIndex));
    let refused = coordinator.step(Phase::DynamoOnly, None, &()).await.expect_err("the index lags");
    assert!(refused.to_string().contains("does not show"), "{refused}");
    assert_eq!(world.source.control().await.expect("a phase").phase, Phase::HybridRead);
    world.proxy().clear();
    coordinator.close().await;
    world.assert_converged().await;
}
