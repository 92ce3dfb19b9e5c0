//! The quality of the data itself, beside whether both sides agree on it (R25).
//!
//! Business rules, sums and daily counts come from the passes, which judge each row while they have it at
//! hand; references are looked up in the source, where the tables referred to stay. A table's crate declares
//! what it must hold.
//!
//! Quality is no verdict: a rule that a row breaks in both stores is as it was before the migration. Sums
//! that differ at rest are one, for the money of both sides must be the same.

mod found;
mod rating;
mod sums;

pub use found::{Quality, QualityRating, ReferenceCheck, RuleCount, SideQuality};
pub use rating::rate;
pub use sums::{DayCount, GroupDifference, SumCheck, SumTotal};

use std::sync::{Mutex, OnceLock, PoisonError};

use lockstep_core::{EncodedRow, Fields, ItemView, Judgement, Unholdable};
use lockstep_postgres::{Referred, TableBinding};

use crate::ledger::Side;
use crate::options::ValidateOptions;
use crate::reader::Reader;

/// Most keys that are named for a reference that leads nowhere.
const KEYS_MAX: usize = 10;

/// Judge that the passes of one table share.
#[derive(Debug)]
pub(crate) struct Judge {
    is_on: bool,
    as_of_s: i64,
    source: Mutex<Judgement>,
    target: Mutex<Judgement>,
    /// Rows and items that an earlier part of this run read: they are not at hand to judge.
    resumed: OnceLock<(u64, u64)>,
}

impl Judge {
    /// Expiry is judged as of `now_s` on both sides.
    pub(crate) fn new(options: &ValidateOptions, now_s: i64) -> Self {
        let empty = || Mutex::new(Judgement::as_of(now_s));
        // A sample is too little to judge by, and so is what has changed.
        let reads_all = options.sample.is_none() && !options.incremental && options.sharing.is_none();
        let is_on = options.quality && reads_all;
        Self { is_on, as_of_s: now_s, source: empty(), target: empty(), resumed: OnceLock::new() }
    }

    /// Returns an empty judgement, for one chunk or page.
    pub(crate) fn begin(&self) -> Judgement {
        Judgement::as_of(self.as_of_s)
    }

    /// Encodes a row, and judges it on the way.
    pub(crate) fn encode(
        &self,
        binding: &TableBinding,
        tuple: &[u8],
        judgement: &mut Judgement,
    ) -> Result<EncodedRow, Unholdable> {
        let fields = &mut Fields::of_copy(tuple);
        if self.is_on {
            binding.table.encode_judged(fields, judgement)
        } else {
            binding.table.encode_keyed(fields)
        }
    }

    /// Judges a live item.
    pub(crate) fn item(&self, binding: &TableBinding, item: &dyn ItemView, judgement: &mut Judgement) {
        if self.is_on {
            binding.table.judge_item(item, judgement);
        }
    }

    /// Adds what was judged of a chunk or page.
    pub(crate) fn add(&self, side: Side, judgement: Judgement) {
        if self.is_on {
            self.of(side).merge(judgement);
        }
    }

    /// Notes what an earlier part of this run read. Before the passes.
    pub(crate) fn resume(&self, rows: u64, items: u64) {
        let _ = self.resumed.set((rows, items));
    }

    fn of(&self, side: Side) -> std::sync::MutexGuard<'_, Judgement> {
        let side = match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        };
        side.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks up every reference of the table. A failure is part of the answer.
    pub(crate) async fn references(
        &self,
        reader: &Reader,
        binding: &TableBinding,
        options: &ValidateOptions,
    ) -> References {
        let mut references = References::default();
        if !self.is_on {
            return references;
        }
        for reference in binding.table.references() {
            let asked =
                reader.ask(|| reader.source.dangling(binding, reference, &options.window, KEYS_MAX)).await;
            let to = format!("{}.{}", reference.to_table, reference.to_column);
            let mut check =
                ReferenceCheck { column: reference.column.to_owned(), to, ..ReferenceCheck::default() };
            match asked {
                Ok(Referred::Looked(found)) => (check.dangling, check.keys) = (Some(found.rows), found.keys),
                Ok(Referred::Unchecked(why)) => references.unchecked.push(why),
                Err(error) => {
                    references.failures.push(format!("references to {} were not checked: {error}", check.to))
                }
            }
            references.checks.push(check);
        }
        references
    }

    /// Returns what it all adds up to; `None` where it was not asked for. With `complete` the table was
    /// compared to its end.
    pub(crate) fn close(
        &self,
        binding: &TableBinding,
        complete: bool,
        references: References,
        options: &ValidateOptions,
    ) -> Option<Quality> {
        if !self.is_on {
            return None;
        }
        let (source, target) =
            (std::mem::take(&mut *self.of(Side::Source)), std::mem::take(&mut *self.of(Side::Target)));
        let rules = binding.table.rule_names();
        let mut quality = Quality {
            source: side(&source, &rules),
            target: side(&target, &rules),
            references: references.checks,
            unchecked: references.unchecked,
            failures: references.failures,
            ..Quality::default()
        };
        let (rows, items) = self.resumed.get().copied().unwrap_or_default();
        let all = rows == 0 && items == 0;
        if !all {
            quality
                .unchecked
                .push(format!("{rows} rows and {items} items: an earlier part of this run read them"));
        }
        quality.at_rest = options.quiescent && complete && all;
        quality.sums = sums::compare(&binding.table.aggregates(), &source, &target, options);
        quality.days = sums::days(&source, &target);
        (quality.rating, quality.because) = rate(&quality);
        Some(quality)
    }
}

/// Findings about references.
#[derive(Debug, Default)]
pub(crate) struct References {
    checks: Vec<ReferenceCheck>,
    unchecked: Vec<String>,
    failures: Vec<String>,
}

fn side(judgement: &Judgement, rules: &[&'static str]) -> SideQuality {
    let rules = rules.iter().map(|rule| {
        let broken = judgement.broken.get(rule).cloned().unwrap_or_default();
        RuleCount { rule: (*rule).to_owned(), rows: broken.rows, keys: broken.keys.into_iter().collect() }
    });
    SideQuality {
        rows: judgement.rows,
        unreadable: judgement.unreadable,
        rows_broken: judgement.rows_broken,
        rules: rules.collect(),
    }
}
