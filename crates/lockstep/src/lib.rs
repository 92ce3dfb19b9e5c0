//! Lockstep for applications: what a service names to live in a migration, and the only crate that it names.
//!
//! In reading order: [`migration`] (the handle that an application opens), [`store`] (what it reads and writes through),
//! [`operation`] (one change over several tables), [`instance`] (who may serve by a phase, and until when), [`sweeper`]
//! (undoes what strict writes left half-done).

pub mod instance;
pub mod migration;
pub mod operation;
pub mod store;
pub mod sweeper;

/// Keeps the example of docs/add-your-own-table.md compiling.
#[doc = include_str!("../../../docs/add-your-own-table.md")]
#[cfg(doctest)]
pub struct AddYourOwnTable;
