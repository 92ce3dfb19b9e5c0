//! The command line: global flags and the list of commands. The arguments of a command are in its own file.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    advance, backfill, checklist, cleanup, complete, cost, dead_letters, doctor, init, migrate, orphans,
    plan, relay, repair, report, reverse_feed, rights, rollback, seed, serve, set, settings, status, tables,
    test_operation, tune, uninstall, validate, worker,
};
use crate::config::Setting;
use crate::help;

/// Purpose of the program; `--help` shows it.
pub const LONG_ABOUT: &str = "\
Moves PostgreSQL tables to Amazon DynamoDB, live, without losing a write, and brings them back.

All tables of a migration go through the same phases together:

  PostgresOnly   PostgreSQL is written and read; changes may be captured, the initial load may be copied
  DualWrite      both are written, PostgreSQL is read
  HybridRead     both are written, DynamoDB is read and PostgreSQL stands behind it
  DynamoOnly     DynamoDB is written and read; PostgreSQL follows, so that there is a way back

`migrate` does all of it; the other commands do one part each, and every one of them may be broken off and \
run again.

Without any configuration `migrate` runs on a throw-away PostgreSQL and an embedded DynamoDB that it starts \
itself. Stores are configured in lockstep.toml (config/lockstep.example.toml shows every key), in a profile \
of that file, or in the environment: LOCKSTEP_SOURCE__URL, LOCKSTEP_TARGET__ENDPOINT_URL, \
LOCKSTEP_TARGET__REGION and so on, a double underscore between section and key. Flags win over the \
environment, the environment over the file. AWS credentials come from where AWS's own tools take them.";

/// Everything that can be typed.
#[derive(Debug, Parser)]
#[command(
    name = "lockstep",
    version,
    about = "Moves PostgreSQL tables to Amazon DynamoDB, live, without losing a write",
    long_about = LONG_ABOUT,
    arg_required_else_help = true,
    after_help = help!(
        "  cargo xtask migrate                       the whole run, on stores of its own\n  \
           cargo xtask migrate --keep                the same, and leave the stores to look into\n  \
           cargo xtask migrate --config prod.toml    the same on real stores\n  \
           cargo xtask help backfill                 what a command does and takes"
    )
)]
pub struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub global: Global,
    /// Command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Clone, Debug, Default, Args)]
pub struct Global {
    /// Configuration file [default: lockstep.toml in this folder, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Use [profile.NAME] of the configuration file on top of the rest of it
    #[arg(long, global = true, value_name = "NAME", env = "LOCKSTEP_PROFILE")]
    pub profile: Option<String>,
    /// Print the report as JSON, alone on stdout; progress goes to stderr
    #[arg(long, global = true)]
    pub json: bool,
    /// Show no progress
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Show each gate, and log what is going on inside; twice for everything
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Form of log lines: text for people, json for programs
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        value_enum,
        default_value_t,
        hide_default_value = true
    )]
    pub log_format: LogFormat,
    /// Serve metrics for Prometheus at /metrics of this address while the command runs, to this machine alone
    #[arg(long, global = true, value_name = "ADDRESS:PORT")]
    pub metrics_listen: Option<SocketAddr>,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The commands, in the order of the story.
#[derive(Debug, Subcommand)]
pub enum Command {
    #[allow(missing_docs)]
    Init(init::Args),
    #[allow(missing_docs)]
    Migrate(migrate::Args),
    #[allow(missing_docs)]
    Plan(plan::Args),
    #[allow(missing_docs)]
    Seed(seed::Args),
    #[allow(missing_docs)]
    Status(status::Args),
    #[allow(missing_docs)]
    Backfill(backfill::Args),
    #[allow(missing_docs)]
    Worker(worker::Args),
    #[allow(missing_docs)]
    Relay(relay::Args),
    #[allow(missing_docs)]
    ReverseFeed(reverse_feed::Args),
    #[allow(missing_docs)]
    Validate(validate::Args),
    #[allow(missing_docs)]
    Advance(advance::Args),
    #[allow(missing_docs)]
    Rollback(rollback::Args),
    #[allow(missing_docs)]
    Complete(complete::Args),
    #[allow(missing_docs)]
    Cleanup(cleanup::Args),
    #[allow(missing_docs)]
    Uninstall(uninstall::Args),
    #[allow(missing_docs)]
    DeadLetters(dead_letters::Args),
    #[allow(missing_docs)]
    Orphans(orphans::Args),
    #[allow(missing_docs)]
    Doctor(doctor::Args),
    #[allow(missing_docs)]
    Repair(repair::Args),
    #[allow(missing_docs)]
    Report(report::Args),
    #[allow(missing_docs)]
    TestOperation(test_operation::Args),
    #[allow(missing_docs)]
    Tables(tables::Args),
    #[allow(missing_docs)]
    Tune(tune::Args),
    #[allow(missing_docs)]
    Set(set::Args),
    #[allow(missing_docs)]
    Settings(settings::Args),
    #[allow(missing_docs)]
    Cost(cost::Args),
    #[allow(missing_docs)]
    Checklist(checklist::Args),
    #[allow(missing_docs)]
    Serve(serve::Args),
    #[allow(missing_docs)]
    IamPolicy(rights::PolicyArgs),
    #[allow(missing_docs)]
    Grants(rights::GrantArgs),
    #[allow(missing_docs)]
    #[command(hide = true)]
    #[cfg(feature = "embedded")]
    DynamoServer(crate::commands::dynamo_server::Args),
}

impl Command {
    /// Returns the flags of the command that set a key of the configuration.
    pub fn settings(&self) -> Vec<Setting> {
        match self {
            Self::Migrate(args) => args.settings(),
            Self::Backfill(args) => args.settings(),
            Self::Worker(args) => args.settings(),
            Self::Validate(args) => args.settings(),
            Self::Serve(args) => args.settings(),
            Self::Init(_)
            | Self::Plan(_)
            | Self::Seed(_)
            | Self::Status(_)
            | Self::Relay(_)
            | Self::ReverseFeed(_)
            | Self::Advance(_)
            | Self::Rollback(_)
            | Self::Complete(_)
            | Self::Cleanup(_)
            | Self::Uninstall(_)
            | Self::DeadLetters(_)
            | Self::Orphans(_)
            | Self::Doctor(_)
            | Self::Repair(_)
            | Self::Report(_)
            | Self::TestOperation(_)
            | Self::Tables(_)
            | Self::Tune(_)
            | Self::Set(_)
            | Self::Settings(_)
            | Self::Cost(_)
            | Self::Checklist(_)
            | Self::IamPolicy(_)
            | Self::Grants(_) => Vec::new(),
            #[cfg(feature = "embedded")]
            Self::DynamoServer(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed_and_every_command_shows_examples_and_exit_codes() {
        let mut cli = Cli::command();
        cli.build();
        cli.clone().debug_assert();
        for command in cli.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
            let help = command.clone().render_long_help().to_string();
            assert!(help.contains("Examples:") && help.contains("Exit codes:"), "{}", command.get_name());
            assert!(command.get_long_about().is_some(), "{} teaches nothing", command.get_name());
        }
    }
}
