//! Defaults in help, documents and the example: they are those that the options have.

use clap::CommandFactory as _;
use lockstep::InstanceOptions;
use lockstep::store::{ReadOptions, WriteOptions};
use lockstep_daemon::LISTEN;
use lockstep_integration_logs::IntegrationLogsOptions;

use crate::cli::Cli;
use crate::commands::migrate::LIVE_WRITES_PER_S;

const EXAMPLE: &str = include_str!("../../../config/lockstep.example.toml");
const GLOSSARY: &str = include_str!("../../../docs/glossary.md");
const OPERATE: &str = include_str!("../../../docs/operate.md");
const READING: &str = include_str!("../../../docs/reading.md");
const REQUIREMENTS: &str = include_str!("../../../docs/requirements.md");
const WRITES: &str = include_str!("../../../docs/writes.md");

/// Returns the help of a command on one line.
fn help(command: &str) -> String {
    let mut cli = Cli::command();
    cli.build();
    let command = cli.find_subcommand_mut(command).expect("a command");
    let help = command.render_long_help().to_string();
    help.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn says(text: &str, told: &str) {
    assert!(text.contains(told), "`{told}` is not said");
}

#[test]
fn help_and_documents_tell_the_defaults_that_are() {
    says(&help("serve"), &format!("[default: serve.listen, {LISTEN}]"));
    says(OPERATE, &format!("`serve.listen` | {LISTEN} by default"));
    says(&help("migrate"), &format!("[default: {LIVE_WRITES_PER_S} on the embedded stores"));
    says(EXAMPLE, &format!("By default {LIVE_WRITES_PER_S} on the embedded stores"));
    says(GLOSSARY, &format!("({} s by default)", InstanceOptions::default().lease.as_secs()));
    let days = IntegrationLogsOptions::default().ttl_days.expect("items expire");
    says(REQUIREMENTS, &format!("Items expire {days} days after `log_timestamp`, by default"));
    let writes = serde_json::to_value(WriteOptions::default()).expect("JSON");
    for (phase, key) in [("DualWrite", "dual_write"), ("HybridRead", "hybrid_read")] {
        let mode = writes[key].as_str().expect("a mode");
        says(WRITES, &format!("| {phase} | `{mode}` (default) |"));
    }
}

#[test]
fn the_table_of_read_settings_has_every_key_with_its_default() {
    let reads = serde_json::to_value(ReadOptions::default()).expect("JSON");
    for (key, value) in reads.as_object().expect("a section") {
        let value = value.as_f64().expect("a number");
        says(READING, &format!("| `{key}` | {value} |"));
    }
}
