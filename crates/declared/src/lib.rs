//! Tables without Rust: declared in a few lines of configuration, their columns read from the live schema at
//! start.
//!
//! A declared table is an [`AnyTable`](lockstep_core::AnyTable) like those of table crates, so coordinator,
//! validator, relay and feed move it through all phases and back. It lacks a store handle: applications write
//! PostgreSQL with their own SQL, and read DynamoDB with what they like.
//!
//! In reading order: [`Declaration`] (what can be said), [`HeldAs`] (what a column becomes by choice),
//! `numbers` and `sets`, `kind` (what a column becomes), `resolve` (a declaration and the catalogue put
//! together, or what to repair), `unmovable` (columns whose text is not their value), `shape` (rows, keys and
//! items), `quality` (rules and sums), [`DeclaredTable`], `spec` (what statements need), `as_toml` and
//! [`propose`] (a declaration for a table that has none), `rust` (a declaration as a struct).

mod as_toml;
mod declaration;
mod held;
mod kind;
mod numbers;
mod propose;
mod quality;
mod resolve;
mod rust;
mod sets;
mod shape;
mod spec;
mod table;
mod unmovable;

pub use as_toml::comment;
pub use declaration::{Declaration, IndexDeclaration, Projection, SumDeclaration};
pub use held::HeldAs;
pub use propose::{Proposal, propose};
pub use resolve::{is_name, resolve};
pub use rust::{Structs, rust_comment};
pub use table::DeclaredTable;
