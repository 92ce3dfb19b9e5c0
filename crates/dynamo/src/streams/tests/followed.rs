//! Every record comes, in order, whatever becomes of the shards.

use proptest::prelude::*;

use super::*;

fn paused<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(test)
}

/// Follows until everything was delivered, beginning again after every crash.
async fn follow_to_the_end(stream: &FakeStream, sink: &Memory) {
    for _ in 0..10_000 {
        match follow(stream, sink, OPTIONS, &sink.enough.1).await {
            Ok(()) => return,
            Err(error) => assert_eq!(error.message, "killed"),
        }
    }
    panic!("it never ended");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn through_splits_faults_and_crashes_every_record_comes_and_each_key_in_order(seed: u64, changes in 1_u32..120) {
        paused(async {
            let stream = FakeStream::new(seed, changes, true);
            let sink = Memory::new(seed ^ 1, true, changes as usize);
            tokio::time::timeout(Duration::from_secs(100_000), follow_to_the_end(&stream, &sink)).await.expect("it ends");
            let mut newest: BTreeMap<String, u32> = BTreeMap::new();
            for (key, nth) in sink.delivered.lock().expect("no panic").iter() {
                let newest = newest.entry(key.clone()).or_default();
                assert!(*nth <= *newest + 1, "{key}: {nth} came before {}", *newest + 1);
                *newest = (*newest).max(*nth);
            }
            let written: Vec<u32> = stream.state().written.values().copied().collect();
            let mut came: Vec<u32> = newest.values().copied().collect();
            came.sort_unstable();
            let mut expected = written.clone();
            expected.sort_unstable();
            assert_eq!(came, expected);
            assert!(sink.lost.lock().expect("no panic").is_empty());
        });
    }
}

fn trimmed_stream() -> FakeStream {
    let stream = FakeStream::new(7, 0, false);
    {
        let mut state = stream.state();
        let records = (1..=9).map(|n| record(0, n, n)).collect();
        state.shards[0].records = records;
        state.shards[0].trimmed = 5;
    }
    stream
}

#[test]
fn records_trimmed_before_they_were_read_are_reported_and_the_rest_is_read() {
    paused(async {
        let (stream, sink) = (trimmed_stream(), Memory::new(1, false, 4));
        let saved = Saved { position: Some("00002".to_owned()), finished: false };
        sink.saved.lock().expect("no panic").insert("shard-0".to_owned(), saved);
        follow(&stream, &sink, OPTIONS, &sink.enough.1).await.expect("it goes on");
        assert_eq!(*sink.lost.lock().expect("no panic"), ["shard-0"]);
        let came: Vec<u32> = sink.delivered.lock().expect("no panic").iter().map(|(_, nth)| *nth).collect();
        assert_eq!(came, [6, 7, 8, 9]);
    });
}

#[test]
fn a_shard_that_went_unfinished_is_reported() {
    paused(async {
        let (stream, sink) = (trimmed_stream(), Memory::new(1, false, 4));
        let saved = Saved { position: Some("00001".to_owned()), finished: false };
        sink.saved.lock().expect("no panic").insert("shard-gone".to_owned(), saved);
        follow(&stream, &sink, OPTIONS, &sink.enough.1).await.expect("it goes on");
        assert_eq!(*sink.lost.lock().expect("no panic"), ["shard-gone"]);
    });
}

#[test]
fn a_child_waits_for_its_parent_unless_that_was_trimmed() {
    let shard =
        |id: &str, parent: Option<&str>| Shard { id: id.to_owned(), parent: parent.map(str::to_owned) };
    let shards = [shard("c", Some("b")), shard("b", Some("a")), shard("d", Some("trimmed"))];
    let ids = |finished: &[&str]| {
        let finished = finished.iter().map(|id| (*id).to_owned()).collect();
        readable(&shards, &finished).iter().map(|shard| shard.id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&[]), ["b", "d"]);
    assert_eq!(ids(&["b"]), ["c", "d"]);
    let leaves =
        |finished: &[&str]| childless(&shards, &finished.iter().map(|id| (*id).to_owned()).collect()).len();
    assert_eq!((leaves(&["b"]), leaves(&["b", "c"])), (0, 1));
}

/// A stream that tells of each time that records are asked for, and a sink that takes a page only once the
/// next one was.
struct Ahead {
    stream: FakeStream,
    asked: tokio::sync::Semaphore,
    sink: Memory,
}

#[async_trait]
impl StreamApi for Ahead {
    async fn shards(&self) -> std::result::Result<Vec<Shard>, StreamError> {
        self.stream.shards().await
    }

    async fn iterator(
        &self,
        shard: &str,
        position: Option<&str>,
    ) -> std::result::Result<String, StreamError> {
        self.stream.iterator(shard, position).await
    }

    async fn records(&self, iterator: &str, limit: usize) -> std::result::Result<RecordsPage, StreamError> {
        self.asked.add_permits(1);
        self.stream.records(iterator, limit).await
    }
}

#[async_trait]
impl Sink for Ahead {
    async fn saved(&self) -> Result<HashMap<String, Saved>> {
        // The first page is asked for before anything can be taken.
        self.asked.acquire().await.expect("open").forget();
        self.sink.saved().await
    }

    async fn take(&self, shard: &Shard, page: ShardPage) -> Result<()> {
        if !page.records.is_empty() && !page.finished {
            self.asked.acquire().await.expect("open").forget();
        }
        self.sink.take(shard, page).await
    }

    async fn lost(&self, shard: &str, why: &str) -> Result<()> {
        self.sink.lost(shard, why).await
    }
}

#[test]
fn the_next_page_is_read_while_one_is_taken_and_comes_after_it() {
    paused(async {
        let stream = FakeStream::new(7, 0, false);
        stream.state().shards[0].records = (1..=9).map(|n| record(0, n, n)).collect();
        // One permit for the question that `saved` waits for, of which there is none yet.
        let ahead = Ahead { stream, asked: tokio::sync::Semaphore::new(1), sink: Memory::new(1, false, 9) };
        let following = follow(&ahead, &ahead, OPTIONS, &ahead.sink.enough.1);
        tokio::time::timeout(Duration::from_secs(1_000), following)
            .await
            .expect("it ends")
            .expect("it goes on");
        let came: Vec<u32> =
            ahead.sink.delivered.lock().expect("no panic").iter().map(|(_, nth)| *nth).collect();
        assert_eq!(came, (1..=9).collect::<Vec<_>>());
    });
}
