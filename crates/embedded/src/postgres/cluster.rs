//! A cluster from its creation to its removal, in blocking steps.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use super::{
    PostgresOptions,
    account::{self, Account},
    binaries::{Binaries, Rejected},
    folder::Folder,
    install,
    postmaster::{Failure, Postmaster, free_port},
};
use crate::{Error, error::last_lines};

/// The database of a cluster.
pub(super) const NAME: &str = "lockstep";
/// Name of its superuser. Not called like the schema of Lockstep's own tables: `"$user"` comes first in the
/// search path, and unqualified names would then be looked for, and created, among them.
pub(super) const ROLE: &str = "lockstep_owner";

/// Ports are taken between our look and PostgreSQL's bind so rarely that several times in a row is another
/// fault.
const PORTS_TRIED: usize = 8;

/// Time that the children of a killed postmaster have to notice. A busy one looks up at the end of its
/// statement.
const ENDS_WITHIN: Duration = Duration::from_secs(15);

/// A cluster, running or crashed. Dropped, it is stopped and removed.
#[derive(Debug)]
pub(super) struct Cluster {
    binaries: Binaries,
    account: Account,
    // Before the folder: fields are dropped in this order. See `Drop`, which stops it.
    postmaster: Option<Postmaster>,
    folder: Folder,
    port: u16,
}

impl Cluster {
    /// Creates a cluster whose superuser has `password`, and starts it.
    pub(super) fn create(options: &PostgresOptions, password: &str) -> Result<Cluster, Error> {
        let begun = Instant::now();
        let (account, binaries) = find_or_install(options)?;
        let parent = options.parent.clone().unwrap_or_else(std::env::temp_dir);
        let folder = Folder::create(&parent, account)?;
        let mut cluster = Cluster { binaries, account, postmaster: None, folder, port: 0 };
        cluster.initialise(options, password)?;
        let initialised = begun.elapsed();
        cluster.create_database()?;
        cluster.start_on_free_port()?;
        tracing::debug!(
            data_dir = %cluster.folder.data().display(),
            port = cluster.port,
            major = cluster.binaries.major,
            initialised_ms = initialised.as_millis(),
            started_ms = begun.elapsed().as_millis(),
            "a PostgreSQL cluster runs"
        );
        Ok(cluster)
    }

    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.postmaster.as_ref().map(Postmaster::pid)
    }

    /// Stops the postmaster as a power cut would, but for what the operating system had in hand.
    pub(super) fn crash(&mut self) -> Result<(), Error> {
        let postmaster =
            self.postmaster.as_mut().ok_or_else(|| Error::NotRunning { data_dir: self.folder.data() })?;
        postmaster.stop_immediate(&mut self.folder)?;
        self.postmaster = None;
        Ok(())
    }

    /// Starts the postmaster on the data directory and the port it had, after a crash by us or by another
    /// process.
    pub(super) fn start_again(&mut self) -> Result<u32, Error> {
        if let Some(postmaster) = &mut self.postmaster
            && postmaster.is_running()
        {
            return Err(Error::AlreadyRunning { data_dir: self.folder.data(), pid: postmaster.pid() });
        }
        self.postmaster = None;
        let deadline = Instant::now() + ENDS_WITHIN;
        loop {
            match Postmaster::start(&self.binaries, self.account, &mut self.folder, self.port) {
                Ok(postmaster) => return Ok(self.postmaster.insert(postmaster).pid()),
                Err(Failure::EndingStill(_)) if Instant::now() < deadline => {}
                Err(failure) => return Err(failure.into()),
            }
        }
    }

    /// Stops the postmaster in order and removes the folder.
    pub(super) fn remove(mut self) -> Result<(), Error> {
        if let Some(postmaster) = &mut self.postmaster {
            postmaster.stop_fast(&mut self.folder)?;
            self.postmaster = None;
        }
        self.folder.remove()
    }

    /// Leaves the running postmaster and the folder behind.
    pub(super) fn keep(mut self) -> Result<u32, Error> {
        let pid = self.pid().ok_or_else(|| Error::NotRunning { data_dir: self.folder.data() })?;
        self.folder.keep()?;
        // A `Child` that is dropped runs on.
        self.postmaster = None;
        Ok(pid)
    }

    fn initialise(&mut self, options: &PostgresOptions, password: &str) -> Result<(), Error> {
        // In a file of its own: arguments are for all users of the machine to see.
        let password_file = self.folder.path().join("password");
        let written = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&password_file)
            .and_then(|mut file| file.write_all(password.as_bytes()))
            .and_then(|()| self.account.hand_over(&password_file));
        written.map_err(Error::files("write", &password_file))?;

        // The C locale compares bytes, as DynamoDB does. The time zone stays the one initdb finds on the
        // machine: whatever assumes UTC shall fail on a developer's desk, not later.
        let program = self.binaries.program("initdb");
        let mut initdb = self.account.command(&program);
        initdb.args([
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
            "--auth=scram-sha-256",
            "--username",
            ROLE,
        ]);
        initdb.arg("--pwfile").arg(&password_file).arg("--pgdata").arg(self.folder.data());
        initdb.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = initdb.spawn().map_err(Error::spawn(&program))?;
        self.folder.watcher.watch(child.id());
        let output = child.wait_with_output().map_err(Error::spawn(&program))?;
        self.folder.watcher.unwatch();
        fs::remove_file(&password_file).map_err(Error::files("remove", &password_file))?;
        self.succeeded("the creation", &output)?;

        let configuration = self.folder.data().join("postgresql.conf");
        let appended = File::options()
            .append(true)
            .open(&configuration)
            .and_then(|mut file| file.write_all(settings(options.durable).as_bytes()));
        appended.map_err(Error::files("write", &configuration))
    }

    /// Creates the database in single-user mode, before the cluster has a port: that needs neither client
    /// programs nor a password.
    fn create_database(&mut self) -> Result<(), Error> {
        let program = self.binaries.program("postgres");
        let mut single = self.account.command(&program);
        single.arg("--single").arg("-D").arg(self.folder.data()).arg("postgres");
        single.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = single.spawn().map_err(Error::spawn(&program))?;
        self.folder.watcher.watch(child.id());
        if let Some(mut input) = child.stdin.take() {
            // A server that ended before it read says why below.
            let _ = writeln!(input, "CREATE DATABASE {NAME}");
        }
        let output = child.wait_with_output().map_err(Error::spawn(&program))?;
        self.folder.watcher.unwatch();
        self.succeeded("the database", &output)
    }

    /// Single-user mode ends well after an error too, so the word counts as well.
    fn succeeded(&self, step: &'static str, output: &Output) -> Result<(), Error> {
        let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        let text = String::from_utf8_lossy(&text);
        if output.status.success() && !text.contains("ERROR:") && !text.contains("FATAL:") {
            return Ok(());
        }
        Err(Error::Create { step, data_dir: self.folder.data(), output: last_lines(&text) })
    }

    fn start_on_free_port(&mut self) -> Result<(), Error> {
        let mut tried = 0;
        loop {
            let port = free_port()?;
            tried += 1;
            match Postmaster::start(&self.binaries, self.account, &mut self.folder, port) {
                Ok(postmaster) => {
                    self.postmaster = Some(postmaster);
                    self.port = port;
                    return Ok(());
                }
                Err(Failure::PortTaken(_)) if tried < PORTS_TRIED => {}
                Err(failure) => return Err(failure.into()),
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(postmaster) = &mut self.postmaster
            && let Err(error) = postmaster.stop_immediate(&mut self.folder)
        {
            tracing::warn!(%error, "could not stop a PostgreSQL cluster");
        }
    }
}

/// Finds a server, or installs one where that needs no answer. An installation may bring the user `postgres`
/// with it.
fn find_or_install(options: &PostgresOptions) -> Result<(Account, Binaries), Error> {
    let given: Option<&Path> = options.binaries.as_deref();
    let account = Account::choose()?;
    let mut rejected = match Binaries::find(given, account) {
        Ok(binaries) => return Ok((account, binaries)),
        Err(rejected) => rejected,
    };
    if given.is_none() && options.install && install::if_possible(account::is_root())? {
        let account = Account::choose()?;
        rejected = match Binaries::find(None, account) {
            Ok(binaries) => return Ok((account, binaries)),
            Err(rejected) => rejected,
        };
    }
    let Rejected(rejected) = rejected;
    Err(Error::NoBinaries { rejected, command: install::command_to_type() })
}

fn settings(durable: bool) -> String {
    let durability = if durable { "on" } else { "off" };
    format!(
        "\n# Lockstep: a throw-away cluster for one machine.\n\
         listen_addresses = '127.0.0.1'\n\
         unix_socket_directories = ''\n\
         max_connections = 300\n\
         shared_buffers = 128MB\n\
         wal_level = replica\n\
         autovacuum = on\n\
         # Without these two a crash of PostgreSQL loses nothing, a crash of the machine loses the cluster.\n\
         fsync = {durability}\n\
         full_page_writes = {durability}\n"
    )
}
