//! The command line of this shop: every command of `lockstep`, for its tables.

use std::process::ExitCode;

fn main() -> ExitCode {
    lockstep_cli::run(shop::tables())
}
