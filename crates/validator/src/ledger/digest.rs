//! What a whole ledger comes down to.

use super::{Ledger, Side};
use crate::evidence::Digests;

impl Ledger {
    /// The digests of both sides as entered by now.
    pub(crate) fn digests(&self) -> Digests {
        let of = |side| {
            let page = self.page(side);
            let add = |(rows, sum): (u64, u128), bucket: &super::Bucket| {
                (rows + bucket.count, sum.wrapping_add(bucket.sum))
            };
            page.buckets.iter().fold((0, 0), add)
        };
        let ((source_rows, source), (target_rows, target)) = (of(Side::Source), of(Side::Target));
        Digests {
            seed: format!("{:016x}", self.seed),
            source_rows,
            source: format!("{source:032x}"),
            target_rows,
            target: format!("{target:032x}"),
        }
    }
}
