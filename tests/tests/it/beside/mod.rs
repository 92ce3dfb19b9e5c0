//! R43: two migrations beside one another in one database, each with a control schema and a control table of
//! its own, by the real command.

mod seen;
mod tables;
mod told;

use std::time::Duration;

use lockstep_tests::World;
use lockstep_tests::world::rows::{log, logs, payments};
use lockstep_tests::world::{LOGS, PAYMENTS, run};
use sqlx::{AssertSqlSafe, Executor as _};
use tokio_util::sync::CancellationToken;

use seen::{kept, locks, rights, shape};
use told::{Told, all, declared};

const ORDERS: &str = "
    CREATE TABLE orders (id bigint PRIMARY KEY, note text);
    INSERT INTO orders SELECT i, 'first' FROM generate_series(1, 60) AS i";

/// Writes tables of both migrations in one transaction, until told to stop. What the one in DynamoOnly
/// refuses is tried again.
async fn write_both(world: &World, stop: CancellationToken) -> tokio::task::JoinHandle<u64> {
    let mut session = world.stranger().await;
    tokio::spawn(async move {
        let mut done = 0;
        while !stop.is_cancelled() {
            let (note, seventh) = (format!("write {done}"), done % 7);
            let write = format!(
                "BEGIN; UPDATE orders SET note = '{note}' WHERE id % 7 = {seventh};
                 UPDATE payments SET transaction_reference = '{note}' WHERE payment_id % 7 = {seventh};
                 COMMIT"
            );
            match session.execute(AssertSqlSafe(write)).await {
                Ok(_) => done += 1,
                Err(error) => {
                    assert!(error.as_database_error().is_some(), "{error}");
                    session.execute("ROLLBACK").await.expect("rolled back");
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        done
    })
}

#[tokio::test]
async fn two_migrations_beside_one_another_go_there_and_back_and_each_ends_by_itself() {
    let world = World::start().await;
    world.sql(ORDERS).await;
    world.sql(&format!("{}; {}", logs(1, 60), payments(1, 60))).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second) = (Told::of_orders(&world, folder.path()), Told::of_the_program(&world));
    first.to("DualWrite").await;

    // Without a name of its own.
    let unnamed = Told::of_the_program(&world).in_schema("lockstep", "lockstep_control");
    let parts = ["orders", "schema lockstep", "source.control_schema", "target.control_table"];
    unnamed.refused(&["migrate", "--to", "DualWrite"], &parts).await;

    // Both go the whole way at once, while transactions write tables of both.
    second.to("DualWrite").await;
    for phase in ["HybridRead", "DynamoOnly"] {
        tokio::join!(first.is_consistent(), second.is_consistent());
        let stop = CancellationToken::new();
        let writer = write_both(&world, stop.clone()).await;
        tokio::join!(first.to(phase), second.to(phase));
        stop.cancel();
        assert!(writer.await.expect("no panic") > 5, "it wrote both");
    }
    for told in [&first, &second] {
        told.is_in("DynamoOnly").await;
    }
    let same_table = Told::of_the_program(&world).in_schema("lockstep_b", "lockstep_control");
    same_table.refused(&["rollback"], &["belongs to another migration", "target.control_table"]).await;
    for (table, rows) in [("first-orders", 60), (LOGS, 60), (PAYMENTS, 60)] {
        assert_eq!(world.live_items(table).await, rows, "{table}");
    }
    let wrote = second.written_by_an_application(7_001).await;
    assert_eq!(wrote["phase"], "DynamoOnly", "{wrote}");
    assert_eq!(world.live_items(LOGS).await, 61);
    assert_eq!(shape(&world, "lockstep_b").await, shape(&world, "lockstep").await);

    // The first goes back, and is taken out; the second is where it was.
    let before = kept(&world, "lockstep_b").await;
    first.done(&["rollback", "--to", "HybridRead", "--no-wait"]).await;
    first.done(&["rollback", "--to", "DualWrite"]).await;
    world.sql("UPDATE orders SET note = 'by SQL' WHERE id = 1").await;
    first.is_consistent().await;
    let refused = world.try_sql(&log(9_001, "a")).await.expect_err("the second is in DynamoOnly").to_string();
    assert!(refused.contains("DynamoOnly"), "{refused}");
    first.taken_out(folder.path(), &[]).await;
    assert_eq!(kept(&world, "lockstep_b").await, before, "the second is untouched");
    assert!(world.try_value("SELECT to_regnamespace('lockstep') IS NULL").await.expect("asked"));
    second.is_in("DynamoOnly").await;
    assert_eq!(world.live_items(LOGS).await, 61, "its items are as they were");

    // The second is completed, with a memory of its own, which the usual schema's commands heed.
    let journal = folder.path().join("second.jsonl");
    second.done(&["complete", "--yes", "--journal", journal.to_str().expect("a path")]).await;
    let left: String = world
        .value(
            "SELECT string_agg(nspname, ' ' ORDER BY nspname) FROM pg_namespace
             WHERE nspname LIKE 'lockstep%'",
        )
        .await;
    assert_eq!(left, "lockstep_b_archive");
    let refused = world.try_sql(&log(9_001, "a")).await.expect_err("it is guarded").to_string();
    assert!(refused.contains("its migration is complete"), "{refused}");
    world.sql("INSERT INTO orders VALUES (9001, 'as ever')").await;
    let again = Told::of_the_program(&world).in_schema("lockstep", "c_control");
    again.refused(&["migrate", "--to", "DualWrite"], &["was moved by a migration that is complete"]).await;
    let wrote = second.written_by_an_application(7_002).await;
    assert_eq!(wrote["phase"], "DynamoOnly", "its applications go on: {wrote}");
}

#[tokio::test]
async fn another_begins_and_is_taken_out_beside_one_in_each_phase() {
    let world = World::start().await;
    world.sql(ORDERS).await;
    world.sql("CREATE TABLE notes (id bigint PRIMARY KEY, v text); INSERT INTO notes VALUES (1, 'a')").await;
    let folder = tempfile::tempdir().expect("a folder");
    let first = Told::of_orders(&world, folder.path());
    let other = Told::of_the_program(&world)
        .of(declared(folder.path(), "other", &["notes"]))
        .in_schema("lockstep_other", "other_control");
    for phase in ["DualWrite", "HybridRead", "DynamoOnly"] {
        first.to(phase).await;
        let before = kept(&world, "lockstep").await;
        other.to("DualWrite").await;
        world.sql("UPDATE notes SET v = v || 'x'").await;
        other.is_consistent().await;
        first.tells_only("orders", &["notes", "lockstep_other", "other_control"]).await;
        other.tells_only("notes", &["orders", "lockstep_control"]).await;
        other.taken_out(folder.path(), &["--drop-target-tables"]).await;
        assert_eq!(kept(&world, "lockstep").await, before, "{phase}: the first is untouched");
        first.is_in(phase).await;
        assert_eq!(world.live_items("first-orders").await, 60, "{phase}");
    }
    first.done(&["rollback", "--to", "HybridRead", "--no-wait"]).await;
    first.is_consistent().await;
}

#[tokio::test]
async fn a_named_schema_has_the_rights_and_the_locks_of_a_schema_of_its_own() {
    let world = World::start().await;
    world.sql(ORDERS).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second) = (Told::of_orders(&world, folder.path()), Told::of_the_program(&world));
    tokio::join!(first.to("DualWrite"), second.to("DualWrite"));
    let mut held = Vec::new();
    let schemas = [(&first, "app_a", "lockstep", "lockstep_b"), (&second, "app_b", "lockstep_b", "lockstep")];
    for (told, app, schema, other) in schemas {
        world.sql(&format!("CREATE ROLE {app}")).await;
        let granted = told.output(&["grants", "--role", "application", "--to", app]).await;
        assert!(granted.status.success(), "{}", all(&granted));
        let statements = String::from_utf8_lossy(&granted.stdout).into_owned();
        assert!(statements.contains(&format!("ON {schema}.pending")), "{statements}");
        assert!(!statements.contains(&format!(" {other}.")), "{statements}");
        world.sql(&statements).await;
        held.push(rights(&world, schema, app).await);
        assert_eq!(rights(&world, other, app).await, Vec::<String>::new(), "{app} in {other}");

        // It marks keys of its own migration, as its stores do, and none of the other one's.
        let mut session = world.stranger().await;
        run(&mut session, &format!("SET ROLE {app}")).await;
        let mark = |schema: &str, table: &str| {
            format!(
                "INSERT INTO {schema}.pending (table_name, key, version) VALUES ('{table}', '[\"1\"]', 1);
                 DELETE FROM {schema}.pending"
            )
        };
        let (own, others) = if schema == "lockstep" { ("orders", LOGS) } else { (LOGS, "orders") };
        let denied = session.execute(AssertSqlSafe(mark(other, others))).await.expect_err("denied");
        let code = denied.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
        assert_eq!(code.as_deref(), Some("42501"), "{denied}");
        let marked = session.execute(AssertSqlSafe(mark(schema, own))).await;
        if let Err(error) = marked {
            assert!(!error.to_string().contains("permission denied"), "a guard may refuse it: {error}");
        }
    }
    assert!(held[0].len() > 10 && held[0] == held[1], "{held:?}");

    let of_orders = locks(&world, "UPDATE orders SET note = 'x' WHERE id = 1").await;
    let of_logs = locks(&world, &log(1, "a")).await;
    assert!(of_orders.len() == 1 && of_logs.len() == 1 && of_orders != of_logs, "{of_orders:?} {of_logs:?}");

    // A name that another role has taken, and one that is none.
    world.sql("CREATE ROLE stranger; CREATE SCHEMA lockstep_c AUTHORIZATION stranger").await;
    let named = |schema| Told::of_the_program(&world).in_schema(schema, "c_control");
    let parts = ["schema lockstep_c belongs to role stranger"];
    named("lockstep_c").refused(&["migrate", "--to", "DualWrite"], &parts).await;
    for name in ["public", "lockstep_a; DROP TABLE orders", "lockstep_b_archive", "lockstep_phase"] {
        named(name).refused(&["status"], &["source.control_schema", "must be `lockstep`"]).await;
    }
    assert_eq!(world.count("orders").await, 60);
}
