//! Binary `lockstep`.

#[cfg(feature = "sample")]
fn main() -> std::process::ExitCode {
    lockstep_cli::run(lockstep_cli::sample::program())
}

/// As the container image has it: tables are declared, and none are known.
#[cfg(not(feature = "sample"))]
fn main() -> std::process::ExitCode {
    lockstep_cli::run(lockstep_cli::Program::default())
}
