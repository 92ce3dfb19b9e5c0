//! Lockstep's core: what a table is, and how a row is captured, versioned and written so that none is lost.
//!
//! Words: *source* is PostgreSQL, *target* is DynamoDB, *truth* is the store whose answer counts in this
//! phase. A *version* orders the states of one row. The *pending set* holds the keys whose newest state may
//! not be in the target yet. A *tombstone* is a target item that says "deleted at version v". An *epoch*
//! counts phase changes; the *barrier* is what makes a phase change atomic. The invariants are in
//! docs/protocol.md.
//!
//! Words only: it opens nothing and asks no clock but in `beside_columns`. Of both drivers it names the
//! types that a table reads and makes (a field of a row, a parameter, an attribute), and no error. Read
//! first: `phase`, `version`, `attribute`, `key`, the traits in `column/mod.rs`, `row` and `table`, and
//! `control`. All of it in an order in which each rests on those before it: [`Phase`] and [`Version`];
//! [`Advice`] (what a person can run or set); [`Error`]; [`Attribute`] and [`Unholdable`]; [`FieldDiff`];
//! [`Column`]; [`ids_end`] (which numbers keys are given); [`Index`], [`Item`], `expiry` (how long one
//! stays), [`TargetKey`], [`ItemView`], `same` (whether an item is what was sent); [`Row`]; `names` and
//! `naming` (what attributes are called in a table); [`Judgement`];
//! [`MigratableTable`] and its object-safe twin [`AnyTable`]; [`Control`] and [`TargetRecord`], and by
//! both [`truth`](mod@truth); [`InstanceRow`] (a lease); [`Moment`]; `this_machine` (which hosts are it);
//! `acts` (characters that act on what shows them) and [`printable`](fn@printable) (text without them);
//! [`Window`]; [`Change`] (what a stream says); [`settings`] (what operators turn); [`written`] (options
//! as a file has them); [`serde_words`] (what may be told of a document that does not read); `requests`
//! (how long the stores take); [`METRICS`] (what each metric says).

mod acts;
pub mod advice;
mod attribute;
mod change;
mod column;
mod control;
mod difference;
mod erased;
mod error;
mod expiry;
mod ids;
mod index;
mod item;
mod judgement;
mod key;
mod lease;
mod metric;
mod moment;
mod names;
mod naming;
mod phase;
mod printable;
mod requests;
mod row;
mod same;
pub mod serde_words;
pub mod settings;
mod table;
mod this_machine;
pub mod truth;
mod unholdable;
mod version;
mod view;
mod window;
pub mod written;

pub use acts::acts;
pub use advice::Advice;
pub use attribute::{
    Attribute, Attributes, DELETED_ATTRIBUTE, MARK_ATTRIBUTE, MARKER_ATTRIBUTE, PK, PROBE_ATTRIBUTE,
    RESERVED_ATTRIBUTES, SK, TTL_ATTRIBUTE, VERSION_ATTRIBUTE, WRITERS_ATTRIBUTE, is_bookkeeping,
};
pub use change::{Change, Folded, FoldedItem, RETENTION, Saved};
pub use column::{
    Column, ColumnTypes, Document, Element, FloatText, Json, Labelled, Member, Number, Scaled, UuidBytes,
    bind_text, fixed_width, label, parse_fixed_width, text,
};
pub use control::{Control, TargetRecord, Writes};
pub use difference::{Difference, FieldDiff, FieldValue};
pub use erased::{AnyRow, AnyTable, CompareError, EncodedRow, TableHandle, beside_columns};
pub use error::{Doing, Error, Kind, PANICKED, Result, Retry, Side};
pub use ids::ids_end;
pub use index::{Index, KeyAttribute, KeyType, Projected};
pub use item::{ITEM_BYTES_MAX, Item, WRITE_UNIT_BYTES, attributes_bytes};
pub use judgement::{Aggregate, Broken, ExactSum, Group, Judgement, Rule, Total};
pub use key::{SourceKey, TargetKey, TargetSchema, key_of_place, place, time_and_id};
pub use lease::{InstanceRow, InstanceState, LEASE_MAX, Registration};
pub use metric::{KeptBy, METRICS, Metric, MetricForm, describe_metrics};
pub use moment::Moment;
pub use names::OwnNames;
pub use naming::Naming;
pub use phase::{Phase, UnknownPhase};
pub use printable::{printable, printable_cell, printable_json};
pub use requests::{REQUEST_SECONDS, note_request};
pub use row::{ColumnSpec, Fields, Row};
pub use table::{MigratableTable, Reference, tombstone};
pub use this_machine::{host_of, is_this_machine};
pub use truth::{Truth, truth};
pub use unholdable::Unholdable;
pub use version::{EPOCH_SHIFT, Epoch, Version};
pub use view::{ItemView, is_tombstone, version_of};
pub use window::Window;

// Names that the `row!` macro and table crates use without depending on the drivers themselves.
pub use aws_sdk_dynamodb::types::AttributeValue;
pub use serde_json;
pub use sqlx::postgres::PgArguments;
