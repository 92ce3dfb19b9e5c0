//! What Lockstep must withstand, on real stores. Each test is named as what it claims; the invariants are those of
//! ARCHITECTURE.md.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod at_once;
mod backfill;
mod batch;
mod bench;
mod capture;
mod chaos;
mod cold;
mod complete;
mod coordinated;
mod counts;
mod dead_letters;
mod dynamo_only;
mod frozen;
mod gates;
mod guarded;
mod history;
mod identities;
mod incremental;
mod instances;
mod intents;
mod killed;
mod lost_commits;
mod moving;
mod orphans;
mod planted;
mod process;
mod quality;
mod queries;
mod reads;
mod relay;
mod repair;
mod resume;
mod reverse_feed;
mod reverse_order;
mod roles;
mod sample;
mod schedules;
mod stage;
mod steps;
mod store;
mod strict;
mod test_operation;
mod truth;
