//! The shell that outlives the owner by the second it takes to clean up after it.
//!
//! A process cannot clean up after its own SIGKILL, and PostgreSQL, which runs in a process group of its own,
//! does not notice that its owner went. So a shell waits on a pipe whose other end only the owner holds. It
//! ignores the signals a terminal sends, and reads until the owner dismisses it or the pipe closes. The pipe
//! closes however the owner ends.

use std::{
    io::Write,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::Error;

/// Reads `watch <pid>`, `watch` (nothing to stop) and `dismiss`. At the end of the pipe it stops what it
/// watches and removes the folder, in rounds, because a program that is dying may still write into it.
const SCRIPT: &str = r#"
trap '' HUP INT QUIT TERM
folder=$1 pid=
while read -r word value; do
    case $word in
        watch) pid=$value ;;
        dismiss) exit 0 ;;
    esac
done
if [ -n "$pid" ]; then
    kill -s QUIT "$pid"
    rounds=0
    while kill -s 0 "$pid" && [ $rounds -lt 50 ]; do sleep 0.1; rounds=$((rounds + 1)); done
    [ $rounds -lt 50 ] || kill -s KILL "$pid"
fi
rounds=0
while [ -e "$folder" ] && [ $rounds -lt 50 ]; do
    rm -rf "$folder" || sleep 0.1
    rounds=$((rounds + 1))
done
"#;

/// The owner's end of the pipe.
#[derive(Debug)]
pub(super) struct Watcher {
    process: Child,
    dismissed: bool,
}

impl Watcher {
    /// Starts a watcher over `folder`. It runs as this process's user, who may signal PostgreSQL and remove
    /// the folder.
    pub(super) fn spawn(folder: &Path) -> Result<Watcher, Error> {
        let process = Command::new("/bin/sh")
            .arg("-c")
            .arg(SCRIPT)
            .arg("lockstep-watcher")
            .arg(folder)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::spawn("/bin/sh"))?;
        Ok(Watcher { process, dismissed: false })
    }

    /// Names the process to stop if the owner ends, in the place of the one before.
    pub(super) fn watch(&mut self, pid: u32) {
        self.say(&format!("watch {pid}\n"));
    }

    /// Nothing runs any more. Say so as soon as a process is reaped: from then on its id may become
    /// another's.
    pub(super) fn unwatch(&mut self) {
        self.say("watch\n");
    }

    /// Sends the watcher home: the folder is removed already, or is kept.
    pub(super) fn dismiss(&mut self) {
        if std::mem::replace(&mut self.dismissed, true) {
            return;
        }
        self.say("dismiss\n");
        drop(self.process.stdin.take());
        if let Err(error) = self.process.wait() {
            tracing::warn!(%error, "could not wait for the watcher of a PostgreSQL cluster");
        }
    }

    /// A watcher that was killed is no reason to stop working; the next start sweeps the folder if it
    /// comes to that.
    fn say(&mut self, line: &str) {
        let Some(pipe) = &mut self.process.stdin else { return };
        if let Err(error) = pipe.write_all(line.as_bytes()) {
            tracing::warn!(%error, "the watcher of a PostgreSQL cluster is gone; the cluster would outlive a SIGKILL");
        }
    }
}
