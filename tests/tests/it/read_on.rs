//! A query that is read on, batch by batch, while the rows behind those that were answered change.

use futures::TryStreamExt;
use lockstep::store::{Delivery, Selection, Store, WriteMode};
use lockstep_core::Phase;
use lockstep_integration_logs::{IntegrationLog, IntegrationLogs, LogQueries};
use lockstep_tests::World;
use lockstep_tests::world::eventually;

use crate::reverse_feed::log_row;
use crate::stage::{Stage, at};

/// Rows of four lanes; a batch of each is read before the first fifty are answered.
const ROWS: i64 = 200;
const LANES: u32 = 4;
/// Rows of the first batch of a stream, the newest.
const FIRST_BATCH: usize = 50;

/// A world in HybridRead, and a handle.
async fn stage() -> (Stage, Store<IntegrationLogs>) {
    let stage = Stage::start(World::start().await, LANES).await;
    let store = stage.logs();
    for log_id in 1..=ROWS {
        store.put(&log_row(log_id, "a", "before")).await.expect("written");
    }
    stage.backfill().await;
    stage.relay().await;
    stage.stand_in(Phase::HybridRead).await;
    let store = stage.logs_written(WriteMode::Strict);
    (stage, store)
}

fn all(store: &Store<IntegrationLogs>) -> Selection<IntegrationLogs> {
    let day = at("2099-03-04T00:00:00.000000Z")..at("2099-03-05T00:00:00.000000Z");
    store.by_service("a", day).expect("a range")
}

/// Reads the first batch, runs `meanwhile`, and reads the rest; checks that each row comes once. The rest.
async fn read_on(store: &Store<IntegrationLogs>, meanwhile: impl Future<Output = ()>) -> Vec<IntegrationLog> {
    let mut stream = std::pin::pin!(all(store).stream());
    let mut ids = Vec::new();
    for _ in 0..FIRST_BATCH {
        ids.push(stream.try_next().await.expect("answered").expect("a row").log_id);
    }
    let before = store.reads().counts().by_source();
    meanwhile.await;
    let rest: Vec<IntegrationLog> = stream.try_collect().await.expect("answered");
    assert_eq!(store.reads().counts().by_source(), before, "DynamoDB answers all of it");
    ids.extend(rest.iter().map(|log| log.log_id));
    assert_eq!(ids, (1..=ROWS).rev().collect::<Vec<_>>(), "newest first, each once");
    rest
}

fn user_of(rest: &[IntegrationLog], log_id: i64) -> Option<&str> {
    rest.iter().find(|log| log.log_id == log_id).expect("it is read").user_id.as_deref()
}

/// 1. A batch of four lanes leaves a hundred and fifty rows that were read ahead. 2. The handle updates one
/// of them, and DynamoDB has it. 3. The next batch answered it as it was.
#[tokio::test]
async fn what_the_handle_has_written_since_a_batch_is_in_the_next() {
    let (_stage, store) = stage().await;
    let rest = read_on(&store, async {
        for log_id in [100, 101, 7] {
            let updated = store.update(log_id, |log| log.user_id = Some("after".to_owned())).await;
            let updated = updated.expect("written");
            assert!(matches!(updated.target, Delivery::Applied), "{updated:?}");
        }
    })
    .await;
    for log_id in [100, 101, 7] {
        assert_eq!(user_of(&rest, log_id), Some("after"), "{log_id}");
    }
    assert_eq!(user_of(&rest, 99), Some("before"));
}

/// The same of what others have written while the truth was elsewhere: the epoch is another one.
#[tokio::test]
async fn what_was_read_ahead_is_not_answered_after_a_step() {
    let (stage, store) = stage().await;
    let rest = read_on(&store, async {
        let before = store.writer().phase().current().await.expect("a phase").epoch;
        stage.stand_in(Phase::DualWrite).await;
        stage.world.sql("UPDATE integration_logs SET user_id = 'of others' WHERE log_id IN (90, 150)").await;
        stage.relay().await;
        stage.stand_in(Phase::HybridRead).await;
        eventually("the handle has heard of the steps", || async {
            let now = store.writer().phase().current().await.expect("a phase");
            now.phase == Phase::HybridRead && now.epoch > before
        })
        .await;
    })
    .await;
    for log_id in [90, 150] {
        assert_eq!(user_of(&rest, log_id), Some("of others"), "{log_id}");
    }
}
