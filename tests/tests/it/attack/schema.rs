use lockstep_core::Kind;
use lockstep_tests::World;

use crate::roles::role;

/// S8: what was put into a schema before ran with the operator's rights.
#[tokio::test]
async fn a_schema_of_ours_that_another_role_made_is_refused_before_anything() {
    for schema in ["lockstep", "lockstep_archive"] {
        let world = World::start().await;
        let (squatter, _) = role(&world, "squatter").await;
        world.try_sql(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE")).await.expect("dropped");
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE SCHEMA {schema}; ALTER SCHEMA {schema} OWNER TO {squatter}")))
            .execute(world.strangers())
            .await
            .expect("made");
        let error = world.source.migrate_schema().await.expect_err("it is not ours");
        assert_eq!(error.kind, Kind::Misconfigured);
        assert!(error.message.contains(&squatter), "{}", error.message);
    }
}
