//! Whom PostgreSQL runs as. It refuses to run as root, so root starts it under an account with less power.

use std::{
    ffi::OsStr,
    io,
    os::unix::{fs::chown, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
};

use crate::Error;

/// The user that PostgreSQL's programs run as, and that owns the data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Account {
    /// The user of this process.
    Own,
    /// Another account, because this process is root.
    Other { uid: u32, gid: u32 },
}

impl Account {
    /// Returns the user of this process, or, for root, `postgres` if it exists, else `nobody`.
    pub(super) fn choose() -> Result<Account, Error> {
        if !is_root() {
            return Ok(Account::Own);
        }
        ["postgres", "nobody"].into_iter().find_map(look_up).ok_or(Error::NoAccount)
    }

    /// Returns a command that will run as this user, away from our working directory and terminal, in its own
    /// process group: a Ctrl-C on the terminal is for the owner, which stops PostgreSQL in order.
    pub(super) fn command(self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").process_group(0).stdin(Stdio::null()).env("LC_ALL", "C");
        // PGDATA, PGPORT, PGOPTIONS of the developer's shell are about another server.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        if let Account::Other { uid, gid } = self {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Makes this user the owner of `path`.
    pub(super) fn hand_over(self, path: &Path) -> io::Result<()> {
        match self {
            Account::Own => Ok(()),
            Account::Other { uid, gid } => chown(path, Some(uid), Some(gid)),
        }
    }
}

/// Tells whether this process is root.
pub(super) fn is_root() -> bool {
    id(&["-u"]) == Some(0)
}

fn look_up(name: &str) -> Option<Account> {
    Some(Account::Other { uid: id(&["-u", name])?, gid: id(&["-g", name])? })
}

/// Asks `id`, which knows the users that are not in `/etc/passwd` too.
fn id(arguments: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(arguments).stderr(Stdio::null()).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
