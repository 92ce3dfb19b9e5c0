//! The one PostgreSQL of a test process. Starting it costs more than a second, so all tests share it; each
//! has a database of its own in it, and advisory locks, phases and journals are a database's own.

use lockstep_embedded::{Postgres, PostgresOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::OnceCell;

/// Never dropped: the cluster goes when the process does.
static CLUSTER: OnceCell<Postgres> = OnceCell::const_new();

const TEMPLATE: &str = "world_template";

/// Makes a database with the sample's tables, empty but for the rows that stay behind; returns its URL.
pub(super) async fn database(name: &str) -> String {
    // The words of libraries are compared as an operator reads them.
    lockstep_cli::spell_advice();
    let cluster = CLUSTER.get_or_init(start).await;
    let mut connection = PgConnection::connect(cluster.url()).await.expect("the cluster answers");
    create(&mut connection, &format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE}")).await;
    connection.close().await.expect("closes");
    url_of(cluster, name)
}

async fn start() -> Postgres {
    let cluster = Postgres::start(PostgresOptions::default()).await.expect("PostgreSQL starts");
    let mut connection = PgConnection::connect(cluster.url()).await.expect("the cluster answers");
    // Each test leaves a database behind. Autovacuum looks at each of them once in its period, so that by the
    // end of a run it would start eight processes a second.
    create(&mut connection, "ALTER SYSTEM SET autovacuum_naptime = '1d'").await;
    // A connection plans a statement five times before it keeps a plan. Those of a test are done before that:
    // nearly half of the server's time went into plans of one statement over catalogues.
    // `.ci/run plans` runs the tests with the plans that a server makes by itself.
    if std::env::var_os("PLAN_AS_SERVERS_DO").is_none() {
        create(&mut connection, "ALTER SYSTEM SET plan_cache_mode = 'force_generic_plan'").await;
    }
    create(&mut connection, "SELECT pg_reload_conf()").await;
    create(&mut connection, &format!("CREATE DATABASE {TEMPLATE}")).await;
    connection.close().await.expect("closes");
    let mut template =
        PgConnection::connect(&url_of(&cluster, TEMPLATE)).await.expect("the template answers");
    lockstep_sample::load::create_tables(&mut template).await.expect("the sample's tables");
    // A database with a connection cannot be a template.
    template.close().await.expect("closes");
    cluster
}

async fn create(connection: &mut PgConnection, sql: &str) {
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

fn url_of(cluster: &Postgres, database: &str) -> String {
    let (server, _) = cluster.url().rsplit_once('/').expect("a URL ends in its database");
    format!("{server}/{database}")
}
