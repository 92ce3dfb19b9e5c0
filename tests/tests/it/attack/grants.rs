use super::world;
use crate::roles::{grants, role};

/// The grants of the runbook are all that an application's role has: on tables, columns, sequences and
/// functions of schema lockstep.
#[tokio::test]
async fn an_applications_role_may_do_what_the_runbook_grants_and_no_more() {
    let world = world().await;
    let (app, _) = role(&world, "app").await;
    world.sql(&grants(&app)).await;
    let held: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname || ' ' || p FROM pg_class c
         CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p
         WHERE c.relnamespace = 'lockstep'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p')
             AND has_table_privilege($1, c.oid, p) ORDER BY c.relname, p",
    )
    .bind(&app)
    .fetch_all(world.source.pool())
    .await
    .expect("the catalogue is read");
    let all = |table: &str| ["DELETE", "INSERT", "SELECT", "UPDATE"].map(|right| format!("{table} {right}"));
    let mut documented =
        vec!["control SELECT".to_owned(), "dead_letters DELETE".to_owned(), "dead_letters SELECT".to_owned()];
    documented.extend(["instances", "intents", "pending"].into_iter().flat_map(all));
    assert_eq!(held, documented);
    let sequences: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname || ' ' || p FROM pg_class c CROSS JOIN unnest(ARRAY['USAGE', 'SELECT', 'UPDATE']) AS p
         WHERE c.relnamespace = 'lockstep'::regnamespace AND c.relkind = 'S' AND has_sequence_privilege($1, c.oid, p)",
    )
    .bind(&app)
    .fetch_all(world.source.pool())
    .await
    .expect("the catalogue is read");
    assert_eq!(sequences, ["version_seq USAGE"]);
}
