//! The folder of a run that is to survive us: the spools of its table, and a manifest that says how much of
//! them counts.
//!
//! The manifest is written beside the old one, synced, and put in its place; before that, the spools are
//! synced as far as it speaks of them. So at every moment there is a whole one, and what it says is on the
//! disk. Nothing here is a row: spools hold keys and hashes, and only their owner may read them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::pass::Pass;
use crate::private::private_folder;

const MANIFEST: &str = "manifest.json";
const LOCK: &str = "lock";
/// Changes when a manifest or a spool is read, or a print is made, otherwise than before.
const FORMAT: u32 = 1;

/// See the module.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Held for as long as we are: two runs in one folder would be one heap of both.
    _lock: File,
}

/// Record of an unfinished run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(super) format: u32,
    /// Identity of everything that prints and pieces depend on: under another one, nothing here means
    /// anything.
    pub(crate) identity: String,
    #[serde(flatten)]
    pub(crate) begun: Begun,
    pub(super) seed: u64,
    pub(super) partitions: usize,
    pub(super) source: KeptPage,
    pub(super) target: KeptPage,
}

/// Beginning of an unfinished run.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Begun {
    /// Time at which the oldest print may have been made.
    pub(crate) as_of: DateTime<Utc>,
    /// The number of its pass, if it has one.
    #[serde(default)]
    pub(crate) pass: Option<i64>,
    /// The number that was drawn before its first reading.
    #[serde(default)]
    pub(crate) number: Option<i64>,
}

/// One side of a ledger as it is kept.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct KeptPage {
    /// Bytes of each spool that count, the last of them that of what was set aside.
    pub(super) bytes: Vec<u64>,
    pub(super) pass: Pass,
}

impl Manifest {
    pub(super) fn new(identity: String, begun: Begun, seed: u64, partitions: usize) -> Self {
        let (source, target) = (KeptPage::default(), KeptPage::default());
        Self { format: FORMAT, identity, begun, seed, partitions, source, target }
    }
}

impl Folder {
    /// Takes the folder, making it if need be; `None` when another run has it.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub(crate) fn take(path: &Path) -> io::Result<Option<Self>> {
        // Where others can write, a link or a folder of theirs would have hashes and keys go wherever it
        // leads.
        private_folder(path)?;
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(path.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Self { path: path.to_owned(), _lock: lock })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// Reads what an unfinished run left; `None` when there is none, or none that can be read.
    pub(crate) fn read(&self) -> Option<Manifest> {
        let text = fs::read(self.path.join(MANIFEST)).ok()?;
        serde_json::from_slice(&text).ok().filter(|manifest: &Manifest| manifest.format == FORMAT)
    }

    /// Makes a manifest the one that counts.
    pub(super) fn write(&self, manifest: &Manifest) -> io::Result<()> {
        let next = self.path.join("manifest.next");
        let mut file = File::create(&next)?;
        file.write_all(&serde_json::to_vec(manifest)?)?;
        file.sync_all()?;
        fs::rename(next, self.path.join(MANIFEST))?;
        File::open(&self.path)?.sync_all()
    }

    /// Forgets the run. The lock stays: a run that waits for it must not get hold of a file that is gone.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub(crate) fn clear(&self) -> io::Result<()> {
        // The manifest first: without it the rest is nothing.
        let manifest = self.path.join(MANIFEST);
        if manifest.exists() {
            fs::remove_file(manifest)?;
        }
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name() != LOCK {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    pub(super) fn spool(&self, side: &str, number: usize) -> PathBuf {
        self.path.join(format!("{side}-{number:04}.spool"))
    }
}
