//! What Lockstep must withstand, on real stores. Each test is named as what it claims; the invariants are those of
//! ARCHITECTURE.md.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod backfill;
mod batch;
mod capture;
mod chaos;
mod cold;
mod coordinated;
mod dead_letters;
mod dynamo_only;
mod gates;
mod guarded;
mod identities;
mod instances;
mod intents;
mod orphans;
mod process;
mod queries;
mod reads;
mod relay;
mod stage;
mod steps;
mod store;
mod strict;
mod test_operation;
mod truth;
