//! A source that is moved by `pg_dump`, as a database is that changes its server.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

use super::World;

/// A dump, as SQL.
#[derive(Debug)]
pub struct SourceDump {
    file: tempfile::NamedTempFile,
}

impl World {
    /// Dumps the source. `without_rights` leaves grants and revocations out, as `--no-acl` does.
    ///
    /// # Panics
    /// When `pg_dump` does not end well.
    pub async fn dump_source(&self, without_rights: bool) -> SourceDump {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mut dump = Command::new(program("pg_dump"));
        dump.arg("--file").arg(file.path()).arg("--dbname").arg(self.url());
        if without_rights {
            dump.arg("--no-acl");
        }
        ended_well(dump).await;
        SourceDump { file }
    }

    /// Dumps what the source is made of, without its rows, as a subscriber of all of it is made.
    ///
    /// # Panics
    /// When `pg_dump` does not end well.
    pub async fn dump_schema(&self) -> SourceDump {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mut dump = Command::new(program("pg_dump"));
        dump.arg("--schema-only").arg("--file").arg(file.path()).arg("--dbname").arg(self.url());
        ended_well(dump).await;
        SourceDump { file }
    }

    /// Restores a dump into an empty database in the place of the source. Every session in it is ended.
    ///
    /// # Panics
    /// When `psql` does not end well.
    pub async fn restore_dump(&mut self, dump: &SourceDump) {
        let name = self.database();
        self.away(&[
            format!("DROP DATABASE {name} WITH (FORCE)"),
            format!("CREATE DATABASE {name} TEMPLATE template0"),
        ])
        .await;
        dump.restore_into(self.url()).await;
    }
}

impl SourceDump {
    /// Restores it into the empty database at `url`, on any server.
    ///
    /// # Panics
    /// When `psql` does not end well.
    pub async fn restore_into(&self, url: &str) {
        let mut restore = Command::new(program("psql"));
        restore.args(["--quiet", "--set", "ON_ERROR_STOP=1", "--file"]).arg(self.file.path());
        restore.arg("--dbname").arg(url);
        ended_well(restore).await;
    }
}

/// A program of PostgreSQL: on the path, or where Debian keeps those of each version.
fn program(name: &str) -> OsString {
    let on_path = std::env::var_os("PATH")
        .into_iter()
        .flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let folders: Vec<PathBuf> = on_path.chain(installed.map(|version| version.path().join("bin"))).collect();
    let found = folders.into_iter().map(|folder| folder.join(name)).find(|program| program.is_file());
    found.map_or_else(|| name.into(), PathBuf::into_os_string)
}

async fn ended_well(mut command: Command) {
    let output = command.stdin(Stdio::null()).output().await.expect("PostgreSQL's programs are installed");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
