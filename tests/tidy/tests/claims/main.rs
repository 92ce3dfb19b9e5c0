//! Promises that ARCHITECTURE.md and CONTRIBUTING.md make of the repository as text. Each test is named as
//! what it claims.

mod advice;
mod api;
mod changes;
mod control_schema;
mod crates;
mod documents;
mod drivers;
mod holes;
mod kubernetes;
mod language;
mod links;
mod manifests;
mod modules;
mod numbers;
mod paths;
mod sizes;
mod supply;
mod workflows;
