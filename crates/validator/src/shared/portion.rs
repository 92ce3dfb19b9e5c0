//! A worker's portion of a table: the pieces that it has read, and what it hands over of them.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lockstep_postgres::{AnswerPlace, Answered, ComparisonPiece, SharedComparison};
use tokio::sync::{RwLock, mpsc};

use super::lease::Registered;
use super::terms::Terms;
use super::{LOOK_EVERY, PieceCounted, Wish};
use crate::ledger::{BUCKETS_PER_PARTITION, Ledger, Piece, Side};
use crate::source_pass::read_piece;
use crate::table_run::TableRun;
use crate::target_pass::read_segment;
use crate::tasks::Stopped;

/// About how many bytes a part of an answer has.
pub(super) const PART_BYTES: usize = 256 << 10;
/// Buckets of one part of an answer of sums.
pub(super) const PART_BUCKETS: usize = 32 * BUCKETS_PER_PARTITION;

/// See the module. It is one registration's: once that is over it is thrown away as a whole.
pub(super) struct Portion {
    pub(super) run: Arc<TableRun>,
    pub(super) comparison: i64,
    pub(super) terms: Terms,
    pub(super) worker: i64,
    ledger: Arc<Ledger>,
    /// Held for as long as a piece is being read, and by an answer alone: half a piece is in no answer.
    reading: RwLock<()>,
    /// Tokens of the pieces that were read whole.
    tokens: Mutex<Vec<i64>>,
    /// Parts that were handed over for the newest wish.
    parts: AtomicI64,
}

impl Portion {
    /// Makes an empty one.
    ///
    /// # Errors
    /// The stores', or that this process is not fit to take part.
    pub(super) async fn new(
        run: &Arc<TableRun>,
        of: &SharedComparison,
        terms: Terms,
        registered: &Registered,
    ) -> Result<Self, Stopped> {
        run.check_stores().await.map_err(Stopped::Unfit)?;
        let pieces = run.reader.source.comparison_pieces(of.run).await?;
        let count = |side: Side| pieces.iter().filter(|piece| piece.side == side.label()).count();
        let counts = (count(Side::Source), count(Side::Target));
        let ledger = Ledger::portion(terms.layout(), run.options.settings.memory_bytes, counts);
        let portion = Self {
            run: Arc::clone(run),
            comparison: of.run,
            terms,
            worker: registered.id,
            ledger: Arc::new(ledger.map_err(|error| run.spool(error))?),
            reading: RwLock::new(()),
            tokens: Mutex::new(Vec::new()),
            parts: AtomicI64::new(0),
        };
        portion.require_terms().await?;
        Ok(portion)
    }

    /// Returns how many pieces were read whole.
    pub(super) fn pieces(&self) -> usize {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Takes pieces and reads them, for as long as it is polled.
    ///
    /// # Errors
    /// Whatever keeps a piece from being read whole under its lease; then nothing of the portion counts.
    pub(super) async fn read(self: Arc<Self>) -> Result<(), Stopped> {
        let mut bytes_expected = 0;
        loop {
            if !self.read_one(&mut bytes_expected).await? {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    async fn read_one(&self, bytes_expected: &mut usize) -> Result<bool, Stopped> {
        let _reading = self.reading.read().await;
        let source = &self.run.reader.source;
        // Asked once: 1. A piece is taken, and the answer is lost. 2. Asked again, another one is taken. 3.
        // The first one is held by a worker that does not know of it, and is never read.
        let Some(piece) = source.claim_comparison_piece(self.comparison, self.worker).await? else {
            return Ok(false);
        };
        let counted = self.read_whole(&piece, bytes_expected).await?;
        // A part that was read of a table that is another one by now is not what the leader compares.
        self.run.check_stores().await.map_err(Stopped::Unfit)?;
        self.require_terms().await?;
        let counted = serde_json::to_value(counted).map_err(|_| self.run.garbled())?;
        if !source.finish_comparison_piece(self.comparison, &piece, &counted).await? {
            return Err(Stopped::LeaseOver);
        }
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).push(piece.token);
        Ok(true)
    }

    async fn read_whole(
        &self,
        piece: &ComparisonPiece,
        bytes_expected: &mut usize,
    ) -> Result<PieceCounted, Stopped> {
        let number = usize::try_from(piece.number).unwrap_or(usize::MAX);
        let bounds = Piece { after: piece.after.clone(), until: piece.until.clone(), done: false };
        if piece.side == Side::Source.label() {
            let counted = read_piece(&self.run, &self.ledger, number, bounds, bytes_expected).await?;
            return Ok(PieceCounted { counted, read_units: 0.0 });
        }
        let segment = (number, self.terms.segments);
        let read = read_segment(&self.run, &self.ledger, segment, Piece::default()).await?;
        Ok(PieceCounted { counted: read.counted, read_units: read.units })
    }

    async fn require_terms(&self) -> Result<(), Stopped> {
        let ours = Terms::of(&self.run, self.terms.layout()).await?;
        self.terms.refusal(&ours).map_or(Ok(()), |reason| Err(Stopped::Unfit(reason)))
    }

    /// Answers each wish of the leader, until the comparison has ended.
    ///
    /// # Errors
    /// The source's, or that what was read does not read back.
    pub(super) async fn answer(&self) -> Result<(), Stopped> {
        let mut answered = 0;
        loop {
            let source = &self.run.reader.source;
            let now = self.run.reader.ask(|| source.shared_comparison(self.run.binding.name())).await?;
            let Some(now) = now.filter(|now| now.run == self.comparison) else { return Ok(()) };
            if now.ask > answered {
                let _alone = self.reading.write().await;
                self.hand_over(&now).await?;
                answered = now.ask;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Hands over what is wanted. Where the leader wants something else by now, or the lease is over, the
    /// rest is of no use, and is left out.
    async fn hand_over(&self, wish: &SharedComparison) -> Result<(), Stopped> {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.parts.store(0, Ordering::Relaxed);
        let handed = match Wish::of(&wish.asked) {
            _ if tokens.is_empty() => return Ok(()),
            Some(Wish::Sums) => self.hand_over_sums(wish.ask).await?,
            Some(Wish::Asides) => self.hand_over_entries(wish.ask, self.ledger.partitions(), &[]).await?,
            Some(Wish::Entries) => self.hand_over_wanted(wish.ask, &wish.wanted).await?,
            None => return Err(Stopped::Unfit(format!("the leader asks for `{}`", wish.asked))),
        };
        if handed {
            let source = &self.run.reader.source;
            let parts = self.parts.load(Ordering::Relaxed);
            let answer = Answered { worker: self.worker, tokens, parts };
            source.end_answer(self.comparison, wish.ask, &answer).await?;
        }
        Ok(())
    }

    async fn hand_over_sums(&self, ask: i32) -> Result<bool, Stopped> {
        for side in [Side::Source, Side::Target] {
            let sums = self.ledger.sums(side);
            for (number, first) in (0..sums.len()).step_by(PART_BUCKETS).enumerate() {
                let body = sums.to_bytes(first..sums.len().min(first + PART_BUCKETS));
                if !self.hand_over_part((ask, side, 0), number, &body).await? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    async fn hand_over_wanted(&self, ask: i32, wanted: &[u8]) -> Result<bool, Stopped> {
        let of_partition = BUCKETS_PER_PARTITION / 8;
        for (partition, bits) in wanted.chunks(of_partition).enumerate().take(self.ledger.partitions()) {
            let is_wanted = bits.iter().any(|byte| *byte != 0);
            if is_wanted && !self.hand_over_entries(ask, partition, wanted).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn hand_over_entries(&self, ask: i32, partition: usize, wanted: &[u8]) -> Result<bool, Stopped> {
        for side in [Side::Source, Side::Target] {
            let (sender, mut bodies) = mpsc::channel::<Vec<u8>>(2);
            let (ledger, wanted) = (Arc::clone(&self.ledger), wanted.to_vec());
            // Not on rayon's threads: it waits for the source.
            let reading = tokio::task::spawn_blocking(move || {
                let (mut body, mut written) = (Vec::with_capacity(PART_BYTES), Ok(()));
                let is_wanted = |bucket| is_set(&wanted, bucket);
                ledger.entries(side, partition, is_wanted, |entry| {
                    written = std::mem::replace(&mut written, Ok(())).and_then(|()| entry.write(&mut body));
                    if body.len() >= PART_BYTES {
                        // The receiver may be gone; then the rest is of no use.
                        drop(sender.blocking_send(std::mem::take(&mut body)));
                    }
                })?;
                if !body.is_empty() {
                    drop(sender.blocking_send(body));
                }
                written
            });
            let mut number = 0;
            while let Some(body) = bodies.recv().await {
                if !self.hand_over_part((ask, side, partition), number, &body).await? {
                    return Ok(false);
                }
                number += 1;
            }
            let read = reading.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            read.map_err(|error| self.run.spool(error))?;
        }
        Ok(true)
    }

    async fn hand_over_part(
        &self,
        (ask, side, part): (i32, Side, usize),
        number: usize,
        body: &[u8],
    ) -> Result<bool, Stopped> {
        let part = i32::try_from(part).unwrap_or(i32::MAX);
        let at = AnswerPlace { run: self.comparison, ask, side: side.label(), part };
        let number = i32::try_from(number).unwrap_or(i32::MAX);
        self.parts.fetch_add(1, Ordering::Relaxed);
        Ok(self.run.reader.source.hand_over_part(at, self.worker, number, body).await?)
    }
}

/// Tells whether a bucket is among the wanted ones.
pub(super) fn is_set(wanted: &[u8], bucket: usize) -> bool {
    wanted.get(bucket / 8).is_some_and(|byte| byte & (1 << (bucket % 8)) != 0)
}

/// Puts a bucket among the wanted ones.
pub(super) fn set(wanted: &mut [u8], bucket: usize) {
    if let Some(byte) = wanted.get_mut(bucket / 8) {
        *byte |= 1 << (bucket % 8);
    }
}
