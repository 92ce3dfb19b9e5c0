//! Reasons that hold a process back which the daemon does not run: told by the daemon all the same, and
//! turned by operators where no daemon runs.

use std::time::Duration;

use lockstep_core::Phase;
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, Rule};
use lockstep_tests::world::rows::{logs, payments};
use lockstep_tests::world::{LOGS, eventually, within};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr};

use super::served::Served;
use crate::process::{command, ended};

async fn ran(world: &World, arguments: &[&str]) -> String {
    let output = ended(command(world, arguments)).await;
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(matches!(output.status.code(), Some(0 | 6)), "{arguments:?}: {said}");
    said
}

async fn set(world: &World, name: &str, value: &str) {
    ran(world, &["set", name, value, "--reason", "a test"]).await;
}

fn started(world: &World, arguments: &[&str]) -> Child {
    command(world, arguments).spawn().expect("the command starts")
}

async fn ends_well(child: Child) -> String {
    let ended = within(Duration::from_mins(3), async { child.wait_with_output().await.expect("it ends") });
    let output = ended.await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    said
}

/// Capture is on, and nothing is copied yet.
async fn prepared(rows: i64) -> World {
    let world = World::behind_proxy().await;
    world.sql(&logs(1, rows)).await;
    world.sql(&payments(1, 40)).await;
    world.prepared().await.close().await;
    world
}

fn rates(status: &Value) -> Value {
    let rates = status["daemon"]["rates"].as_array().expect("rates");
    rates.iter().find(|rate| rate["table"] == LOGS).cloned().unwrap_or_default()
}

/// 1. `backfill` runs beside the daemon, or on another machine. 2. DynamoDB throttles it. 3. The page said
/// neither why it is slow nor when it ends, and no alert was raised, as only the daemon's own relay counted.
#[tokio::test]
async fn why_a_backfill_of_another_process_is_slow_and_when_it_ends_is_known_to_the_daemon() {
    let world = prepared(9_000).await;
    let served = Served::of(&world).await;
    served.until("it has read", |status| status["installed"] == true).await;
    world.proxy().script(Rule::new(Fault::WriteUnits(150)).on("BatchExecuteStatement"));
    let backfill = started(&world, &["backfill", "--quiet"]);
    served
        .until("it says why, and when it ends", |status| {
            let rate = rates(status);
            let why = rate["slowed_by"].as_str().unwrap_or_default();
            let (likely, least) = (rate["eta_s"].as_f64(), rate["eta_least_s"].as_f64());
            (why.contains("throttles") || why.contains("DynamoDB asks for less"))
                && likely.zip(least).is_some_and(|(likely, least)| least > 0.0 && least <= likely)
        })
        .await;
    let said = ran(&world, &["status"]).await;
    assert!(said.contains("is held back by"), "{said}");
    eventually("the metrics count it", async || {
        let text = served.open("/metrics").await.text;
        let value = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.rsplit(' ').next()?.parse::<f64>().ok()
        };
        let throttled = value("lockstep_throttled_total{store=\"dynamodb\",reason=\"backfill\"}");
        let units = value(&format!("lockstep_target_write_units_total{{table=\"{LOGS}\"}}"));
        throttled > Some(0.0) && units > Some(0.0) && value("lockstep_workers_held_back") == Some(1.0)
    })
    .await;
    world.proxy().clear();
    ends_well(backfill).await;
    served
        .until("nothing holds it back any more", |status| {
            rates(status)["slowed_by"].is_null() && rates(status)["eta_s"].is_null()
        })
        .await;
}

/// 1. No daemon runs. 2. The initial load costs more than `spend_cap_usd`. 3. It went on to its end.
#[tokio::test]
async fn a_backfill_without_a_daemon_stops_at_the_cap_and_goes_on_when_it_is_raised() {
    let world = prepared(4_000).await;
    set(&world, "spend_cap_usd", "0").await;
    world.proxy().script(Rule::new(Fault::WriteUnits(150)).on("BatchExecuteStatement"));
    let backfill = started(&world, &["backfill", "--quiet"]);
    let capped =
        "SELECT EXISTS (SELECT FROM lockstep.workers WHERE slowed_by LIKE '%spend_cap_usd is 0.00%')";
    eventually("it says that the cap is reached", || async {
        world.try_value(capped).await.unwrap_or(false)
    })
    .await;
    world.proxy().clear();
    let said = ran(&world, &["status"]).await;
    assert!(said.contains("spend_cap_usd is 0.00"), "{said}");
    assert!(world.value::<bool>("SELECT bool_or(NOT done) FROM lockstep.ranges").await, "it has stopped");
    set(&world, "spend_cap_usd", "1000").await;
    ends_well(backfill).await;
    assert!(world.value::<bool>("SELECT bool_and(done) FROM lockstep.ranges").await);
}

/// 1. No daemon runs. 2. A comparison of everything is under way, and what was spent meets the cap. 3. It
/// read on to its end, and what it read was on no bill.
#[tokio::test]
async fn a_validate_under_way_stops_at_the_cap_goes_on_when_it_is_raised_and_is_on_the_bill() {
    let world = World::behind_proxy().await;
    world.sql(&logs(1, 400)).await;
    world.sql(&payments(1, 40)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let (begun, scanned) = ("SELECT count(*) FROM lockstep.begun_comparisons", world.proxy().seen("Scan"));
    let before: i64 = world.value(begun).await;
    set(&world, "pause.validation", "true").await;
    let mut validate = started(&world, &["validate", "--no-relay", "--quiet"]);
    let mut lines = BufReader::new(validate.stderr.take().expect("its log")).lines();
    eventually("it has begun", || async { world.value::<i64>(begun).await > before }).await;
    set(&world, "spend_cap_usd", "0").await;
    set(&world, "pause.validation", "default").await;
    let told = said_by(&mut lines, "nothing is compared: ").await;
    assert!(told.contains("spend_cap_usd is 0.00"), "{told}");
    ran(&world, &["status"]).await;
    assert_eq!(world.proxy().seen("Scan"), scanned, "nothing of DynamoDB is read");
    // What a person asks about one row costs next to nothing.
    let said = ran(&world, &["validate", "--no-relay", "--key", "payments/3"]).await;
    assert!(said.contains("both stores say the same"), "{said}");
    world.proxy().script(Rule::new(Fault::Throttle).on("Scan").times(2));
    set(&world, "spend_cap_usd", "1000").await;
    said_by(&mut lines, "comparing goes on").await;
    let reading = tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    assert_eq!(within(Duration::from_mins(3), validate.wait()).await.expect("it ends").code(), Some(0));
    reading.await.expect("read");
    let counted = async |name: &str| -> i64 {
        let sql =
            format!("SELECT coalesce(sum(count), 0)::bigint FROM lockstep.counts WHERE name = '{name}'");
        world.value(&sql).await
    };
    assert_eq!(counted("spent.throttled.comparison").await, 2);
    let read = counted("spent.read_units").await;
    assert!(read > 0);
    let cost = ended(command(&world, &["cost", "--json"])).await;
    let told: Value = serde_json::from_slice(&cost.stdout).expect("JSON");
    assert_eq!(told["read_units"], read, "{told}");
}

/// Returns what a command says after these words, once it does.
async fn said_by(lines: &mut Lines<BufReader<ChildStderr>>, words: &str) -> String {
    loop {
        let line = within(Duration::from_mins(1), lines.next_line()).await.expect("it reads");
        if let Some((_, told)) = line.expect("it says so").split_once(words) {
            return told.to_owned();
        }
    }
}

/// Returns what Prometheus would read at an address that a command has printed.
async fn scraped(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let asked = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(asked.as_bytes()).await.expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    answer
}

/// A command that runs for hours on another machine than the daemon is seen by Prometheus as well.
#[tokio::test]
async fn a_command_serves_its_metrics_while_it_runs_and_to_no_other_machine() {
    let world = prepared(3_000).await;
    let beyond = ended(command(&world, &["backfill", "--metrics-listen", "0.0.0.0:0"])).await;
    assert_eq!(beyond.status.code(), Some(2), "{}", String::from_utf8_lossy(&beyond.stderr));
    world.proxy().script(Rule::new(Fault::WriteUnits(150)).on("BatchExecuteStatement"));
    let mut backfill = started(&world, &["backfill", "--metrics-listen", "127.0.0.1:0"]);
    let mut lines = BufReader::new(backfill.stderr.take().expect("its log")).lines();
    let address = said_by(&mut lines, "Metrics: http://").await;
    let address = address.trim_end_matches("/metrics");
    let reading = tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    let done = format!("lockstep_work_done_total{{work=\"backfill\",table=\"{LOGS}\"}} ");
    eventually("its progress is told", async || {
        let answer = scraped(address, "/metrics").await;
        let line = answer.lines().find_map(|line| line.strip_prefix(&done));
        let requests =
            |store| answer.contains(&format!("lockstep_store_request_seconds_count{{store=\"{store}\""));
        line.and_then(|rows| rows.parse::<f64>().ok()) > Some(0.0)
            && requests("dynamodb")
            && requests("postgresql")
    })
    .await;
    assert!(scraped(address, "/v1/status").await.starts_with("HTTP/1.0 404"), "nothing else is served");
    world.proxy().clear();
    assert_eq!(within(Duration::from_mins(3), backfill.wait()).await.expect("it ends").code(), Some(0));
    reading.await.expect("read");
}

/// A stream that throttles the feed is counted as what throttles the others is.
#[tokio::test]
async fn what_a_stream_asks_the_feed_to_slow_down_for_is_counted() {
    let world = World::behind_proxy().await;
    world.sql(&logs(1, 10)).await;
    world.migrated_to(Phase::DynamoOnly).await.close().await;
    world.proxy().script(Rule::new(Fault::Throttle).on("GetRecords").times(3));
    ran(&world, &["reverse-feed", "--until-empty", "--quiet"]).await;
    let counted =
        "SELECT coalesce(sum(count), 0)::bigint FROM lockstep.counts WHERE name = 'spent.throttled.feed'";
    assert_eq!(world.value::<i64>(counted).await, 3);
}

/// The pauses of an operator hold for every process that does the work, and not for the daemon's alone.
#[tokio::test]
async fn relay_comparison_and_reverse_feed_without_a_daemon_rest_while_they_are_paused() {
    let world = World::behind_proxy().await;
    world.sql(&logs(1, 40)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let pending = async || world.value::<i64>("SELECT count(*) FROM lockstep.pending").await;

    set(&world, "pause.relay", "true").await;
    let mut relay = started(&world, &["relay", "--quiet"]);
    let joined = "SELECT EXISTS (SELECT FROM lockstep.relays)";
    eventually("the relay is there", || async { world.value::<bool>(joined).await }).await;
    world.sql(&payments(500, 507)).await;
    let said = ran(&world, &["status"]).await;
    assert!(!said.contains("no relay is running"), "{said}");
    assert_eq!(pending().await, 8, "nothing is delivered");
    set(&world, "pause.relay", "default").await;
    eventually("it delivers", || async { pending().await == 0 }).await;
    relay.kill().await.expect("SIGKILL");
    let gone = "UPDATE lockstep.relays SET lease_until = now() - interval '1 minute'";
    world.sql(gone).await;
    let said = ran(&world, &["status"]).await;
    assert!(said.contains("no relay is running") && said.contains("relay`"), "{said}");

    set(&world, "pause.validation", "true").await;
    let (begun, scanned) = ("SELECT count(*) FROM lockstep.begun_comparisons", world.proxy().seen("Scan"));
    let before: i64 = world.value(begun).await;
    let validate = started(&world, &["validate", "--quiet"]);
    eventually("it has begun", || async { world.value::<i64>(begun).await > before }).await;
    ran(&world, &["status"]).await;
    assert_eq!(world.proxy().seen("Scan"), scanned, "nothing of DynamoDB is read");
    set(&world, "pause.validation", "default").await;
    let said = ends_well(validate).await;
    assert!(said.contains("paused comparisons") && said.contains("set pause.validation default"), "{said}");
    assert!(world.proxy().seen("Scan") > scanned);

    set(&world, "pause.reverse-feed", "true").await;
    let read = world.proxy().seen("GetShardIterator");
    let feed = started(&world, &["reverse-feed", "--until-empty", "--quiet"]);
    ran(&world, &["status"]).await;
    let is_fed = async || world.source.at_work().await.expect("asked").1.is_some();
    assert!(!is_fed().await, "it rests");
    assert_eq!(world.proxy().seen("GetShardIterator"), read);
    set(&world, "pause.reverse-feed", "default").await;
    ends_well(feed).await;
}

/// Each table is made with the throughput that is configured for it, and no other one, nor the control table.
#[tokio::test]
async fn a_table_is_made_with_its_warm_throughput_and_a_name_that_no_table_has_is_refused() {
    let world = World::behind_proxy().await;
    world.proxy().record(1_000);
    let mut wrong = command(&world, &["migrate", "--through", "PostgresOnly"]);
    wrong.env("LOCKSTEP_TARGET__WARM_WRITE_UNITS_PER_S__PAYMENT", "40000");
    let wrong = ended(wrong).await;
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert_eq!(wrong.status.code(), Some(2), "{said}");
    assert!(said.contains("must be the name of a table that moves"), "{said}");

    let to_there = ["migrate", "--live-writes", "0", "--through", "PostgresOnly"];
    let mut migrate = command(&world, &to_there);
    migrate.env("LOCKSTEP_TARGET__WARM_WRITE_UNITS_PER_S__PAYMENTS", "40000");
    let migrated = ended(migrate).await;
    assert_eq!(migrated.status.code(), Some(0), "{}", String::from_utf8_lossy(&migrated.stderr));
    let mut made = 0;
    for call in world.proxy().recorded().iter().filter(|call| call.operation == "CreateTable") {
        let body: Value = serde_json::from_slice(&call.body).expect("JSON");
        let expected = if body["TableName"] == "payments" { Value::from(40_000) } else { Value::Null };
        made += u32::from(!expected.is_null());
        assert_eq!(body["WarmThroughput"]["WriteUnitsPerSecond"], expected, "{body}");
        for index in body["GlobalSecondaryIndexes"].as_array().into_iter().flatten() {
            assert_eq!(index["WarmThroughput"]["WriteUnitsPerSecond"], expected, "{index}");
        }
    }
    assert_eq!(made, 1, "one is made for it");
}
