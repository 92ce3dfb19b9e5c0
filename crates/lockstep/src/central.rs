//! Messages of an instance beside its lease (R49): settings that operators have turned for every process, and
//! what its stores have counted since it told last.
//!
//! A setting that is in force goes before what the process was configured with; taken back, or over, the
//! configuration counts again. While the source does not answer, what was heard last stays.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use lockstep_core::Phase;
use lockstep_core::settings::{
    CANARY_PERCENT, DUAL_WRITE, HYBRID_READ, MAX_STALENESS_MS, SHADOW_PERCENT, Settings,
};

/// Nothing is set.
const NONE: u32 = u32::MAX;

/// Settings that were heard, as atoms that every read and write looks at, and counts that are to be told.
#[derive(Debug)]
pub(crate) struct Central {
    canary: AtomicU32,
    shadow: AtomicU32,
    /// 0 where nothing is set.
    staleness_ms: AtomicU64,
    modes: [AtomicU8; 2],
    counts: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
}

/// A mode that operators have set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetMode {
    BestEffort,
    Strict,
}

impl Default for Central {
    fn default() -> Self {
        Self {
            canary: AtomicU32::new(NONE),
            shadow: AtomicU32::new(NONE),
            staleness_ms: AtomicU64::new(0),
            modes: [AtomicU8::new(0), AtomicU8::new(0)],
            counts: Mutex::default(),
        }
    }
}

impl Central {
    /// Takes over what is in force.
    pub(crate) fn hear(&self, settings: &Settings) {
        let points = |name| settings.number(name).map_or(NONE, |percent| (percent * 100.0).round() as u32);
        self.canary.store(points(CANARY_PERCENT), Relaxed);
        self.shadow.store(points(SHADOW_PERCENT), Relaxed);
        self.staleness_ms.store(settings.whole(MAX_STALENESS_MS).unwrap_or(0), Relaxed);
        for (mode, name) in self.modes.iter().zip([DUAL_WRITE, HYBRID_READ]) {
            let set = match settings.word(name) {
                Some("best_effort") => 1,
                Some("strict") => 2,
                _ => 0,
            };
            mode.store(set, Relaxed);
        }
    }

    /// Returns the canary share in hundredths of a percent, if one is set.
    pub(crate) fn canary(&self) -> Option<u32> {
        Some(self.canary.load(Relaxed)).filter(|points| *points != NONE)
    }

    /// Returns the share of shadow reads in hundredths of a percent, if one is set.
    pub(crate) fn shadow(&self) -> Option<u32> {
        Some(self.shadow.load(Relaxed)).filter(|points| *points != NONE)
    }

    /// Returns the bound of staleness, if one is set.
    pub(crate) fn staleness_ms(&self) -> Option<u64> {
        Some(self.staleness_ms.load(Relaxed)).filter(|bound| *bound != 0)
    }

    /// Returns the mode of writes in a phase, if one is set.
    pub(crate) fn mode(&self, phase: Phase) -> Option<SetMode> {
        let set = match phase {
            Phase::DualWrite => &self.modes[0],
            Phase::HybridRead => &self.modes[1],
            Phase::PostgresOnly | Phase::DynamoOnly => return None,
        };
        match set.load(Relaxed) {
            1 => Some(SetMode::BestEffort),
            2 => Some(SetMode::Strict),
            _ => None,
        }
    }

    /// Counts something of a table; of all tables where it is empty.
    pub(crate) fn count(&self, table: &'static str, name: &'static str) {
        *self.counts().entry((table, name)).or_default() += 1;
    }

    /// Returns what was counted and is not told yet. It is told once [`Central::told`] says so: what is
    /// counted twice would be worse than what is told late.
    pub(crate) fn untold(&self) -> Vec<(&'static str, &'static str, u64)> {
        self.counts().iter().map(|((table, name), count)| (*table, *name, *count)).collect()
    }

    /// Takes out what was told.
    pub(crate) fn told(&self, told: &[(&'static str, &'static str, u64)]) {
        let mut counts = self.counts();
        for (table, name, count) in told {
            let left = counts.get(&(*table, *name)).copied().unwrap_or(0).saturating_sub(*count);
            match left {
                0 => drop(counts.remove(&(*table, *name))),
                left => drop(counts.insert((*table, *name), left)),
            }
        }
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, BTreeMap<(&'static str, &'static str), u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_set_counts_until_it_is_taken_back() {
        let central = Central::default();
        assert_eq!(
            (central.canary(), central.staleness_ms(), central.mode(Phase::HybridRead)),
            (None, None, None)
        );
        let kept = json!({
            "canary_percent": { "value": 0 }, "max_staleness_ms": { "value": 250 }, "hybrid_read": { "value": "best_effort" },
        });
        central.hear(&Settings::in_force(&kept, 0.0));
        assert_eq!((central.canary(), central.staleness_ms()), (Some(0), Some(250)));
        assert_eq!(central.mode(Phase::HybridRead), Some(SetMode::BestEffort));
        assert_eq!((central.mode(Phase::DualWrite), central.shadow()), (None, None));
        central.hear(&Settings::default());
        assert_eq!((central.canary(), central.mode(Phase::HybridRead)), (None, None));
    }

    #[test]
    fn what_is_counted_while_it_is_told_is_told_next_time() {
        let central = Central::default();
        central.count("payments", "shadow.agree");
        let untold = central.untold();
        central.count("payments", "shadow.agree");
        central.count("", "write.committed");
        central.told(&untold);
        assert_eq!(central.untold(), [("", "write.committed", 1), ("payments", "shadow.agree", 1)]);
    }
}
