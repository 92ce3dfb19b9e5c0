//! Lockstep for applications: what a service names to live in a migration, and the only crate that it names.
//! Nothing that can be named here flips a phase, drops, forgets or accepts anything: that is the
//! coordinator's.
//!
//! In reading order: [`config`] (the file that the command line reads as well), [`migration`] (the handle
//! that an application opens), [`store`] (what it reads and writes through), [`operation`] (one change over
//! several tables), [`transaction`] (with an application's own SQL), `phase` (what an operation goes by),
//! [`instance`] (who may serve by a phase, and until when), `central` (what operators turn), [`sweeper`]
//! (undoes what strict writes left half-done). [`Table`](derive@Table) makes a table of a plain struct, and
//! `derived` is what its code names.
//!
//! What is `#[doc(hidden)]` is for Lockstep's own crates and tests, which open stores without a registration,
//! or load sections of their own: it is no part of what an application may rely on.

// The derive names this crate as applications do; its tests are inside it.
#[cfg(test)]
extern crate self as lockstep;

mod central;
pub mod config;
#[doc(hidden)]
pub mod derived;
pub mod instance;
pub mod migration;
pub mod operation;
mod phase;
pub mod store;
pub mod sweeper;
pub mod transaction;

// A future is compiled where it is polled; in a box, it is compiled here and not once more in each crate
// above.
pub(crate) use async_recursion::async_recursion as boxed;

pub use config::Registry;
pub use instance::InstanceOptions;
pub use migration::{Migration, MigrationOptions};
pub use operation::{LogSink, Operation, OperationEvent, OperationOutcome, Stage};
pub use store::{
    Answer, CanaryQueries, Cursor, Delivery, Page, PrimaryKey, Query, ReadFrom, ReadOptions, Selection,
    Share, SourceCause, Store, Swap, WriteCounts, WriteFailed, WriteMode, WriteOptions, WriteOutcome,
};
pub use sweeper::SweeperOptions;
pub use transaction::Transaction;

// The words that a table crate and a service need: what a table is, and what can go wrong. Nothing here opens
// a store.
pub use lockstep_core::{
    Aggregate, AttributeValue, Attributes, Column, ColumnSpec, Document, Error, Fields, FloatText,
    ITEM_BYTES_MAX, Index, Item, ItemView, Json, KeyAttribute, KeyType, Kind, MigratableTable, Number,
    OwnNames, PK, Phase, Projected, Reference, Result, Row, Rule, SK, Scaled, Side, SourceKey, TTL_ATTRIBUTE,
    TargetKey, TargetSchema, Unholdable, UuidBytes, Version, fixed_width, parse_fixed_width, row,
    time_and_id,
};
// A coordinator handles every table as this trait.
#[doc(hidden)]
pub use lockstep_core::AnyTable;
// A table from a plain struct, and an enum as a column of one.
pub use lockstep_derive::{Label, Table};
// How to reach both stores; only this crate opens them.
pub use lockstep_dynamo::TargetOptions;
pub use lockstep_postgres::{CONTROL_SCHEMA, Password, SourceOptions};
// An error of an application's own SQL as one of ours.
pub use lockstep_postgres::of_sqlx;

/// Keeps the example of docs/add-your-own-table.md compiling.
#[doc = include_str!("../../../docs/add-your-own-table.md")]
#[cfg(doctest)]
pub struct AddYourOwnTable;

/// Keeps the examples of docs/derive.md compiling.
#[doc = include_str!("../../../docs/derive.md")]
#[cfg(doctest)]
pub struct Derive;

/// Keeps what the derive refuses from compiling.
#[doc = include_str!("derived/refused.md")]
#[cfg(doctest)]
pub struct Refused;
