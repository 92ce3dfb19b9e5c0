//! Tables of other people, without a line of Rust: `init` declares them, and they go to DynamoDB and back
//! while SQL writers go on.
//!
//! In reading order: this file (what the tests share), `naive` (the independent checker), `round_trip` and
//! `shapes` (whole migrations), `partitions`, `partition_triggers`, `detached` (partitions that are
//! another role's by now), `planted_operators` (keys of types whose operators are made for others),
//! `keyless`, `judged` (rules and sums), `probed` (what is asked before reads move), `proposed` (what
//! `init` leaves out), `types` (every type there and back), `typed` (the same
//! of tables in Rust), `random` (any schema, any row, any template), `same_items` (declared and typed
//! tables agree), `refused`, `together` (many tables), `stranger` (what published schemas have shown),
//! `several_texts` (keys whose equal values have several), `texts` (the same in DynamoOnly), `renamed`
//! (attributes of other names), `named` (Lockstep's own among them), `in_rust` (structs that `init`
//! prints), `widened` (columns that come under
//! way), `brought` (their rows, page by page), `reshaped` (columns that go or are others by then), `waited`
//! (rows that expire while the backfill waits), `numbered_over` (ids of what is there).

mod brought;
mod detached;
mod held;
mod in_rust;
mod judged;
mod keyless;
mod naive;
mod named;
mod numbered_over;
mod padded;
mod partition_triggers;
mod partitions;
mod planted_operators;
mod probed;
mod proposed;
mod random;
mod refused;
mod renamed;
mod reshaped;
mod round_trip;
mod same_items;
mod same_place;
mod same_place_back;
mod same_place_strict;
mod several_texts;
mod shapes;
mod stranger;
mod texts;
mod together;
mod traps;
mod typed;
mod types;
mod unread;
mod waited;
mod widened;

use std::path::{Path, PathBuf};

use lockstep_cli::config::{Config, Inputs};
use lockstep_cli::sample::registry;
use lockstep_coordinator::MigrationContext;
use lockstep_postgres::TableBinding;
use lockstep_tests::World;
use lockstep_tests::world::eventually;
use tokio::process::Command;

use crate::process::{command, ended};

/// The command on the stores of a world, with a configuration of its own.
fn configured(world: &World, file: &Path, arguments: &[&str]) -> Command {
    let mut command = command(world, arguments);
    command.arg("--config").arg(file);
    command
}

/// Has `init` declare tables, and gives the file.
async fn init(world: &World, folder: &Path, tables: &[&str]) -> PathBuf {
    let file = folder.join("lockstep.toml");
    let mut command = command(world, &["init", "--source", world.url(), "--out"]);
    command.arg(&file);
    for table in tables {
        command.args(["--table", table]);
    }
    let output = ended(command).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    file
}

/// The tables that a text declares, bound to a world.
async fn bound(world: &World, text: &str) -> Result<Vec<TableBinding>, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("lockstep.toml");
    std::fs::write(&file, text).expect("written");
    let config = Config::load(&registry(), &Inputs { file: Some(file), ..Inputs::default() })
        .map_err(|error| error.to_string())?;
    config.declared.bind(&world.source, "").await.map_err(|error| error.to_string())?;
    config.bindings().map_err(|error| error.to_string())
}

/// A migration of these tables.
fn migration(world: &World, tables: &[TableBinding]) -> MigrationContext {
    MigrationContext { tables: tables.to_vec(), ..world.migration() }
}

/// Waits until a condition in SQL holds.
async fn until(world: &World, what: &str, sql: &str) {
    eventually(what, || async { world.try_value(sql).await.unwrap_or(false) }).await;
}
