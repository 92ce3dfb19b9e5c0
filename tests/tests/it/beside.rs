//! R43: two migrations beside one another in one database, each with a control schema and a control table of
//! its own, by the real command: both go to DynamoDB under writers of both, one comes back and is taken out,
//! the other is completed.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use lockstep_tests::World;
use lockstep_tests::world::rows::{log, logs, payments};
use lockstep_tests::world::{LOGS, PAYMENTS};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor as _};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::process::{command, ended};

const ORDERS: &str = "
    CREATE TABLE orders (id bigint PRIMARY KEY, note text);
    INSERT INTO orders SELECT i, 'first' FROM generate_series(1, 60) AS i";

/// A migration, as its command and its applications are told of it.
struct Told<'a> {
    world: &'a World,
    variables: Vec<(&'static str, &'static str)>,
    file: Option<&'a Path>,
}

impl<'a> Told<'a> {
    /// The first: what is not said is as ever.
    fn orders(world: &'a World, file: &'a Path) -> Self {
        Self { world, variables: Vec::new(), file: Some(file) }
    }

    /// The second, of the tables that the program knows.
    fn of_the_program(world: &'a World) -> Self {
        Self { variables: vec![SCHEMA, TABLE], file: None, world }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(self.world, arguments);
        command.envs(self.variables.iter().copied());
        if let Some(file) = self.file {
            command.arg("--config").arg(file);
        }
        command
    }

    async fn output(&self, arguments: &[&str]) -> Output {
        ended(self.command(arguments)).await
    }

    async fn done(&self, arguments: &[&str]) -> Value {
        let output = self.output(&[arguments, &["--json", "--quiet"]].concat()).await;
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", all(&output));
        serde_json::from_slice(&output.stdout).expect("one JSON document")
    }

    async fn refused(&self, arguments: &[&str], parts: &[&str]) {
        let output = self.output(&[arguments, &["--quiet"]].concat()).await;
        let said = all(&output);
        assert!(!output.status.success() && !said.contains("panicked"), "{arguments:?}: {said}");
        for part in parts {
            assert!(said.contains(part), "{arguments:?}: {part}: {said}");
        }
    }

    async fn to(&self, phase: &str) {
        let report = self.done(&["migrate", "--live-writes", "0", "--to", phase]).await;
        assert_eq!(report["phase"], phase, "{report}");
    }

    async fn is_in(&self, phase: &str) {
        let status = self.done(&["status"]).await;
        assert_eq!(status["phase"], phase, "{status}");
    }
}

const SCHEMA: (&str, &str) = ("LOCKSTEP_SOURCE__CONTROL_SCHEMA", "lockstep_b");
const TABLE: (&str, &str) = ("LOCKSTEP_TARGET__CONTROL_TABLE", "b_control");

fn all(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text)).concat()
}

fn file(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let file = folder.join(name);
    std::fs::write(&file, text).expect("written");
    file
}

/// Writes tables of both migrations in one transaction, until told to stop. What the one in DynamoOnly refuses
/// is tried again.
async fn write_both(world: &World, stop: CancellationToken) -> tokio::task::JoinHandle<u64> {
    let mut session = world.stranger().await;
    tokio::spawn(async move {
        let mut done = 0;
        while !stop.is_cancelled() {
            let write = format!(
                "BEGIN; UPDATE orders SET note = 'write {done}' WHERE id % 7 = {};
                 UPDATE payments SET transaction_reference = 'write {done}' WHERE payment_id % 7 = {}; COMMIT",
                done % 7,
                done % 7
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

/// What PostgreSQL keeps of a migration: each trigger, where it calls, and who touched it; phase, epoch and
/// identity; and what its tables hold.
async fn kept(world: &World, schema: &str) -> String {
    let sql = format!(
        "SELECT pg_catalog.concat_ws(E'\\n',
             (SELECT string_agg(concat_ws(' ', t.tgrelid::regclass, t.tgname, t.tgenabled, t.xmin, p.oid::regprocedure, p.xmin), E'\\n'
                 ORDER BY t.tgrelid, t.tgname) FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
                 WHERE p.pronamespace = '{schema}'::regnamespace),
             (SELECT concat_ws(' ', phase, epoch, migration_id) FROM {schema}.control),
             (SELECT string_agg(t::text, E'\\n' ORDER BY t.name) FROM {schema}.tables t),
             (SELECT count(*) FROM {schema}.journal))"
    );
    world.value(&sql).await
}

/// What every schema of ours must be: no function with its owner's rights is called by who likes, each has a
/// path of PostgreSQL's own, and an application holds what is granted to it alone.
async fn rules(world: &World, schema: &str, app: &str) -> Vec<String> {
    let open: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
        "SELECT p.oid::regprocedure::text FROM pg_proc p
         WHERE p.pronamespace = '{schema}'::regnamespace AND (p.prosecdef AND NOT EXISTS (
                 SELECT FROM unnest(p.proconfig) AS c WHERE c LIKE 'search_path=pg_catalog%')
             OR (p.prosecdef OR p.prorettype = 'trigger'::regtype) AND EXISTS (
                 SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0))"
    )))
    .fetch_all(world.source.pool())
    .await
    .expect("the catalogue is read");
    assert_eq!(open, Vec::<String>::new(), "{schema}");
    sqlx::query_scalar(AssertSqlSafe(format!(
        "SELECT c.relname || ' ' || p FROM pg_class c
         CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p
         WHERE c.relnamespace = '{schema}'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p')
             AND has_table_privilege('{app}', c.oid, p)
         UNION ALL SELECT c.relname || ' ' || p FROM pg_class c CROSS JOIN unnest(ARRAY['USAGE', 'SELECT', 'UPDATE']) AS p
         WHERE c.relnamespace = '{schema}'::regnamespace AND c.relkind = 'S' AND has_sequence_privilege('{app}', c.oid, p)
         ORDER BY 1"
    )))
    .fetch_all(world.source.pool())
    .await
    .expect("the catalogue is read")
}

/// Everything of a schema that has a text, without the schema's name: tables, defaults, checks, functions,
/// triggers on its own tables.
async fn shape(world: &World, schema: &str) -> Vec<String> {
    let found: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
        "SELECT 'column ' || c.relname || ' ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' '
             || coalesce(pg_get_expr(d.adbin, d.adrelid), '') FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
             LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
             WHERE c.relnamespace = '{schema}'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
         UNION ALL SELECT 'constraint ' || conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
             WHERE connamespace = '{schema}'::regnamespace
         UNION ALL SELECT 'trigger ' || pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
             WHERE c.relnamespace = '{schema}'::regnamespace AND NOT t.tgisinternal
         UNION ALL SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = '{schema}'
         UNION ALL SELECT 'function ' || pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = '{schema}'::regnamespace
             AND proname !~ '^(capture|upsert|insert|delete)_'
         ORDER BY 1"
    )))
    .fetch_all(world.source.pool())
    .await
    .expect("the catalogue is read");
    let mut shape: Vec<String> = found.into_iter().map(|text| text.replace(schema, "lockstep")).collect();
    shape.sort();
    shape
}

/// Locks that each of the two holds while one of its writes is open.
async fn locks(world: &World, write: &str) -> Vec<i32> {
    let mut writer = world.stranger().await;
    writer.execute(AssertSqlSafe(format!("BEGIN; {write}"))).await.expect("written");
    let locks: Vec<i32> = sqlx::query_scalar(
        "SELECT DISTINCT classid::int FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND objid = 1",
    )
    .fetch_all(&mut writer)
    .await
    .expect("locks");
    writer.execute("ROLLBACK").await.expect("rolled back");
    locks
}

/// An application of the second: writes a row, and reads it.
async fn written_by_an_application(second: &Told<'_>, id: i64) -> Value {
    let mut app = second.command(&[lockstep_tests::worker::ARGUMENT, "app", "5000"]);
    app.stdin(std::process::Stdio::piped());
    let mut app = app.spawn().expect("it starts");
    let mut stdin = app.stdin.take().expect("stdin");
    let mut answers = BufReader::new(app.stdout.take().expect("stdout")).lines();
    answers.next_line().await.expect("it says").expect("that it is there");
    let mut tell = async |line: String| -> Value {
        stdin.write_all(format!("{line}\n").as_bytes()).await.expect("told");
        let answer = answers.next_line().await.expect("it answers").expect("a line");
        serde_json::from_str(&answer).expect("JSON")
    };
    let wrote = tell(format!("write {id} beside")).await;
    assert_eq!(tell(format!("read {id}")).await["user_id"], "beside");
    drop(stdin);
    app.wait().await.expect("it ends");
    wrote
}

#[tokio::test]
async fn two_migrations_beside_one_another_go_there_and_back_and_each_ends_by_itself() {
    let world = World::start().await;
    world.sql(ORDERS).await;
    world.sql(&format!("{}; {}", logs(1, 60), payments(1, 60))).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file =
        file(folder.path(), "orders.toml", "[tables.orders]\nsource = \"public.orders\"\nkey = [\"id\"]\n");
    let (first, second) = (Told::orders(&world, &file), Told::of_the_program(&world));
    first.to("DualWrite").await;

    // Without a name of its own.
    let unnamed = Told { variables: Vec::new(), ..Told::of_the_program(&world) };
    let parts = ["orders", "schema lockstep", "source.control_schema", "target.control_table"];
    unnamed.refused(&["migrate", "--to", "DualWrite"], &parts).await;

    // Both go the whole way at once, while transactions write tables of both.
    let stop = CancellationToken::new();
    let writer = write_both(&world, stop.clone()).await;
    second.to("DualWrite").await;
    for phase in ["HybridRead", "DynamoOnly"] {
        tokio::join!(first.to(phase), second.to(phase));
    }
    stop.cancel();
    assert!(writer.await.expect("no panic") > 10, "it wrote both");
    for told in [&first, &second] {
        told.is_in("DynamoOnly").await;
    }
    let same_table = Told { variables: vec![SCHEMA], ..Told::of_the_program(&world) };
    same_table.refused(&["rollback"], &["belongs to another migration", "target.control_table"]).await;
    for (table, rows) in [("orders", 60), (LOGS, 60), (PAYMENTS, 60)] {
        assert_eq!(world.live_items(table).await, rows, "{table}");
    }
    let wrote = written_by_an_application(&second, 7_001).await;
    assert_eq!(wrote["phase"], "DynamoOnly", "{wrote}");
    assert_eq!(world.live_items(LOGS).await, 61);
    assert_eq!(shape(&world, "lockstep_b").await, shape(&world, "lockstep").await);

    // The first goes back, and is taken out; the second is where it was.
    let before = kept(&world, "lockstep_b").await;
    first.done(&["rollback", "--to", "HybridRead", "--no-wait"]).await;
    first.done(&["rollback", "--to", "DualWrite"]).await;
    world.sql("UPDATE orders SET note = 'by SQL' WHERE id = 1").await;
    let refused = world.try_sql(&log(9_001, "a")).await.expect_err("the second is in DynamoOnly").to_string();
    assert!(refused.contains("DynamoOnly"), "{refused}");
    let journal = folder.path().join("first.jsonl");
    first.done(&["uninstall", "--yes", "--journal", journal.to_str().expect("a path")]).await;
    assert_eq!(kept(&world, "lockstep_b").await, before, "the second is untouched");
    assert!(world.try_value("SELECT to_regnamespace('lockstep') IS NULL").await.expect("asked"));
    second.is_in("DynamoOnly").await;

    // The second is completed, with a memory of its own, which the usual schema's commands heed.
    let journal = folder.path().join("second.jsonl");
    second.done(&["complete", "--yes", "--journal", journal.to_str().expect("a path")]).await;
    let left: String = world
        .value("SELECT string_agg(nspname, ' ' ORDER BY nspname) FROM pg_namespace WHERE nspname LIKE 'lockstep%'")
        .await;
    assert_eq!(left, "lockstep_b_archive");
    let refused = world.try_sql(&log(9_001, "a")).await.expect_err("it is guarded").to_string();
    assert!(refused.contains("its migration is complete"), "{refused}");
    world.sql("INSERT INTO orders VALUES (9001, 'as ever')").await;
    let again = Told {
        variables: vec![("LOCKSTEP_TARGET__CONTROL_TABLE", "c_control")],
        ..Told::of_the_program(&world)
    };
    again.refused(&["migrate", "--to", "DualWrite"], &["was moved by a migration that is complete"]).await;
    let wrote = written_by_an_application(&second, 7_002).await;
    assert_eq!(wrote["phase"], "DynamoOnly", "its applications go on: {wrote}");
}

/// A table, and one of which the other migration has a partition, whichever came first.
#[tokio::test]
async fn a_table_is_in_one_of_two_migrations_whatever_their_schemas_are() {
    let world = World::start().await;
    world.sql(ORDERS).await;
    let one = "(id bigint PRIMARY KEY, v text)";
    world
        .sql(&format!(
            "CREATE TABLE events {one} PARTITION BY RANGE (id); CREATE TABLE early {one}; CREATE TABLE late {one};
             CREATE TABLE visits {one} PARTITION BY RANGE (id);
             CREATE TABLE visits_1 PARTITION OF visits FOR VALUES FROM (0) TO (100);
             INSERT INTO visits SELECT i, 'v' FROM generate_series(1, 20) AS i"
        ))
        .await;
    let folder = tempfile::tempdir().expect("a folder");
    let of = |name: &str, tables: &[&str]| {
        let tables = tables.iter().map(|table| {
            format!(
                "[tables.{table}]\nsource = \"public.{table}\"\ntarget = \"{name}-{table}\"\nkey = [\"id\"]\n"
            )
        });
        file(folder.path(), &format!("{name}.toml"), &tables.collect::<String>())
    };
    let first_file = of("first", &["orders", "early", "late"]);
    let first = Told::orders(&world, &first_file);
    first.to("DualWrite").await;
    world.sql("ALTER TABLE events ATTACH PARTITION early FOR VALUES FROM (0) TO (100)").await;
    let before = kept(&world, "lockstep").await;
    for (table, says) in [
        ("orders", "public.orders is captured by the migration in schema lockstep"),
        (
            "events",
            "public.early, which holds rows of public.events, is captured by the migration in schema lockstep",
        ),
    ] {
        let file = of("second", &[table]);
        let second = Told { file: Some(&file), ..Told::of_the_program(&world) };
        second.refused(&["migrate", "--to", "DualWrite"], &[says, "one migration at a time"]).await;
    }
    assert_eq!(kept(&world, "lockstep").await, before, "the first is untouched");

    // Captured by both, it is delivered by neither as the other one's until one of them lets it go.
    let file = of("second", &["visits"]);
    let second = Told { file: Some(&file), ..Told::of_the_program(&world) };
    second.to("DualWrite").await;
    world.sql("ALTER TABLE visits ATTACH PARTITION late FOR VALUES FROM (100) TO (200)").await;
    world.sql("UPDATE visits SET v = 'w' WHERE id = 1").await;
    second.refused(&["relay", "--until-empty"], &["public.late, which holds rows of public.visits"]).await;
    world.sql("ALTER TABLE visits DETACH PARTITION late").await;
    second.done(&["relay", "--until-empty"]).await;
    assert_eq!(world.live_items("second-visits").await, 20);
}

#[tokio::test]
async fn a_named_schema_has_the_rights_and_the_locks_of_a_schema_of_its_own() {
    let world = World::start().await;
    world.sql(ORDERS).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file =
        file(folder.path(), "orders.toml", "[tables.orders]\nsource = \"public.orders\"\nkey = [\"id\"]\n");
    let (first, second) = (Told::orders(&world, &file), Told::of_the_program(&world));
    tokio::join!(first.to("DualWrite"), second.to("DualWrite"));
    let mut held = Vec::new();
    for (told, app, schema) in [(&first, "app_a", "lockstep"), (&second, "app_b", "lockstep_b")] {
        world.sql(&format!("CREATE ROLE {app}")).await;
        let granted = told.output(&["grants", "--role", "application", "--to", app]).await;
        assert!(granted.status.success(), "{}", all(&granted));
        world.sql(&String::from_utf8_lossy(&granted.stdout)).await;
        held.push(rules(&world, schema, app).await);
        let other = if schema == "lockstep" { "lockstep_b" } else { "lockstep" };
        assert_eq!(rules(&world, other, app).await, Vec::<String>::new(), "{app} in {other}");
    }
    assert!(held[0].len() > 10 && held[0] == held[1], "{held:?}");

    let of_orders = locks(&world, "UPDATE orders SET note = 'x' WHERE id = 1").await;
    let of_logs = locks(&world, &log(1, "a")).await;
    assert!(of_orders.len() == 1 && of_logs.len() == 1 && of_orders != of_logs, "{of_orders:?} {of_logs:?}");

    // A name that another role has taken, and one that is none.
    world.sql("CREATE ROLE stranger; CREATE SCHEMA lockstep_c AUTHORIZATION stranger").await;
    let named = |schema| Told {
        variables: vec![
            ("LOCKSTEP_SOURCE__CONTROL_SCHEMA", schema),
            ("LOCKSTEP_TARGET__CONTROL_TABLE", "c_control"),
        ],
        ..Told::of_the_program(&world)
    };
    let parts = ["schema lockstep_c belongs to role stranger"];
    named("lockstep_c").refused(&["migrate", "--to", "DualWrite"], &parts).await;
    for name in ["public", "lockstep_a; DROP TABLE orders", "lockstep_b_archive"] {
        named(name).refused(&["status"], &["source.control_schema", "must be `lockstep`"]).await;
    }
    assert_eq!(world.count("orders").await, 60);
}
