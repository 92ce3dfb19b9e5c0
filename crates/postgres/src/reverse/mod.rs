//! The source's side of the way back: rows that come from the target in DynamoOnly.
//!
//! A *place* is the key of an item, as text. A row may have had several places: one that its target key
//! moved from holds a tombstone. In reading order: `table` (what is fed), `positions` (how far the streams
//! were read), `epochs` (where a version came from), `entry` (what a page asks for, decided without I/O),
//! `feeding` (the transactions), `foreign` (items of an epoch that never began), `page` (one page of a
//! shard), `apply` (states become rows), `remember` (what is known of items), `own_place` (the row that an
//! item's place is of), `rows` (the SQL that changes rows), `writer` (rows become what their items say,
//! whatever fires), `cured` (dead letters that are over), `riders` (rows that were dragged along), `texts`
//! (keys of which PostgreSQL takes several), `spelled` (decimals in keys), `noted` (one item to be read
//! once more), `again` (all of those), `accepted` (what an operator has accepted of them), `operators`
//! (how those of the catalogue are spelled), `expired` (rows that make way for them), `numbered` (what no
//! sequence is to give again), `unblock` (those that wait for each other), `items` and `absent` (the
//! reverse backfill's), `changed` (which items were taken, for the step that compares), `kept` (how far
//! that has come), `put_back` (rows that PostgreSQL forgot), `standing` (what the status shows).

mod absent;
mod accepted;
mod again;
mod apply;
mod changed;
mod cured;
mod entry;
mod epochs;
mod expired;
mod fed;
mod feeding;
mod foreign;
mod items;
mod kept;
mod noted;
mod numbered;
mod operators;
mod own_place;
mod page;
mod positions;
mod put_back;
mod referred;
mod remember;
mod riders;
mod rows;
mod spelled;
mod standing;
mod surroundings;
mod table;
mod texts;
mod unblock;
mod writer;

pub use absent::KnownPlace;
pub use accepted::leave_accepted;
pub use again::ReadAgain;
pub use apply::Applied;
pub use changed::{Since, TakenItem};
pub use items::GoneRow;
pub use kept::Compared;
pub use noted::{Again, ItemNow};
pub use page::FedPage;
pub use positions::{Touched, end_losses, lose};
pub use put_back::{PutBack, Undelivered};
pub(crate) use riders::note_riders_sql;
pub use riders::ridden_left;
pub use standing::FeedStanding;
pub use surroundings::{Surroundings, Trigger};
pub use table::FedTable;
