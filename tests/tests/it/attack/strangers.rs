//! Tables of strangers that a comparison reads, because a moved table refers to one of that name.

use lockstep_core::Window;
use lockstep_postgres::{Referred, Source, TableBinding};
use lockstep_tests::World;
use lockstep_tests::world::rows::{logs, payments};
use lockstep_tests::world::{LOGS, PAYMENTS, run};
use lockstep_validator::{Quality, Report};
use sqlx::{Connection as _, PgConnection};

use crate::roles::role;

/// Objects that a role makes in a schema of its own: code that counts, in a sequence that no rollback takes
/// back, whenever another role runs it.
fn planted(mallory: &str) -> String {
    format!(
        "CREATE SEQUENCE m.caught;
         CREATE FUNCTION m.caught() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN
             IF current_user <> '{mallory}' THEN PERFORM pg_catalog.nextval('m.caught'); END IF;
             RETURN 1; END $$;
         CREATE TYPE m.e AS ENUM ('1', '2');
         CREATE FUNCTION m.evil(m.e) RETURNS bigint LANGUAGE sql AS 'SELECT m.caught()';
         CREATE CAST (m.e AS bigint) WITH FUNCTION m.evil(m.e) AS IMPLICIT;
         CREATE FUNCTION m.while_planning(bigint) RETURNS boolean IMMUTABLE LANGUAGE plpgsql
             AS $$ BEGIN RETURN m.caught() = $1; END $$;
         CREATE TABLE m.applications (application_id m.e); INSERT INTO m.applications VALUES ('1');
         GRANT USAGE ON SCHEMA m TO PUBLIC; GRANT SELECT ON m.applications TO PUBLIC"
    )
}

async fn is_caught(world: &World) -> bool {
    world.value("SELECT is_called FROM m.caught").await
}

fn quality<'a>(report: &'a Report, table: &str) -> &'a Quality {
    let table = report.tables.iter().find(|t| t.name == table).expect("a table");
    table.quality.as_ref().expect("it was judged")
}

async fn unchecked(source: &Source, binding: &TableBinding, to: &str) -> String {
    let references = binding.table.references();
    let reference = references.iter().find(|reference| reference.to_table == to).expect("it refers to that");
    match source.dangling(binding, reference, &Window::default(), 10).await.expect("nothing fails") {
        Referred::Unchecked(why) => why,
        Referred::Looked(found) => panic!("it was looked for: {found:?}"),
    }
}

/// 1. A moved table refers to `applications`, without a foreign key, and there is no such table. 2. A role
/// makes one, of a type with a cast by a function of its own. 3. A comparison ran that as the operator; and
/// where the role gave no right to its table, no comparison was ever complete again.
#[tokio::test]
async fn a_table_of_a_stranger_runs_no_code_in_a_comparison_and_keeps_none_from_its_end() {
    let world = World::start().await;
    world.sql(&format!("{}; {}", logs(1, 20), payments(1, 20))).await;
    world.migrated_to(lockstep_core::Phase::DualWrite).await.close().await;
    let (mallory, as_mallory) = role(&world, "mallory").await;
    let (_, as_operator) = role(&world, "operator").await;
    world
        .sql(&format!("ALTER TABLE applications RENAME TO requests; CREATE SCHEMA m AUTHORIZATION {mallory}"))
        .await;
    let mut mallorys = PgConnection::connect(&as_mallory.url).await.expect("connects");
    run(&mut mallorys, &planted(&mallory)).await;
    // The code is what an attacker would make: who compares the columns runs it.
    world
        .count(&format!(
            "{LOGS} s WHERE EXISTS (SELECT FROM m.applications t WHERE t.application_id = s.application_id)"
        ))
        .await;
    assert!(is_caught(&world).await);
    world.sql("ALTER SEQUENCE m.caught RESTART").await;

    let operator = Source::connect_as_operator(&as_operator).await.expect("connects");
    let binding = world.logs_table();
    for (place, right, said) in [
        ("m", "GRANT", "there is no such column here"),
        ("m", "REVOKE", "there is no such column here"),
        ("public", "GRANT", mallory.as_str()),
        ("public", "REVOKE", mallory.as_str()),
    ] {
        if place == "public" {
            world.sql("ALTER TABLE IF EXISTS m.applications SET SCHEMA public").await;
        }
        let whom = if right == "GRANT" { "TO" } else { "FROM" };
        run(&mut mallorys, &format!("{right} SELECT ON {place}.applications {whom} PUBLIC")).await;
        for source in [&world.source, &operator] {
            let why = unchecked(source, &binding, "applications").await;
            assert!(why.contains(said), "{place}, {right}: {why}");
        }
        let report = world.validate().await;
        assert!(report.verdict.is_consistent(), "{place}, {right}: {report:#?}");
        let found = quality(&report, LOGS);
        assert!(found.references[0].dangling.is_none() && found.failures.is_empty(), "{found:?}");
        assert!(found.because.iter().any(|why| why.contains(said)), "it is told: {found:?}");
        assert!(!is_caught(&world).await, "{place}, {right}");
    }

    // What a foreign key leads to is a stranger's as well, who may give it code at any time.
    world
        .sql(&format!("ALTER TABLE loans OWNER TO {mallory}; GRANT CREATE ON SCHEMA public TO {mallory}"))
        .await;
    runs_no_code(&world, &mallory, "table loans").await;
    for planted in [
        "CREATE INDEX planned ON public.loans (loan_id) WHERE m.while_planning(1)",
        "DROP INDEX public.planned; CREATE STATISTICS public.planned ON loan_id, \
         (m.while_planning(1) AND loan_id > 0) FROM public.loans",
    ] {
        run(&mut mallorys, planted).await;
        world.count("loans WHERE loan_id = 1").await;
        assert!(is_caught(&world).await, "a role that plans a read runs it: {planted}");
        world.sql("ALTER SEQUENCE m.caught RESTART").await;
        runs_no_code(&world, &mallory, "loans").await;
    }

    // Nor is one of the operator's own read, where a part of it is a stranger's.
    run(&mut mallorys, "DROP STATISTICS public.planned").await;
    world
        .sql(&format!(
            "ALTER TABLE loans OWNER TO CURRENT_USER; CREATE TABLE m.part () INHERITS (loans);
             ALTER TABLE m.part OWNER TO {mallory}"
        ))
        .await;
    run(&mut mallorys, "CREATE INDEX ON m.part (loan_id) WHERE m.while_planning(1)").await;
    world.count("loans").await;
    assert!(is_caught(&world).await, "who reads a table plans those that inherit from it");
    world.sql("ALTER SEQUENCE m.caught RESTART").await;
    runs_no_code(&world, &mallory, "part").await;
    world.sql("DROP TABLE m.part").await;
    let report = world.validate().await;
    assert_eq!(quality(&report, PAYMENTS).references[0].dangling, Some(0), "{report:#?}");
    operator.close().await;
}

/// A comparison is consistent, says why references were not checked, and has run no code of the stranger's.
async fn runs_no_code(world: &World, stranger: &str, says: &str) {
    let report = world.validate().await;
    assert!(report.verdict.is_consistent(), "{report:#?}");
    let because = quality(&report, PAYMENTS).because.join("; ");
    assert!(because.contains(says) && because.contains(stranger), "{because}");
    assert!(!is_caught(world).await, "{because}");
}
