//! Exit codes, the same for every command, and the one function that maps errors to them.

use std::process::ExitCode;

use lockstep_core::Kind;

use crate::config::ConfigError;

/// End of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done; where the command compares, both sides agree.
    Done = 0,
    /// Both sides differ, or it could not be shown that they do not.
    NotConsistent = 1,
    /// Wrong flags, wrong configuration, or a table, role or setting that is not as it must be.
    Usage = 2,
    /// A gate said no: phase, rows and items are as they were. Schema `lockstep`, capture and target tables
    /// may have been made.
    Refused = 3,
    /// Stopped on request; the same command goes on where it stopped.
    Interrupted = 4,
    /// A store could not be reached or failed.
    Infrastructure = 5,
    /// `status`: it works, and an operator should look.
    Degraded = 6,
}

/// Text about exit codes that `--help` shows on every command.
#[macro_export]
#[doc(hidden)]
macro_rules! help {
    ($examples:literal) => {
        concat!(
            "Examples:\n",
            $examples,
            "\n\nExit codes:\n  0  done; where both sides are compared, they are consistent\n  \
             1  not consistent, or incomplete: not everything could be compared;\n     \
             status, doctor: something is broken\n  2  usage or configuration\n  \
             3  refused by a gate; phase, rows and items are as they were\n  \
             4  interrupted; the same command again resumes\n  5  a store could not be reached or failed\n  \
             6  status: it works, and an operator should look"
        )
    };
}

/// Names the code where only a message is at hand.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Exit code to end with.
    pub exit: Exit,
    /// Sentence that says what happened, where, and what to do next.
    pub message: String,
}

impl Failure {
    /// Wrong use.
    pub fn usage(message: impl Into<String>) -> anyhow::Error {
        Self { exit: Exit::Usage, message: message.into() }.into()
    }

    /// Stopped on request.
    pub fn interrupted(message: impl Into<String>) -> anyhow::Error {
        Self { exit: Exit::Interrupted, message: message.into() }.into()
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Returns the code that `error` ends the command with: the first error in its chain that we know decides.
pub fn exit_of(error: &anyhow::Error) -> Exit {
    error.chain().find_map(known).unwrap_or(Exit::Infrastructure)
}

fn known(error: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return Some(failure.exit);
    }
    if error.is::<ConfigError>() {
        return Some(Exit::Usage);
    }
    if let Some(error) = error.downcast_ref::<lockstep_coordinator::CoordinatorError>() {
        return Some(of_coordinator(error));
    }
    error.downcast_ref::<lockstep_core::Error>().map(|error| of_kind(error.kind))
}

fn of_coordinator(error: &lockstep_coordinator::CoordinatorError) -> Exit {
    use lockstep_coordinator::CoordinatorError;
    match error {
        CoordinatorError::Store(error) => of_kind(error.kind),
        CoordinatorError::Refused(_)
        | CoordinatorError::TooManyErrors { .. }
        | CoordinatorError::SchemaChanged { .. }
        | CoordinatorError::ImportFailed { .. }
        | CoordinatorError::HistoryLost(_)
        | CoordinatorError::BarrierBusy { .. }
        | CoordinatorError::PauseMissed { .. }
        | CoordinatorError::InstanceBehind { .. } => Exit::Refused,
        CoordinatorError::Interrupted => Exit::Interrupted,
        CoordinatorError::NotAdjacent { .. } => Exit::Usage,
        CoordinatorError::Panicked(_) | CoordinatorError::Unsettled { .. } => Exit::Infrastructure,
    }
}

fn of_kind(kind: Kind) -> Exit {
    match kind {
        Kind::Misconfigured => Exit::Usage,
        // A condition that protects data said no.
        Kind::Refused => Exit::Refused,
        Kind::Throttled
        | Kind::Unavailable
        | Kind::Unknown
        | Kind::Invalid
        | Kind::Denied
        | Kind::Busy
        | Kind::Fenced => Exit::Infrastructure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(error: impl Into<anyhow::Error>, expected: Exit) {
        assert_eq!(exit_of(&error.into().context("while doing something")), expected);
    }

    #[test]
    fn an_error_keeps_its_code_under_any_context() {
        check(ConfigError::one("x"), Exit::Usage);
        check(lockstep_core::Error::source(Kind::Unavailable, "connecting", "x"), Exit::Infrastructure);
        check(lockstep_core::Error::source(Kind::Misconfigured, "describing", "x"), Exit::Usage);
        check(lockstep_core::Error::target(Kind::Denied, "describing", "expired"), Exit::Infrastructure);
        check(lockstep_coordinator::CoordinatorError::Interrupted, Exit::Interrupted);
        let missed = lockstep_coordinator::CoordinatorError::PauseMissed {
            to: lockstep_core::Phase::DynamoOnly,
            allowed_ms: 5_000,
            why: "x".to_owned(),
        };
        check(missed, Exit::Refused);
        check(std::io::Error::other("disk"), Exit::Infrastructure);
    }
}
