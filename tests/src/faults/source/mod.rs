//! A proxy that makes PostgreSQL fail in the ways a network and a failing server do.
//!
//! The one thing that no other test can make happen is a `COMMIT` whose answer is lost: committed, or not,
//! and the caller cannot know (I8). So tests put a [`SourceProxy`] between sqlx and the server and script it:
//!
//! - a **frame** is one message of the wire protocol, whole;
//! - a **statement** is a simple query, or the execution of a prepared one, with its SQL;
//! - a **rule** says which statements ([`SourceRule::on`]) or frames ([`SourceRule::any_frame`]), which of
//!   those ([`SourceRule::after`], [`SourceRule::times`], …), and the fault;
//! - [`SourceProxy::down`] is a server that is not there: connections are cut, and new ones refused.
//!
//! It speaks as much of the protocol as it takes to find statements and the ends of their answers, and
//! refuses TLS.
//!
//! Modules in reading order: `frames` (bytes to messages), `rules` (what a test writes), `statements` (which
//! SQL a message runs), `connection` (one client's), `proxy`. Only the last two touch a socket.

mod connection;
mod frames;
mod proxy;
mod rules;
mod statements;

#[cfg(test)]
mod tests;

pub use proxy::SourceProxy;
pub use rules::{SourceFault, SourceFaultKind, SourceRule};
