//! A stream whose shards split, roll, expire and are trimmed at will: the embedded emulator has one shard for
//! ever.

mod folded;
mod followed;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lockstep_core::{Attributes, Change, Error, Kind, Result, Saved};
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
