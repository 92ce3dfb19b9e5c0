//! The tests of the whole: real PostgreSQL, a real DynamoDB protocol, and a network that fails on demand.
//!
//! Words: a [`World`] is one pair of stores, a database and an emulator of its own, with everything that a
//! test needs to work on them. A *stranger* is a connection that has never heard of Lockstep. A *checker*
//! says what is wrong between the stores; the naive one shares no code with the validator, so that the
//! validator is not its own judge.
//!
//! Modules in reading order: [`faults`] (a proxy that makes the emulator fail), [`world`] (the stores, the
//! workload's SQL, the checkers), [`worker`] (an application in a process of its own, that does as it is
//! told), [`writer`] (another, that writes without end) and its [`note`]s, [`rights`] (what recorded calls
//! ask of AWS), [`seeds`]. The tests are in `tests/it`, one module a theme, each test named as what it claims.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

pub mod faults;
pub mod note;
pub mod rights;
pub mod seeds;
pub mod worker;
pub mod world;
pub mod writer;

pub use world::{World, WorldOptions};

/// Keeps the examples of docs/embedding.md compiling.
#[doc = include_str!("../../docs/embedding.md")]
#[cfg(doctest)]
pub struct Embedding;

/// Keeps the example of docs/reading.md compiling.
#[doc = include_str!("../../docs/reading.md")]
#[cfg(doctest)]
pub struct Reading;

/// Keeps the example of the example's own page compiling.
#[doc = include_str!("../../examples/loan-app/README.md")]
#[cfg(doctest)]
pub struct LoanApp;
