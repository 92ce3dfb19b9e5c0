//! The shop goes through all phases and back while it writes, by its own command line and nothing else.

mod shop_at_work;

use std::path::Path;
use std::process::Stdio;

use lockstep::config::Inputs;
use lockstep_embedded::{Stores, StoresOptions};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::process::Command;

use shop_at_work::Shop;

const SCHEMA: &str = include_str!("../../schema.sql");
const TABLES: [&str; 3] = ["customers", "stock", "events"];

/// Both stores, and what says where they are.
struct Place {
    stores: Stores,
    pool: PgPool,
    environment: Vec<(String, String)>,
}

impl Place {
    async fn start() -> Self {
        let stores = Stores::start(StoresOptions::default()).await.expect("both stores");
        let pool = PgPool::connect(stores.postgres.url()).await.expect("PostgreSQL");
        sqlx::raw_sql(SCHEMA).execute(&pool).await.expect("the schema of the shop");
        let environment = [
            ("LOCKSTEP_SOURCE__URL", stores.postgres.url()),
            ("LOCKSTEP_TARGET__ENDPOINT_URL", stores.dynamo.endpoint_url()),
            ("LOCKSTEP_TARGET__EMULATOR_CREDENTIALS", "true"),
            // An emulator carries out nothing later than it was asked.
            ("LOCKSTEP_TARGET__REQUEST_LIFETIME_S", "1"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Self { stores, pool, environment }
    }

    fn file(&self) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../lockstep.toml")
    }

    /// Returns the configuration that the shop reads; its command line reads the same.
    fn inputs(&self) -> Inputs {
        Inputs { file: Some(self.file()), environment: self.environment.clone(), ..Inputs::default() }
    }

    /// Runs a command of the shop's command line; it must end well, and what it reports is returned.
    async fn run(&self, arguments: &[&str]) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(arguments).args(["--json", "--quiet", "--config"]).arg(self.file());
        command.envs(self.environment.iter().cloned()).stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.expect("the command starts");
        let (out, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}\n{out}");
        serde_json::from_str(&out).expect("one JSON document")
    }

    async fn count(&self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&self.pool).await.expect("a count")
    }
}

/// Every canary read that gates asked, as `table: query`; each must have passed.
fn canaries(report: &Value) -> Vec<String> {
    let steps = report["steps"].as_array().expect("steps");
    let gates = steps.iter().flat_map(|step| step["gates"]["results"].as_array().expect("gates"));
    let mut asked: Vec<String> = gates
        .filter_map(|gate| {
            let query = gate["name"].as_str()?.strip_prefix("canary read: ")?;
            assert_eq!(gate["passed"], true, "{gate}");
            Some(format!("{}: {query}", gate["table"].as_str()?))
        })
        .collect();
    asked.sort();
    asked.dedup();
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn three_tables_of_another_workspace_go_there_and_back_while_the_shop_writes() {
    let place = Place::start().await;
    place.run(&["migrate", "--through", "PostgresOnly"]).await;
    let migration = shop::open(&place.inputs()).await.expect("the shop opens");
    let mut shop = Shop::start(&migration);

    let there = place.run(&["migrate", "--to", "HybridRead"]).await;
    assert_eq!((&there["verdict"], &there["phase"]), (&"consistent".into(), &"HybridRead".into()), "{there}");
    let expected =
        ["customers: by key", "customers: by_country", "events: by key", "events: by_id", "stock: by key"];
    assert_eq!(canaries(&there), expected, "no table and no index moves unasked");

    shop.pause().await;
    let tried = place.run(&["test-operation"]).await;
    assert_eq!(tried["passed"], true, "{tried}");
    let checks = tried["checks"].as_array().expect("checks");
    for table in TABLES {
        let of_table: Vec<&Value> = checks.iter().filter(|check| check["table"] == table).collect();
        assert!(
            of_table.len() > 1 && of_table.iter().all(|check| check["passed"] == true),
            "{table}: {tried}"
        );
    }
    let compared = place.run(&["validate", "--no-relay", "--latency", "3"]).await;
    assert_eq!(compared["verdict"], "consistent", "{compared}");
    for table in TABLES {
        let timed = compared["latency"].as_array().expect("latencies");
        assert!(timed.iter().any(|query| query["table"] == table), "{table} was not timed: {compared}");
    }
    shop.go_on();

    let round = place.run(&["migrate", "--round-trip"]).await;
    assert_eq!((&round["verdict"], &round["phase"]), (&"consistent".into(), &"DynamoOnly".into()), "{round}");
    let legs = round["legs"].as_array().expect("legs");
    assert!(legs.len() == 3 && legs.iter().all(|leg| leg["consistent"] == true), "{round}");
    let back = place.run(&["rollback", "--to", "PostgresOnly"]).await;
    assert_eq!(back["phase"], "PostgresOnly", "{back}");

    let written = shop.end().await;
    assert!(written.calls > 100, "the shop wrote all the while: {}", written.calls);
    migration.shutdown().await;
    // Every acknowledged write is where it belongs, and nothing else is.
    assert_eq!(place.count("SELECT count(*) FROM shop.events").await, 300 + written.events.len() as i64);
    for event in &written.events {
        let there = format!("SELECT count(*) FROM shop.events WHERE event_id = '{event}'");
        assert_eq!(place.count(&there).await, 1, "{event} is lost");
    }
    assert_eq!(place.count("SELECT count(*) FROM shop.customers").await, 300 + written.customers);
    let pieces = "SELECT pieces::bigint FROM shop.stock WHERE warehouse = 'w#new' AND sku = 'a#b'";
    assert_eq!(place.count(pieces).await, i64::from(written.pieces));
    let journal = std::env::temp_dir().join(format!("own-tables-{}.jsonl", std::process::id()));
    let file = journal.to_str().expect("a path");
    let out = place.run(&["uninstall", "--yes", "--drop-target-tables", "--journal", file]).await;
    std::fs::remove_file(&journal).expect("the journal was kept");
    let gone = out["target_tables"].as_array().expect("tables");
    assert!(TABLES.iter().all(|table| gone.contains(&format!("shop-{table}").into())), "{out}");
    assert_eq!(place.count("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'lockstep%'").await, 0);
    assert_eq!(place.count("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal").await, 0);
    place.stores.stop().await.expect("both stop");
}
