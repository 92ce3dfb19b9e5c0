//! The source, workers and a leader, in one process and without a clock: the ledgers are real ones.

use std::collections::{BTreeSet, HashSet};

use lockstep_postgres::{Answered, ComparisonPiece};

use super::super::coverage::{Stage, are_read, stage};
use super::super::portion::{is_set, set};
use crate::ledger::{Batch, Entry, Join, Layout, Ledger, Side, Standing, Sums};
use crate::print::Print;

pub(super) const LAYOUT: Layout = Layout { seed: 1, partitions: 16 };
pub(super) const ROWS: u64 = 60;
pub(super) const PIECES: usize = 4;
pub(super) const SEGMENTS: usize = 3;

pub(super) fn entry(place: u64, state: u64) -> Entry {
    let hash = |parts: [u64; 2]| xxhash_rust::xxh3::xxh3_128(&parts.map(u64::to_le_bytes).concat());
    let print = Print { place: hash([place, 0]), state: hash([place, state + 1]) };
    Entry { print, standing: Standing::Live, name: place.to_string().into_bytes() }
}

/// Returns the entries of a piece. Of the items the 7th differs, the 11th is missing, and one has no row.
pub(super) fn of_piece(piece: &ComparisonPiece) -> Vec<Entry> {
    let number = piece.number as u64;
    if piece.side == "source" {
        let each = ROWS / PIECES as u64;
        return (number * each..(number + 1) * each).map(|place| entry(place, 1)).collect();
    }
    let all = (0..=ROWS).filter(|place| *place != 11);
    let mine = all.filter(|place| place % SEGMENTS as u64 == number);
    mine.map(|place| entry(place, if place == 7 { 2 } else { 1 })).collect()
}

/// Number of rows that are equal, and the names of rows and items that are not.
pub(super) type Found = (u64, BTreeSet<Vec<u8>>, BTreeSet<Vec<u8>>);

/// A worker's process.
pub(super) struct Worker {
    pub(super) id: i64,
    pub(super) ledger: Ledger,
    pub(super) tokens: Vec<i64>,
    pub(super) reading: Option<ComparisonPiece>,
    pub(super) answered: i32,
}

/// One answer, as the source keeps it.
pub(super) struct Kept {
    pub(super) ask: i32,
    pub(super) answer: Answered,
    pub(super) sums: (Sums, Sums),
    pub(super) entries: (Vec<Entry>, Vec<Entry>),
}

/// The source, its workers, and the leader.
pub(super) struct World {
    pub(super) pieces: Vec<ComparisonPiece>,
    pub(super) live: HashSet<i64>,
    pub(super) workers: Vec<Worker>,
    pub(super) answers: Vec<Kept>,
    pub(super) next: i64,
    pub(super) ask: i32,
    /// Sums of the leader; it wants nothing but sums before it has them.
    pub(super) sums: Option<(Sums, Sums)>,
    pub(super) found: Option<Found>,
}

impl World {
    pub(super) fn new(workers: usize) -> Self {
        let piece = |side: &str, number| ComparisonPiece {
            side: side.to_owned(),
            number,
            after: None,
            until: None,
            worker: None,
            token: 0,
            done: false,
            held: false,
            counted: serde_json::Value::Null,
        };
        let pieces = (0..PIECES as i32)
            .map(|number| piece("source", number))
            .chain((0..SEGMENTS as i32).map(|number| piece("target", number)));
        let mut world = Self {
            pieces: pieces.collect(),
            live: HashSet::new(),
            workers: Vec::new(),
            answers: Vec::new(),
            next: 0,
            ask: 0,
            sums: None,
            found: None,
        };
        for _ in 0..workers {
            let worker = world.register();
            world.workers.push(worker);
        }
        world
    }

    pub(super) fn number(&mut self) -> i64 {
        self.next += 1;
        self.next
    }

    pub(super) fn register(&mut self) -> Worker {
        let id = self.number();
        self.live.insert(id);
        let ledger = Ledger::portion(LAYOUT, 1 << 20, (PIECES, SEGMENTS)).expect("a layout");
        Worker { id, ledger, tokens: Vec::new(), reading: None, answered: 0 }
    }

    /// A process that forgets everything, as one that was started again.
    pub(super) fn rejoin(&mut self, worker: usize) {
        self.workers[worker] = self.register();
    }

    pub(super) fn claim(&mut self, worker: usize) {
        let id = self.workers[worker].id;
        if self.workers[worker].reading.is_some() || !self.live.contains(&id) {
            return;
        }
        let token = self.number();
        let live = &self.live;
        let is_free =
            |piece: &&mut ComparisonPiece| piece.worker.is_none_or(|holder| !live.contains(&holder));
        if let Some(piece) = self.pieces.iter_mut().find(is_free) {
            (piece.worker, piece.token, piece.done) = (Some(id), token, false);
            let piece = piece.clone();
            self.workers[worker].reading = Some(piece);
            self.enter(worker, true);
        }
    }

    /// Enters one half of what is being read.
    pub(super) fn enter(&mut self, worker: usize, first: bool) {
        let worker = &mut self.workers[worker];
        let Some(piece) = &worker.reading else { return };
        let side = if piece.side == "source" { Side::Source } else { Side::Target };
        let mut entries = of_piece(piece);
        let rest = entries.split_off(entries.len() / 2);
        let entries = if first { entries } else { rest };
        let batch = Batch { entries, piece: piece.number as usize, ..Batch::default() };
        worker.ledger.enter(side, batch).expect("written");
    }

    pub(super) fn finish(&mut self, worker: usize) {
        if self.workers[worker].reading.is_none() {
            return;
        }
        self.enter(worker, false);
        let Some(read) = self.workers[worker].reading.take() else { return };
        let id = self.workers[worker].id;
        let is_live = self.live.contains(&id);
        let same = |piece: &&mut ComparisonPiece| piece.token == read.token && is_live;
        match self.pieces.iter_mut().find(same) {
            Some(piece) => {
                piece.done = true;
                self.workers[worker].tokens.push(read.token);
            }
            None => self.rejoin(worker),
        }
    }

    pub(super) fn answer(&mut self, worker: usize) {
        let (ask, is_live) = (self.ask, self.live.contains(&self.workers[worker].id));
        let worker = &mut self.workers[worker];
        if worker.reading.is_some() || worker.answered >= ask || worker.tokens.is_empty() {
            return;
        }
        worker.answered = ask;
        if !is_live {
            return;
        }
        let entries = |side| {
            let mut all = Vec::new();
            for partition in 0..LAYOUT.partitions {
                worker.ledger.entries(side, partition, |_| true, |entry| all.push(entry)).expect("read");
            }
            all
        };
        self.answers.push(Kept {
            ask,
            answer: Answered { worker: worker.id, tokens: worker.tokens.clone(), parts: 0 },
            sums: (worker.ledger.sums(Side::Source), worker.ledger.sums(Side::Target)),
            entries: (entries(Side::Source), entries(Side::Target)),
        });
    }

    /// The leader looks once.
    pub(super) fn lead(&mut self) {
        for piece in &mut self.pieces {
            piece.held = piece.worker.is_some_and(|worker| self.live.contains(&worker));
        }
        let answers: Vec<Answered> =
            self.answers.iter().filter(|kept| kept.ask == self.ask).map(|kept| kept.answer.clone()).collect();
        let stage = if self.ask == 0 { Stage::Reading } else { stage(&self.pieces, &answers) };
        match stage {
            Stage::Answering => {}
            Stage::Reading | Stage::Stale if are_read(&self.pieces) => self.ask += 1,
            Stage::Reading | Stage::Stale => {}
            Stage::Whole(taken) => {
                let workers: Vec<i64> = taken.iter().map(|answer| answer.worker).collect();
                self.collect(&workers);
                self.ask += 1;
            }
        }
    }

    pub(super) fn collect(&mut self, workers: &[i64]) {
        let whole = |kept: &&Kept| kept.ask == self.ask && workers.contains(&kept.answer.worker);
        let answers: Vec<&Kept> = self.answers.iter().filter(whole).collect();
        let Some((rows, items)) = &self.sums else {
            let (mut rows, mut items) = (Sums::none(LAYOUT.partitions), Sums::none(LAYOUT.partitions));
            for kept in answers {
                let bytes = |sums: &Sums| sums.to_bytes(0..sums.len());
                rows.merge(0, &bytes(&kept.sums.0)).expect("sums");
                items.merge(0, &bytes(&kept.sums.1)).expect("sums");
            }
            self.sums = Some((rows, items));
            return;
        };
        let mut wanted = vec![0; rows.len() / 8];
        let mut join = Join::default();
        let mut equal = 0;
        for bucket in 0..rows.len() {
            if rows.is_equal(items, bucket) {
                equal += rows.count(bucket);
            } else {
                set(&mut wanted, bucket);
            }
        }
        let is_wanted =
            |entry: &&Entry| is_set(&wanted, crate::ledger::bucket_of(rows.len(), entry.print.place));
        let of = |pick: fn(&Kept) -> &Vec<Entry>| answers.iter().flat_map(move |kept| pick(kept).iter());
        of(|kept| &kept.entries.1).filter(is_wanted).for_each(|item| join.item(item.clone()));
        of(|kept| &kept.entries.0).filter(is_wanted).for_each(|row| join.row(row.clone()));
        let difference = join.end();
        let found = (
            equal + difference.equal,
            difference.rows.into_iter().collect(),
            difference.items.into_iter().collect(),
        );
        self.found = Some(found);
    }

    /// Every worker goes on, and none dies any more.
    pub(super) fn finish_all(&mut self) {
        for worker in 0..self.workers.len() {
            if !self.live.contains(&self.workers[worker].id) {
                self.rejoin(worker);
            }
        }
        for _ in 0..100 {
            if self.found.is_some() {
                return;
            }
            self.lead();
            for worker in 0..self.workers.len() {
                self.claim(worker);
                self.finish(worker);
                self.answer(worker);
            }
        }
    }
}
