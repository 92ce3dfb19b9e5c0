//! Many workers, one migration (R53): whatever happens to each of them, what is acknowledged is in the
//! target, and what is acknowledged is not read again.
//!
//! In reading order: `schedules` (the lease, in any order of events), `engine` (shifts in this process),
//! `plans` (ranges that are split while their plan is forgotten), `relays` (shares of the pending keys),
//! `comparing` (one comparison), `taking_part` (a process that reads for several), `crew` (workers as
//! processes), `processes` and `namespaces` (killed, stopped, cut off), `importing` (parts
//! of an import).

mod comparing;
mod crew;
mod engine;
mod importing;
mod namespaces;
mod plans;
mod processes;
mod relays;
mod schedules;
mod taking_part;
