//! The real command, as a process that tests can kill.
fn main() -> std::process::ExitCode {
    xtask::main()
}
