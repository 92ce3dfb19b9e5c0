//! Installation of PostgreSQL on a machine without one: install it where that needs no answer, otherwise say
//! how.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{Error, error::last_lines};

/// The package manager of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manager {
    Apt,
    Dnf,
    Apk,
    Pacman,
    Brew,
    None,
}

impl Manager {
    fn of_this_machine() -> Manager {
        [
            ("apt-get", Manager::Apt),
            ("dnf", Manager::Dnf),
            ("apk", Manager::Apk),
            ("pacman", Manager::Pacman),
            ("brew", Manager::Brew),
        ]
        .into_iter()
        .find(|(program, _)| on_path(program))
        .map_or(Manager::None, |(_, manager)| manager)
    }
}

/// Returns the command that installs a server, for a person to type.
pub(super) fn command_to_type() -> String {
    command_for(Manager::of_this_machine()).to_owned()
}

fn command_for(manager: Manager) -> &'static str {
    match manager {
        Manager::Apt => "sudo apt-get update && sudo apt-get install -y postgresql",
        Manager::Dnf => "sudo dnf install -y postgresql-server",
        Manager::Apk => "sudo apk add postgresql",
        Manager::Pacman => "sudo pacman -S --noconfirm postgresql",
        Manager::Brew => "brew install postgresql@17",
        Manager::None => "see https://www.postgresql.org/download/ for this system",
    }
}

/// Installs a server if that can be done without a question: as root, with apt.
///
/// `Ok(false)` says that it cannot be done here, and nothing was touched.
pub(super) fn if_possible(is_root: bool) -> Result<bool, Error> {
    if !is_root || Manager::of_this_machine() != Manager::Apt {
        return Ok(false);
    }
    // The owner of the machine must see it.
    tracing::warn!(
        "this machine has no PostgreSQL server: installing one with apt-get, which can take a minute"
    );
    let _no_default_cluster = NoDefaultCluster::ask(Path::new("/etc/postgresql-common/createcluster.d"));
    apt_get(&["update", "-q"])?;
    apt_get(&["install", "-q", "-y", "--no-install-recommends", "postgresql"])?;
    Ok(true)
}

fn apt_get(arguments: &[&str]) -> Result<(), Error> {
    let output = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .map_err(Error::spawn("apt-get"))?;
    if output.status.success() {
        return Ok(());
    }
    let printed = [output.stdout, output.stderr].concat();
    Err(Error::Install {
        command: format!("apt-get {}", arguments.join(" ")),
        output: last_lines(&String::from_utf8_lossy(&printed)),
    })
}

/// While it lives, Debian's packages install the server without making and starting a cluster on port 5432:
/// the user did not ask for one, and it would outlive us. Best effort; with a file of our own, so that no
/// setting of theirs changes.
struct NoDefaultCluster {
    file: PathBuf,
}

impl NoDefaultCluster {
    fn ask(folder: &Path) -> Option<NoDefaultCluster> {
        fs::create_dir_all(folder).ok()?;
        let file = folder.join("lockstep.conf");
        fs::write(&file, "create_main_cluster = false\n").ok()?;
        Some(NoDefaultCluster { file })
    }
}

impl Drop for NoDefaultCluster {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.file) {
            tracing::warn!(file = %self.file.display(), %error, "could not remove the file that put off the default cluster");
        }
    }
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_gets_one_command_to_type() {
        for manager in
            [Manager::Apt, Manager::Dnf, Manager::Apk, Manager::Pacman, Manager::Brew, Manager::None]
        {
            let command = command_for(manager);
            assert!(command.contains("postgresql") && !command.contains('\n'), "{manager:?}: {command}");
        }
    }

    #[test]
    fn nothing_is_installed_without_root() {
        assert!(!if_possible(false).expect("nothing to fail"));
    }

    #[test]
    fn the_request_for_no_default_cluster_leaves_no_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let nested = folder.path().join("createcluster.d");
        let request = NoDefaultCluster::ask(&nested).expect("asked");
        assert!(nested.join("lockstep.conf").is_file());
        drop(request);
        assert!(!nested.join("lockstep.conf").exists());
    }
}
