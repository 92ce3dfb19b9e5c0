//! The buckets of one side: a count and a sum each.

use std::ops::Range;

use super::{Entry, Standing};

/// All sums of a table take 4 MB in the largest layout, 260 kB in the smallest.
pub(crate) const BUCKETS_PER_PARTITION: usize = 256;

/// Count and sum, as they are handed over.
const BYTES: usize = 8 + 16;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bucket {
    count: u64,
    sum: u128,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Sums(Vec<Bucket>);

impl Sums {
    /// Returns those of nothing, in a number of partitions that is a power of two.
    pub(crate) fn none(partitions: usize) -> Self {
        Self(vec![Bucket::default(); partitions * BUCKETS_PER_PARTITION])
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds an entry to its bucket, and says which that is.
    pub(super) fn add(&mut self, entry: &Entry) -> usize {
        let number = bucket_of(self.len(), entry.print.place);
        if entry.standing != Standing::Tombstone {
            let bucket = &mut self.0[number];
            bucket.count += 1;
            bucket.sum = bucket.sum.wrapping_add(entry.print.state);
        }
        number
    }

    /// Returns how many rows or items are in a bucket.
    pub(crate) fn count(&self, number: usize) -> u64 {
        self.0[number].count
    }

    /// Tells whether a bucket holds what the other side's does.
    pub(crate) fn is_equal(&self, other: &Self, number: usize) -> bool {
        self.0[number] == other.0[number]
    }

    /// Returns how many rows or items there are in all, and the sum of their states.
    pub(super) fn total(&self) -> (u64, u128) {
        self.0.iter().fold((0, 0), |(count, sum): (u64, u128), bucket| {
            (count + bucket.count, sum.wrapping_add(bucket.sum))
        })
    }

    /// Some of them as bytes.
    pub(crate) fn to_bytes(&self, buckets: Range<usize>) -> Vec<u8> {
        let of = |bucket: &Bucket| [&bucket.count.to_le_bytes()[..], &bucket.sum.to_le_bytes()].concat();
        self.0[buckets].iter().flat_map(of).collect()
    }

    /// Adds what [`Sums::to_bytes`] gave of the buckets from `first` on. `None` where they are none of ours.
    pub(crate) fn merge(&mut self, first: usize, bytes: &[u8]) -> Option<()> {
        if !bytes.len().is_multiple_of(BYTES) {
            return None;
        }
        for (place, one) in bytes.chunks_exact(BYTES).enumerate() {
            let bucket = self.0.get_mut(first + place)?;
            let (count, sum) = one.split_first_chunk::<8>()?;
            bucket.count += u64::from_le_bytes(*count);
            bucket.sum = bucket.sum.wrapping_add(u128::from_le_bytes(sum.try_into().ok()?));
        }
        Some(())
    }
}

/// Chooses the bucket by the highest bits, so that the buckets of a partition are neighbours.
pub(crate) fn bucket_of(buckets: usize, place: u128) -> usize {
    (place >> (u128::BITS - buckets.trailing_zeros())) as usize
}
