//! Reads the repository as text: what the tests of `tests/claims` need to hold the promises of
//! ARCHITECTURE.md.
//!
//! In reading order: [`files`] (which files there are), [`rust`] (code, literals and comments of one file),
//! [`imports`] (which module names which), [`cycles`] (which imports close a circle), [`manifest`] (what a
//! `Cargo.toml` depends on), [`markdown`] (links and headings), [`api`] (what an application can name),
//! [`yaml`] (a reader of what manifests are written in), [`kubernetes`] (manifests against the API),
//! [`lists`] (what is tolerated today, and may only become less).

pub mod api;
pub mod cycles;
pub mod files;
pub mod imports;
pub mod kubernetes;
pub mod lists;
pub mod manifest;
pub mod markdown;
pub mod rust;
pub mod yaml;
