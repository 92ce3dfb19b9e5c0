use lockstep_core::Phase;
use lockstep_tests::World;

use crate::roles::role;

/// Better matches than PostgreSQL's own for an argument that is a bare literal, an array or a number of another type: name,
/// parameters, what it returns, and how it answers as PostgreSQL would.
const FUNCTIONS: &[(&str, &str, &str, &str)] = &[
    ("nextval", "text", "bigint", "pg_catalog.nextval($1::regclass)"),
    ("setval", "text, bigint", "bigint", "pg_catalog.setval($1::regclass, $2)"),
    ("unnest", "text[]", "SETOF text", "pg_catalog.unnest($1)"),
    ("unnest", "bigint[]", "SETOF bigint", "pg_catalog.unnest($1)"),
];
const OPERATORS: &[(&str, &str, &str, &str)] = &[
    ("*", "integer", "numeric", "numeric"),
    ("*", "integer", "double precision", "double precision"),
    ("-", "bigint", "numeric", "numeric"),
    ("-", "bigint", "double precision", "double precision"),
];

/// S3: a role that may create in `public` offers better matches than PostgreSQL's own, and runs with the rights of who calls.
/// Those above only: a path of our own for every session is not closed.
#[tokio::test]
async fn a_better_match_in_public_is_called_by_no_statement_of_ours() {
    let world = World::start().await;
    let (mallory, _) = role(&world, "mallory").await;
    world.sql("CREATE TABLE public.called (what text)").await;
    let made = |n: usize, name: &str, parameters: &str, returns: &str, answer: &str| {
        format!(
            "CREATE FUNCTION public.{name}({parameters}) RETURNS {returns} LANGUAGE sql VOLATILE
             AS $$ INSERT INTO public.called VALUES ('{n}: {name} of {parameters}'); SELECT {answer} $$;
             ALTER FUNCTION public.{name}({parameters}) OWNER TO {mallory}"
        )
    };
    let mut all = Vec::new();
    for (n, (name, parameters, returns, answer)) in FUNCTIONS.iter().enumerate() {
        all.push(made(n, name, parameters, returns, answer));
    }
    for (n, (symbol, left, right, of)) in OPERATORS.iter().enumerate() {
        let (name, answer) = (format!("decoy_{n}"), format!("$1::{of} OPERATOR(pg_catalog.{symbol}) $2"));
        all.push(made(n, &name, &format!("{left}, {right}"), of, &answer));
        all.push(format!("CREATE OPERATOR public.{symbol} (FUNCTION = public.{name}, LEFTARG = {left}, RIGHTARG = {right})"));
    }
    sqlx::raw_sql(sqlx::AssertSqlSafe(all.join(";\n"))).execute(world.strangers()).await.expect("made");
    // They are better matches indeed: a statement that does not say whose function it calls gets this one.
    world.sql("CREATE SEQUENCE public.proof").await;
    let _: i64 = world.value("SELECT nextval('public.proof')").await;
    let called: i64 = world.value("SELECT count(*) FROM public.called").await;
    assert_eq!(called, 1, "the decoys are what an attacker would make");
    world.sql("DELETE FROM public.called").await;

    world.migrated_to(Phase::HybridRead).await.close().await;
    let app = world.app(lockstep::store::WriteOptions::default());
    let store = app.store::<lockstep_integration_logs::IntegrationLogs>();
    crate::store::applied(&store.put(&crate::store::row(1, "first")).await.expect("written"));
    world.source.instances().await.expect("read");
    world.source.sweep_intents(std::time::Duration::ZERO).await.expect("swept");
    store.writer().settled().await;
    world.assert_converged().await;
    let called: Option<String> = world.value("SELECT string_agg(DISTINCT what, '; ') FROM public.called").await;
    assert_eq!(called, None, "called with the operator's rights");
}
