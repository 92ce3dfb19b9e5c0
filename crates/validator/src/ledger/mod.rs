//! The ledger of a table: what both passes saw, in memory that does not grow with the table.
//!
//! Every print is added to the *bucket* of its place, one sum and one count a side. The order of additions
//! does not matter, so the two sides may be read in any order and by any number of workers. Two equal buckets
//! hold equal rows. Of a bucket that differs, the entries are read again, from the *spools*: temporary files,
//! one a side and partition of the places, which were written beside. So a run with k differences reads k
//! buckets again and neither store a second time.
//!
//! Two sets of rows whose bucket has the same count and the same sum are taken for the same set: the ledger
//! sees no more of them than that. It holds only because states are hashes of the whole item, its key
//! included, under a seed that is not known before the run: rows that swap their values get other states, and
//! no writer can choose rows whose sums meet.
//!
//! A ledger that is *kept* has its spools in a [`Folder`], and goes on from there after its process was
//! killed.

mod digest;
mod entering;
mod entry;
mod folder;
mod join;
mod kept;
mod layout;
mod pass;
mod portion;
mod side;
mod spool;
mod sums;

use entering::Page;
pub(crate) use entering::{Batch, Ledger};
pub(crate) use entry::{Entry, Standing};
pub(crate) use folder::{Begun, Folder, Manifest};
pub(crate) use join::{Difference, Join};
pub(crate) use layout::Layout;
pub(crate) use pass::{Counted, Cursor, Piece};
pub(crate) use side::Side;
pub(crate) use sums::{BUCKETS_PER_PARTITION, Sums, bucket_of};
