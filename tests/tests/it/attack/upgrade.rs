use lockstep_postgres::Source;
use lockstep_tests::World;

use crate::long_keys::BEFORE;
use crate::roles::role;

/// Rows of before the guards are marks and leases that they would refuse, and a grant that is no longer
/// given.
#[tokio::test]
async fn a_database_of_before_the_guards_is_mended_by_the_upgrade() {
    let world = World::start().await;
    world.source.migrate_schema().await.expect("made");
    let (app, _) = role(&world, "app").await;
    // The newest first: what came after the guards goes before them.
    world.sql(BEFORE).await;
    for sql in back() {
        world.sql(&sql).await;
    }
    let most = i64::MAX;
    for sql in [
        "INSERT INTO lockstep.pending (table_name, key, version) VALUES ('t', '{}', 5)".to_owned(),
        format!("INSERT INTO lockstep.pending VALUES ('t', '[1]', {most}, 'infinity')"),
        format!(
            "INSERT INTO lockstep.instances (id, name, host, pid, started_at, lease_ms, renewed_at)
             VALUES (9, 'n', 'h', 1, 'infinity', {most}, 'infinity')"
        ),
        format!("GRANT SELECT, UPDATE, DELETE ON lockstep.dead_letters TO {app}"),
    ] {
        world.sql(&sql).await;
    }
    let source: Source = world.another_source().await;
    source.migrate_schema().await.expect("upgraded");
    source.migrate_schema().await.expect("and once more");
    let marks: String = world
        .value(
            "SELECT string_agg(key::text || (version <= (SELECT last_value FROM lockstep.version_seq)), ',') FROM lockstep.pending",
        )
        .await;
    assert_eq!(marks, "[1]true", "delivered under a version that later changes outrank");
    assert_eq!(source.instances().await.expect("status reads them")[0].lease_ms, 60_000);
    let may: bool =
        world.value(&format!("SELECT has_table_privilege('{app}', 'lockstep.dead_letters', 'UPDATE')")).await;
    assert!(!may, "applications acknowledge nothing");
    source.close().await;
}

/// Takes the schema back to migration 9.
fn back() -> Vec<String> {
    let guards = ["pending", "intents", "instances", "dead_letters"];
    let mut sql: Vec<String> =
        guards.iter().map(|name| format!("DROP FUNCTION lockstep.guard_{name}() CASCADE")).collect();
    sql.push("DROP FUNCTION lockstep.guard_settled() CASCADE".to_owned());
    for (table, names) in [
        ("pending", &["key_is_a_list", "version_is_one", "marked_some_day"][..]),
        ("intents", &["key_is_a_list", "version_is_one", "made_some_day"][..]),
        ("instances", &["lease_is_short", "renewed_some_day"][..]),
    ] {
        sql.extend(names.iter().map(|name| format!("ALTER TABLE lockstep.{table} DROP CONSTRAINT {name}")));
    }
    sql.extend(
        ["intents", "instances"].map(|table| format!("ALTER TABLE lockstep.{table} DROP COLUMN owner")),
    );
    sql.push("DELETE FROM lockstep.schema_migrations WHERE version = 10".to_owned());
    sql
}
