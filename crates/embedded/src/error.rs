//! Reasons why a store did not come up, or did not go down.

use std::{io, path::PathBuf};

/// Error of a store: what went wrong, where, and what to do next. Never carries a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The machine has no PostgreSQL server that could be used, and none could be installed without asking.
    #[error(
        "no usable PostgreSQL server found on PATH, by pg_config or in the usual folders{}; install one with: {command}",
        rejected_list(.rejected)
    )]
    NoBinaries {
        /// Folders that hold a server, each with the reason it was passed over.
        rejected: Vec<String>,
        /// The command that installs one here.
        command: String,
    },

    /// The package manager was asked to install PostgreSQL and failed.
    #[error(
        "could not install PostgreSQL: `{command}` failed; run it by hand and try again. Its last words:\n{output}"
    )]
    Install {
        /// The command that failed.
        command: String,
        /// The end of what it printed.
        output: String,
    },

    /// The process runs as root, which PostgreSQL refuses, and there is no other account to run it as.
    #[error(
        "PostgreSQL refuses to run as root and neither user `postgres` nor `nobody` exists; create one: useradd --system postgres"
    )]
    NoAccount,

    /// A program could not be started at all.
    #[error("could not run {}; check that it exists and may be executed", .program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Reason why the system refused.
        #[source]
        source: io::Error,
    },

    /// A file or folder of a store could not be made, read or removed.
    #[error("could not {action} {}; check its permissions and the free space", .path.display())]
    Files {
        /// Action that was tried, as a verb.
        action: &'static str,
        /// Path of the file or folder.
        path: PathBuf,
        /// Reason why the system refused.
        #[source]
        source: io::Error,
    },

    /// `initdb`, or the creation of the database after it, failed.
    #[error("{step} of a new PostgreSQL cluster in {} failed; its last words:\n{output}", .data_dir.display())]
    Create {
        /// Name of the step.
        step: &'static str,
        /// The data directory.
        data_dir: PathBuf,
        /// The end of what it printed.
        output: String,
    },

    /// The postmaster ended, or was not ready in time.
    #[error("PostgreSQL in {} {what}; the end of its log:\n{log}", .data_dir.display())]
    NotReady {
        /// The data directory.
        data_dir: PathBuf,
        /// Whether it ended, or how long it was waited for.
        what: String,
        /// The last lines of its log.
        log: String,
    },

    /// The postmaster does not end, whatever signal it gets.
    #[error("PostgreSQL in {} (pid {pid}) does not end, not even killed; look at what it waits for: ps -o stat,wchan -p {pid}", .data_dir.display())]
    NotEnding {
        /// The data directory.
        data_dir: PathBuf,
        /// Process id of its postmaster.
        pid: u32,
    },

    /// The cluster was asked to start while it runs.
    #[error("PostgreSQL in {} is running already (pid {pid}); crash it before starting it again", .data_dir.display())]
    AlreadyRunning {
        /// The data directory.
        data_dir: PathBuf,
        /// Process id of its postmaster.
        pid: u32,
    },

    /// The cluster was asked for something only a running one can do.
    #[error("PostgreSQL in {} is not running; start it again first", .data_dir.display())]
    NotRunning {
        /// The data directory.
        data_dir: PathBuf,
    },

    /// The emulator's address could not be bound.
    #[error(
        "could not listen on 127.0.0.1:{port} for the embedded DynamoDB; choose another port, or 0 for a free one"
    )]
    DynamoBind {
        /// The port asked for; 0 is any free one.
        port: u16,
        /// Reason why the system refused.
        #[source]
        source: io::Error,
    },

    /// The emulator's file could not be opened.
    #[error(
        "could not open the embedded DynamoDB in {place}: {reason}; if the file is not one of its own, name another"
    )]
    DynamoOpen {
        /// The file, or memory.
        place: String,
        /// Reason that the emulator gave.
        reason: String,
    },

    /// The emulator's server ended, or was not ready in time.
    #[error("the embedded DynamoDB {what}: {reason}; start it again")]
    DynamoServer {
        /// Action that it was taking.
        what: &'static str,
        /// Reason that it gave.
        reason: String,
    },

    /// The runtime was shut down while the call waited for a thread.
    #[error(
        "the async runtime ended before the store had answered; keep it alive until the stores are stopped"
    )]
    RuntimeEnded,
}

impl Error {
    /// Turns an I/O error into [`Error::Files`], for `map_err`.
    pub(crate) fn files(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Files { action, path, source }
    }

    /// Turns an I/O error into [`Error::Spawn`], for `map_err`.
    pub(crate) fn spawn(program: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let program = program.into();
        move |source| Error::Spawn { program, source }
    }
}

fn rejected_list(rejected: &[String]) -> String {
    if rejected.is_empty() { String::new() } else { format!(" (passed over: {})", rejected.join("; ")) }
}

/// Returns the last lines of what a program printed, which is where it says why it stopped.
pub(crate) fn last_lines(text: &str) -> String {
    const LINES: usize = 12;
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    if lines.is_empty() {
        return "(nothing)".to_owned();
    }
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
