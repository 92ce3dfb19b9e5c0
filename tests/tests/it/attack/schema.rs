use lockstep_coordinator::CoordinatorError;
use lockstep_core::Kind;
use lockstep_postgres::{GrantedRole, Relation, Source, TableBinding};
use lockstep_tests::World;
use lockstep_tests::world::{LOGS, run};
use sqlx::Connection;

use crate::attack::{DENIED, attacker, refused, world};
use crate::history::diagnosis;
use crate::roles::role;

/// S8: what was put into a schema before ran with the operator's rights.
#[tokio::test]
async fn a_schema_of_ours_that_another_role_made_is_refused_before_anything() {
    for schema in ["lockstep", "lockstep_archive"] {
        let world = World::start().await;
        let (squatter, _) = role(&world, "squatter").await;
        world.try_sql(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE")).await.expect("dropped");
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
            "CREATE SCHEMA {schema}; ALTER SCHEMA {schema} OWNER TO {squatter}"
        )))
        .execute(world.strangers())
        .await
        .expect("made");
        let error = world.source.migrate_schema().await.expect_err("it is not ours");
        assert_eq!(error.kind, Kind::Misconfigured);
        assert!(error.message.contains(&squatter), "{}", error.message);
    }
}

/// S12: the doctor said that nothing was wrong while every write waited.
#[tokio::test]
async fn a_foreign_holder_of_the_barrier_is_named() {
    let world = world().await;
    assert!(world.source.foreign_holders().await.expect("asked").is_empty());
    let mut plain = attacker(&world, "mallory").await;
    run(&mut plain, "SELECT pg_advisory_lock(1280262987, 1)").await;
    let diagnosis = diagnosis(&world).await;
    assert!(!diagnosis.sound);
    assert!(diagnosis.findings.iter().any(|finding| finding.what.contains("mallory")), "the role is named");
}

/// S15: code of a role that may create triggers ran as the operator. Whatever a write of the feed would run
/// as the operator: a member of each kind, by a role that owns nothing else.
#[tokio::test]
async fn code_of_another_role_that_a_write_would_run_is_refused_by_a_gate() {
    let world = World::start().await;
    let (mallory, _) = role(&world, "mallory").await;
    world
        .sql(&format!(
            "CREATE FUNCTION public.evil() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
             CREATE FUNCTION public.evil(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
             CREATE FUNCTION public.evil(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
             ALTER FUNCTION public.evil() OWNER TO {mallory};
             ALTER FUNCTION public.evil(text) OWNER TO {mallory};
             ALTER FUNCTION public.evil(text, text) OWNER TO {mallory};
             CREATE OPERATOR public.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = public.evil);
             CREATE DOMAIN public.quiet AS text; ALTER DOMAIN public.quiet OWNER TO {mallory}"
        ))
        .await;
    let kinds = [
        (
            "trigger aa",
            format!("CREATE TRIGGER aa AFTER INSERT ON {LOGS} FOR EACH ROW EXECUTE FUNCTION public.evil()"),
            format!("DROP TRIGGER aa ON {LOGS}"),
        ),
        (
            "constraint bb",
            format!("ALTER TABLE {LOGS} ADD CONSTRAINT bb CHECK (public.evil(service_name))"),
            format!("ALTER TABLE {LOGS} DROP CONSTRAINT bb"),
        ),
        (
            "constraint cc",
            format!("ALTER TABLE {LOGS} ADD CONSTRAINT cc CHECK (service_name OPERATOR(public.===) 'a')"),
            format!("ALTER TABLE {LOGS} DROP CONSTRAINT cc"),
        ),
        (
            "index dd",
            format!("CREATE INDEX dd ON {LOGS} (public.evil(service_name))"),
            "DROP INDEX dd".to_owned(),
        ),
        (
            "domain quiet",
            format!("ALTER TABLE {LOGS} ALTER COLUMN service_name TYPE public.quiet"),
            String::new(),
        ),
    ];
    for (named, make, undo) in kinds {
        world.sql(&make).await;
        let Err(CoordinatorError::Refused(report)) = world.coordinator().await.prepare(&()).await else {
            panic!("{named} is not refused")
        };
        let refusals = report.refusals();
        assert!(refusals.contains(&format!("{named} ({mallory})")), "{named}: {refusals}");
        if !undo.is_empty() {
            world.sql(&undo).await;
        }
    }
}

/// S15. 1. A column is a range over a domain of another role, a range that such a role's function measures,
/// or a multirange of either; or a partition is chosen by one. 2. A write of the feed runs the function, with
/// the operator's rights. 3. The gate looked at columns' own types, and at partitions' triggers.
#[tokio::test]
async fn code_behind_ranges_and_partition_keys_is_found_as_well() {
    let world = World::start().await;
    let (mallory, _) = role(&world, "mallory").await;
    world
        .sql(&format!(
            "CREATE DOMAIN public.quiet AS integer; ALTER DOMAIN public.quiet OWNER TO {mallory};
             CREATE FUNCTION public.far(float8, float8) RETURNS float8 LANGUAGE sql IMMUTABLE
                 AS 'SELECT 1.0::float8';
             CREATE FUNCTION public.side(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1';
             CREATE TYPE public.spans AS RANGE
                 (subtype = public.quiet, multirange_type_name = public.many_spans);
             CREATE TYPE public.measured AS RANGE (subtype = float8, subtype_diff = public.far);
             ALTER FUNCTION public.far(float8, float8) OWNER TO {mallory};
             ALTER FUNCTION public.side(text) OWNER TO {mallory};
             CREATE TABLE public.a_range (v public.spans);
             CREATE TABLE public.a_multirange (v public.many_spans);
             CREATE TABLE public.a_distance (v public.measured[]);
             CREATE TABLE public.a_side (v text) PARTITION BY LIST (public.side(v));
             CREATE TABLE public.none_of_it (v int4range, w text[], x timestamptz)"
        ))
        .await;
    let found = async |relation: &str| {
        let relation = relation.parse().expect("a name");
        let binding = TableBinding { relation, ..world.logs_table() };
        world.source.foreign_code(&binding).await.expect("asked")
    };
    for (relation, named) in [
        ("a_range", "domain quiet"),
        ("a_multirange", "domain quiet"),
        ("a_distance", "type measured"),
        ("a_side", "table a_side"),
    ] {
        assert_eq!(found(relation).await, [format!("{named} ({mallory})")], "{relation}");
    }
    assert_eq!(found("none_of_it").await, [] as [String; 0]);
}

/// 1. A table goes to the operator, and its column's type stays with another role. 2. That one makes a cast
/// from text to the type, with a function of its own. 3. Each statement of ours that casts a key runs it, as
/// the operator.
#[tokio::test]
async fn types_casts_and_partitions_of_another_role_are_named_and_go_to_the_operator() {
    let world = World::start().await;
    let (mallory, as_mallory) = role(&world, "mallory").await;
    let (operator, as_operator) = role(&world, "operator").await;
    world
        .sql(&format!(
            "GRANT USAGE, CREATE ON SCHEMA public TO {mallory};
             CREATE TABLE public.loot (who text); GRANT INSERT ON public.loot TO PUBLIC;
             CREATE TYPE public.status AS ENUM ('open', 'paid');
             CREATE TYPE public.pair AS (a integer, b text);
             CREATE TYPE public.span AS RANGE (subtype = integer);
             CREATE DOMAIN public.small AS integer;
             CREATE TYPE public.ours AS ENUM ('a');
             ALTER TYPE public.status OWNER TO {mallory}; ALTER TYPE public.pair OWNER TO {mallory};
             ALTER TYPE public.span OWNER TO {mallory}; ALTER DOMAIN public.small OWNER TO {mallory};
             CREATE TABLE public.of_enum (v public.status);
             CREATE TABLE public.of_pairs (v public.pair[]);
             CREATE TABLE public.of_range (v public.span);
             CREATE TABLE public.of_domain (v public.small);
             CREATE TABLE public.of_ours (v public.ours);
             CREATE TABLE public.parted (n integer) PARTITION BY LIST (n);
             CREATE TABLE public.part_1 PARTITION OF public.parted FOR VALUES IN (1);
             CREATE TABLE public.part_2 PARTITION OF public.parted FOR VALUES IN (2);
             ALTER TABLE public.part_2 OWNER TO {mallory}"
        ))
        .await;
    let evil = "CREATE FUNCTION public.evil(text) RETURNS public.status LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO public.loot VALUES (current_user); RETURN 'open'; END $$;
        CREATE FUNCTION public.guards() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO public.loot VALUES (current_user); RETURN NEW; END $$;
        CREATE TRIGGER guards BEFORE INSERT ON public.part_2 FOR EACH ROW EXECUTE FUNCTION public.guards()";
    const CAST: &str = "CREATE CAST (text AS public.status) WITH FUNCTION public.evil(text)";
    let mut mallorys = sqlx::PgConnection::connect(&as_mallory.url).await.expect("connects");
    run(&mut mallorys, evil).await;
    run(&mut mallorys, CAST).await;
    let binding = |relation: &str| {
        let relation = relation.parse().expect("a name");
        TableBinding { relation, ..world.logs_table() }
    };
    let found = async |relation: &str| world.source.foreign_code(&binding(relation)).await.expect("asked");
    for (relation, named) in [
        ("of_enum", &["the cast from text to status", "type status"][..]),
        ("of_pairs", &["type pair"]),
        ("of_range", &["type span"]),
        ("of_domain", &["domain small"]),
        ("of_ours", &[]),
        ("parted", &["partition part_2", "trigger guards"]),
    ] {
        let named: Vec<String> = named.iter().map(|named| format!("{named} ({mallory})")).collect();
        assert_eq!(found(relation).await, named, "{relation}");
    }

    // What an operator is granted takes them along, and from then on their former owner makes no cast.
    let relations = ["of_enum", "of_pairs", "of_range", "of_domain", "of_ours", "parted"];
    let relations: Vec<Relation> = relations.iter().map(|name| name.parse().expect("a name")).collect();
    let relations: Vec<&Relation> = relations.iter().collect();
    let database: String = world.value("SELECT current_database()::text").await;
    let as_who_owns = Source::connect_as_operator(&as_operator).await.expect("connects");
    let missing = as_who_owns.missing_rights(&binding("parted")).await.expect("asked").join("; ");
    assert!(missing.contains("partition public.part_2 of public.parted"), "{missing}");
    run(&mut mallorys, "DROP CAST (text AS public.status); DROP TRIGGER guards ON public.part_2").await;
    for statement in lockstep_postgres::grants(GrantedRole::Operator, &operator, &database, &relations) {
        world.sql(&statement).await;
    }
    for relation in &relations {
        let binding = TableBinding { relation: (*relation).clone(), ..world.logs_table() };
        assert_eq!(as_who_owns.foreign_code(&binding).await.expect("asked"), [""; 0], "{relation}");
        assert_eq!(as_who_owns.missing_rights(&binding).await.expect("asked"), [""; 0], "{relation}");
    }
    assert_eq!(refused(&mut mallorys, CAST).await, DENIED);
    let trigger = "CREATE TRIGGER guards BEFORE INSERT ON public.part_2 FOR EACH ROW
        EXECUTE FUNCTION public.guards()";
    assert_eq!(refused(&mut mallorys, trigger).await, DENIED);
    world.sql("INSERT INTO public.of_enum VALUES ('open'); INSERT INTO public.parted VALUES (2)").await;
    let mut operators = sqlx::PgConnection::connect(&as_operator.url).await.expect("connects");
    run(&mut operators, "SELECT count(*) FROM public.of_enum WHERE v = 'open'::text::public.status").await;
    assert_eq!(world.count("public.loot").await, 0, "no code of another role ran");
    as_who_owns.close().await;
}
