//! The journal of a migration as a file: one entry a line, as JSON.

use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use lockstep_coordinator::Archive;
use lockstep_core::Epoch;
use lockstep_postgres::Entry;
use serde_json::{Value, json};

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
        let lines = self.lines(epoch, journal)?;
        let path = self.path_for(&std::env::current_dir()?, epoch, &lines)?;
        write_private(&path, |out| lines.iter().try_for_each(|line| writeln!(out, "{line}")))?;
        Ok(path.display().to_string())
    }
}

impl JournalFile {
    fn lines(&self, epoch: Epoch, journal: &[Entry]) -> std::io::Result<Vec<String>> {
        let head =
            json!({ "format": FORMAT, "database": self.database, "epoch": epoch, "entries": journal.len() });
        let mut lines = vec![head.to_string()];
        for entry in journal {
            lines.push(printable_json(&serde_json::to_string(entry)?).into_owned());
        }
        Ok(lines)
    }

    /// The file that was named, or the first of the usual names that is free or has this journal. 1. A
    /// migration is completed in epoch 6. 2. So is the next one in that database. 3. Its journal would be
    /// written over that of the first.
    fn path_for(&self, folder: &Path, epoch: Epoch, lines: &[String]) -> std::io::Result<PathBuf> {
        if let Some(path) = &self.path {
            let path = std::path::absolute(folder.join(path))?;
            if may_be_written(&path, &self.database, lines)? {
                return Ok(path);
            }
            let message = format!(
                "{} is there already, and is something else: choose another --journal",
                path.display()
            );
            return Err(Error::new(ErrorKind::AlreadyExists, message));
        }
        let mut number = 1;
        loop {
            let again = if number == 1 { String::new() } else { format!("-{number}") };
            let name = format!("lockstep-journal-{}-{epoch}{again}.jsonl", self.database);
            let path = std::path::absolute(folder.join(name))?;
            if may_be_written(&path, &self.database, lines)? {
                return Ok(path);
            }
            number += 1;
        }
    }
}

/// Tells whether a file is not there, or has this journal's beginning: one that is there may only be written
/// over by the same journal, which is as long or longer.
fn may_be_written(path: &Path, database: &str, lines: &[String]) -> std::io::Result<bool> {
    let text = match std::fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        read => String::from_utf8_lossy(&read?).into_owned(),
    };
    let mut kept = text.lines();
    let head: Option<Value> = kept.next().and_then(|line| serde_json::from_str(line).ok());
    let is_ours = head.is_some_and(|head| head["format"] == FORMAT && head["database"] == database);
    // A later version may write an entry in another way; its number and its moment are what they were.
    let which = |line: &str| {
        let entry = serde_json::from_str::<Value>(line).unwrap_or_default();
        (entry["id"].clone(), entry["at"].clone())
    };
    let begins_alike =
        kept.next().is_none_or(|first| lines.get(1).is_some_and(|new| which(first) == which(new)));
    Ok(is_ours && begins_alike)
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

    fn entry(at: &str, step: &str) -> Entry {
        Entry {
            id: 1,
            at: at.parse().expect("a moment"),
            actor: "a".to_owned(),
            kind: "intent".to_owned(),
            intent: None,
            step: step.to_owned(),
            detail: json!({}),
        }
    }

    #[test]
    fn the_journal_of_one_migration_is_never_written_over_that_of_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = entry("2026-01-02T03:04:05.678Z", "of the first");
        let second = entry("2026-02-02T03:04:05.678Z", "of the second");
        let path = folder.path().join("end.jsonl");
        let named = JournalFile { path: Some(path.clone()), database: "loans".to_owned() };
        named.keep(Epoch(6), std::slice::from_ref(&first)).expect("kept");
        named
            .keep(Epoch(6), &[first.clone(), entry("2026-01-03T00:00:00Z", "more")])
            .expect("kept again, longer");
        let refused = named.keep(Epoch(6), std::slice::from_ref(&second)).expect_err("another one's");
        assert!(refused.to_string().contains("choose another --journal"), "{refused}");
        let kept = std::fs::read_to_string(&path).expect("readable");
        assert!(kept.contains("more") && !kept.contains("of the second"), "{kept}");
        // The same under the usual names.
        let usual = JournalFile { path: None, database: "loans".to_owned() };
        for (journal, expected) in [
            (&first, "lockstep-journal-loans-6.jsonl"),
            (&second, "lockstep-journal-loans-6-2.jsonl"),
            (&first, "lockstep-journal-loans-6.jsonl"),
            (&second, "lockstep-journal-loans-6-2.jsonl"),
        ] {
            let lines = usual.lines(Epoch(6), std::slice::from_ref(journal)).expect("JSON");
            let path = usual.path_for(folder.path(), Epoch(6), &lines).expect("a name");
            assert_eq!(path, folder.path().join(expected));
            std::fs::write(&path, lines.join("\n")).expect("written");
        }
    }
}
