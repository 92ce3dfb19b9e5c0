//! `cargo xtask`: every command of `lockstep`, and the chores of this checkout ([`mod@bench`], `soak`, `ci`).

pub mod bench;
pub mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lockstep_cli::cli::{Command, Global, LONG_ABOUT};
use lockstep_cli::exit::Exit;
use lockstep_cli::{Startup, help};

/// Everything that can be typed after `cargo xtask`.
#[derive(Debug, Parser)]
#[command(
    name = "xtask",
    bin_name = "cargo xtask",
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
pub struct Xtask {
    /// Flags that every command takes.
    #[command(flatten)]
    pub global: Global,
    /// Command to run.
    #[command(subcommand)]
    pub what: What,
}

/// The commands of `lockstep`, and the chores.
#[derive(Debug, Subcommand)]
pub enum What {
    #[allow(missing_docs)]
    #[command(flatten)]
    Product(Command),
    #[allow(missing_docs)]
    Bench(commands::bench::Args),
    #[allow(missing_docs)]
    Soak(commands::soak::Args),
    #[allow(missing_docs)]
    Ci(commands::ci::Args),
    #[allow(missing_docs)]
    Mutants(commands::mutants::Args),
}

/// The whole program, from arguments to exit code.
pub fn main() -> ExitCode {
    let program = lockstep_cli::sample::program();
    let Xtask { global, what } = match lockstep_cli::parse(&program) {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    if matches!(&what, What::Bench(args) if args.what.needs_release() && !args.unoptimised)
        && !bench::OPTIMISED
    {
        return bench::run_again_in_release().unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            Exit::Infrastructure.into()
        });
    }
    lockstep_cli::start(global, program, |startup| run(what, startup))
}

async fn run(what: What, startup: Startup) -> anyhow::Result<Exit> {
    match what {
        What::Product(command) => lockstep_cli::run_command(command, startup).await,
        What::Bench(args) => commands::bench::run(startup.context(Vec::new())?, args).await,
        What::Ci(args) => commands::ci::run(startup.context(Vec::new())?, args).await,
        What::Mutants(args) => commands::mutants::run(startup.context(Vec::new())?, args).await,
        What::Soak(args) => commands::soak::run(startup.context(Vec::new())?, args).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed_and_every_command_shows_examples_and_exit_codes() {
        let mut xtask = Xtask::command();
        xtask.build();
        xtask.clone().debug_assert();
        for command in xtask.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
            let help = command.clone().render_long_help().to_string();
            assert!(help.contains("Examples:") && help.contains("Exit codes:"), "{}", command.get_name());
            assert!(command.get_long_about().is_some(), "{} teaches nothing", command.get_name());
        }
    }
}
