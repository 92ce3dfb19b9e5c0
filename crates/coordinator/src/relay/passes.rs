//! The passes of several tables beside one another.
//!
//! 1. A relay goes through one table after the other. 2. One of them has a long set, or a target that
//! throttles. 3. The keys of all others wait for minutes, and nothing but that holds them up.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};

use super::Table;
use super::kept::Queue;
use super::pass::Passed;

/// Tables that are gone through at once. Each has up to three reads in memory, and as many connections.
const AT_ONCE: usize = 4;

/// A pass that is over, with the number of its table.
pub(super) type Ended = (usize, Passed);

/// See the module. A table has one pass at a time.
pub(super) struct Passes<'a> {
    running: FuturesUnordered<BoxFuture<'a, Ended>>,
    ended: VecDeque<Ended>,
    /// Tables whose pass begins when another one is over.
    next: VecDeque<(usize, Table<'a>)>,
    queue: &'a Queue,
    tables: Vec<Turn>,
}

/// Turns of one table.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    is_running: bool,
    began: Option<Instant>,
    /// It failed, and was or is tried again then. Stays until it goes well.
    rests_until: Option<Instant>,
}

impl<'a> Passes<'a> {
    pub(super) fn new(tables: usize, queue: &'a Queue) -> Self {
        let tables = vec![Turn::default(); tables];
        Self {
            running: FuturesUnordered::new(),
            ended: VecDeque::new(),
            next: VecDeque::new(),
            queue,
            tables,
        }
    }

    /// Tells of each table whether a pass of it may begin.
    pub(super) fn free(&self) -> Vec<bool> {
        let now = Instant::now();
        let is_free = |turn: &Turn| !turn.is_running && turn.rests_until.is_none_or(|until| until <= now);
        self.tables.iter().map(is_free).collect()
    }

    /// Queues the tables that are due, of those that were free: the one whose turn is longest ago begins
    /// first.
    pub(super) fn want(&mut self, free: &[bool], mut due: Vec<(usize, Table<'a>)>) {
        for (at, turn) in self.tables.iter_mut().enumerate() {
            if free[at] && due.iter().all(|(of, _)| *of != at) {
                turn.rests_until = None;
            }
        }
        due.sort_by_key(|(at, _)| self.tables[*at].began);
        self.next = due.into();
        self.fill();
    }

    fn fill(&mut self) {
        while self.running.len() < AT_ONCE
            && let Some((at, table)) = self.next.pop_front()
        {
            let now = Instant::now();
            (self.tables[at].is_running, self.tables[at].began) = (true, Some(now));
            let table = Table { began: now, ..table };
            self.running.push(async move { (at, table.pass().await) }.boxed());
        }
        self.queue.owe(!self.next.is_empty());
    }

    pub(super) fn is_running(&self) -> bool {
        !self.running.is_empty() || !self.ended.is_empty()
    }

    /// Waits for the next pass to end; `None` where none runs.
    ///
    /// # Cancel safety
    /// Dropped, nothing is lost.
    pub(super) async fn next(&mut self) -> Option<Ended> {
        if self.ended.is_empty() {
            self.advance().await;
        }
        self.ended.pop_front()
    }

    /// Goes on with all passes until `other` is through. A future that nothing polls sends nothing.
    pub(super) async fn beside<T>(&mut self, other: impl Future<Output = T>) -> T {
        let mut other = std::pin::pin!(other);
        loop {
            tokio::select! {
                biased;
                output = &mut other => return output,
                () = self.advance(), if !self.running.is_empty() => {}
            }
        }
    }

    /// Begins no more passes, and waits for the next of those that run to end.
    pub(super) async fn last(&mut self) -> Option<Ended> {
        self.next.clear();
        self.next().await
    }

    async fn advance(&mut self) {
        if let Some((at, passed)) = self.running.next().await {
            self.tables[at].is_running = false;
            self.ended.push_back((at, passed));
            self.fill();
        }
    }

    /// The pass of this table failed; the next one begins after `pause`.
    pub(super) fn rest(&mut self, at: usize, pause: Duration) {
        self.tables[at].rests_until = Some(Instant::now() + pause);
    }

    /// The pass of this table went well.
    pub(super) fn went_well(&mut self, at: usize) {
        self.tables[at].rests_until = None;
    }

    /// Tells whether the last pass of some table failed.
    pub(super) fn some_rest(&self) -> bool {
        self.tables.iter().any(|turn| turn.rests_until.is_some())
    }
}
