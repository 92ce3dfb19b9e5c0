//! Files that others on the machine must not read: reports with values, journals.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use lockstep_validator::private_file;

/// Writes a file that its owner alone may read: whole or not at all, and never through a link that a user
/// put in its place.
///
/// # Errors
/// When it cannot be written beside its place, or not be put there.
pub(crate) fn write_private(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    // A pipe or a terminal has no place beside it.
    if path.metadata().is_ok_and(|there| !there.is_file()) {
        return write(&mut OpenOptions::new().write(true).open(path)?);
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    let beside = Path::new(&beside);
    // A file that a killed run left there, or a link to somewhere else, gives way by its name.
    let mut out = io::BufWriter::new(private_file(beside)?);
    write(&mut out)?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    std::fs::rename(beside, path)?;
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_file_of_ours_is_its_owners_and_follows_no_link() {
        let folder = tempfile::tempdir().expect("a folder");
        let (page, victim) = (folder.path().join("audit.html"), folder.path().join("victim"));
        std::fs::write(&victim, "mine").expect("written");
        symlink(&victim, folder.path().join("audit.html.part")).expect("linked");
        symlink(&victim, &page).expect("linked");
        for text in ["one", "two"] {
            write_private(&page, |out| out.write_all(text.as_bytes())).expect("written");
            assert_eq!(std::fs::read_to_string(&page).expect("readable"), text);
        }
        assert_eq!(std::fs::read_to_string(&victim).expect("readable"), "mine");
        assert_eq!(page.metadata().expect("there").permissions().mode() & 0o777, 0o600);
    }
}
