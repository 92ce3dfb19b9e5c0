//! The real command, as a process that tests can kill; and a small application, as another.
fn main() -> std::process::ExitCode {
    lockstep_tests::worker::main().unwrap_or_else(xtask::main)
}
