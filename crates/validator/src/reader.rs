//! Asking the stores: a bound on requests in flight, patience when one fails. Reading only.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use lockstep_core::{AttributeValue, Attributes, Kind, Result, Retry, TargetKey};
use lockstep_dynamo::{Backoff, CountPage, CountWhat, PageEnd, READ_KEYS_MAX, ScanBody, ScanPage, Target};
use lockstep_postgres::{CopyChunk, KeyBound, KeyState, RangeRead, Source, TableBinding};
use tokio::sync::Semaphore;

use crate::bill::Bill;
use crate::options::ValidateOptions;
use crate::pace::Pace;

/// A store that fails for longer is down, and the verdict says so: longer than a failover of either store
/// usually takes would make a comparison look hung.
const DOWN_AFTER: Duration = Duration::from_secs(15);
/// A store that throttles is alive: on-demand capacity doubles within minutes (DynamoDB Developer Guide).
const THROTTLED_AFTER: Duration = Duration::from_secs(300);
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LONGEST: Duration = Duration::from_secs(2);
/// Most keys of one look-up: its statement is text, and its plan is made each time.
const LOOK_UP_KEYS_MAX: usize = 200;

/// Both stores, for one validation.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    pub(crate) source: Source,
    pub(crate) target: Target,
    source_slots: Arc<Semaphore>,
    target_slots: Arc<Semaphore>,
    pace: Arc<Pace>,
    bill: Arc<Bill>,
    /// The rate is one of all who read for comparisons that processes share.
    shares: bool,
    gave_up: Arc<AtomicBool>,
}

impl Reader {
    pub(crate) fn new(source: &Source, target: &Target, options: &ValidateOptions) -> Self {
        let parallel = options.settings.parallel.max(1);
        Self {
            source: source.clone(),
            target: target.clone(),
            source_slots: Arc::new(Semaphore::new(parallel)),
            // Two a worker: one is answered while the other is on the wire.
            target_slots: Arc::new(Semaphore::new(2 * parallel)),
            gave_up: Arc::default(),
            pace: Arc::new(Pace::new(options.settings.read_units_per_s_max.map(|units| units as f64))),
            bill: Arc::new(Bill::new(options.spending.clone())),
            shares: false,
        }
    }

    /// Notes what was read and is not noted yet.
    pub(crate) async fn settle(&self) {
        self.bill.note(&self.source).await;
    }

    /// Returns the same at a pace of its own, for one table of a comparison that processes share.
    ///
    /// 1. One process reads for two tables, and another one for the first of them. 2. At one pace for both
    /// tables the first process would take its share of whichever table it looked at last: half of the rate,
    /// or all of it beside the other's half. So each reading of a table takes an equal part of the rate, and
    /// what a process takes is one part for each table that it reads.
    pub(crate) fn of_a_share(&self) -> Self {
        Self { pace: Arc::new(self.pace.like()), shares: true, ..self.clone() }
    }

    /// Tells whether a store could not be reached, or failed, for longer than there was patience.
    pub(crate) fn gave_up(&self) -> bool {
        self.gave_up.load(Ordering::Relaxed)
    }

    /// Waits until the target may be read again, at the rate that operators allow by now; not while they have
    /// paused comparisons, and not while no more may be spent. While the setting cannot be read, the one of
    /// before holds.
    async fn paced(&self) {
        loop {
            let asking = self.pace.asking.lock().await;
            if self.pace.is_due() {
                if let Ok(tuning) = self.source.tuning().await {
                    self.pace.set(tuning.validate_read_units_per_s_max.map(|units| units as f64));
                    let is_over = self.bill.is_over(&self.source, tuning.spend_cap_usd).await;
                    self.pace.pause(tuning.validation_paused || is_over);
                }
                if self.shares
                    && self.pace.is_bound()
                    && let Ok(sharers) = self.source.comparison_sharers().await
                {
                    self.pace.share(u32::try_from(sharers).unwrap_or(u32::MAX));
                }
                self.bill.note_if_due(&self.source).await;
            }
            drop(asking);
            if self.pace.wait().await {
                return;
            }
        }
    }

    /// Returns the address of the target.
    pub(crate) fn address(&self) -> String {
        self.target.address()
    }

    /// Asks the source something, again and again if need be.
    pub(crate) async fn ask<T, F: Future<Output = Result<T>>>(
        &self,
        question: impl FnMut() -> F,
    ) -> Result<T> {
        self.insist(&self.source_slots, None, question).await
    }

    /// Returns the next rows of a range.
    pub(crate) async fn chunk(&self, binding: &TableBinding, range: &RangeRead) -> Result<CopyChunk> {
        self.ask(|| self.source.read_chunk(binding, range)).await
    }

    /// Looks up any number of keys, in their order.
    pub(crate) async fn look_up(
        &self,
        binding: &TableBinding,
        keys: &[Vec<String>],
    ) -> Result<Vec<KeyState>> {
        let parts = keys.chunks(LOOK_UP_KEYS_MAX).map(|part| self.ask(|| self.source.look_up(binding, part)));
        Ok(try_join_all(parts).await?.into_iter().flatten().collect())
    }

    /// Looks up the row of a primary key.
    pub(crate) async fn look_up_row(
        &self,
        binding: &TableBinding,
        primary_key: &KeyBound,
    ) -> Result<Option<KeyState>> {
        self.ask(|| self.source.look_up_row(binding, primary_key)).await
    }

    /// Returns the items at any number of places, in their order, tombstones included.
    pub(crate) async fn items(
        &self,
        binding: &TableBinding,
        places: &[TargetKey],
    ) -> Result<Vec<Option<Attributes>>> {
        let names: Vec<String> = places.iter().map(name_of).collect();
        // DynamoDB refuses a request that names a key twice.
        let mut distinct: HashMap<&str, Option<Attributes>> = HashMap::with_capacity(places.len());
        let mut wanted = Vec::with_capacity(places.len());
        for (name, place) in names.iter().zip(places) {
            if distinct.insert(name, None).is_none() {
                wanted.push(place.clone());
            }
        }
        let parts = wanted.chunks(READ_KEYS_MAX).map(async |part: &[TargetKey]| {
            self.paced().await;
            let table = &binding.target_name;
            let items =
                self.of_target(binding, || self.target.get_many(table, part, Backoff::brief())).await?;
            // A strongly consistent read of up to 4 KB is one unit, and larger items are rare.
            self.take(binding, part.len() as f64);
            Ok::<_, lockstep_core::Error>(items)
        });
        for item in try_join_all(parts).await?.into_iter().flatten() {
            let name = TargetKey::of(&item).map(|place| name_of(&place)).unwrap_or_default();
            if let Some(slot) = distinct.get_mut(name.as_str()) {
                *slot = Some(item);
            }
        }
        if wanted.len() == places.len() {
            return Ok(names
                .iter()
                .map(|name| distinct.get_mut(name.as_str()).and_then(Option::take))
                .collect());
        }
        Ok(names.iter().map(|name| distinct.get(name.as_str()).cloned().flatten()).collect())
    }

    /// Reads one page of a segment.
    pub(crate) async fn page(
        &self,
        binding: &TableBinding,
        segment: (usize, usize),
        start: Option<&Attributes>,
    ) -> Result<ScanPage> {
        self.paced().await;
        let table = &binding.target_name;
        let page = self.of_target(binding, || self.target.scan_page(table, segment, start.cloned())).await?;
        self.take(binding, page.capacity_units);
        Ok(page)
    }

    /// Reads one page of a segment, as it came. The caller pays for it.
    pub(crate) async fn body(
        &self,
        binding: &TableBinding,
        segment: (usize, usize),
        start: Option<&Attributes>,
    ) -> Result<ScanBody> {
        self.paced().await;
        let table = &binding.target_name;
        self.of_target(binding, || self.target.scan_body(table, segment, start.cloned())).await
    }

    /// Pays for a page that was read.
    pub(crate) fn pay(&self, binding: &TableBinding, end: &PageEnd) {
        self.take(binding, end.capacity_units);
    }

    fn take(&self, binding: &TableBinding, units: f64) {
        self.pace.pay(units);
        self.bill.take(binding.name(), units);
    }

    /// Reads one page of a scan that counts.
    pub(crate) async fn count(
        &self,
        binding: &TableBinding,
        segment: (usize, usize),
        what: &CountWhat<'_>,
        start: Option<&Attributes>,
    ) -> Result<CountPage> {
        self.paced().await;
        let table = &binding.target_name;
        let page =
            self.of_target(binding, || self.target.count_page(table, segment, what, start.cloned())).await?;
        self.take(binding, page.capacity_units);
        Ok(page)
    }

    /// Asks the target something of a table, again and again if need be.
    async fn of_target<T, F: Future<Output = Result<T>>>(
        &self,
        binding: &TableBinding,
        question: impl FnMut() -> F,
    ) -> Result<T> {
        self.insist(&self.target_slots, Some(binding.name()), question).await
    }

    /// Tries until there is an answer, a reason not to try again, or no patience left. The slot is given back
    /// during pauses.
    async fn insist<T, F: Future<Output = Result<T>>>(
        &self,
        slots: &Semaphore,
        of: Option<&'static str>,
        mut question: impl FnMut() -> F,
    ) -> Result<T> {
        let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_LONGEST, u32::MAX);
        let mut failing_since = None;
        loop {
            let slot = slots.acquire().await.expect("the slots are never closed");
            let error = match question().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            drop(slot);
            if let (Kind::Throttled, Some(table)) = (error.kind, of) {
                self.bill.throttled(table);
            }
            let patience = match error.kind.retry() {
                Retry::Never => {
                    self.gave_up.fetch_or(error.kind == Kind::Denied, Ordering::Relaxed);
                    return Err(error);
                }
                Retry::Again => DOWN_AFTER,
                Retry::Slower => THROTTLED_AFTER,
            };
            if failing_since.get_or_insert_with(Instant::now).elapsed() >= patience {
                self.gave_up.store(true, Ordering::Relaxed);
                return Err(error);
            }
            backoff.pause(error).await?;
        }
    }
}

/// Returns a target key as text, different for different keys: each part with its type and length.
fn name_of(place: &TargetKey) -> String {
    let mut name = String::new();
    for part in std::iter::once(&place.partition).chain(&place.sort) {
        let (kind, text) = text_of(part);
        let _ = write!(name, "{kind}{}:{text}", text.len());
    }
    name
}

/// Type and text of a key attribute; keys are strings or numbers (see [`lockstep_core::KeyType`]).
pub(crate) fn text_of(part: &AttributeValue) -> (char, &str) {
    match part {
        AttributeValue::S(text) => ('S', text),
        AttributeValue::N(text) => ('N', text),
        _ => ('?', ""),
    }
}
