//! The throw-away PostgreSQL cluster.

mod account;
mod binaries;
mod install;
mod watcher;

mod folder;
mod postmaster;

mod cluster;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::{Error, blocking};
use cluster::{Cluster, NAME, ROLE};

/// Options with which a cluster is started. The default is right for runs, tests and most benches.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Whether what is committed survives a crash of the *machine* (`fsync`, `full_page_writes`). Off by
    /// default: the cluster is thrown away anyway, and what is committed survives a crash of PostgreSQL
    /// either way. On for benches that shall say something about a real server.
    pub durable: bool,
    /// The folder with PostgreSQL's programs. By default they are looked for on `PATH`, by `pg_config`, and
    /// in the usual places, the newest version first.
    pub binaries: Option<PathBuf>,
    /// Whether to install PostgreSQL where there is none and that needs no answer: as root, with apt. On by
    /// default.
    pub install: bool,
    /// The folder in which the cluster's folder is made; the system's temporary folder by default. When this
    /// process is root, the user `postgres` must be able to pass through it.
    pub parent: Option<PathBuf>,
}

impl Default for PostgresOptions {
    fn default() -> PostgresOptions {
        PostgresOptions { durable: false, binaries: None, install: true, parent: None }
    }
}

/// A throw-away PostgreSQL cluster with one superuser and one database, both named `lockstep`.
///
/// It is removed by [`stop`](Postgres::stop), when this value is dropped (at once, by blocking for some ten
/// milliseconds), and when this process ends in any other way, SIGKILL included. Only
/// [`keep`](Postgres::keep) lets it outlive this process.
pub struct Postgres {
    url: String,
    data_dir: PathBuf,
    port: u16,
    /// 0 while it does not run. Beside the lock, so that asking for it never waits for a start or a crash.
    pid: Arc<AtomicU32>,
    /// `None` when stopped or kept. Locked on blocking threads only.
    cluster: Arc<Mutex<Option<Cluster>>>,
}

/// A cluster that was left running, and how to get rid of it.
#[derive(Clone, PartialEq, Eq)]
pub struct KeptPostgres {
    /// URL of the cluster, with the password.
    pub url: String,
    /// Data directory of the cluster.
    pub data_dir: PathBuf,
    /// Process id of its postmaster.
    pub pid: u32,
    /// The command that stops it and removes every trace of it.
    pub removal: String,
}

impl Postgres {
    /// Creates a cluster and starts it, on a free port of 127.0.0.1, with a fresh random password.
    ///
    /// As root it runs as the user `postgres`, or `nobody`. It takes one to two seconds, nearly all of it
    /// `initdb`.
    ///
    /// # Errors
    ///
    /// [`Error::NoBinaries`], [`Error::Install`] and [`Error::NoAccount`] are for the operator to repair; the
    /// others say what PostgreSQL or the system said. Nothing is left behind.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its end, the creation goes on in the background and the cluster is then removed.
    pub async fn start(options: PostgresOptions) -> Result<Postgres, Error> {
        blocking(move || {
            let password = format!("{:032x}", rand::random::<u128>());
            let cluster = Cluster::create(&options, &password)?;
            let port = cluster.port();
            Ok(Postgres {
                url: format!("postgres://{ROLE}:{password}@127.0.0.1:{port}/{NAME}"),
                data_dir: cluster.folder().data(),
                port,
                pid: Arc::new(AtomicU32::new(cluster.pid().unwrap_or(0))),
                cluster: Arc::new(Mutex::new(Some(cluster))),
            })
        })
        .await
    }

    /// Returns the URL of the database `lockstep`, for any driver. It carries the password, so it is not for
    /// logs.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Returns the port on 127.0.0.1. It stays the same over [`crash`](Postgres::crash) and
    /// [`start_again`](Postgres::start_again).
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the postmaster's process id; `None` between [`crash`](Postgres::crash) and the next start.
    pub fn pid(&self) -> Option<u32> {
        Some(self.pid.load(Ordering::Acquire)).filter(|pid| *pid != 0)
    }

    /// Kills PostgreSQL with everything it has in hand (an immediate shutdown): connections break, open
    /// transactions are lost, what was committed is recovered at the next start.
    ///
    /// # Errors
    ///
    /// [`Error::NotRunning`] if it does not run.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its end, PostgreSQL is killed all the same; `pid` tells when.
    pub async fn crash(&self) -> Result<(), Error> {
        let pid = Arc::clone(&self.pid);
        self.with_cluster(move |cluster| {
            cluster.crash()?;
            pid.store(0, Ordering::Release);
            Ok(())
        })
        .await
    }

    /// Starts PostgreSQL after a crash, on the same data directory and port, and returns when it has
    /// recovered. Another process may have caused the crash, as by SIGKILL to the postmaster.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyRunning`] if it runs; [`Error::NotReady`] with the end of its log if it cannot, which
    /// includes that another process took the port meanwhile. It may be tried again.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its end, PostgreSQL starts all the same; `pid` tells when.
    pub async fn start_again(&self) -> Result<(), Error> {
        let pid = Arc::clone(&self.pid);
        self.with_cluster(move |cluster| {
            pid.store(cluster.start_again()?, Ordering::Release);
            Ok(())
        })
        .await
    }

    /// Disconnects all clients, shuts PostgreSQL down in order and removes every trace of it.
    ///
    /// # Errors
    ///
    /// When PostgreSQL does not end or a file cannot be removed. Both are tried once more in the background.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its end, the removal goes on in the background.
    pub async fn stop(self) -> Result<(), Error> {
        self.take_cluster(Cluster::remove).await
    }

    /// Leaves the running cluster to the operator: it outlives this process, and nothing removes it.
    ///
    /// # Errors
    ///
    /// [`Error::NotRunning`] after a crash; the cluster is then removed.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its end, the cluster is kept all the same.
    pub async fn keep(self) -> Result<KeptPostgres, Error> {
        let (url, data_dir) = (self.url.clone(), self.data_dir.clone());
        self.take_cluster(move |cluster| {
            let folder = cluster.folder().path().to_owned();
            let pid = cluster.keep()?;
            let removal = format!("kill -QUIT {pid}; rm -rf '{}'", folder.display());
            Ok(KeptPostgres { url, data_dir, pid, removal })
        })
        .await
    }

    async fn with_cluster<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Cluster) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (cluster, data_dir) = (Arc::clone(&self.cluster), self.data_dir.clone());
        blocking(move || match &mut *cluster.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(cluster) => work(cluster),
            None => Err(Error::NotRunning { data_dir }),
        })
        .await
    }

    async fn take_cluster<T: Send + 'static>(
        self,
        work: impl FnOnce(Cluster) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let Postgres { cluster, data_dir, .. } = self;
        blocking(move || match cluster.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(cluster) => work(cluster),
            None => Err(Error::NotRunning { data_dir }),
        })
        .await
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Postgres { data_dir, port, .. } = self;
        f.debug_struct("Postgres")
            .field("data_dir", data_dir)
            .field("port", port)
            .field("pid", &self.pid())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for KeptPostgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KeptPostgres { data_dir, pid, .. } = self;
        f.debug_struct("KeptPostgres").field("data_dir", data_dir).field("pid", pid).finish_non_exhaustive()
    }
}
