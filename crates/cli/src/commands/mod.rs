//! One file a command: its flags, and a thin function that asks the crates and shows what they say.

pub mod advance;
pub mod backfill;
pub mod cleanup;
pub mod complete;
mod confirm;
pub mod dead_letters;
pub mod doctor;
pub mod dynamo_server;
mod journal_file;
pub mod migrate;
pub mod orphans;
pub mod plan;
pub mod relay;
pub mod repair;
mod repair_state;
pub mod report;
pub mod reverse_feed;
pub mod rights;
pub mod rollback;
pub mod seed;
mod shared;
pub mod status;
mod step;
pub mod tables;
pub mod test_operation;
pub mod tune;
pub mod validate;
