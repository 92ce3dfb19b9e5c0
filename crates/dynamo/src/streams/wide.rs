//! A stream as a large table has it, on a slow connection: many open shards, and the closed ones of a day.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lockstep_core::{Result, Saved};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::*;

/// Forty partitions, whose shards were closed five times within the day.
const OPEN: usize = 40;
const CLOSED_OF_EACH: usize = 5;
const ANSWERED_AFTER: Duration = Duration::from_millis(300);
/// As the reverse feed follows.
const OPTIONS: FollowOptions = FollowOptions {
    idle_pause: Duration::from_millis(250),
    page_every: Duration::from_millis(200),
    list_every: Duration::from_secs(2),
    pages_at_once: 4,
    page_records: 1_000,
};

/// Moments at which each shard was asked for records.
#[derive(Default)]
struct Wide(Mutex<HashMap<String, Vec<Instant>>>);

fn shard(of: usize, generation: usize) -> String {
    format!("shard-{of}-{generation}")
}

fn is_open(shard: &str) -> bool {
    shard.ends_with(&format!("-{CLOSED_OF_EACH}"))
}

#[async_trait]
impl StreamApi for Wide {
    async fn shards(&self) -> std::result::Result<Vec<Shard>, StreamError> {
        let of_each = |of| {
            (0..=CLOSED_OF_EACH).map(move |generation: usize| {
                let parent = generation.checked_sub(1).map(|before| shard(of, before));
                Shard { id: shard(of, generation), parent }
            })
        };
        Ok((0..OPEN).flat_map(of_each).collect())
    }

    async fn iterator(&self, shard: &str, _: Option<&str>) -> std::result::Result<String, StreamError> {
        tokio::time::sleep(ANSWERED_AFTER).await;
        Ok(shard.to_owned())
    }

    async fn records(&self, iterator: &str, _: usize) -> std::result::Result<RecordsPage, StreamError> {
        {
            let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            asked.entry(iterator.to_owned()).or_default().push(Instant::now());
        }
        tokio::time::sleep(ANSWERED_AFTER).await;
        Ok(RecordsPage { records: Vec::new(), next: is_open(iterator).then(|| iterator.to_owned()) })
    }
}

/// Takes what comes, until every open shard was looked at often enough.
struct Looks {
    often: usize,
    looked: Mutex<HashMap<String, usize>>,
    enough: CancellationToken,
}

#[async_trait]
impl Sink for Looks {
    async fn saved(&self) -> Result<HashMap<String, Saved>> {
        Ok(HashMap::new())
    }

    async fn take(&self, shard: &Shard, _: ShardPage) -> Result<()> {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        *looked.entry(shard.id.clone()).or_default() += 1;
        let open = looked.iter().filter(|(id, times)| is_open(id) && **times >= self.often).count();
        if open == OPEN {
            self.enough.cancel();
        }
        Ok(())
    }

    async fn lost(&self, shard: &str, why: &str) -> Result<()> {
        panic!("{shard}: {why}")
    }
}

#[tokio::test(start_paused = true)]
async fn two_hundred_closed_shards_at_300_ms_are_read_in_seconds_and_each_open_one_is_looked_at_every_second()
{
    let (stream, begun) = (Wide::default(), Instant::now());
    let sink = Looks { often: 6, looked: Mutex::default(), enough: CancellationToken::new() };
    follow(&stream, &sink, OPTIONS, &sink.enough).await.expect("it ends when it has looked often enough");
    let asked = stream.0.lock().unwrap_or_else(PoisonError::into_inner);
    let of_open: Vec<&Vec<Instant>> = asked.iter().filter(|(id, _)| is_open(id)).map(|(_, at)| at).collect();
    assert_eq!((asked.len(), of_open.len()), (OPEN * (CLOSED_OF_EACH + 1), OPEN));
    let caught_up = of_open.iter().filter_map(|at| at.first()).max().expect("some").duration_since(begun);
    assert!(caught_up < Duration::from_secs(8), "the day's shards took {caught_up:?}");
    for at in asked.values() {
        let gaps: Vec<Duration> = at.windows(2).map(|two| two[1].duration_since(two[0])).collect();
        assert!(
            gaps.iter().all(|gap| *gap <= Duration::from_millis(1_200)),
            "not looked at for long: {gaps:?}"
        );
        // Five requests a second of a shard are all that DynamoDB answers.
        assert!(gaps.iter().all(|gap| *gap >= Duration::from_millis(200)), "asked too often: {gaps:?}");
    }
}
