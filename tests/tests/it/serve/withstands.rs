//! A leader that is killed, a store that is away, and listeners that do not listen.

use std::time::{Duration, Instant};

use hyper::StatusCode;
use lockstep_core::Phase;
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, Rule};
use lockstep_tests::world::rows::{logs, payments};
use serde_json::json;

use super::served::{Events, Served};

async fn moved(world: &World) {
    world.sql(&logs(1, 40)).await;
    world.sql(&payments(1, 20)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
}

fn leads(status: &serde_json::Value) -> bool {
    status["daemon"]["role"] == "leader"
}

#[tokio::test]
async fn when_the_leader_is_killed_the_one_that_stands_by_takes_over_within_seconds() {
    let world = World::start().await;
    moved(&world).await;
    let mut first = Served::of(&world).await;
    first.until("the first leads", leads).await;
    let second = Served::of(&world).await;
    second.until("the second has read", |status| status["installed"] == true).await;
    assert_eq!(second.status().await["daemon"]["role"], "standby");
    assert_eq!(second.open("/readyz").await.status, StatusCode::OK, "a standby is ready");
    let refused = second.post("/v1/test-operation", &json!({})).await;
    assert_eq!((refused.status, refused.code().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "standby"));
    first.child.kill().await.expect("SIGKILL");
    let killed = Instant::now();
    second.until("the second leads", leads).await;
    println!("another one led {:?} after SIGKILL", killed.elapsed());
    assert!(killed.elapsed() < Duration::from_secs(25), "{:?}", killed.elapsed());
    world
        .sql("UPDATE payments SET transaction_reference = 'after the take-over' WHERE payment_id % 3 = 0")
        .await;
    second
        .until("it delivers", |status| {
            let tables = status["tables"].as_array().expect("tables");
            tables.iter().all(|table| table["pending"] == 0)
                && tables.iter().any(|table| table["relayed"].as_i64() > Some(0))
        })
        .await;
    let tested = second.done("/v1/test-operation", &json!({})).await;
    assert_eq!(tested["state"], "succeeded", "{tested}");
    world.assert_converged().await;
}

#[tokio::test]
async fn dynamodb_gone_and_back_is_told_waited_for_and_costs_no_write() {
    let world = World::behind_proxy().await;
    moved(&world).await;
    let served = Served::of(&world).await;
    served.until("it leads", leads).await;
    world.proxy().script(Rule::new(Fault::Unavailable).always());
    world
        .sql("UPDATE payments SET transaction_reference = 'while it is away' WHERE payment_id % 2 = 0")
        .await;
    served
        .until("it is told", |status| {
            status["daemon"]["stores"]["dynamodb"]["up"] == false
                && status["daemon"]["health"]["state"] == "broken"
                && status["tables"]
                    .as_array()
                    .expect("tables")
                    .iter()
                    .any(|table| table["pending"].as_i64() > Some(0))
        })
        .await;
    let ready = served.open("/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE, "{}", ready.text);
    assert_eq!(served.open("/healthz").await.status, StatusCode::OK, "it lives all the same");
    assert!(served.open("/metrics").await.text.contains("lockstep_store_up{store=\"dynamodb\"} 0"));
    world.proxy().clear();
    let back = Instant::now();
    served
        .until("it goes on by itself", |status| {
            status["daemon"]["health"]["state"] == "healthy"
                && status["tables"].as_array().expect("tables").iter().all(|table| table["pending"] == 0)
        })
        .await;
    println!("it resumed {:?} after DynamoDB", back.elapsed());
    assert!(back.elapsed() < Duration::from_secs(25), "{:?}", back.elapsed());
    world.assert_converged().await;
}

/// Behind both proxies, as an application of the source proxy is.
async fn served_behind(world: &World) -> Served {
    let url = world.source_options().url;
    let served = Served::with(
        world,
        &[("LOCKSTEP_SOURCE__URL", &url), ("LOCKSTEP_SOURCE__CONNECT_TIMEOUT_MS", "1000")],
    )
    .await;
    served.until("it leads", leads).await;
    served
}

/// Everything works: it leads, nothing waits, no alert is raised.
fn works(status: &serde_json::Value) -> bool {
    leads(status)
        && status["daemon"]["health"]["state"] == "healthy"
        && status["tables"].as_array().expect("tables").iter().all(|table| table["pending"] == 0)
}

/// Within ten seconds on a machine with nothing else to do: printed, and asserted with room for one that runs
/// a whole suite beside it, and stands still for seconds.
async fn resumes(served: &Served, world: &World, since: Instant) {
    served.until("it goes on by itself", works).await;
    println!("it resumed {:?} after the stores", since.elapsed());
    assert!(since.elapsed() < Duration::from_secs(25), "{:?}", since.elapsed());
    world.assert_converged().await;
}

#[tokio::test]
async fn postgresql_gone_and_back_and_both_gone_are_told_and_service_resumes_by_itself() {
    let world = World::behind_both_proxies().await;
    moved(&world).await;
    let served = served_behind(&world).await;
    for both in [false, true] {
        world.source_proxy().down().await;
        if both {
            world.proxy().script(Rule::new(Fault::Unavailable).always());
        }
        // Both are away until every pause of what waits is as long as it gets.
        let (gone, at_least) = (Instant::now(), Duration::from_secs(if both { 15 } else { 0 }));
        // Applications that reach it otherwise write on.
        world.sql(&format!("UPDATE payments SET transaction_reference = 'while it is away {both}' WHERE payment_id % 2 = 0")).await;
        served
            .until("it is told", |status| {
                let stores = &status["daemon"]["stores"];
                stores["postgresql"]["up"] == false
                    && (!both || stores["dynamodb"]["up"] == false)
                    && status["daemon"]["health"]["state"] == "broken"
                    && status["daemon"]["role"] == "standby"
                    && gone.elapsed() >= at_least
            })
            .await;
        let ready = served.open("/readyz").await;
        assert!(ready.text.contains("PostgreSQL does not answer"), "{}", ready.text);
        assert_eq!(served.open("/healthz").await.status, StatusCode::OK, "it lives all the same");
        let refused = served.post("/v1/test-operation", &json!({})).await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.text);
        world.source_proxy().up().await;
        world.proxy().clear();
        resumes(&served, &world, Instant::now()).await;
    }
    assert_eq!(served.end().await, Some(0));
}

/// 1. The writer fails over. 2. For a while its name leads to a replica, which answers and takes no write.
#[tokio::test]
async fn a_failover_to_a_node_that_takes_no_writes_is_told_and_over_when_one_does() {
    let world = World::behind_both_proxies().await;
    moved(&world).await;
    let served = served_behind(&world).await;
    let database: String = world.value("SELECT current_database()::text").await;
    world.sql(&format!("ALTER DATABASE {database} SET default_transaction_read_only = on")).await;
    world.source_proxy().cut_all().await;
    served
        .until("it is told", |status| {
            let store = &status["daemon"]["stores"]["postgresql"];
            // The operation that was under way when the connections went says so first.
            store["up"] == false
                && store["why"].to_string().contains("takes no writes")
                && status["daemon"]["role"] == "standby"
        })
        .await;
    world
        .sql("UPDATE payments SET transaction_reference = 'after the failover' WHERE payment_id % 2 = 0")
        .await;
    world.sql(&format!("ALTER DATABASE {database} RESET default_transaction_read_only")).await;
    world.source_proxy().cut_all().await;
    resumes(&served, &world, Instant::now()).await;
    assert_eq!(served.end().await, Some(0));
}

#[tokio::test]
async fn two_hundred_listeners_of_which_one_is_asleep_all_hear_of_a_change() {
    let world = World::start().await;
    moved(&world).await;
    let served = Served::of(&world).await;
    served.until("it leads", leads).await;
    // It is never asked for more than its head.
    let asleep = Events::of(&served).await;
    let memory_kb = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", served.child.id().expect("it runs")))
            .expect("it runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("its memory")
            .trim()
            .to_owned();
        line.trim_end_matches(" kB").trim().parse::<u64>().expect("a number")
    };
    let mut listeners = Vec::new();
    for _ in 0..199 {
        listeners.push(Events::of(&served).await);
    }
    // Each change is a status for every client; one of them reads none.
    let before_kb = memory_kb();
    for turn in 1..=8 {
        let percent = f64::from(turn);
        let set = served.post("/v1/settings", &json!({ "set": { "shadow_percent": percent } })).await;
        assert_eq!(set.status, StatusCode::OK, "{}", set.text);
        let begun = Instant::now();
        let heard = listeners
            .iter_mut()
            .map(async |events| while events.next().await["daemon"]["settings"][0]["value"] != percent {});
        futures::future::join_all(heard).await;
        assert!(
            begun.elapsed() < Duration::from_secs(45),
            "a slow one slows the others: {:?}",
            begun.elapsed()
        );
    }
    let grown_kb = memory_kb().saturating_sub(before_kb);
    assert!(grown_kb < 48 * 1024, "eight statuses took {grown_kb} kB with one that reads none");
    let heard = listeners.iter_mut().map(async |events| {
        while events.next().await["daemon"]["operations"][0]["kind"] != "test-operation" {}
    });
    let (ended, _) = futures::future::join(
        served.done("/v1/test-operation", &json!({})),
        futures::future::join_all(heard),
    )
    .await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    drop(asleep);
    drop(listeners);
    assert_eq!(served.end().await, Some(0), "listeners do not keep it from ending");
}
