//! Binary `lockstep`.
fn main() -> std::process::ExitCode {
    lockstep_cli::run(lockstep_cli::sample::program())
}
