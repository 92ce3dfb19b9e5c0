//! Digest of a whole ledger.

use super::{Ledger, Side, Sums};
use crate::evidence::Digests;

impl Ledger {
    /// Returns the digests of both sides as entered by now.
    pub(crate) fn digests(&self) -> Digests {
        let (source, target) = (self.sums(Side::Source), self.sums(Side::Target));
        Digests::of(self.seed, &source, &target)
    }
}

impl Digests {
    /// Returns those of the sums of both sides, made under this seed.
    pub(crate) fn of(seed: u64, source: &Sums, target: &Sums) -> Self {
        let ((source_rows, source), (target_rows, target)) = (source.total(), target.total());
        Self {
            seed: format!("{seed:016x}"),
            source_rows,
            source: format!("{source:032x}"),
            target_rows,
            target: format!("{target:032x}"),
        }
    }
}
