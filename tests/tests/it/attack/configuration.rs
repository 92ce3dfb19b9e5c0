//! Messages about a configuration that is wrong, and whose commands are run.

use std::path::Path;
use std::process::Output;

use lockstep_tests::World;

use crate::process::{command, ended};

const PLANTED: &str = "Pl4nted";

/// `status` in a folder, with one more variable.
async fn status(world: &World, folder: &Path, variable: (&str, &str)) -> (Option<i32>, String) {
    let mut asked = command(world, &["status"]);
    asked.current_dir(folder).env("RUST_LOG", "trace").env(variable.0, variable.1);
    let Output { status, stdout, stderr } = ended(asked).await;
    (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

/// 1. A file does not parse, and a variable is mixed up with another. 2. The line, or the value, is a
/// password.
#[tokio::test]
async fn a_configuration_that_does_not_read_says_where_and_never_what_is_there() {
    let world = World::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let none = ("LOCKSTEP_LOG", "info");
    for (text, place) in [
        (format!("[target]\nregion = \"eu\"\n[source]\npassword = {PLANTED}\n"), "line 4, column 12"),
        (format!("[source]\nurl = \"postgres://u:{PLANTED}\n"), "line 2, column"),
        (format!("[source]\n  {PLANTED} {PLANTED} = 1\n"), "line 2, column"),
        (format!("{PLANTED} = 1\n{PLANTED} = 2\n"), "line 2, column 1"),
        (format!("[source]\nconnections_max = \"{PLANTED}\"\n"), "`source.connections_max`"),
        (format!("[backfill]\nload_path = \"{PLANTED}\"\n"), "`backfill.load_path`"),
        (format!("[backfill]\nwindow_start = \"{PLANTED}\"\n"), "`backfill.window_start`"),
        (format!("[migrate]\nthrough = \"{PLANTED}\"\n"), "`migrate.through`"),
        (format!("[serve]\nhosts = {{ a = \"{PLANTED}\" }}\n"), "`serve.hosts`"),
    ] {
        std::fs::write(folder.path().join("lockstep.toml"), &text).expect("written");
        let (code, said) = status(&world, folder.path(), none).await;
        assert_eq!(code, Some(2), "{text}: {said}");
        assert!(said.contains("lockstep.toml") && said.contains(place), "{text}: {said}");
        assert!(!said.contains(PLANTED), "{said}");
    }
    std::fs::remove_file(folder.path().join("lockstep.toml")).expect("removed");
    for key in ["SOURCE__CONNECTIONS_MAX", "BACKFILL__LOAD_PATH", "MIGRATE__THROUGH", "RELAY__BATCH_KEYS"] {
        let variable = format!("LOCKSTEP_{key}");
        let (code, said) = status(&world, folder.path(), (&variable, PLANTED)).await;
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(&variable) && !said.contains(PLANTED), "{said}");
    }
    // A URL in the place of an argument.
    let url = format!("postgres://u:{PLANTED}@h/d");
    let output = ended(command(&world, &["status", &url])).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("u:***@h"), "{said}");
    assert!(!said.contains(PLANTED), "{said}");
}

/// S22, and its kind: what another user may write, that user has run.
#[cfg(unix)]
#[tokio::test]
async fn no_command_is_run_that_another_user_may_have_written() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
    let world = World::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let (file, script) = (folder.path().join("lockstep.toml"), folder.path().join("password.sh"));
    let ran = folder.path().join("ran");
    let mode = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("set");
    };
    std::fs::write(&script, format!("#!/bin/sh\ntouch {}\necho x\n", ran.display())).expect("written");
    mode(&script, 0o755);
    std::fs::write(&file, format!("[source]\npassword_command = \"{} now\"\n", script.display()))
        .expect("written");
    mode(&file, 0o644);
    let tried = async || status(&world, folder.path(), ("LOCKSTEP_LOG", "info")).await;
    let refused = async |of: &Path, why: &str| {
        let (code, said) = tried().await;
        assert_eq!(code, Some(2), "{said}");
        let name = of.file_name().expect("a file").to_string_lossy();
        assert!(said.contains(&*name) && said.contains(why), "{said}");
        assert!(!ran.exists(), "it was run");
    };
    for (path, right) in [(&file, 0o644), (&script, 0o755)] {
        for (bit, who) in [(0o020, "its group"), (0o002, "everyone")] {
            mode(path, right | bit);
            refused(path, who).await;
        }
        mode(path, right);
        // Only root can give a file away.
        if path.metadata().expect("there").uid() == 0 {
            chown(path, Some(54_321), None).expect("given away");
            refused(path, "another user (uid 54321").await;
            chown(path, Some(0), None).expect("taken back");
        }
    }
    let (_, said) = tried().await;
    assert!(ran.exists(), "what only its own user may write is run: {said}");
}

/// S22. 1. `lockstep.toml` of a shared folder is another user's. 2. It names no command, but where rows and
/// tokens are sent, or which file is the token. 3. An operator's command there did as it says.
#[cfg(unix)]
#[tokio::test]
async fn no_place_is_taken_from_a_file_that_another_user_may_have_written() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
    let world = World::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("lockstep.toml");
    let mode = |mode: u32| {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("set");
    };
    let tried = async || status(&world, folder.path(), ("LOCKSTEP_LOG", "info")).await;
    for (section, key, value) in [
        ("target", "streams_endpoint_url", "http://127.0.0.1:1"),
        ("serve", "webhook_url", "https://127.0.0.1:1/hook"),
        ("serve", "operate_token_file", "/etc/hostname"),
    ] {
        std::fs::write(&file, format!("[{section}]\n{key} = \"{value}\"\n")).expect("written");
        mode(0o666);
        let (code, said) = tried().await;
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("everyone") && said.contains(&format!("`{section}.{key}`")), "{said}");
    }
    // Only root can give a file away.
    mode(0o644);
    if file.metadata().expect("there").uid() == 0 {
        chown(&file, Some(54_321), None).expect("given away");
        let (code, said) = tried().await;
        assert!(code == Some(2) && said.contains("another user (uid 54321"), "{said}");
        chown(&file, Some(0), None).expect("taken back");
    }
    // What the operator's environment says in its place is the operator's, and a setting leads nowhere.
    std::fs::write(&file, "[target]\nendpoint_url = \"http://127.0.0.1:1\"\n[relay]\nbatch_keys = 100\n")
        .expect("written");
    mode(0o666);
    let (code, said) = tried().await;
    assert_ne!(code, Some(2), "{said}");
    mode(0o644);
    assert_ne!(tried().await.0, Some(2));
}
