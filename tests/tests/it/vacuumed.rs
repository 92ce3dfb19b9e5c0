//! V13: an autovacuum that takes long is in the way of a lock on a table, and PostgreSQL ends it only for a
//! session that waits longer than any try of ours may wait for that lock.

use std::time::Duration;

use lockstep_embedded::{Postgres, PostgresOptions};
use lockstep_tests::World;
use lockstep_tests::world::{LOCK_TIMEOUT, LOGS, WorldOptions, eventually, rows, within};
use sqlx::{Connection, PgConnection};

/// Many times what it takes, and far less than the vacuum would work.
const PATIENCE: Duration = Duration::from_secs(40);

/// Has an autovacuum work on the logs: for minutes, as it does one page in each tenth of a second.
async fn vacuumed(world: &World) {
    world.sql("UPDATE integration_logs SET error_message = 'vacuumed'").await;
    eventually("an autovacuum works", || async {
        world
            .try_value(&format!(
                "SELECT EXISTS (SELECT FROM pg_stat_progress_vacuum WHERE relid = '{LOGS}'::regclass)"
            ))
            .await
            .expect("an answer")
    })
    .await;
    // One transaction, which ends with its error.
    let short = "SET LOCAL lock_timeout = '300ms'; LOCK TABLE integration_logs IN SHARE ROW EXCLUSIVE MODE";
    let refused = world.try_sql(short).await.expect_err("the vacuum has a lock that is in the way");
    assert!(refused.to_string().contains("lock timeout"), "{refused}");
}

#[tokio::test]
async fn an_autovacuum_that_takes_long_keeps_no_lock_of_ours_waiting() {
    let server = Postgres::start(PostgresOptions::default()).await.expect("PostgreSQL starts");
    let mut sql = PgConnection::connect(server.url()).await.expect("it answers");
    lockstep_sample::load::create_tables(&mut sql).await.expect("the sample's tables");
    let world = World::at(server.url().to_owned(), WorldOptions::default()).await;
    for setting in ["ALTER SYSTEM SET autovacuum_naptime = '1s'", "SELECT pg_reload_conf()"] {
        sqlx::raw_sql(setting).execute(&mut sql).await.expect("set");
    }
    world
        .sql(
            "ALTER TABLE integration_logs SET (autovacuum_vacuum_threshold = 1,
                 autovacuum_vacuum_scale_factor = 0,
                 autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)",
        )
        .await;
    world.sql(&rows::logs(1, 4_000)).await;
    world.source.migrate_schema().await.expect("the schema");

    let logs = world.logs_table();
    vacuumed(&world).await;
    let fingerprint = world.source.fingerprint(&logs).await.expect("it can be read");
    within(PATIENCE, world.source.install_capture(&logs, &fingerprint)).await.expect("installed");
    vacuumed(&world).await;
    let removed = within(PATIENCE, world.source.uninstall(LOCK_TIMEOUT)).await.expect("taken out");
    assert_eq!(removed.triggers.len(), 2, "{removed:?}");
}
