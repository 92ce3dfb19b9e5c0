//! The reference source of the default run: the loan platform's tables, its history, and the strangers who go
//! on writing.
//!
//! Words: the *standing* tables stay in PostgreSQL (customers, loans, applications, officers, branches). *History*
//! is what was written before the migration: generated from one seed, in *chunks*, so that any number of
//! workers makes the same rows. A *writer* changes rows while they are being moved. A *chooser* decides what
//! a writer does next; an *executor* does it, by raw SQL as a stranger to Lockstep would, or through the
//! framework.
//!
//! Read the modules in this order: [`generate`] (rows from a seed, pure); [`load`] (schema and history into
//! PostgreSQL); [`writers`] (what is written meanwhile, by strangers) and [`store_writers`] (through the
//! framework).

// The futures of the writers nest every layer of the stores and both drivers.
#![recursion_limit = "256"]

pub mod generate;
pub mod load;
pub mod store_writers;
pub mod writers;

#[cfg(test)]
mod tests;
