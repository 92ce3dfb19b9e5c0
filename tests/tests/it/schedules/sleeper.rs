//! An instance in a process of its own that is stopped and continued, or killed, in the middle of its writes.

use std::sync::Arc;
use std::time::Duration;

use lockstep_core::Phase;
use lockstep_tests::World;
use lockstep_tests::world::LOGS;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::actors::acknowledged_in;
use super::model::{Key, Model, State, Told};
use crate::instances::Worker;

/// Rows that it writes, and no other actor does.
const IDS: std::ops::Range<i64> = 901..904;
const LEASE: Duration = Duration::from_millis(1_500);
/// Longest that it is stopped: longer than its lease.
const ASLEEP_MS_MAX: u64 = 2_000;
/// Pause between two of its writes.
const PAUSE: Duration = Duration::from_millis(15);

/// Writes until it is told to end.
pub(super) async fn write_and_sleep(
    world: Arc<World>,
    model: Arc<Model>,
    seed: u64,
    stop: CancellationToken,
) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut lives = 0;
    while !stop.is_cancelled() {
        lives += 1;
        // An instance that starts needs whichever store is the truth, and both are well where it looks.
        let mut worker = Worker::leased(&world, &format!("sleeper{seed}x{lives}"), LEASE).await;
        let mut writes = 0;
        loop {
            writes += 1;
            let (id, token) = (rng.random_range(IDS), format!("sleeper.{seed}.{lives}.{writes}"));
            let trying = model.begin(Key(LOGS, id), State::Holds(token.clone()));
            worker.tell(&format!("write {id} {token}")).await;
            match rng.random_range(0..100) {
                0 => {
                    worker.kill().await;
                    model.end(trying, Told::Unknown);
                    break;
                }
                1..4 => {
                    worker.signal("-STOP").await;
                    tokio::time::sleep(Duration::from_millis(rng.random_range(1..ASLEEP_MS_MAX))).await;
                    worker.signal("-CONT").await;
                }
                _ => {}
            }
            model.end(trying, told(&worker.answer().await));
            if stop.is_cancelled() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn told(answer: &Value) -> Told {
    if let Some(phase) = answer["phase"].as_str() {
        return acknowledged_in(phase.parse::<Phase>().expect("a phase"));
    }
    match answer["error"].as_str().expect("an answer or an error") {
        error if error.starts_with("Unknown") => Told::Unknown,
        error
            if ["Fenced", "Busy", "Throttled", "Unavailable"].iter().any(|kind| error.starts_with(kind)) =>
        {
            Told::Nothing
        }
        error => panic!("a write through a store failed for good: {error}"),
    }
}
