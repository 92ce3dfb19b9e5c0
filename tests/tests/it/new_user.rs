//! Commands of a person who has not set everything yet, or has set something wrong: each says what it is,
//! and ends with the code that the runbook has for it.

use std::process::Output;
use std::time::{Duration, Instant};

use lockstep_core::Phase;
use lockstep_tests::World;
use lockstep_tests::world::rows::{log, logs};
use lockstep_tests::world::within;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::process::{command, ended};

pub(crate) fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}", text(&output.stdout), text(&output.stderr))
}

async fn in_dual_write() -> World {
    let world = World::start().await;
    world.sql(&logs(1, 20)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    world
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_ends_every_comparison_with_5_and_is_named() {
    let world = in_dual_write().await;
    // Nothing listens there, and nothing can, for the port is reserved.
    const NOWHERE: &str = "http://user:s3cret@127.0.0.1:1";
    let commands = [
        &["validate"][..],
        &["validate", "--no-relay", "--json"],
        &["validate", "--counts"],
        &["validate", "--key", "integration_logs/3"],
        &["validate", "--sample", "5"],
        &["doctor"],
        &["doctor", "--json"],
    ];
    // All at once: each of them is patient with what does not answer.
    let all = futures::future::join_all(commands.map(async |arguments| {
        let mut command = command(&world, arguments);
        command.env("LOCKSTEP_TARGET__ENDPOINT_URL", NOWHERE);
        (arguments, ended(command).await)
    }));
    for (arguments, output) in all.await {
        let said = said(&output);
        assert_eq!(output.status.code(), Some(5), "{arguments:?}: {said}");
        assert!(said.contains("no answer from http://127.0.0.1:1"), "{arguments:?}: {said}");
        assert!(!said.contains("s3cret"), "{arguments:?}: {said}");
    }
    // Rows that differ are another thing.
    let client = world.plain_target.client();
    let items = world.items("integration_logs").await;
    let key = items[0].iter().filter(|(name, _)| ["PK", "SK"].contains(&name.as_str()));
    let key = key.map(|(name, value)| (name.clone(), value.clone())).collect();
    client.delete_item().table_name("integration_logs").set_key(Some(key)).send().await.expect("lost");
    let output = ended(command(&world, &["validate", "--no-relay"])).await;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
}

#[tokio::test]
async fn a_target_that_is_not_set_is_told_of_before_anything_is_asked() {
    let world = World::start().await;
    let home = tempfile::tempdir().expect("a folder");
    for arguments in [&["validate"][..], &["doctor"], &["status"], &["migrate"], &["plan"]] {
        for endpoint in [None, Some("http://127.0.0.1:1")] {
            let mut command = command(&world, arguments);
            // A source that would be asked would not answer.
            command.env("LOCKSTEP_SOURCE__URL", "postgres://absent:nothing@127.0.0.1:1/none");
            for name in [
                "LOCKSTEP_TARGET__ENDPOINT_URL",
                "LOCKSTEP_TARGET__REGION",
                "LOCKSTEP_TARGET__EMULATOR_CREDENTIALS",
                "AWS_REGION",
                "AWS_DEFAULT_REGION",
                "AWS_PROFILE",
            ] {
                command.env_remove(name);
            }
            command.env("HOME", home.path()).env("AWS_EC2_METADATA_DISABLED", "true");
            if let Some(url) = endpoint {
                command.env("LOCKSTEP_TARGET__ENDPOINT_URL", url);
            }
            let begun = Instant::now();
            let output = ended(command).await;
            let said = said(&output);
            assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
            let expected = match endpoint {
                None => "no target is set: set target.region",
                Some(_) => "target.endpoint_url is set, and no region",
            };
            assert!(said.contains(expected), "{arguments:?}: {said}");
            assert!(!said.contains("credentials were found"), "{arguments:?}: {said}");
            assert!(begun.elapsed() < Duration::from_secs(60), "{arguments:?} took {:?}", begun.elapsed());
        }
    }
}

#[tokio::test]
async fn a_comparison_that_waits_for_a_relay_says_that_none_runs() {
    let world = in_dual_write().await;
    // By SQL, so that only a relay delivers it.
    world.sql(&log(900, "by hand")).await;
    let mut child = command(&world, &["validate"]).spawn().expect("the command starts");
    let mut lines = BufReader::new(child.stderr.take().expect("its errors")).lines();
    let mut all = Vec::new();
    let told = async {
        while let Some(line) = lines.next_line().await.expect("it is text") {
            all.push(line);
            if all.last().is_some_and(|line| line.contains("and no relay runs")) {
                return true;
            }
        }
        false
    };
    assert!(within(Duration::from_secs(60), told).await, "{all:?}");
    let line = all.last().expect("it was said");
    assert!(line.contains("integration_logs: 1 key waits") && line.contains(" relay` beside it"), "{line}");
    // Now one runs, and the comparison comes to its end.
    world.relay_until_empty().await;
    let status = within(Duration::from_secs(60), async { child.wait().await.expect("it ends") }).await;
    assert_eq!(status.code(), Some(0), "{all:?}");
    let with_flag = ended(command(&world, &["validate", "--no-relay"])).await;
    assert!(!said(&with_flag).contains("no relay runs"), "{}", said(&with_flag));
}

#[tokio::test]
async fn a_reverse_backfill_beside_a_running_feed_ends_with_0_and_says_so() {
    let (world, _) = crate::reverse_feed::dynamo_only(World::start().await).await;
    let lock = world.source.lock_reverse_feed().await.expect("it is free");
    let output = ended(command(&world, &["reverse-feed", "--backfill"])).await;
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("A reverse feed runs already, and goes on"), "{text}");
    // What was asked for besides is another thing, which only the one that feeds can say.
    let until = ended(command(&world, &["reverse-feed", "--backfill", "--until-empty"])).await;
    assert_eq!(until.status.code(), Some(5), "{}", said(&until));
    drop(lock);
}
