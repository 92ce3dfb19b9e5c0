//! Other writers of a file that names commands or places: what that user writes, we run, and where that user
//! says, we send rows and secrets.
//!
//! 1. `lockstep.toml` of a shared folder belongs to another user, or its group may write it. 2. That user
//! puts a `password_command` into it. 3. An operator runs `status` there, and the command runs as the
//! operator, with the source's URL in its environment.

use std::path::{Path, PathBuf};

#[cfg(unix)]
use lockstep_postgres::{is_of_another_user, may_be_written_by, user_of_process};

use super::ConfigError;

/// A file as it was when it was read, or is now.
#[derive(Clone, Debug)]
pub struct Writers {
    path: PathBuf,
    /// Reason why others may write it, and what to do; `None` where only its user and root may.
    others: Option<String>,
    /// The same, where the group of the user's own counts as the user: many systems let that group write each
    /// file that is made.
    strangers: Option<String>,
}

/// Keys of places that secrets or rows are read from or sent to.
const PLACES: &[&str] = &[
    "source.url",
    "source.password_file",
    "target.endpoint_url",
    "target.streams_endpoint_url",
    "target.s3_endpoint_url",
    "target.profile",
    "serve.operate_token_file",
    "serve.read_token_file",
    "serve.webhook_url",
    "serve.webhook_secret_file",
];

impl Writers {
    /// Reads the owner and mode of a file that is open, so that it is the one that is read. Systems without
    /// owners and modes are not judged.
    ///
    /// # Errors
    /// Where the system does not say.
    pub(super) fn of(path: &Path, file: &std::fs::File) -> std::io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self { path: path.to_owned(), others: others(&found), strangers: strangers(&found) })
    }

    /// Refuses a configuration that others may write, where commands from it are run, and a command whose
    /// program is a file that others may write.
    ///
    /// # Errors
    /// The file, the reason, and advice.
    pub fn refuse(&self, commands: &[&str]) -> Result<(), ConfigError> {
        let refused = |path: &Path, what: &str, others: &str| {
            Err(ConfigError::one(format!("{} {others}, and {what}", path.display())))
        };
        match &self.others {
            Some(others) if !commands.is_empty() => {
                return refused(&self.path, "commands that it names are run", others);
            }
            _ => {}
        }
        for program in commands.iter().filter_map(|command| program(command)) {
            let found = std::fs::metadata(&program).ok().filter(std::fs::Metadata::is_file);
            if let Some(others) = found.as_ref().and_then(others) {
                return refused(&program, "it is run as a command of the configuration", &others);
            }
        }
        Ok(())
    }
}

impl Writers {
    /// Refuses a configuration that others may write, where it says what is connected to, or which files hold
    /// tokens and passwords: 1. `lockstep.toml` of a shared folder is another user's, and its
    /// `target.endpoint_url` leads to that user's own server. 2. An operator's `migrate` there sends every
    /// row to it, and a file of the operator as the token. Names that the environment or a flag gives in its
    /// place are the operator's own.
    ///
    /// # Errors
    /// The file, the reason, and advice.
    pub(super) fn refuse_places(&self, figment: &figment::Figment) -> Result<(), ConfigError> {
        let Some(strangers) = &self.strangers else { return Ok(()) };
        let file = self.path.display().to_string();
        let is_of_file =
            |key: &&&str| figment.find_metadata(key).is_some_and(|origin| origin.name.starts_with(&file));
        match PLACES.iter().find(is_of_file) {
            None => Ok(()),
            Some(key) => Err(ConfigError::one(format!("{file} {strangers}, and it says `{key}`"))),
        }
    }
}

/// Returns the program of a shell command, where it is a path. One that is looked for in `PATH` is the
/// system's.
fn program(command: &str) -> Option<PathBuf> {
    let mut words = command.split_whitespace().map(|word| word.trim_matches(['\'', '"']));
    let first = words.next()?;
    let of_a_script = ["sh", "bash", "dash", "zsh", "python", "python3", "perl", "ruby", "node"];
    let is_interpreter = first.rsplit('/').next().is_some_and(|name| of_a_script.contains(&name));
    let script = if is_interpreter { words.next() } else { None };
    Some(script.unwrap_or(first)).filter(|word| word.contains('/')).map(PathBuf::from)
}

#[cfg(unix)]
fn others(of: &std::fs::Metadata) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    judge(of.uid(), of.mode(), user_of_process())
}

#[cfg(unix)]
fn strangers(of: &std::fs::Metadata) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    let of_group = if of.gid() == of.uid() { 0o020 } else { 0 };
    judge(of.uid(), of.mode() & !of_group, user_of_process())
}

#[cfg(not(unix))]
fn others(_of: &std::fs::Metadata) -> Option<String> {
    None
}

#[cfg(not(unix))]
fn strangers(_of: &std::fs::Metadata) -> Option<String> {
    None
}

/// Returns what is wrong with a file of `owner` with `mode`, for a process of `user`; only the mode is judged
/// where the user is not known.
#[cfg(unix)]
fn judge(owner: u32, mode: u32, user: Option<u32>) -> Option<String> {
    if let Some(user) = user.filter(|_| is_of_another_user(owner, user)) {
        return Some(format!(
            "belongs to another user (uid {owner}; this process runs as uid {user}): chown it to that \
                user or to root"
        ));
    }
    may_be_written_by(mode).map(|who| format!("can be written by {who} (chmod go-w it)"))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_trusted_that_only_its_user_and_root_may_write() {
        for (owner, mode) in [(1000, 0o644), (1000, 0o600), (0, 0o644), (0, 0o100_444)] {
            assert_eq!(judge(owner, mode, Some(1000)), None, "{owner} {mode:o}");
        }
        for (owner, mode, why) in [
            (1001, 0o600, "belongs to another user (uid 1001"),
            (1000, 0o664, "by its group"),
            (1000, 0o666, "by everyone"),
            (0, 0o602, "by everyone"),
        ] {
            let said = judge(owner, mode, Some(1000)).expect("refused");
            assert!(said.contains(why), "{said}");
        }
        assert!(judge(1001, 0o600, Some(0)).is_some(), "root does not run what another user wrote either");
        assert_eq!(judge(1001, 0o600, None), None);
    }

    #[test]
    fn the_program_of_a_command_is_its_path() {
        assert_eq!(program("/opt/token --for db"), Some(PathBuf::from("/opt/token")));
        assert_eq!(program("sh './token.sh' x"), Some(PathBuf::from("./token.sh")));
        assert_eq!(program("aws rds generate-db-auth-token"), None);
        assert_eq!(program("exit 0"), None);
        assert_eq!(program(""), None);
    }
}
