use std::sync::Arc;

use lockstep::operation::Operation;
use lockstep::store::{WriteMode, WriteOptions};
use lockstep_core::Phase;
use lockstep_integration_logs::{IntegrationLogs, OperationLogs};
use lockstep_postgres::{GrantedRole, Relation, Source};
use lockstep_tests::World;
use lockstep_tests::world::rows::log_row;
use lockstep_tests::world::{LOGS, eventually, rows, run};

use crate::riders::beside_a_feed;
use crate::roles::role;

/// Better matches than PostgreSQL's own for an argument that is a bare literal, an array or a number of
/// another type: name, parameters, what it returns, and how it answers as PostgreSQL would.
const FUNCTIONS: &[(&str, &str, &str, &str)] = &[
    ("nextval", "text", "bigint", "pg_catalog.nextval($1::regclass)"),
    ("setval", "text, bigint", "bigint", "pg_catalog.setval($1::regclass, $2)"),
    ("unnest", "text[]", "SETOF text", "pg_catalog.unnest($1)"),
    ("unnest", "bigint[]", "SETOF bigint", "pg_catalog.unnest($1)"),
    ("jsonb_build_array", "bigint", "jsonb", "pg_catalog.jsonb_build_array($1)"),
    ("to_jsonb", "bigint", "jsonb", "pg_catalog.to_jsonb($1)"),
];
/// Operators between two types that have none of their own, all that there could be: of numbers, texts,
/// moments, intervals with numbers, names of objects, and `||` of a text with anything. They answer as
/// PostgreSQL would.
const OPERATORS: &str = include_str!("operators.sql");

/// Makes them, as another role that may create in `public`.
pub(crate) async fn plant(world: &World) {
    let (mallory, _) = role(world, "mallory").await;
    world.sql("CREATE TABLE public.called (what text)").await;
    let made = |name: &str, parameters: &str, returns: &str, answer: &str| {
        format!(
            "CREATE FUNCTION public.{name}({parameters}) RETURNS {returns} LANGUAGE sql VOLATILE
             AS $$ INSERT INTO public.called SELECT '{name} of {parameters}'
                   WHERE pg_catalog.current_setting('application_name') OPERATOR(pg_catalog.<>) '';
                   SELECT {answer} $$;
             ALTER FUNCTION public.{name}({parameters}) OWNER TO {mallory}"
        )
    };
    let mut all: Vec<String> = FUNCTIONS
        .iter()
        .map(|(name, parameters, returns, answer)| made(name, parameters, returns, answer))
        .collect();
    all.push(OPERATORS.replace("MALLORY", &mallory));
    sqlx::raw_sql(sqlx::AssertSqlSafe(all.join(";\n"))).execute(world.strangers()).await.expect("made");
    // They are better matches indeed: a statement that does not say whose function or operator it means gets
    // one. What this test asks for itself has no name and is not counted.
    world.sql("CREATE SEQUENCE public.proof").await;
    let proof = "SET application_name = 'proof';
        SELECT nextval('public.proof'), 7::bigint * 1.5, 'a'::varchar = 'b'::varchar, 'x'::text || 7::bigint,
            interval '1 s' * 7::integer, 1::oid = 7::integer";
    let mut stranger = world.stranger().await;
    run(&mut stranger, proof).await;
    let of_proof = called(world).await.unwrap_or_default();
    assert_eq!(of_proof.lines().count(), 6, "the decoys are what an attacker would make: {of_proof}");
    world.sql("DELETE FROM public.called").await;
}

pub(crate) async fn operated() -> World {
    let mut world = World::start().await;
    world.source = Source::connect_as_operator(&world.source_options()).await.expect("the operator connects");
    world
}

pub(crate) async fn called(world: &World) -> Option<String> {
    world.value("SELECT string_agg(DISTINCT what, E'\\n') FROM public.called").await
}

/// S3: a role that may create in `public` offers better matches than PostgreSQL's own, and runs with the
/// rights of who calls.
#[tokio::test]
async fn a_better_match_in_public_is_called_by_no_statement_of_ours() {
    let world = operated().await;
    plant(&world).await;
    world.sql(&rows::logs(5_001, 5_020)).await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    for (n, mode) in [WriteMode::BestEffort, WriteMode::Strict].into_iter().enumerate() {
        let writes = WriteOptions { dual_write: mode, hybrid_read: mode, ..WriteOptions::default() };
        let application = Source::connect(&world.source_options()).await.expect("an application connects");
        let app = world.app_of(application, writes, lockstep_tests::world::sweeping_never());
        let (store, id) = (app.store::<IntegrationLogs>(), 1_001 + n as i64 * 10);
        crate::store::applied(&store.put(&log_row(id, "first")).await.expect("written"));
        store.insert(&log_row(0, "numbered")).await.expect("inserted");
        store.update(id, |log| log.service_name = "moved".to_owned()).await.expect("updated");
        for outcome in store.put_batch(&[log_row(id + 1, "v"), log_row(id + 2, "v")]).await {
            outcome.expect("a batch");
        }
        store.delete(id).await.expect("deleted");
        let sink = Arc::new(OperationLogs::of("payments"));
        let operation = Operation::run(&app, sink, "Settle", "op", async |operation| {
            operation.put(&store, &log_row(id + 3, "w")).await
        });
        operation.await.expect("a coordinated operation");
        store.get_source(id + 1).await.expect("read");
        app.shutdown().await;
    }
    world.source.instances().await.expect("read");
    world.source.sweep_intents(std::time::Duration::ZERO).await.expect("swept");
    world.relay_until_empty().await;
    world.assert_converged().await;
    world.feed_until_drained().await;
    let epoch = world.flip(Phase::DynamoOnly).await;
    world.put_item(&IntegrationLogs::default(), &log_row(7, "u"), epoch).await;
    world.feed_until_drained().await;
    world.assert_fed().await;
    assert_eq!(
        called(&world).await,
        None,
        "called with the rights of the operator, or of another application"
    );
}

/// A path may name PostgreSQL's own schema after others. What is made in those goes before PostgreSQL's own
/// then, also where PostgreSQL's own fits exactly.
#[tokio::test]
async fn a_path_that_puts_another_schema_before_postgresqls_own_is_turned_round_for_our_sessions() {
    let world = World::start().await;
    let database: String = world.value("SELECT current_database()::text").await;
    world.sql("CREATE TABLE public.called (what text)").await;
    for of in ["bigint", "text"] {
        let decoy = format!(
            "CREATE FUNCTION public.decoy({of}, {of}) RETURNS boolean LANGUAGE sql AS $$
                 INSERT INTO public.called SELECT '{of}'
                 WHERE pg_catalog.current_setting('application_name') OPERATOR(pg_catalog.<>) '';
                 SELECT $1 OPERATOR(pg_catalog.=) $2 $$;
             CREATE OPERATOR public.= (FUNCTION = public.decoy, LEFTARG = {of}, RIGHTARG = {of})"
        );
        world.sql(&decoy).await;
    }
    world.sql(&format!("ALTER DATABASE {database} SET search_path = \"$user\", public, pg_catalog")).await;
    for operator in [true, false] {
        let source = match operator {
            true => Source::connect_as_operator(&world.source_options()).await,
            false => Source::connect(&world.source_options()).await,
        };
        let source = source.expect("connects");
        let mut transaction = source.begin("looking").await.expect("begins");
        for lent in [false, true] {
            if lent {
                // The feed does this before it writes rows.
                let lend = "SELECT pg_catalog.set_config('search_path',
                    pg_catalog.current_setting('lockstep.path'), true)";
                sqlx::query(lend).execute(&mut *transaction).await.expect("lent");
            }
            let sql = "SELECT pg_catalog.current_setting('search_path'),
                7::bigint = 7::bigint AND 'a'::text = 'a'::text";
            let found: (String, bool) =
                sqlx::query_as(sql).fetch_one(&mut *transaction).await.expect("asked");
            let expected = if operator && !lent { "pg_catalog, pg_temp" } else { "public" };
            assert_eq!(found, (expected.to_owned(), true), "operator {operator}, lent {lent}");
        }
        drop(transaction);
        source.close().await;
    }
    assert_eq!(called(&world).await, None, "PostgreSQL's own goes before all others");
}

/// A name in a table's own trigger is found where the application finds it, although the operator's sessions
/// look elsewhere.
#[tokio::test]
async fn a_trigger_that_names_its_table_without_a_schema_works_for_the_feed() {
    let world = operated().await;
    world.sql("CREATE TABLE public.audit (log_id bigint)").await;
    world
        .sql(
            "CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql
             AS 'BEGIN INSERT INTO audit VALUES (coalesce(NEW.log_id, OLD.log_id)); RETURN NULL; END'",
        )
        .await;
    world
        .sql(&format!(
            "CREATE TRIGGER noted AFTER INSERT OR DELETE ON {LOGS} FOR EACH ROW EXECUTE FUNCTION
            public.note()"
        ))
        .await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    world.feed_until_drained().await;
    let epoch = world.flip(Phase::DynamoOnly).await;
    let row = log_row(7, "u");
    world.put_item(&IntegrationLogs::default(), &row, epoch).await;
    world.feed_until_drained().await;
    let key = <IntegrationLogs as lockstep_core::MigratableTable>::key(&row);
    world.delete_item(&IntegrationLogs::default(), &key, epoch).await;
    world.feed_until_drained().await;
    world.assert_fed().await;
    let noted: i64 = world.value("SELECT count(*) FROM public.audit WHERE log_id = 7").await;
    assert_eq!(noted, 2, "an insert and a deletion");
    let again: i64 = world.value("SELECT count(*) FROM lockstep.reverse_again").await;
    assert_eq!(again, 0, "nothing was put off");
}

/// 1. A role makes `=` for an oid and a regclass in `public`. 2. Who owns the database runs the rights of the
/// operator, as they are printed, in a session with a path of its own. 3. A block of them compared the two.
#[tokio::test]
async fn the_printed_rights_of_an_operator_call_no_better_match_of_another_role() {
    let world = World::start().await;
    world
        .sql(
            "CREATE TYPE public.mood AS ENUM ('low');
             CREATE TABLE public.parted (n integer, mood public.mood, log bigint REFERENCES payments)
                 PARTITION BY LIST (n);
             CREATE TABLE public.part_1 PARTITION OF public.parted FOR VALUES IN (1)",
        )
        .await;
    plant(&world).await;
    let (operator, _) = role(&world, "operator").await;
    let database: String = world.value("SELECT current_database()::text").await;
    // A superuser keeps its types.
    world.sql(&format!("ALTER TYPE public.mood OWNER TO {database}_mallory")).await;
    let relations = ["parted", LOGS].map(|name| name.parse::<Relation>().expect("a name"));
    let relations: Vec<&Relation> = relations.iter().collect();
    let printed = lockstep_postgres::grants(GrantedRole::Operator, &operator, &database, &relations);
    let mut dba = world.stranger().await;
    run(&mut dba, "SET application_name = 'psql'").await;
    // As one transaction, as `psql --single-transaction` has it, and one by one.
    let path = "DO $$ BEGIN ASSERT current_setting('search_path') LIKE '%public%'; END $$;";
    run(&mut dba, &format!("BEGIN; {}; {path} COMMIT", printed.join("\n"))).await;
    for statement in &printed {
        run(&mut dba, statement).await;
    }
    assert_eq!(called(&world).await, None, "called with the rights of who owns the database");
    run(&mut dba, path).await;
    // The blocks did what they are for, and without a path of their own they call what is planted.
    let may_read: bool =
        world.value(&format!("SELECT has_table_privilege('{operator}', 'payments', 'SELECT')")).await;
    assert!(may_read);
    let owned: i64 = world
        .value(&format!(
            "SELECT count(*) FROM (SELECT relowner FROM pg_class WHERE relname = 'part_1'
                 UNION ALL SELECT typowner FROM pg_type WHERE typname = 'mood') AS o
             WHERE o.relowner = '{operator}'::regrole::oid"
        ))
        .await;
    assert_eq!(owned, 2, "the partition and the type");
    let own = "PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);";
    for block in printed.iter().filter(|statement| statement.starts_with("DO")) {
        assert!(block.contains(own), "{block}");
        run(&mut dba, &block.replace(own, "")).await;
    }
    assert!(called(&world).await.is_some(), "this can fail");
}

/// 1. The value that a row takes is unique, by an index with a predicate that compares arrays, for which
/// PostgreSQL has the operators of any array alone. 2. Another role makes one for arrays of texts. 3. The
/// feed looks for the expired row that has the value, and called it.
#[tokio::test]
async fn a_better_match_is_called_by_no_search_for_expired_rows_either() {
    let world = operated().await;
    let index = "UPDATE integration_logs SET user_id = 'u' || log_id;
        UPDATE integration_logs SET log_timestamp = '2015-03-04' WHERE log_id = 3;
        CREATE UNIQUE INDEX users_once ON integration_logs (user_id)
            WHERE ARRAY[user_id::text] <> ARRAY[''::text]";
    world.sql(&format!("{}; {index}", rows::logs(1, 10))).await;
    world
        .sql(
            "CREATE TABLE public.called (what text);
             CREATE FUNCTION public.decoy(text[], text[]) RETURNS boolean LANGUAGE sql VOLATILE AS $$
                 INSERT INTO public.called SELECT 'decoy'
                 WHERE pg_catalog.current_setting('application_name') OPERATOR(pg_catalog.<>) '';
                 SELECT $1 OPERATOR(pg_catalog.<>) $2 $$;
             CREATE OPERATOR public.<> (FUNCTION = public.decoy, LEFTARG = text[], RIGHTARG = text[])",
        )
        .await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    world.relay_until_empty().await;
    world.feed_until_drained().await;
    let epoch = world.flip(Phase::DynamoOnly).await;
    world.put_item(&IntegrationLogs::default(), &log_row(90, "u3"), epoch).await;
    beside_a_feed(&world, async {
        eventually("the expired row made way", || async {
            world.count("integration_logs WHERE log_id = 90").await == 1
        })
        .await;
    })
    .await;
    assert_eq!(world.count("integration_logs WHERE log_id = 3").await, 0);
    assert_eq!(called(&world).await, None, "called with the rights of the operator");
}
