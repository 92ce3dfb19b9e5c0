//! The ids a chooser may name.

use rand::{Rng, RngExt};

/// Ids remembered per table. Enough that two writers seldom meet by chance and few enough that they meet at
/// times.
const KNOWN_MAX: usize = 20_000;

/// Ids of one table that exist as far as is known; others may delete them meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids(Vec<i64>);

impl Ids {
    /// Keeps these ids, up to the bound.
    pub fn new(ids: impl IntoIterator<Item = i64>) -> Self {
        Self(ids.into_iter().take(KNOWN_MAX).collect())
    }

    /// Returns how many are known.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Tells whether none is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns one of them, all equally likely.
    pub fn pick(&self, rng: &mut impl Rng) -> Option<i64> {
        (!self.0.is_empty()).then(|| self.0[rng.random_range(0..self.0.len())])
    }

    /// Remembers an id, in the place of another when the bound is reached.
    pub fn add(&mut self, rng: &mut impl Rng, id: i64) {
        if self.0.len() < KNOWN_MAX {
            self.0.push(id);
        } else {
            self.0[rng.random_range(0..KNOWN_MAX)] = id;
        }
    }

    /// Forgets an id.
    pub fn remove(&mut self, id: i64) {
        if let Some(at) = self.0.iter().position(|known| *known == id) {
            self.0.swap_remove(at);
        }
    }
}

/// Rows that are known of both tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Logs.
    pub logs: Ids,
    /// Payments.
    pub payments: Ids,
}

/// Effect of an operation, as far as the next ones need to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// Rows inserted, changed and deleted.
    pub rows: u64,
    /// Logs that exist now.
    pub logs_born: Vec<i64>,
    /// Logs that do not exist, or not any more.
    pub logs_gone: Vec<i64>,
    /// Payments that exist now.
    pub payments_born: Vec<i64>,
    /// Payments that do not exist, or not any more.
    pub payments_gone: Vec<i64>,
}

impl Known {
    /// Takes in what an operation did.
    pub(super) fn learn(&mut self, rng: &mut impl Rng, effect: &Effect) {
        effect.logs_gone.iter().for_each(|id| self.logs.remove(*id));
        effect.payments_gone.iter().for_each(|id| self.payments.remove(*id));
        effect.logs_born.iter().for_each(|id| self.logs.add(rng, *id));
        effect.payments_born.iter().for_each(|id| self.payments.add(rng, *id));
    }
}
