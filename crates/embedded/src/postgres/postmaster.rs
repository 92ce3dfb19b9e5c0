//! One run of the postmaster: started, waited for, stopped.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Child, Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use super::{account::Account, binaries::Binaries, folder::Folder};
use crate::{Error, error::last_lines};

/// Recovery after a crash replays at most what was written since the last checkpoint, a gigabyte of log by
/// default.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// A fast shutdown writes a checkpoint.
const FAST_WITHIN: Duration = Duration::from_secs(15);
/// An immediate shutdown writes nothing; the postmaster kills what does not go within five seconds.
const IMMEDIATE_WITHIN: Duration = Duration::from_secs(7);
const POLL: Duration = Duration::from_millis(5);

/// A running postmaster that we are the parent of. Until it is reaped its id belongs to no other process, so
/// signals are safe.
#[derive(Debug)]
pub(super) struct Postmaster {
    child: Child,
}

/// Reason why a postmaster did not become ready.
#[derive(Debug)]
pub(super) enum Failure {
    /// Another process has the port.
    PortTaken(Error),
    /// The postmaster of the run before was killed, and its children have not all noticed yet.
    EndingStill(Error),
    /// Anything else.
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Other(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        match failure {
            Failure::PortTaken(error) | Failure::EndingStill(error) | Failure::Other(error) => error,
        }
    }
}

/// Returns a port that was free a moment ago.
pub(super) fn free_port() -> Result<u16, Error> {
    let port = || Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port());
    port().map_err(Error::files("get a free port on", "127.0.0.1"))
}

impl Postmaster {
    /// Starts the postmaster on `port` and returns when it takes connections. On failure nothing runs.
    pub(super) fn start(
        binaries: &Binaries,
        account: Account,
        folder: &mut Folder,
        port: u16,
    ) -> Result<Postmaster, Failure> {
        let program = binaries.program("postgres");
        let log_path = folder.log();
        // A statement that fails is in it, with its values: for the cluster's own account alone.
        let mut options = File::options();
        options.append(true).create(true).read(true);
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut log = options.open(&log_path).map_err(Error::files("open", &log_path))?;
        let log_begins = log.seek(SeekFrom::End(0)).map_err(Error::files("read", &log_path))?;
        let to_log = || log.try_clone().map_err(Error::files("open", &log_path));

        let child = account
            .command(&program)
            .arg("-D")
            .arg(folder.data())
            .args(["-p", &port.to_string()])
            .stdout(to_log()?)
            .stderr(to_log()?)
            .spawn()
            .map_err(Error::spawn(&program))?;
        folder.watcher.watch(child.id());

        let mut postmaster = Postmaster { child };
        let Err(what) = postmaster.until_ready(&folder.data()) else { return Ok(postmaster) };
        if let Err(error) = postmaster.stop_immediate(folder) {
            tracing::warn!(%error, "a postmaster that did not become ready did not end either");
        }
        let said = read_from(&mut log, log_begins);
        let error = Error::NotReady { data_dir: folder.data(), what, log: last_lines(&said) };
        Err(match said {
            said if said.contains("Address already in use") => Failure::PortTaken(error),
            said if said.contains("shared memory block") && said.contains("still in use") => {
                Failure::EndingStill(error)
            }
            _ => Failure::Other(error),
        })
    }

    /// Tells whether it runs, as far as the system knows: another process may have killed it.
    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Returns its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops it in order: clients are disconnected, what is committed is checkpointed.
    pub(super) fn stop_fast(&mut self, folder: &mut Folder) -> Result<(), Error> {
        self.stop(folder, &[("INT", FAST_WITHIN), ("QUIT", IMMEDIATE_WITHIN), ("KILL", IMMEDIATE_WITHIN)])
    }

    /// Stops it at once, as a crash would: the next start has to recover. Unlike SIGKILL it leaves no shared
    /// memory behind that would refuse that next start.
    pub(super) fn stop_immediate(&mut self, folder: &mut Folder) -> Result<(), Error> {
        self.stop(folder, &[("QUIT", IMMEDIATE_WITHIN), ("KILL", IMMEDIATE_WITHIN)])
    }

    /// PostgreSQL says in the eighth line of its pid file how far it is; `pg_ctl` waits for the same line.
    fn until_ready(&mut self, data: &Path) -> Result<(), String> {
        let pid_file = data.join("postmaster.pid");
        let pid = self.pid().to_string();
        let deadline = Instant::now() + READY_WITHIN;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => return Err(format!("ended at its start ({status})")),
                Err(error) => return Err(format!("could not be waited for ({error})")),
            }
            let said = fs::read_to_string(&pid_file).unwrap_or_default();
            let mut lines = said.lines();
            // A crash leaves the file of the run before.
            if lines.next() == Some(&pid) && lines.nth(6).is_some_and(|status| status.trim() == "ready") {
                return Ok(());
            }
            thread::sleep(POLL);
        }
        Err(format!("was not ready after {} s", READY_WITHIN.as_secs()))
    }

    fn stop(&mut self, folder: &mut Folder, signals: &[(&str, Duration)]) -> Result<(), Error> {
        let waiting = |source| Error::Files {
            action: "wait for the postmaster of",
            path: folder.path().into(),
            source,
        };
        let mut ended = self.child.try_wait().map_err(waiting)?;
        for (signal, within) in signals {
            if ended.is_some() {
                break;
            }
            send(signal, self.pid())?;
            ended = wait_within(&mut self.child, *within).map_err(waiting)?;
        }
        let Some(status) = ended else {
            return Err(Error::NotEnding { data_dir: folder.data(), pid: self.pid() });
        };
        folder.watcher.unwatch();
        tracing::debug!(pid = self.pid(), %status, "the postmaster has ended");
        Ok(())
    }
}

/// The standard library can send SIGKILL only, the shell's own `kill` all of them.
fn send(signal: &str, pid: u32) -> Result<(), Error> {
    let script = "kill -s \"$1\" \"$2\"";
    let mut kill = Command::new("/bin/sh");
    kill.args(["-c", script, "lockstep-kill", signal, &pid.to_string()]);
    kill.output().map(drop).map_err(Error::spawn("/bin/sh"))
}

fn wait_within(child: &mut Child, within: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + within;
    loop {
        let ended = child.try_wait()?;
        if ended.is_some() || Instant::now() >= deadline {
            return Ok(ended);
        }
        thread::sleep(POLL);
    }
}

fn read_from(log: &mut File, begin: u64) -> String {
    let mut bytes = Vec::new();
    let read = log.seek(SeekFrom::Start(begin)).and_then(|_| log.read_to_end(&mut bytes));
    read.map_or_else(
        |error| format!("(cannot be read: {error})"),
        |_| String::from_utf8_lossy(&bytes).into_owned(),
    )
}
