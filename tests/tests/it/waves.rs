//! R43: one migration after another in one database. What is left of the first goes on working while the
//! second is under way and when it is complete, and neither is taken for the other.

use std::sync::Mutex;
use std::time::Duration;

use lockstep::Store;
use lockstep::instance::InstanceOptions;
use lockstep::migration::{Migration as App, MigrationOptions};
use lockstep_coordinator::{
    Archive, Completion, Coordinator, CoordinatorError, MigrationContext, Progress, PurgeOptions,
    PurgeProgress, RelayUntil, UninstallOptions, Unprotected, complete, drop_source, examine, observe, purge,
    relay, status, uninstall,
};
use lockstep_core::{Epoch, MigratableTable, Phase};
use lockstep_dynamo::{Purge, Target, TargetOptions};
use lockstep_integration_logs::IntegrationLogs;
use lockstep_payments::Payments;
use lockstep_postgres::{Ending, Entry, TableBinding};
use lockstep_tests::World;
use lockstep_tests::world::rows::{log_row, logs, payment_row, payments};
use lockstep_tests::world::{CutShort, LOGS, PAYMENTS, backfill, eventually, within};
use lockstep_validator::{
    CancellationToken as Cancel, ValidateOptions, ValidateSettings, ValidationProgress, validate,
};

const FIRST: &str = "lockstep_control";
const SECOND: &str = "second_control";
const LEASE: Duration = Duration::from_secs(5);

/// Keeps the journal in memory.
#[derive(Default)]
struct Kept(Mutex<Vec<String>>);

impl Archive for Kept {
    fn keep(&self, _epoch: Epoch, journal: &[Entry]) -> std::io::Result<String> {
        *self.0.lock().expect("no panic") = journal.iter().map(|entry| entry.step.clone()).collect();
        Ok("memory".to_owned())
    }
}

fn target(world: &World, control_table: &str) -> TargetOptions {
    TargetOptions { control_table: control_table.to_owned(), ..world.target_options() }
}

/// A migration as a process of its own has it.
async fn migration(world: &World, control_table: &str, tables: Vec<TableBinding>) -> MigrationContext {
    MigrationContext {
        source: world.another_source().await,
        target: Target::connect(target(world, control_table)).await,
        tables,
        ..world.migration()
    }
}

async fn first(world: &World) -> MigrationContext {
    migration(world, FIRST, vec![world.payments_table()]).await
}

async fn second(world: &World) -> MigrationContext {
    migration(world, SECOND, vec![world.logs_table()]).await
}

fn options() -> ValidateOptions {
    ValidateOptions::from(ValidateSettings {
        settle_timeout: Duration::from_secs(10),
        ..ValidateSettings::default()
    })
}

/// Moves what is pending, and records a verdict for the next step.
async fn settle(migration: &MigrationContext) {
    let (progress, cancel) = (Progress::new(&migration.tables), Cancel::new());
    relay(migration, RelayUntil::Empty, &progress, &cancel).await.expect("delivered");
    let (source, tables) = (&migration.source, &migration.tables);
    let compared = ValidationProgress::new(tables);
    let report = validate(source, &migration.target, tables, &options(), &compared, &cancel).await;
    let epoch = source.control().await.expect("a phase").epoch;
    let json = serde_json::to_value(&report).expect("a report is JSON");
    source.record_verdict(epoch, report.verdict.is_consistent(), &json).await.expect("recorded");
}

/// Begins it, and goes to `phase`.
async fn moved_to(world: &World, migration: &MigrationContext, phase: Phase) {
    let coordinator = world.coordinator_of(migration.clone()).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    backfill(&coordinator).await;
    let now = migration.source.control().await.expect("a phase").phase;
    for to in Phase::ALL.into_iter().filter(|to| now < *to && *to <= phase) {
        if to >= Phase::HybridRead {
            settle(migration).await;
        }
        coordinator.step(to, None, &()).await.expect("nothing refuses");
    }
    coordinator.close().await;
}

async fn completed(migration: &MigrationContext) -> Result<Completion, CoordinatorError> {
    let kept = Kept::default();
    within(Duration::from_mins(3), async {
        complete(migration, &options(), &kept, &(), &Cancel::new()).await
    })
    .await
}

/// A world in which the first migration is complete.
async fn after_the_first() -> World {
    let world = World::start().await;
    world.sql(&format!("{}; {}", logs(1, 20), payments(1, 20))).await;
    let first = first(&world).await;
    moved_to(&world, &first, Phase::DynamoOnly).await;
    completed(&first).await.expect("both stores hold the same");
    world
}

async fn refused(migration: &MigrationContext) -> String {
    Coordinator::open(migration.clone()).await.err().expect("refused").to_string()
}

/// While the first is under way, nothing of the second is begun, and its commands take nothing of the first.
async fn is_not_beside(world: &World) {
    let before: String = world.value("SELECT phase || epoch FROM lockstep.control").await;
    let said = refused(&second(world).await).await;
    for part in ["one migration at a", "payments", "`complete` it", "`uninstall`"] {
        assert!(said.contains(part), "not beside one another: {said}");
    }
    let second = second(world).await;
    let taken = uninstall(&second, &UninstallOptions::default(), &Kept::default(), &()).await;
    let said = taken.expect_err("it is another one's").to_string();
    assert!(said.contains("payments"), "{said}");
    let said = completed(&second).await.expect_err("it is another one's").to_string();
    assert!(said.contains("a migration of payments is under way"), "{said}");
    // Its doctor names a command that leads on, and its status shows nothing of the first as its own.
    let seen = examine(&observe(&second.source, &second.target, &second.tables).await.expect("seen"));
    assert!(!seen.sound && seen.findings.len() == 1 && seen.next.len() == 1, "{seen:#?}");
    assert!(seen.next[0].contains("payments") && seen.next[0].contains("`complete` it"), "{seen:#?}");
    let shown = status(&second.source, &second.target, &second.tables).await.expect("asked");
    assert!(!shown.installed && shown.phase.is_none(), "{shown:?}");
    assert!(shown.other_under_way.is_some_and(|other| other.contains("payments")));
    let now: String = world.value("SELECT phase || epoch FROM lockstep.control").await;
    assert_eq!(now, before, "the first is untouched");
}

fn app_options(world: &World, control_table: &str, lease: Duration) -> MigrationOptions {
    let options = MigrationOptions::new(world.source_options(), target(world, control_table))
        .instance(InstanceOptions { name: control_table.to_owned(), lease });
    let options = match control_table {
        FIRST => options.table(Payments::default(), PAYMENTS, PAYMENTS),
        _ => options.table(IntegrationLogs::default(), LOGS, LOGS),
    };
    options.expect("plain names")
}

async fn app(world: &World, control_table: &str) -> Result<App, lockstep_core::Error> {
    App::connect(app_options(world, control_table, LEASE)).await
}

/// A payment that the first one's application writes is read by it, and is in DynamoDB alone.
async fn payments_go_on(world: &World, app: &App, reference: &str) {
    let (store, row) = (app.store::<Payments>(), payment_row(5, 6, reference));
    let outcome = store.put(&row).await.expect("the first goes on");
    assert_eq!(outcome.control.phase, Phase::DynamoOnly, "{reference}");
    let read = store.get(&Payments::key(&row)).await.expect("read").expect("a row");
    assert_eq!(read.transaction_reference.as_deref(), Some(reference));
    let none = world.try_value("SELECT count(*) = 0 FROM payments WHERE transaction_reference IS NOT NULL");
    assert!(none.await.expect("asked"), "PostgreSQL has none of it");
}

/// Checks what commands of the first say and do while schema `lockstep` is the second's.
async fn first_is_as_it_was(world: &World) {
    let before: String = world.value("SELECT phase || epoch FROM lockstep.control").await;
    let first = first(world).await;
    let again = completed(&first).await.expect("nothing is left to do");
    assert!(again.resumed && again.journal_file == "memory");
    let seen = observe(&first.source, &first.target, &first.tables).await.expect("seen");
    let said = examine(&seen);
    assert!(said.sound && said.state.starts_with("Complete since"), "{said:#?}");
    assert!(said.findings.iter().any(|finding| finding.means.contains("another migration")), "{said:#?}");
    let status = status(&first.source, &first.target, &first.tables).await.expect("asked");
    assert!(!status.installed && status.target_record.is_some_and(|record| record.completed_at.is_some()));
    let remembered = status.completed.expect("PostgreSQL remembers it");
    assert_eq!(
        (remembered.journal_file.as_str(), remembered.control_table.as_deref()),
        ("memory", Some(FIRST))
    );
    for copy in [false, true] {
        let options = UninstallOptions { copy, ..UninstallOptions::default() };
        let taken = uninstall(&first, &options, &Kept::default(), &()).await;
        match copy {
            false => assert!(taken.expect_err("complete").to_string().contains(FIRST)),
            true => assert!(taken.expect("nothing of it is there").was_gone),
        }
    }
    let said = refused(&first).await;
    assert!(said.contains("the migration is complete since"), "{said}");
    // A run that was overtaken, and does not know it.
    let ending = Ending {
        control_table: FIRST.to_owned(),
        epoch: again.epoch,
        actor: "late".to_owned(),
        journal_file: "another".to_owned(),
    };
    let late = world.another_source().await;
    late.archive(&first.tables, &ending, Duration::from_secs(1)).await.expect("nothing is left to do");
    let now: String = world.value("SELECT phase || epoch FROM lockstep.control").await;
    assert_eq!(now, before, "the second is untouched");
}

#[tokio::test]
async fn a_second_one_goes_the_whole_way_while_applications_of_the_first_go_on() {
    let world = World::start().await;
    world.sql(&format!("{}; {}", logs(1, 20), payments(1, 20))).await;
    let (first, second) = (first(&world).await, second(&world).await);
    moved_to(&world, &first, Phase::DynamoOnly).await;
    // One process, two handles; that of the first was there before the completion.
    let of_first = app(&world, FIRST).await.expect("it starts");
    is_not_beside(&world).await;
    completed(&first).await.expect("both stores hold the same");

    let over = Cancel::new();
    let writing = async {
        let mut written: i64 = 0;
        while !over.is_cancelled() {
            let row = payment_row(1 + written % 20, 1 + written % 20, "meanwhile");
            let outcome = of_first.store::<Payments>().put(&row).await.expect("no write is refused");
            assert_eq!(outcome.control.phase, Phase::DynamoOnly);
            written += 1;
        }
        written
    };
    let moving = async {
        let before = examine(&observe(&second.source, &second.target, &second.tables).await.expect("seen"));
        assert!(before.state.contains("has not begun") && before.state.contains(FIRST), "{before:#?}");
        assert_eq!(before.next, ["cargo xtask migrate"]);
        moved_to(&world, &second, Phase::DualWrite).await;
        first_is_as_it_was(&world).await;
        let seen = status(&second.source, &second.target, &second.tables).await.expect("asked");
        assert_eq!((seen.phase, seen.earlier.len()), (Some(Phase::DualWrite), 1));
        for part in [FIRST, PAYMENTS, "its journal in memory"] {
            assert!(seen.earlier[0].contains(part), "{part}: {:?}", seen.earlier);
        }
        let restarted = app(&world, FIRST).await.expect("it starts beside the second");
        let of_second = app(&world, SECOND).await.expect("it starts");
        payments_go_on(&world, &restarted, "restarted").await;
        let put = of_second.store::<IntegrationLogs>().put(&log_row(7, "both")).await.expect("written");
        assert_eq!(put.control.phase, Phase::DualWrite);
        let instances: Vec<String> = sqlx::query_scalar("SELECT name FROM lockstep.instances")
            .fetch_all(world.strangers())
            .await
            .expect("asked");
        assert_eq!(instances, [SECOND], "that of the first is not registered with the second");
        moved_to(&world, &second, Phase::DynamoOnly).await;
        first_is_as_it_was(&world).await;
        payments_go_on(&world, &restarted, "beside DynamoOnly").await;
        let done = completed(&second).await.expect("both stores hold the same");
        eventually("its application knows the last epoch", || async {
            let put = of_second.store::<IntegrationLogs>().put(&log_row(8, "after")).await.expect("written");
            put.control.epoch == done.epoch
        })
        .await;
        payments_go_on(&world, &restarted, "after both").await;
        restarted.shutdown().await;
        of_second.shutdown().await;
        over.cancel();
    };
    let (written, ()) = tokio::join!(writing, moving);
    assert!(written > 0);
    of_first.shutdown().await;

    let remembered: Vec<(String, bool, String)> = sqlx::query_as(
        "SELECT control_table, migration_id IS NOT NULL, tables -> 0 ->> 'name'
         FROM lockstep_archive.completed ORDER BY completed_at",
    )
    .fetch_all(world.strangers())
    .await
    .expect("asked");
    let named = |name: &str, table: &str| (name.to_owned(), true, table.to_owned());
    assert_eq!(remembered, [named(FIRST, PAYMENTS), named(SECOND, LOGS)]);
    let journals: i64 = world
        .value(
            "SELECT count(DISTINCT migration_id) FROM lockstep_archive.journal
                WHERE step = 'complete' AND kind = 'done'",
        )
        .await;
    assert_eq!(journals, 2);
    for sql in ["DELETE FROM payments", "DELETE FROM integration_logs"] {
        let guarded = world.try_sql(sql).await.expect_err("guarded").to_string();
        assert!(guarded.contains("its migration is complete"), "{guarded}");
    }
    // Each drops its own table.
    let yes = async || Ok::<_, String>("it is there".to_owned());
    for (of, relation) in [(&first, "public.payments"), (&second, "public.integration_logs")] {
        assert!(completed(of).await.expect("nothing is left to do").resumed);
        assert_eq!(drop_source(of, yes, Unprotected::Known, &()).await.expect("dropped").dropped, [relation]);
    }
}

#[tokio::test]
async fn the_tables_and_the_name_of_a_completed_one_are_refused_to_the_next() {
    let world = after_the_first().await;
    let (logs, payments) = (world.logs_table(), world.payments_table());
    let into_payments = TableBinding { target_name: PAYMENTS.to_owned(), ..logs.clone() };
    for (control_table, tables, says) in [
        (SECOND, vec![payments.clone()], &["payments was moved to payments", FIRST][..]),
        (SECOND, vec![logs.clone(), payments.clone()], &["payments was moved to payments", "Take it out"]),
        (SECOND, vec![into_payments], &["integration_logs to DynamoDB table payments", FIRST]),
        (FIRST, vec![logs.clone()], &["control table of its own", "target.control_table"]),
    ] {
        let said = refused(&migration(&world, control_table, tables).await).await;
        assert!(says.iter().all(|part| said.contains(part)), "{says:?}: {said}");
    }
    // The control table in DynamoDB is gone: PostgreSQL knows the name.
    let client = world.plain_target.client();
    client.delete_table().table_name(FIRST).send().await.expect("deleted");
    let said = refused(&migration(&world, FIRST, vec![logs.clone()]).await).await;
    assert!(said.contains(FIRST) && said.contains("a name of its own"), "{said}");
    assert!(!world.source.is_schema_taken().await.expect("asked"), "nothing was begun");
    // What is remembered has no tables: then their guard tells.
    world.sql("UPDATE lockstep_archive.completed SET tables = '[]', control_table = NULL").await;
    let said = refused(&migration(&world, SECOND, vec![payments]).await).await;
    assert!(said.contains("public.payments was moved by a migration that is complete"), "{said}");
    moved_to(&world, &second(&world).await, Phase::DualWrite).await;
}

#[tokio::test]
async fn an_application_that_names_the_other_ones_control_table_does_not_start() {
    let world = after_the_first().await;
    moved_to(&world, &second(&world).await, Phase::DualWrite).await;
    for (control_table, table, says) in
        [(FIRST, LOGS, "integration_logs is no table of it"), (SECOND, PAYMENTS, FIRST)]
    {
        let options = MigrationOptions::new(world.source_options(), target(&world, control_table));
        let options = match table {
            LOGS => options.table(IntegrationLogs::default(), LOGS, LOGS),
            _ => options.table(Payments::default(), PAYMENTS, PAYMENTS),
        };
        let said = App::connect(options.expect("plain names")).await.err().expect("refused").to_string();
        assert!(said.contains(says) && said.contains("target.control_table"), "{said}");
    }
}

#[tokio::test]
async fn a_completion_of_an_earlier_version_is_understood_and_named_by_the_next_complete() {
    let world = after_the_first().await;
    // As it was left then: one row, without a name, and a journal that says not whose it is.
    world
        .sql(
            "DROP INDEX lockstep_archive.completed_of_control_table;
             ALTER TABLE lockstep_archive.completed DROP COLUMN control_table, DROP COLUMN migration_id,
                 DROP COLUMN tables,
                 ADD COLUMN singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton);
             ALTER TABLE lockstep_archive.journal DROP COLUMN migration_id",
        )
        .await;
    let second = second(&world).await;
    moved_to(&world, &second, Phase::DualWrite).await;
    let restarted = app(&world, FIRST).await.expect("it starts beside the second");
    payments_go_on(&world, &restarted, "without a name").await;
    restarted.shutdown().await;
    first_is_as_it_was(&world).await;
    let told: String = world
        .value(
            "SELECT completed -> 0 ->> 'control_table' FROM lockstep.control
                WHERE jsonb_array_length(completed) = 1",
        )
        .await;
    assert_eq!(told, FIRST, "`complete` has named it, where its applications look");
    let of_first: i64 =
        world.value("SELECT count(*) FROM lockstep_archive.journal WHERE migration_id IS NULL").await;
    assert_eq!(of_first, 0);
    moved_to(&world, &second, Phase::DynamoOnly).await;
    completed(&second).await.expect("both stores hold the same");
    let names: i64 = world.value("SELECT count(control_table) FROM lockstep_archive.completed").await;
    assert_eq!(names, 2);
}

#[tokio::test]
async fn the_second_completion_broken_off_anywhere_leaves_the_first_and_comes_to_its_end() {
    let world = after_the_first().await;
    let second = second(&world).await;
    moved_to(&world, &second, Phase::DynamoOnly).await;
    let (first, kept, options, cancel) = (first(&world).await, Kept::default(), options(), Cancel::new());
    let (mut cut, mut polls) = (0, 8);
    loop {
        match CutShort::after(polls, complete(&second, &options, &kept, &(), &cancel)).await {
            // The one before is not quite gone.
            Some(Err(CoordinatorError::Store(error))) if error.kind == lockstep_core::Kind::Busy => continue,
            Some(ended) => break drop(ended.expect("it ended well")),
            None => cut += 1,
        }
        assert!(completed(&first).await.expect("nothing is left to do").resumed);
        polls += polls / 3;
    }
    assert!(cut > 3, "{cut}");
    assert!(!world.source.is_schema_taken().await.expect("asked"));
    let remembered: i64 = world.value("SELECT count(*) FROM lockstep_archive.completed").await;
    assert_eq!(remembered, 2);
    // The purge of the first goes by the first one's record.
    let what = PurgeOptions { what: Purge::Tombstones, writes_per_s_max: None };
    let progress = PurgeProgress::default();
    eventually("the requests of before the completion are dead", || async {
        purge(&first, what, &progress, &Cancel::new()).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_second_one_is_taken_out_again_and_the_first_is_remembered() {
    let world = after_the_first().await;
    let second = second(&world).await;
    moved_to(&world, &second, Phase::DualWrite).await;
    uninstall(&second, &UninstallOptions::default(), &Kept::default(), &()).await.expect("taken out");
    assert!(!world.source.is_schema_taken().await.expect("asked"));
    assert!(completed(&first(&world).await).await.expect("nothing is left to do").resumed);
    world.sql("DELETE FROM integration_logs WHERE log_id > 10").await;
    world.try_sql("DELETE FROM payments").await.expect_err("guarded");
    // And begins again, with the same tables, once what it left in DynamoDB is deleted.
    world.plain_target.client().delete_table().table_name(LOGS).send().await.expect("deleted");
    moved_to(&world, &self::second(&world).await, Phase::HybridRead).await;
    first_is_as_it_was(&world).await;
}

/// Payments are moved, their copy is cleaned up, and logs are made under the name `payments`.
#[tokio::test]
async fn a_relation_of_the_first_is_refused_until_it_was_cleaned_up_and_is_the_seconds_from_then_on() {
    let world = after_the_first().await;
    let first = first(&world).await;
    let made_again = TableBinding { relation: world.payments_table().relation, ..world.logs_table() };
    let second = async || migration(&world, SECOND, vec![made_again.clone()]).await;
    let said = refused(&second().await).await;
    assert!(
        said.contains("public.payments was moved by") && said.contains("cleanup --drop-source"),
        "{said}"
    );
    let yes = async || Ok::<_, String>("it is there".to_owned());
    assert_eq!(
        drop_source(&first, yes, Unprotected::Known, &()).await.expect("dropped").dropped,
        ["public.payments"]
    );
    world
        .sql(
            "CREATE TABLE payments (LIKE integration_logs INCLUDING ALL);
             INSERT INTO payments SELECT * FROM integration_logs",
        )
        .await;
    let second = second().await;
    let is_the_seconds = async || {
        let said =
            drop_source(&first, yes, Unprotected::Known, &()).await.expect_err("another table").to_string();
        assert!(said.contains("it is another table, and stays"), "{said}");
        assert_eq!(world.count("payments").await, 20);
    };
    moved_to(&world, &second, Phase::DynamoOnly).await;
    is_the_seconds().await;
    completed(&second).await.expect("both stores hold the same");
    is_the_seconds().await;
    let seen = observe(&first.source, &first.target, &first.tables).await.expect("seen");
    assert!(seen.completed.is_some() && seen.left.is_empty(), "{:?}", seen.left);
    assert_eq!(
        drop_source(&second, yes, Unprotected::Known, &()).await.expect("dropped").dropped,
        ["public.payments"]
    );
}

#[tokio::test]
async fn the_beginning_of_the_second_broken_off_anywhere_goes_on_and_is_never_taken_for_the_first() {
    let world = after_the_first().await;
    let first = first(&world).await;
    let (mut cut, mut polls) = (0, 6);
    loop {
        // Each try is a process of its own.
        let second = second(&world).await;
        let begun = async {
            let coordinator = Coordinator::open(second).await?;
            let prepared = coordinator.prepare(&()).await.map(drop);
            coordinator.close().await;
            prepared
        };
        match CutShort::after(polls, begun).await {
            // The one before is not quite gone.
            Some(Err(CoordinatorError::Store(error))) if error.kind == lockstep_core::Kind::Busy => continue,
            Some(ended) => break ended.expect("it goes on"),
            None => cut += 1,
        }
        assert!(completed(&first).await.expect("nothing is left to do").resumed);
        let of_first = app(&world, FIRST).await.expect("it starts beside what there is of the second");
        payments_go_on(&world, &of_first, &format!("after {polls}")).await;
        of_first.shutdown().await;
        polls += polls / 3;
    }
    assert!(cut > 5, "{cut}");
    first_is_as_it_was(&world).await;
    let instances: i64 = world.value("SELECT count(*) FROM lockstep.instances").await;
    assert_eq!(instances, 0, "that of the first is registered with the first alone");
    moved_to(&world, &second(&world).await, Phase::DualWrite).await;
    // What a process that is killed between two schema migrations leaves: a part of it, without an identity.
    let all = world.source.migrate_schema_as_of(usize::MAX).await.expect("there");
    uninstall(&second(&world).await, &UninstallOptions::default(), &Kept::default(), &())
        .await
        .expect("taken out");
    for known in 1..all.min(9) {
        world.source.migrate_schema_as_of(known).await.expect("a part of it");
        let of_first = app(&world, FIRST).await.expect("it starts beside what there is of the second");
        payments_go_on(&world, &of_first, &format!("with {known} of them")).await;
        of_first.shutdown().await;
        world.sql("DROP SCHEMA lockstep CASCADE").await;
    }
}

/// A process of its own, stopped as a machine that is suspended is: nothing of it runs until it is woken.
#[tokio::test]
async fn an_application_of_the_first_that_slept_through_its_end_wakes_up_in_the_first() {
    let world = World::start().await;
    world.sql(&format!("{}; {}", logs(1, 20), payments(1, 20))).await;
    let first = first(&world).await;
    moved_to(&world, &first, Phase::DualWrite).await;
    let options = app_options(&world, FIRST, Duration::from_secs(5));
    let (tell, asleep) = tokio::sync::oneshot::channel();
    let (wake, woken) = std::sync::mpsc::channel::<()>();
    let process = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let app = runtime.block_on(App::connect(options)).expect("it starts");
        let written = runtime.block_on(app.store::<Payments>().put(&payment_row(5, 5, "before")));
        tell.send(written.expect("written").control.phase).expect("heard");
        woken.recv().expect("woken");
        runtime.block_on(async {
            let store = app.store::<Payments>();
            let (mut refused, row) = (0, payment_row(5, 6, "woken"));
            let put = loop {
                match store.put(&row).await {
                    Ok(put) => break put,
                    Err(_) => refused += 1,
                }
                assert!(refused < 1_000, "it never learns");
                tokio::time::sleep(Duration::from_millis(10)).await;
            };
            let read = store.get(&Payments::key(&row)).await.expect("read").expect("a row");
            app.shutdown().await;
            (put.control.phase, read.transaction_reference)
        })
    });
    assert_eq!(asleep.await.expect("it runs"), Phase::DualWrite);
    moved_to(&world, &first, Phase::DynamoOnly).await;
    // Decided, and what it leaves is not taken out yet: the second waits for that.
    let epoch = first.target.control().record().await.expect("read").expect("a record").epoch;
    first.target.control().complete(epoch).await.expect("decided");
    is_not_beside(&world).await;
    assert!(completed(&first).await.expect("it goes on").resumed);
    let second = second(&world).await;
    moved_to(&world, &second, Phase::DualWrite).await;
    wake.send(()).expect("it sleeps");
    let (phase, read) =
        tokio::task::spawn_blocking(|| process.join()).await.expect("ended").expect("no panic");
    assert_eq!((phase, read.as_deref()), (Phase::DynamoOnly, Some("woken")));
    let epochs: bool =
        world.value("SELECT c.epoch > (c.completed -> 0 ->> 'epoch')::bigint FROM lockstep.control c").await;
    assert!(epochs, "no epoch of the second is one of the first");
    let old: i64 = world.value("SELECT count(*) FROM payments WHERE transaction_reference = 'woken'").await;
    assert_eq!(old, 0, "PostgreSQL has none of it");
    let instances: i64 = world.value("SELECT count(*) FROM lockstep.instances").await;
    assert_eq!(instances, 0, "it is not registered with the second");
}

/// A process of the first wakes up, however deep in a call it was.
#[tokio::test]
async fn a_handle_of_the_first_that_slept_reads_and_changes_nothing_of_the_second() {
    let world = World::start().await;
    world.sql(&format!("{}; {}", logs(1, 20), payments(1, 20))).await;
    let asleep = first(&world).await;
    moved_to(&world, &asleep, Phase::DynamoOnly).await;
    let done = completed(&first(&world).await).await.expect("both stores hold the same");
    // The relation is made again: no guard stands behind what follows.
    let yes = async || Ok::<_, String>("it is there".to_owned());
    drop_source(&first(&world).await, yes, Unprotected::Known, &()).await.expect("dropped");
    world.sql("CREATE TABLE payments (LIKE integration_logs INCLUDING ALL)").await;
    let second = second(&world).await;
    moved_to(&world, &second, Phase::DualWrite).await;
    let control = second.source.control().await.expect("its own");
    assert!(control.epoch > done.epoch, "no epoch of the second is one of the first: {control:?}");
    world.sql("UPDATE integration_logs SET status_code = status_code").await;
    let pending = world.count("lockstep.pending").await;
    assert!(pending > 0);

    let is_told = |said: String| assert!(said.contains("that of another migration"), "{said}");
    is_told(asleep.source.control().await.expect_err("it is another one's").to_string());
    is_told(asleep.source.contract().await.expect_err("it is another one's").to_string());
    let begun = lockstep_postgres::begin_write(&asleep.source).await.expect_err("no write begins");
    assert_eq!(begun.kind, lockstep_core::Kind::Fenced, "its caller tries again, in DynamoDB");
    is_told(begun.to_string());
    for until in [RelayUntil::Cancelled, RelayUntil::Empty] {
        let (progress, cancel) = (Progress::new(&asleep.tables), Cancel::new());
        is_told(relay(&asleep, until, &progress, &cancel).await.expect_err("it ends").to_string());
    }
    assert_eq!(world.count("lockstep.relays").await, 0, "it took no share of the second one's keys");
    assert_eq!(world.count("lockstep.pending").await, pending);
    // A store that asks by itself goes by the record of its own migration.
    let table = std::sync::Arc::new(Payments::default());
    let store = Store::new(asleep.source.clone(), asleep.target.clone(), table, world.payments_table());
    let put = store.put(&payment_row(5, 6, "woken")).await.expect("the first goes on");
    assert_eq!(put.control.phase, Phase::DynamoOnly);
    assert_eq!(world.count("payments").await, 0, "PostgreSQL has none of it");
    settle(&second).await;
    // From its next question on it knows.
    let said = refused(&asleep).await;
    assert!(said.contains("the migration is complete since"), "{said}");
}

/// 1. The second is in DualWrite. 2. PostgreSQL is restored to when the first was in DynamoOnly.
#[tokio::test]
async fn restored_to_before_the_end_of_the_first_that_is_ended_again_and_the_second_begins_again() {
    let mut world = World::start().await;
    world.sql(&format!("{}; {}", logs(1, 20), payments(1, 20))).await;
    let before = first(&world).await;
    moved_to(&world, &before, Phase::DynamoOnly).await;
    let dump = world.dump_source(false).await;
    completed(&before).await.expect("both stores hold the same");
    moved_to(&world, &second(&world).await, Phase::DualWrite).await;
    world.restore_dump(&dump).await;

    let next = second(&world).await;
    let seen = examine(&observe(&next.source, &next.target, &next.tables).await.expect("seen"));
    assert!(seen.next[0].contains("`complete` it") && seen.findings.len() == 2, "{seen:#?}");
    assert!(seen.next[1].contains("choose another name"), "as after any restore to before it: {seen:#?}");
    let first = first(&world).await;
    let seen = examine(&observe(&first.source, &first.target, &first.tables).await.expect("seen"));
    assert!(seen.next.iter().any(|next| next.contains("xtask complete")), "{seen:#?}");
    assert!(completed(&first).await.expect("it goes on").resumed);
    // As after a restore to before a migration: other names, and once more from the beginning.
    let tables = vec![TableBinding { target_name: "logs_again".to_owned(), ..world.logs_table() }];
    let again = migration(&world, "third_control", tables).await;
    let seen = examine(&observe(&again.source, &again.target, &again.tables).await.expect("seen"));
    assert_eq!(seen.next, ["cargo xtask migrate"], "{seen:#?}");
    moved_to(&world, &again, Phase::DualWrite).await;
}

#[tokio::test]
async fn a_dump_before_the_second_and_one_within_it_carry_what_is_remembered_of_the_first() {
    for without_rights in [false, true] {
        let mut world = after_the_first().await;
        let dump = world.dump_source(without_rights).await;
        world.restore_dump(&dump).await;
        world.try_sql("DELETE FROM payments").await.expect_err("guarded");
        assert!(completed(&first(&world).await).await.expect("nothing is left to do").resumed);
        let said = refused(&migration(&world, SECOND, world.tables()).await).await;
        assert!(said.contains("payments was moved to payments"), "{said}");
        moved_to(&world, &second(&world).await, Phase::DualWrite).await;
        let dump = world.dump_source(without_rights).await;
        world.restore_dump(&dump).await;
        first_is_as_it_was(&world).await;
        let of_first = app(&world, FIRST).await.expect("it starts beside the second");
        payments_go_on(&world, &of_first, "after the dump").await;
        of_first.shutdown().await;
    }
}
