//! The folder of one cluster: made, locked, watched over, and removed.
//!
//! Three lines of defence against folders that stay for ever, each for the case that the one before cannot
//! see:
//!
//! 1. `Drop` removes the folder when the owner ends in order, by a panic too.
//! 2. The watcher removes it when the owner is killed.
//! 3. When the watcher went as well (the machine, or the whole container, stopped), the next start sweeps it.
//!    The owner holds a lock on `owner.lock`, so a lock that can be had is an owner that is dead. A process
//!    id would not do: ids are used again, and two containers that share `/tmp` do not know each other's.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process,
};

use super::{account::Account, watcher::Watcher};
use crate::Error;

const PREFIX: &str = "lockstep-pg-";
const LOCK: &str = "owner.lock";

/// A cluster's folder, and its watcher. Dropped, both are gone.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
    pub(super) watcher: Watcher,
    /// Removed or kept: no concern of ours any more.
    left: bool,
}

impl Folder {
    /// Makes a folder in `parent`, with a data directory that belongs to `account`, after sweeping what dead
    /// owners left.
    ///
    /// The folder itself stays ours, so that nothing PostgreSQL's user does can lead us astray when we remove
    /// it.
    pub(super) fn create(parent: &Path, account: Account) -> Result<Folder, Error> {
        let folder = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}-", process::id()))
            .tempdir_in(parent)
            .map_err(Error::files("make a folder in", parent))?;
        let lock = lock(folder.path()).map_err(Error::files("lock", folder.path().join(LOCK)))?;
        sweep(parent, &lock);

        let data = folder.path().join("data");
        if account != Account::Own {
            // The other user must pass through, and see nothing else.
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711))
                .map_err(Error::files("open", folder.path()))?;
        }
        fs::create_dir(&data).map_err(Error::files("make", &data))?;
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700))
            .map_err(Error::files("close", &data))?;
        account.hand_over(&data).map_err(Error::files("change the owner of", &data))?;

        let watcher = Watcher::spawn(folder.path())?;
        Ok(Folder { path: folder.keep(), _lock: lock, watcher, left: false })
    }

    /// Returns its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the data directory in it.
    pub(super) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// Returns the postmaster's log in it.
    pub(super) fn log(&self) -> PathBuf {
        self.path.join("postgres.log")
    }

    /// Gives the folder up: no sweep, no watcher and no `Drop` will touch it.
    pub(super) fn keep(&mut self) -> Result<(), Error> {
        let lock = self.path.join(LOCK);
        fs::remove_file(&lock).map_err(Error::files("remove", &lock))?;
        self.left = true;
        self.watcher.dismiss();
        Ok(())
    }

    /// Removes the folder now, to tell what went wrong, which `Drop` cannot.
    pub(super) fn remove(&mut self) -> Result<(), Error> {
        if self.left {
            return Ok(());
        }
        match fs::remove_dir_all(&self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::files("remove", &self.path)(error)),
        }
        self.left = true;
        self.watcher.dismiss();
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Failed, the pipe closes all the same, and the watcher tries again.
        if let Err(error) = self.remove() {
            tracing::warn!(folder = %self.path.display(), %error, "could not remove the folder of a PostgreSQL cluster");
        }
    }
}

/// Takes the owner's lock. The file gets its name after the lock: a sweep that came between would find the
/// lock free.
fn lock(folder: &Path) -> io::Result<File> {
    let unnamed = folder.join("owner.lock.new");
    let file = File::create_new(&unnamed)?;
    file.lock()?;
    fs::rename(&unnamed, folder.join(LOCK))?;
    Ok(file)
}

/// Removes the folders in `parent` whose owner is dead. Best effort: what cannot be removed is none of our
/// business.
///
/// A postmaster that still runs in such a folder ends by itself, within a minute, when it finds its data
/// directory gone.
fn sweep(parent: &Path, ours: &File) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    let Ok(our_user) = ours.metadata().map(|metadata| metadata.uid()) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let folder = entry.path();
        let lock = folder.join(LOCK);
        // Only plain files of our own: the temporary folder is every user's, and a name in it promises
        // nothing.
        let is_ours = fs::symlink_metadata(&lock).is_ok_and(|lock| lock.is_file() && lock.uid() == our_user);
        let owner_is_dead = is_ours && File::open(&lock).is_ok_and(|lock| lock.try_lock().is_ok());
        if owner_is_dead {
            let removed = fs::remove_dir_all(&folder);
            tracing::debug!(folder = %folder.display(), ?removed, "swept the PostgreSQL cluster of a dead owner");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_of_a_dead_owner(parent: &Path, name: &str) -> PathBuf {
        let folder = parent.join(name);
        fs::create_dir_all(folder.join("data")).expect("made");
        fs::write(folder.join(LOCK), "").expect("written");
        folder
    }

    #[test]
    fn the_next_start_sweeps_the_folders_of_dead_owners_and_no_others() {
        let parent = tempfile::tempdir().expect("a folder");
        let dead = folder_of_a_dead_owner(parent.path(), "lockstep-pg-1-dead");
        let foreign = folder_of_a_dead_owner(parent.path(), "another-users");
        let kept = folder_of_a_dead_owner(parent.path(), "lockstep-pg-1-kept");
        fs::remove_file(kept.join(LOCK)).expect("kept");
        let living = Folder::create(parent.path(), Account::Own).expect("made");

        let second = Folder::create(parent.path(), Account::Own).expect("made");

        assert!(!dead.exists());
        assert!(foreign.exists() && kept.exists());
        assert!(living.path().exists() && second.path().exists());
    }

    #[test]
    fn a_dropped_folder_is_removed_and_a_kept_one_is_not() {
        let parent = tempfile::tempdir().expect("a folder");
        let dropped = Folder::create(parent.path(), Account::Own).expect("made");
        let mut kept = Folder::create(parent.path(), Account::Own).expect("made");
        let (dropped_path, kept_path) = (dropped.path().to_owned(), kept.path().to_owned());
        kept.keep().expect("kept");
        drop((dropped, kept));
        assert!(!dropped_path.exists());
        assert!(kept_path.exists());
    }
}
