//! Folders and files that others on the machine neither read nor write: what is compared, and what is loaded,
//! passes through them.
//!
//! 1. A run works in a folder that several users share. 2. One of them has made a link, or a folder, under
//! the name that ours is to have. 3. The run writes rows where that user reads them, or goes on from progress
//! that that user wrote, and says consistent.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

#[cfg(unix)]
use lockstep_postgres::{is_of_another_user, may_be_written_by, user_of_process};

/// Makes a folder, and those above it that are missing, for our user alone. One of ours that others could
/// read is closed to them.
///
/// # Errors
/// Where the folder is a link, another user's, or one that others may write; where another user has made a
/// link above it; the system's.
pub fn private_folder(path: &Path) -> io::Result<()> {
    let mut above = path.ancestors().filter(|at| !at.as_os_str().is_empty()).collect::<Vec<_>>();
    above.reverse();
    for at in above {
        let found = match fs::symlink_metadata(at) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(at)?;
                fs::symlink_metadata(at)?
            }
            found => found?,
        };
        let is_ours = at == path;
        if found.is_symlink() && is_ours {
            return Err(refused(path, "is a link: remove it, or name another folder"));
        }
        judge(at, &found, is_ours)?;
    }
    Ok(())
}

/// Makes a file in a folder of [`private_folder`], in the place of one that is there.
///
/// # Errors
/// The system's.
pub fn private_file(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn make(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(path) {
        // Another process was first; what it made is looked at as any other.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn refused(path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, format!("{} {why}", path.display()))
}

#[cfg(not(unix))]
fn judge(_at: &Path, _found: &fs::Metadata, _is_ours: bool) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn judge(at: &Path, found: &fs::Metadata, is_ours: bool) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    if let Some(why) = fault(found.is_symlink(), is_ours, found.uid(), found.mode(), user_of_process()) {
        return Err(refused(at, &why));
    }
    // An earlier version left it to the process's mask.
    if is_ours && found.mode() & 0o077 != 0 {
        fs::set_permissions(at, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Returns what is wrong with a link above our folder, or with our folder, for a process of `user`.
#[cfg(unix)]
fn fault(is_link: bool, is_ours: bool, owner: u32, mode: u32, user: Option<u32>) -> Option<String> {
    if !is_link && !is_ours {
        return None;
    }
    match (is_of_another_user(owner, user), is_link) {
        (true, true) => Some(format!("is a link that another user made (uid {owner}): remove it")),
        (true, false) => {
            Some(format!("belongs to another user (uid {owner}): remove it, or name another folder"))
        }
        (false, false) if may_be_written_by(mode).is_some() => {
            Some("can be written by others (chmod go-w it, once you have looked what is in it)".to_owned())
        }
        (false, _) => None,
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().expect("there").permissions().mode() & 0o777
    }

    #[test]
    fn folders_and_files_of_ours_are_their_owners_alone() {
        let shared = tempfile::tempdir().expect("a folder");
        let ours = shared.path().join(".lockstep/import/rows");
        private_folder(&ours).expect("made");
        private_file(&ours.join("part")).expect("made");
        let made = [mode(&shared.path().join(".lockstep")), mode(&ours), mode(&ours.join("part"))];
        assert_eq!(made, [0o700, 0o700, 0o600]);
        fs::set_permissions(&ours, fs::Permissions::from_mode(0o755)).expect("as an earlier version left it");
        private_folder(&ours).expect("it is ours");
        assert_eq!(mode(&ours), 0o700);
    }

    #[test]
    fn neither_a_link_nor_a_folder_that_others_may_write_is_taken_for_ours() {
        let shared = tempfile::tempdir().expect("a folder");
        let (elsewhere, link) = (shared.path().join("elsewhere"), shared.path().join("link"));
        fs::create_dir(&elsewhere).expect("made");
        symlink(&elsewhere, &link).expect("linked");
        assert!(private_folder(&link).expect_err("a link").to_string().contains("is a link"));
        private_folder(&link.join("rows")).expect("a link that our own user made leads to another disk");
        fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o777)).expect("opened");
        assert!(private_folder(&elsewhere).expect_err("open to all").to_string().contains("by others"));
        let victim = elsewhere.join("victim");
        fs::write(&victim, "mine").expect("written");
        symlink(&victim, elsewhere.join("part")).expect("linked");
        private_file(&elsewhere.join("part")).expect("made in its place");
        assert_eq!(fs::read_to_string(&victim).expect("there"), "mine");
    }

    #[test]
    fn what_another_user_made_is_refused_and_what_root_made_is_not() {
        let (me, other) = (Some(1000), 1001);
        assert!(fault(true, false, other, 0o777, me).is_some_and(|why| why.contains("another user")));
        assert!(fault(false, true, other, 0o700, me).is_some_and(|why| why.contains("another user")));
        assert_eq!(fault(true, false, 0, 0o777, me), None);
        assert_eq!(fault(true, false, 1000, 0o777, me), None);
        assert_eq!(fault(false, false, other, 0o777, me), None, "a folder above, as the system's are");
        assert_eq!(fault(false, true, 0, 0o755, me), None);
    }

    /// The kernel's own owners, where a test may give a link to another user.
    #[test]
    fn a_link_above_that_another_user_made_is_refused() {
        let shared = tempfile::tempdir().expect("a folder");
        let (elsewhere, link) = (shared.path().join("elsewhere"), shared.path().join(".lockstep"));
        fs::create_dir(&elsewhere).expect("made");
        symlink(&elsewhere, &link).expect("linked");
        match std::os::unix::fs::lchown(&link, Some(12_345), None) {
            Ok(()) => {
                let refused = private_folder(&link.join("validate/rows")).expect_err("a stranger's link");
                assert!(refused.to_string().contains("uid 12345"), "{refused}");
                assert_eq!(
                    fs::read_dir(&elsewhere).expect("there").count(),
                    0,
                    "nothing was written behind it"
                );
            }
            Err(error) => assert_ne!(user_of_process(), Some(0), "{error}"),
        }
    }
}
