//! Search for the machine's PostgreSQL programs.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::account::Account;

/// The oldest major version that Lockstep supports.
const OLDEST_MAJOR: u32 = 13;

/// Folders with one folder per version in them, and what comes between the version and the programs.
const VERSIONED: &[(&str, &str, &str)] = &[
    ("/usr/lib/postgresql", "", "bin"),                      // Debian, Ubuntu
    ("/usr", "pgsql-", "bin"),                               // PostgreSQL's own rpm packages
    ("/opt/homebrew/opt", "postgresql", "bin"),              // Homebrew on Apple silicon
    ("/usr/local/opt", "postgresql", "bin"),                 // Homebrew on Intel
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql", "bin"), // Homebrew on Linux
    ("/opt/local/lib", "postgresql", "bin"),                 // MacPorts
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"), // Postgres.app
    ("/usr/local", "pgsql", "bin"),                          // from source
    ("/usr/libexec", "postgresql", ""),                      // Alpine
];

/// A folder with `initdb` and `postgres` of a version that will do.
#[derive(Debug, Clone)]
pub(super) struct Binaries {
    folder: PathBuf,
    pub(super) major: u32,
}

/// Servers that were seen when none would do, each with the reason it was passed over.
#[derive(Debug, Default)]
pub(super) struct Rejected(pub(super) Vec<String>);

impl Binaries {
    /// Finds a server that `account` may run: in `given` and nowhere else if there is one, otherwise on
    /// `PATH`, by `pg_config`, and then in the usual versioned folders, the newest version first.
    pub(super) fn find(given: Option<&Path>, account: Account) -> Result<Binaries, Rejected> {
        let mut rejected = Rejected::default();
        let candidates = given.map_or_else(candidates, |folder| vec![folder.to_owned()]);
        for folder in candidates {
            let Some(folder) = with_server(&folder) else {
                if given.is_some() {
                    rejected.0.push(format!("{} lacks initdb or postgres", folder.display()));
                }
                continue;
            };
            match major_of(&folder, account) {
                Ok(major) if major >= OLDEST_MAJOR => return Ok(Binaries { folder, major }),
                Ok(major) => rejected
                    .0
                    .push(format!("{} is version {major}, needed is {OLDEST_MAJOR}", folder.display())),
                Err(reason) => rejected.0.push(format!("{}: {reason}", folder.display())),
            }
        }
        Err(rejected)
    }

    /// Returns the path of one of the programs.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Returns the folder that the server of `folder` is really in: on `PATH` may be links to some of the
/// programs only.
fn with_server(folder: &Path) -> Option<PathBuf> {
    let is_whole = |folder: &Path| folder.join("initdb").is_file() && folder.join("postgres").is_file();
    let real = folder.join("postgres").canonicalize().ok()?;
    let real = real.parent().filter(|real| is_whole(real));
    real.or(Some(folder)).filter(|folder| is_whole(folder)).map(Path::to_owned)
}

fn candidates() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).filter(|folder| folder.is_absolute());
    on_path.chain(by_pg_config()).chain(versioned()).collect()
}

fn by_pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").stderr(Stdio::null()).output().ok()?;
    let folder = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(folder.trim())).filter(|folder| folder.is_absolute())
}

fn versioned() -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for (parent, prefix, programs) in VERSIONED {
        let Ok(entries) = std::fs::read_dir(parent) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if let Some(version) = name.to_string_lossy().strip_prefix(prefix) {
                found.push((first_number(version).unwrap_or(0), entry.path().join(programs)));
            }
        }
    }
    found.sort_by(|left, right| right.cmp(left));
    found.into_iter().map(|(_, folder)| folder).collect()
}

/// Asks the server itself, as the user that will run it: a server in root's home is of no use to `postgres`.
fn major_of(folder: &Path, account: Account) -> Result<u32, String> {
    let output = account
        .command(folder.join("postgres"))
        .arg("--version")
        .output()
        .map_err(|error| format!("cannot be run ({error})"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    first_number(&text).ok_or_else(|| format!("does not tell its version ({})", text.trim()))
}

/// `postgres (PostgreSQL) 15.18 (Debian …)` is 15, `@16` is 16, `17devel` is 17.
fn first_number(text: &str) -> Option<u32> {
    let from = text.find(|c: char| c.is_ascii_digit())?;
    let digits = text[from..].split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, major: Option<u32>) {
        assert_eq!(first_number(text), major, "of {text:?}");
    }

    #[test]
    fn the_major_version_is_the_first_number() {
        check("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", Some(15));
        check("postgres (PostgreSQL) 9.6.24", Some(9));
        check("postgres (PostgreSQL) 17devel", Some(17));
        check("@16", Some(16));
        check("latest", None);
    }

    #[test]
    fn this_machine_has_a_server_that_will_do() {
        let account = Account::choose().expect("an account to run it");
        let found = Binaries::find(None, account).expect("a server");
        assert!(found.major >= OLDEST_MAJOR);
    }

    #[test]
    fn a_server_that_is_too_old_is_passed_over_with_the_reason() {
        let folder = tempfile::tempdir().expect("a folder");
        open_to_all(folder.path());
        for name in ["initdb", "postgres"] {
            let program = folder.path().join(name);
            std::fs::write(&program, "#!/bin/sh\necho 'postgres (PostgreSQL) 12.22'\n").expect("written");
            open_to_all(&program);
        }
        let account = Account::choose().expect("an account to run it");
        let rejected = Binaries::find(Some(folder.path()), account).expect_err("12 will not do");
        assert!(rejected.0[0].contains("version 12, needed is 13"), "{rejected:?}");
    }

    fn open_to_all(path: &Path) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("opened");
    }
}
