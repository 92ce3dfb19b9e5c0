use lockstep_core::Phase;
use lockstep_postgres::Source;
use lockstep_tests::World;

/// A role's and a database's defaults are for people; our sessions depend on none of them.
#[tokio::test]
async fn hostile_defaults_of_role_and_database_reach_no_session_of_ours() {
    let world = World::start().await;
    let database: String = world.value("SELECT current_database()::text").await;
    let hostile = [
        ("statement_timeout", "'20s'", "0"),
        ("lock_timeout", "'20s'", "0"),
        ("idle_session_timeout", "'20s'", "0"),
        ("row_security", "on", "off"),
        ("DateStyle", "'SQL, DMY'", "ISO, MDY"),
        ("IntervalStyle", "sql_standard", "postgres"),
        ("bytea_output", "escape", "hex"),
        ("client_encoding", "LATIN1", "UTF8"),
        ("extra_float_digits", "-15", "2"),
        ("TimeZone", "'Asia/Tokyo'", "UTC"),
        ("quote_all_identifiers", "on", "off"),
        ("transform_null_equals", "on", "off"),
        ("array_nulls", "off", "on"),
        ("default_transaction_isolation", "serializable", "read committed"),
        ("synchronous_commit", "off", "on"),
        ("jit", "on", "off"),
        // The last: what follows could not be set.
    ];
    for (name, value, _) in hostile {
        world.sql(&format!("ALTER ROLE CURRENT_USER IN DATABASE {database} SET {name} = {value}")).await;
    }
    let source = Source::connect(&world.source_options()).await.expect("connects");
    for (name, _, ours) in hostile {
        let is: String = sqlx::query_scalar("SELECT current_setting($1)")
            .bind(name)
            .fetch_one(source.pool())
            .await
            .expect("a setting");
        assert_eq!(is, ours, "{name}");
    }
    source.close().await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    world.assert_converged().await;
}
