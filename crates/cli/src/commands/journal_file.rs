//! The journal of a migration as a file: one entry a line, as JSON.

use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use lockstep_coordinator::Archive;
use lockstep_core::Epoch;
use lockstep_postgres::Entry;
use serde_json::json;

use crate::files::write_private;
use crate::ui::printable_json;

/// Marks the first line of such a file.
const FORMAT: &str = "lockstep journal";

/// File to which the journal goes.
pub(super) struct JournalFile {
    pub(super) path: Option<PathBuf>,
    pub(super) database: String,
}

impl Archive for JournalFile {
    fn keep(&self, epoch: Epoch, journal: &[Entry]) -> std::io::Result<String> {
        let default = || PathBuf::from(format!("lockstep-journal-{}-{epoch}.jsonl", self.database));
        let path = std::path::absolute(self.path.clone().unwrap_or_else(default))?;
        let head =
            json!({ "format": FORMAT, "database": self.database, "epoch": epoch, "entries": journal.len() });
        is_ours(&path, &self.database)?;
        write_private(&path, |out| {
            writeln!(out, "{head}")?;
            for entry in journal {
                writeln!(out, "{}", printable_json(&serde_json::to_string(entry)?))?;
            }
            Ok(())
        })?;
        Ok(path.display().to_string())
    }
}

/// A file that is there may only be written over by the same journal, which is as long or longer.
fn is_ours(path: &Path, database: &str) -> std::io::Result<()> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        read => read?,
    };
    let head: Option<serde_json::Value> =
        text.lines().next().and_then(|line| serde_json::from_str(line).ok());
    if head.is_some_and(|head| head["format"] == FORMAT && head["database"] == database) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::AlreadyExists,
        format!("{} is there already, and is something else: choose another --journal", path.display()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_something_else_is_never_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("end.jsonl");
        let archive = JournalFile { path: Some(path.clone()), database: "loans".to_owned() };
        archive.keep(Epoch(4), &[]).expect("kept");
        archive.keep(Epoch(4), &[]).expect("kept again");
        let kept = std::fs::read_to_string(&path).expect("readable");
        assert!(kept.contains("\"database\":\"loans\""), "{kept}");
        let another = JournalFile { path: Some(path.clone()), database: "payroll".to_owned() };
        assert!(another.keep(Epoch(4), &[]).is_err());
        std::fs::write(&path, "my thesis").expect("written");
        assert!(archive.keep(Epoch(4), &[]).is_err());
        assert_eq!(std::fs::read_to_string(&path).expect("readable"), "my thesis");
    }
}
