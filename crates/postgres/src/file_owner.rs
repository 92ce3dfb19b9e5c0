//! Owner and mode of a file, held against the user of this process: what another user of the machine can
//! change is neither run nor gone on from. Here, because this is the lowest crate that opens files.

use std::sync::OnceLock;

/// Tells whether a file of `owner` is neither root's nor of `user`. Where the user is not known, no file is
/// another's.
pub fn is_of_another_user(owner: u32, user: Option<u32>) -> bool {
    owner != 0 && user.is_some_and(|user| user != owner)
}

/// Returns who may write a file of `mode` beside its owner, in words; `None` where no other user may.
pub fn may_be_written_by(mode: u32) -> Option<&'static str> {
    match mode & 0o022 {
        0 => None,
        0o020 => Some("its group"),
        _ => Some("everyone on this machine"),
    }
}

/// Returns the user that this process acts as; `None` where the system does not say.
pub fn user_of_process() -> Option<u32> {
    static USER: OnceLock<Option<u32>> = OnceLock::new();
    *USER.get_or_init(|| {
        // Real, effective, saved and that of files. Linux has it in a file that every process may read. The
        // owner of its folder says less: it is root where the process may not be traced.
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let effective = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().nth(1));
        if let Some(user) = effective.and_then(|user| user.parse().ok()) {
            return Some(user);
        }
        let said = std::process::Command::new("id").arg("-u").output().ok()?;
        String::from_utf8(said.stdout).ok()?.trim().parse().ok()
    })
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_user_itself_are_no_others_and_an_unknown_user_has_none() {
        let me = Some(1000);
        assert!(!is_of_another_user(1000, me) && !is_of_another_user(0, me));
        assert!(is_of_another_user(1001, me) && is_of_another_user(1001, Some(0)));
        assert!(!is_of_another_user(1001, None));
    }

    #[test]
    fn the_user_of_this_process_is_the_one_that_its_files_belong_to() {
        let path = std::env::temp_dir().join(format!("lockstep-owner-{}", std::process::id()));
        let file = std::fs::File::create_new(&path).expect("a file");
        let owner = std::os::unix::fs::MetadataExt::uid(&file.metadata().expect("there"));
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(user_of_process(), Some(owner));
    }
}
