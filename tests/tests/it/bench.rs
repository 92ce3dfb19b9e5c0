//! Benchmarks measure what they say: the prepared pages hold the rows, and the comparison reads all of them.

use std::sync::Arc;

use lockstep_tests::World;
use lockstep_tests::world::{LOGS, rows::logs};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use xtask::bench::null_target::NullTarget;
use xtask::bench::replay::replay;
use xtask::bench::rows::{WIDE_COLUMNS, add_others};
use xtask::bench::subject::Subject;
use xtask::bench::validate::measured::compare;
use xtask::bench::validate::pages::Pages;
use xtask::bench::worker;

#[tokio::test]
async fn prepared_pages_agree_with_the_rows_but_for_what_was_spoiled() {
    let world = World::start().await;
    world.sql(&logs(1, 5_300)).await;
    for (segments, spoiled) in [(8, 0), (2, 7)] {
        let source = worker::connect(world.url()).await.expect("connects");
        let pages =
            Arc::new(Pages::prepare(&source, &worker::binding(), segments, spoiled).await.expect("pages"));
        assert_eq!(pages.items, 5_300);
        let requests = pages.requests();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(NullTarget::new().replaying(Arc::clone(&pages)).serve(listener, stopped));
        let endpoint_url = format!("http://{address}");
        let compared = compare(world.url(), &endpoint_url, Subject::Typed).await.expect("compares");
        let all = 5_300;
        assert_eq!(
            (compared.rows, compared.items, compared.equal, compared.findings),
            (all, all, all - spoiled, spoiled)
        );
        assert!(compared.buckets_differing <= spoiled && compared.buckets >= 4_096);
        let raw = replay(address, &requests, 2, requests.len()).await.expect("replays");
        assert_eq!((raw.requests, raw.refused), (6, 0));
        assert!(raw.response_bytes > 5_300 * 200, "{raw:?}");
        drop(stop);
        serving.await.expect("no panic");
    }
    assert_eq!(world.count(LOGS).await, 5_300);
}

#[tokio::test]
async fn a_declared_table_and_one_of_three_hundred_columns_are_measured_as_they_are() {
    let world = World::start().await;
    world.sql(&logs(1, 200)).await;
    add_others(world.url(), 30).await.expect("they are made");
    for (subject, rows) in [(Subject::Declared, 200), (Subject::Wide, 30), (Subject::Random, 200)] {
        let source = worker::connect(world.url()).await.expect("connects");
        let binding = subject.binding(&source).await.expect("it can be declared");
        assert_eq!(binding.table.columns().len(), subject.columns());
        let pages = Arc::new(Pages::prepare(&source, &binding, 2, 0).await.expect("pages"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint_url = format!("http://{}", listener.local_addr().expect("an address"));
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(NullTarget::new().replaying(pages).serve(listener, stopped));
        let compared = compare(world.url(), &endpoint_url, subject).await.expect("compares");
        assert_eq!((compared.rows, compared.items, compared.equal, compared.findings), (rows, rows, rows, 0));
        drop(stop);
        serving.await.expect("no panic");
    }
    assert_eq!(Subject::Wide.columns(), WIDE_COLUMNS);
}

#[tokio::test]
async fn the_relay_is_measured_to_its_end_and_finds_its_own_mark_in_the_null_target() {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_lockstep-under-test"));
    command.args(["bench", "relay", "--unoptimised", "--json", "--quiet"]);
    command.args(["--rows", "500", "--rounds", "1", "--lag-seconds", "1", "--writes-per-s", "500"]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).kill_on_drop(true);
    let output = super::process::ended(command).await;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let said = String::from_utf8_lossy(&output.stderr);
    for rate in ["inserts_per_s", "updates_per_s", "raw_replay_per_s", "lag_p99_ms"] {
        assert!(report[rate].as_f64().is_some_and(|rate| rate > 0.0), "{rate} of {report}: {said}");
    }
}
