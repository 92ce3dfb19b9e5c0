//! A stream whose shards split, roll, expire and are trimmed at will: the embedded emulator has one shard for
//! ever.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lockstep_core::{Attributes, Change, Error, Kind, Result, Saved};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio_util::sync::CancellationToken;

use super::*;
use aws_sdk_dynamodb::types::AttributeValue;

const KEYS: u32 = 8;
const OPTIONS: FollowOptions = FollowOptions {
    idle_pause: Duration::from_millis(10),
    page_every: Duration::ZERO,
    list_every: Duration::from_millis(20),
    pages_at_once: 2,
    page_records: 3,
};

#[derive(Clone, Debug)]
struct FakeShard {
    id: String,
    parent: Option<String>,
    /// Keys that it holds.
    keys: std::ops::Range<u32>,
    records: Vec<StreamRecord>,
    /// Records that are gone.
    trimmed: usize,
    closed: bool,
}

struct State {
    rng: StdRng,
    shards: Vec<FakeShard>,
    /// Changes still to come.
    to_write: u32,
    written: BTreeMap<u32, u32>,
    sequence: u32,
    faults: bool,
}

impl State {
    /// Something happens to the table between two of our requests.
    fn go_on(&mut self) {
        for _ in 0..self.rng.random_range(0..4) {
            match self.rng.random_range(0..8) {
                0 => self.split(),
                _ if self.to_write > 0 => self.write(),
                _ => {}
            }
        }
    }

    fn write(&mut self) {
        self.to_write -= 1;
        self.sequence += 1;
        let key = self.rng.random_range(0..KEYS);
        let nth = self.written.entry(key).or_default();
        *nth += 1;
        let record = record(key, *nth, self.sequence);
        let shard = self
            .shards
            .iter_mut()
            .find(|s| !s.closed && s.keys.contains(&key))
            .expect("every key has an open shard");
        shard.records.push(record);
    }

    /// Closes an open shard; its keys go to one child or to two.
    fn split(&mut self) {
        let open: Vec<usize> = (0..self.shards.len()).filter(|at| !self.shards[*at].closed).collect();
        let at = open[self.rng.random_range(0..open.len())];
        self.shards[at].closed = true;
        let (parent, keys) = (self.shards[at].id.clone(), self.shards[at].keys.clone());
        let middle = self.rng.random_range(keys.start..keys.end);
        for keys in [keys.start..middle, middle..keys.end].into_iter().filter(|keys| !keys.is_empty()) {
            let id = format!("shard-{}", self.shards.len());
            // A stream lists its shards in no order that one may rely on.
            let place = self.rng.random_range(0..=self.shards.len());
            let shard = FakeShard {
                id,
                parent: Some(parent.clone()),
                keys,
                records: Vec::new(),
                trimmed: 0,
                closed: false,
            };
            self.shards.insert(place, shard);
        }
    }

    fn fault(&mut self) -> std::result::Result<(), StreamError> {
        match self.rng.random_range(0..12) {
            0 if self.faults => {
                Err(StreamError::Store(Error::target(Kind::Throttled, "faking", "slow down")))
            }
            1 if self.faults => Err(StreamError::Store(Error::target(Kind::Unknown, "faking", "no answer"))),
            _ => Ok(()),
        }
    }
}

fn record(key: u32, nth: u32, sequence: u32) -> StreamRecord {
    let key = Attributes::from([("PK".to_owned(), AttributeValue::N(key.to_string()))]);
    let mut new = key.clone();
    new.insert("_v".to_owned(), AttributeValue::N(nth.to_string()));
    StreamRecord {
        sequence: format!("{sequence:05}"),
        at: None,
        key,
        old: None,
        new: Some(new),
        expired: false,
    }
}

struct FakeStream(Mutex<State>);

impl FakeStream {
    fn new(seed: u64, to_write: u32, faults: bool) -> Self {
        let root = FakeShard {
            id: "shard-0".to_owned(),
            parent: None,
            keys: 0..KEYS,
            records: Vec::new(),
            trimmed: 0,
            closed: false,
        };
        let (shards, written) = (vec![root], BTreeMap::new());
        Self(Mutex::new(State {
            rng: StdRng::seed_from_u64(seed),
            shards,
            to_write,
            written,
            sequence: 0,
            faults,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl StreamApi for FakeStream {
    async fn shards(&self) -> std::result::Result<Vec<Shard>, StreamError> {
        let mut state = self.state();
        state.go_on();
        state.fault()?;
        let there =
            state.shards.iter().filter(|s| !(s.closed && s.trimmed > 0 && s.trimmed == s.records.len()));
        Ok(there.map(|s| Shard { id: s.id.clone(), parent: s.parent.clone() }).collect())
    }

    async fn iterator(
        &self,
        shard: &str,
        position: Option<&str>,
    ) -> std::result::Result<String, StreamError> {
        let mut state = self.state();
        state.fault()?;
        let shard = state.shards.iter().find(|s| s.id == shard).expect("a shard that was listed");
        let at = match position {
            None => shard.trimmed,
            Some(position) => {
                shard.records.iter().position(|r| r.sequence == position).map_or(0, |at| at + 1)
            }
        };
        if at < shard.trimmed {
            return Err(StreamError::Trimmed);
        }
        Ok(format!("{} {at}", shard.id))
    }

    async fn records(&self, iterator: &str, limit: usize) -> std::result::Result<RecordsPage, StreamError> {
        let mut state = self.state();
        state.go_on();
        state.fault()?;
        if state.faults && state.rng.random_range(0..10) == 0 {
            return Err(StreamError::Expired);
        }
        // An answer may be empty although there is more.
        let limit = if state.faults && state.rng.random_range(0..6) == 0 { 0 } else { limit };
        let (id, at) = iterator.split_once(' ').expect("our own iterator");
        let at: usize = at.parse().expect("a number");
        let shard = state.shards.iter().find(|s| s.id == id).expect("a shard");
        let records: Vec<StreamRecord> = shard.records.iter().skip(at).take(limit).cloned().collect();
        let next = at + records.len();
        let over = shard.closed && next == shard.records.len();
        Ok(RecordsPage { records, next: (!over).then(|| format!("{id} {next}")) })
    }
}

/// Remembers what was delivered; fails now and then, before or after it has saved, as a process that is
/// killed does.
struct Memory {
    saved: Mutex<HashMap<String, Saved>>,
    delivered: Mutex<Vec<(String, u32)>>,
    lost: Mutex<Vec<String>>,
    rng: Mutex<StdRng>,
    crashes: bool,
    enough: (usize, CancellationToken),
}

impl Memory {
    fn new(seed: u64, crashes: bool, enough: usize) -> Self {
        let rng = Mutex::new(StdRng::seed_from_u64(seed));
        let (saved, delivered, lost) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { saved, delivered, lost, rng, crashes, enough: (enough, CancellationToken::new()) }
    }

    fn crash(&self) -> Result<()> {
        let dice = self.rng.lock().expect("no panic").random_range(0..9);
        if self.crashes && dice == 0 { Err(Error::source(Kind::Invalid, "faking", "killed")) } else { Ok(()) }
    }
}

#[async_trait]
impl Sink for Memory {
    async fn saved(&self) -> Result<HashMap<String, Saved>> {
        Ok(self.saved.lock().expect("no panic").clone())
    }

    async fn take(&self, shard: &Shard, page: ShardPage) -> Result<()> {
        self.crash()?;
        // Others run meanwhile.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let distinct = {
            let mut delivered = self.delivered.lock().expect("no panic");
            for record in &page.records {
                let nth =
                    lockstep_core::version_of(record.new.as_ref().expect("an image")).expect("a version").0;
                delivered.push((lockstep_core::place(&record.key), nth as u32));
            }
            let mut distinct = delivered.clone();
            distinct.sort_unstable();
            distinct.dedup();
            distinct.len()
        };
        // Killed between the effect and the position, which a database makes impossible: then it all comes
        // again.
        self.crash()?;
        let saved = Saved { position: page.to, finished: page.finished };
        let before = self.saved.lock().expect("no panic").insert(shard.id.clone(), saved).unwrap_or_default();
        assert_eq!(before.position, page.from, "a page follows the one before");
        if distinct >= self.enough.0 {
            self.enough.1.cancel();
        }
        self.crash()
    }

    async fn lost(&self, shard: &str, _why: &str) -> Result<()> {
        self.lost.lock().expect("no panic").push(shard.to_owned());
        self.saved.lock().expect("no panic").remove(shard);
        Ok(())
    }
}

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

/// What a page of records of one item comes to, told in words.
#[track_caller]
fn check(versions: &[(Option<i64>, bool)], expected: &str) {
    let image = |version: i64, deleted: bool| {
        let mut image = record(1, version as u32, 1).new.expect("an image");
        if deleted {
            image.insert("_deleted".to_owned(), AttributeValue::Bool(true));
        }
        image
    };
    let mut before = None;
    let records = versions.iter().map(|(version, flag)| {
        let new = version.map(|version| image(version, *flag));
        let old = std::mem::replace(&mut before, new.clone());
        StreamRecord { old, new, expired: version.is_none() && *flag, ..record(1, 1, 1) }
    });
    let folded = changes_of(&records.collect::<Vec<_>>());
    let items = folded.items.iter().map(|item| {
        let change = match &item.change {
            Some(Change::Put(version, _)) => format!("put {version}"),
            Some(Change::Deleted(version, old)) => format!("deleted {version} of {}", old.is_some()),
            _ => "nothing".to_owned(),
        };
        format!(
            "{}{change}{}",
            if item.gone_before { "gone, " } else { "" },
            if item.gone_after { ", gone" } else { "" }
        )
    });
    let items = items.collect::<Vec<_>>().join("; ");
    assert_eq!(format!("{items} expired {} foreign {}", folded.expired, folded.foreign), expected);
}

#[test]
fn a_page_folds_to_the_newest_state_of_each_item() {
    check(&[(Some(1), false), (Some(2), false)], "put 2 expired 0 foreign 0");
    check(&[(Some(1), false), (Some(2), true), (Some(3), true)], "deleted 3 of true expired 0 foreign 0");
    check(&[(Some(5), true)], "deleted 5 of false expired 0 foreign 0");
    check(&[(Some(7), false), (None, true)], "put 7, gone expired 1 foreign 0");
    check(&[(Some(7), false), (None, true), (Some(1), false)], "gone, put 1 expired 1 foreign 0");
    // Removed by hand, or changed by hand: it has no place in the order of versions.
    check(&[(Some(7), false), (None, false)], "put 7, gone expired 0 foreign 1");
    check(&[(Some(7), false), (Some(7), true)], "put 7 expired 0 foreign 1");
    // A purged tombstone is no news, but what comes after it counts from one again.
    check(&[(Some(7), true), (None, false), (Some(1), false)], "gone, put 1 expired 0 foreign 0");
}
