//! Things that go between two requests of a feed: a shard after it was listed, records after they were
//! asked for.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use lockstep_core::{Result, Saved};
use tokio_util::sync::CancellationToken;

use super::*;

const OPTIONS: FollowOptions = FollowOptions {
    idle_pause: Duration::from_millis(10),
    page_every: Duration::from_millis(200),
    list_every: Duration::from_millis(20),
    pages_at_once: 2,
    page_records: 3,
};

/// One shard, `a`.
struct Vanishing {
    listings: AtomicU32,
    /// It is listed so often.
    listed: u32,
    /// The first answers to requests for records.
    answers: Mutex<Vec<std::result::Result<RecordsPage, StreamError>>>,
    asked_at: Mutex<Vec<tokio::time::Instant>>,
}

#[async_trait]
impl StreamApi for Vanishing {
    async fn shards(&self) -> std::result::Result<Vec<Shard>, StreamError> {
        let is_listed = self.listings.fetch_add(1, SeqCst) < self.listed;
        Ok(is_listed.then(|| Shard { id: "a".to_owned(), parent: None }).into_iter().collect())
    }

    async fn iterator(
        &self,
        _shard: &str,
        _position: Option<&str>,
    ) -> std::result::Result<String, StreamError> {
        Ok("iterator".to_owned())
    }

    async fn records(&self, _iterator: &str, _limit: usize) -> std::result::Result<RecordsPage, StreamError> {
        self.asked_at.lock().expect("no panic").push(tokio::time::Instant::now());
        let mut answers = self.answers.lock().expect("no panic");
        if answers.is_empty() {
            Ok(RecordsPage { next: Some("next".to_owned()), ..RecordsPage::default() })
        } else {
            answers.remove(0)
        }
    }
}

#[derive(Default)]
struct Told {
    lost: Mutex<Vec<String>>,
    pages: AtomicU32,
    enough: CancellationToken,
    pages_max: u32,
}

#[async_trait]
impl Sink for Told {
    async fn saved(&self) -> Result<HashMap<String, Saved>> {
        Ok(HashMap::new())
    }

    async fn take(&self, _shard: &Shard, _page: ShardPage) -> Result<()> {
        if self.pages.fetch_add(1, SeqCst) + 1 >= self.pages_max {
            self.enough.cancel();
        }
        Ok(())
    }

    async fn lost(&self, shard: &str, why: &str) -> Result<()> {
        self.lost.lock().expect("no panic").push(format!("{shard}: {why}"));
        if self.pages_max == 0 {
            self.enough.cancel();
        }
        Ok(())
    }
}

async fn followed(
    answers: Vec<std::result::Result<RecordsPage, StreamError>>,
    listed: u32,
    pages_max: u32,
) -> (Vanishing, Told) {
    let (answers, asked_at) = (Mutex::new(answers), Mutex::default());
    let stream = Vanishing { listings: AtomicU32::new(0), listed, answers, asked_at };
    let sink = Told { pages_max, ..Told::default() };
    let ended =
        tokio::time::timeout(Duration::from_secs(600), follow(&stream, &sink, OPTIONS, &sink.enough)).await;
    ended.expect("it goes on").expect("and does not fail");
    (stream, sink)
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_went_after_it_was_listed_is_reported_and_the_feed_goes_on() {
    let (_, sink) = followed(vec![Err(StreamError::Gone)], 1, 0).await;
    assert_eq!(
        *sink.lost.lock().expect("no panic"),
        ["a: the shard was trimmed before it was read to its end"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_is_listed_all_the_same_is_asked_for_again() {
    let (_, sink) = followed(vec![Err(StreamError::Gone), Err(StreamError::Gone)], u32::MAX, 1).await;
    assert!(sink.lost.lock().expect("no panic").is_empty());
}

#[tokio::test(start_paused = true)]
async fn records_that_went_before_the_first_page_are_reported_and_the_rest_is_read() {
    let (_, sink) = followed(vec![Err(StreamError::Trimmed)], u32::MAX, 1).await;
    assert_eq!(*sink.lost.lock().expect("no panic"), ["a: records were trimmed before they were read"]);
}

#[tokio::test(start_paused = true)]
async fn a_shard_is_asked_no_more_than_five_times_a_second_however_much_there_is() {
    let (stream, _) = followed(Vec::new(), u32::MAX, 30).await;
    let asked_at = stream.asked_at.lock().expect("no panic").clone();
    assert!(asked_at.windows(6).all(|six| six[5] - six[0] >= Duration::from_secs(1)), "{asked_at:?}");
}
