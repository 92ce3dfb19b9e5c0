//! The ledger of a process that reads some pieces of a table and hands over what it saw, for another one to
//! hold against what others saw.

use std::io;

use super::layout::require_layout;
use super::{Entry, Layout, Ledger, Piece, Side, Sums, bucket_of};

impl Ledger {
    /// Makes an empty one of this layout, with a number of pieces on each side, that keeps nothing.
    ///
    /// # Errors
    /// When the layout is none.
    pub(crate) fn portion(layout: Layout, memory_bytes: usize, pieces: (usize, usize)) -> io::Result<Self> {
        let Layout { partitions, .. } = layout;
        require_layout(partitions)?;
        let blank = |pieces| vec![Piece::default(); pieces];
        Self::of_layout(layout, memory_bytes, (blank(pieces.0), blank(pieces.1)), None)
    }

    /// Returns the sums of a side, as entered by now.
    pub(crate) fn sums(&self, side: Side) -> Sums {
        self.page(side).sums.clone()
    }

    /// Reads back the entries of a partition that are in a wanted bucket; of the partition after the last
    /// one, what was set aside.
    ///
    /// # Errors
    /// When a file cannot be read back.
    pub(crate) fn entries(
        &self,
        side: Side,
        partition: usize,
        is_wanted: impl Fn(usize) -> bool,
        mut each: impl FnMut(Entry),
    ) -> io::Result<()> {
        let buckets = self.buckets();
        let is_aside = partition == self.partitions;
        self.page(side).spools[partition].read(|entry| {
            if is_aside || is_wanted(bucket_of(buckets, entry.print.place)) {
                each(entry);
            }
        })
    }
}
