//! Origin of the password, and keeping it fresh: secrets are rotated and tokens expire while a migration runs
//! for days.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use lockstep_core::Advice::{SourcePasswordCommand, SourcePasswordFile, SourceUrl, SourceUrlVariable};
use lockstep_core::{Error, Kind, Result};
use sqlx::postgres::{PgConnectOptions, PgPool};

use crate::fault::passwords_refused;

/// Origin of the source's password.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Password {
    /// The password is in the URL, or there is none.
    #[default]
    InUrl,
    /// The first line of a file, read again when it changes: a mounted secret.
    File(PathBuf),
    /// The first line that a shell command prints, for example a token of IAM. It is run again every ten
    /// minutes, and at once after the server refused what it had printed.
    Command(String),
}

impl std::fmt::Debug for Password {
    /// Without the command, which may hold a secret itself.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::InUrl => "InUrl",
            Self::File(_) => "File",
            Self::Command(_) => "Command",
        })
    }
}

/// Time between two looks whether there is another one.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// An IAM token lasts for fifteen minutes.
const COMMAND_EVERY: Duration = Duration::from_secs(10 * 60);
/// A command that the server refuses the password of is not run more often than this.
const COMMAND_AFTER_REFUSAL: Duration = Duration::from_secs(2);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// Tells whether PostgreSQL refused the password.
pub(super) fn is_refused(error: &Error) -> bool {
    error.sqlstate().as_deref() == Some("28P01")
}

impl Password {
    /// Returns the options with the password as it is now.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`] for a file that cannot be read, [`Kind::Unavailable`] for a command that
    /// fails.
    pub(super) async fn apply(&self, options: PgConnectOptions) -> Result<PgConnectOptions> {
        Ok(match self.read().await? {
            Some(password) => options.password(&password),
            None => options,
        })
    }

    /// Returns an error of connecting, with where to look if the server has refused the password: what is
    /// configured, and nothing else.
    pub(super) fn advised(&self, mut error: Error) -> Error {
        if !is_refused(&error) {
            return error;
        }
        error.message += "; ";
        error.message += &match self {
            Self::InUrl => format!("look at the user and the password in {SourceUrl} ({SourceUrlVariable})"),
            Self::File(path) => format!(
                "it is the first line of {SourcePasswordFile} {}, which is read again by itself",
                path.display()
            ),
            // The command itself may hold a secret.
            Self::Command(_) => {
                format!("it is what {SourcePasswordCommand} printed, which is run again by itself")
            }
        };
        error
    }

    async fn read(&self) -> Result<Option<String>> {
        let printed = match self {
            Self::InUrl => return Ok(None),
            Self::File(path) => tokio::fs::read_to_string(path).await.map_err(|e| {
                let doing = format!("reading {SourcePasswordFile} {}", path.display());
                Error::source(Kind::Misconfigured, doing, e.to_string())
            })?,
            Self::Command(command) => run(command).await?,
        };
        let first = printed.lines().next().unwrap_or_default();
        if first.is_empty() {
            let origin =
                if matches!(self, Self::File(_)) { SourcePasswordFile } else { SourcePasswordCommand };
            let message = format!("{origin} gave an empty first line");
            return Err(Error::source(Kind::Misconfigured, "reading the source's password", message));
        }
        Ok(Some(first.to_owned()))
    }

    /// Has the pools connect with the newest password, for as long as a handle holds `alive`.
    pub(super) fn keep_fresh(self, alive: &Arc<()>, pools: Vec<PgPool>) {
        if self != Self::InUrl {
            let alive = Arc::downgrade(alive);
            tokio::spawn(async move { self.refresh(&alive, &pools).await });
        }
    }

    async fn refresh(&self, alive: &Weak<()>, pools: &[PgPool]) {
        let is_command = matches!(self, Self::Command(_));
        let (mut refused, mut read_at, mut known, mut failing) =
            (passwords_refused(), None::<Instant>, None, false);
        while alive.strong_count() > 0 {
            let refused_now = passwords_refused();
            let due_after = if refused_now == refused { COMMAND_EVERY } else { COMMAND_AFTER_REFUSAL };
            if is_command && read_at.is_some_and(|at| at.elapsed() < due_after) {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
            (refused, read_at) = (refused_now, Some(Instant::now()));
            match self.read().await {
                Ok(password) if password == known => failing = false,
                Ok(password) => {
                    for pool in pools {
                        let options = (*pool.connect_options()).clone();
                        pool.set_connect_options(options.password(password.as_deref().unwrap_or_default()));
                    }
                    (known, failing) = (password, false);
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!("{error}; the password of before is used, and this is tried again");
                    }
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Returns what a shell command prints. Neither it nor what it prints is ever shown.
async fn run(command: &str) -> Result<String> {
    let failed =
        |why: String| Error::source(Kind::Unavailable, format!("running {SourcePasswordCommand}"), why);
    let mut shell = tokio::process::Command::new("sh");
    shell.arg("-c").arg(command).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(COMMAND_TIMEOUT, shell.output()).await;
    let output =
        output.map_err(|_| failed(format!("it did not end within {} s", COMMAND_TIMEOUT.as_secs())))?;
    let output = output.map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        return Err(failed(format!("it ended with {}; run it by hand to see why", output.status)));
    }
    String::from_utf8(output.stdout).map_err(|_| failed("what it printed is no text".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_the_first_line_of_a_file_or_of_what_a_command_prints() {
        let path = std::env::temp_dir().join(format!("lockstep-password-{}", std::process::id()));
        std::fs::write(&path, "s3cret\n").expect("a file");
        let read = Password::File(path.clone()).read().await.expect("it reads");
        std::fs::remove_file(&path).expect("it is there");
        assert_eq!(read.as_deref(), Some("s3cret"));
        let printed = Password::Command("printf 'token\\nmore\\n'".to_owned()).read().await.expect("it runs");
        assert_eq!(printed.as_deref(), Some("token"));
    }

    #[test]
    fn a_command_is_not_in_the_debug_form() {
        let shown = format!("{:?}", Password::Command("ask --token s3cret".to_owned()));
        assert_eq!(shown, "Command");
    }

    #[tokio::test]
    async fn a_command_that_fails_is_an_outage_and_shows_nothing_of_what_it_printed() {
        let failed = Password::Command("echo s3cret; exit 3".to_owned()).read().await.expect_err("it fails");
        assert_eq!(failed.kind, Kind::Unavailable);
        assert!(!failed.to_string().contains("s3cret"), "{failed}");
        let empty = Password::Command("true".to_owned()).read().await.expect_err("nothing");
        assert_eq!(empty.kind, Kind::Misconfigured);
    }
}
