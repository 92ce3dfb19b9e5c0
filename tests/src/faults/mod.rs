//! A proxy that makes a DynamoDB emulator fail in the ways the real one does.
//!
//! An emulator answers at once, never throttles and never loses a reply; what we claim about lost, late,
//! repeated and partly refused writes would go untested. So tests put a [`FaultProxy`] between the AWS SDK
//! and the emulator and script it:
//!
//! - a **call** is one request as it came in: operation, table, body;
//! - a **rule** says which calls ([`Rule::on`], [`Rule::table`]), which of those ([`Rule::times`],
//!   [`Rule::every`], …), and the fault;
//! - a **fault** is what goes wrong; [`FaultKind`] is its data-free twin, for counting;
//! - a **gate** is where a request waits until the test lets it go on: tests order events, they never sleep;
//! - **counts** prove that the fault did happen: a test of a fault that never fired proves nothing.
//!
//! ```no_run
//! # use lockstep_tests::faults::{Fault, FaultKind, FaultProxy, Rule};
//! # async fn example() -> std::io::Result<()> {
//! let proxy = FaultProxy::start("http://127.0.0.1:8000").await?;
//! // The third write is applied, but its answer never arrives.
//! proxy.script(Rule::new(Fault::LoseReply).on("PutItem").after(2).times(1));
//! // … point the SDK at `proxy.endpoint_url()` and work …
//! assert_eq!(proxy.counts().injected(FaultKind::LoseReply), 1);
//! # Ok(())
//! # }
//! ```
//!
//! Modules in reading order: [`fault`] and [`rules`] (what a test writes), `call` (what a request asks),
//! `answers`, `partial`, `amazon`, `own_streams` and `many_shards` (what is said instead), `bucket` (the rate
//! limit), `gate`, `counts`, `written` (what reached the emulator), then `upstream`, `act` and `proxy`, which
//! do the work. Decisions are pure (`rules`, `partial`); only the last three, `own_streams` and `many_shards`
//! ask the emulator. [`source`] is the same idea between sqlx and PostgreSQL, and
//! `objects` before S3.

mod act;
mod amazon;
mod answers;
mod bucket;
mod call;
mod counts;
pub mod fault;
mod gate;
mod importer;
mod many_shards;
mod objects;
mod own_streams;
mod partial;
mod proxy;
pub mod rules;
pub mod source;
mod upstream;
mod written;

#[cfg(test)]
mod tests;

pub use counts::{Counts, Recorded};
pub use fault::{Fault, FaultKind, STATEMENT_CHARACTERS_MAX};
pub use gate::Gate;
pub use importer::{ImportRules, ImportServer};
pub use objects::{ObjectFault, ObjectServer};
pub use proxy::FaultProxy;
pub use rules::Rule;
pub use written::{What, Written};
