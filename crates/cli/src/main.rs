//! Binary `lockstep`.
fn main() -> std::process::ExitCode {
    lockstep_cli::main()
}
