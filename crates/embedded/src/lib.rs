//! The two stores of the default run, of the tests and of the benches, started by the command itself and gone
//! when it ends: a throw-away PostgreSQL cluster and an embedded DynamoDB.
//!
//! # Vocabulary
//!
//! - **Cluster**: one PostgreSQL data directory and the *postmaster* that serves it, on a free loopback port.
//! - **Folder**: `lockstep-pg-<owner pid>-<random>` under the temporary folder. It holds the data directory,
//!   the log and the owner's lock. Nothing of a cluster lies outside it.
//! - **Owner**: the process that started the cluster. The cluster never outlives it, unless it is *kept*.
//! - **Watcher**: a small shell that holds the other end of a pipe to the owner. However the owner ends, the
//!   pipe closes, and the watcher stops the postmaster and removes the folder.
//! - **Kept**: handed to the operator: it runs on, and nothing removes it.
//! - **Crash**: the store goes without a word to its clients' transactions, as in a power cut; its data
//!   directory stays.
//!
//! In reading order: `error`, `postgres` and `dynamo` (one store each), `stores` (both together).
//!
//! # Example
//!
//! ```no_run
//! use lockstep_embedded::{Stores, StoresOptions};
//!
//! # async fn example() -> Result<(), lockstep_embedded::Error> {
//! let stores = Stores::start(StoresOptions::default()).await?;
//! let _source = stores.postgres.url(); // for the PostgreSQL driver; carries the password, so not for logs
//! let _target = stores.dynamo.endpoint_url(); // for the AWS SDK; any access key and any secret will do
//! stores.stop().await
//! # }
//! ```
//!
//! # What is not here
//!
//! No driver and no SDK: this crate starts stores and never talks SQL or DynamoDB to them. No environment and
//! no configuration files: options come as values. No Windows: the crate leans on process groups and users of
//! Unix.

mod error;
mod stores;

mod postgres;

mod dynamo;

pub use dynamo::{DetachedDynamo, Dynamo, DynamoOptions, serve_dynamo};
pub use error::Error;
pub use postgres::{KeptPostgres, Postgres, PostgresOptions};
pub use stores::{Stores, StoresOptions};

/// Runs blocking work on the runtime's blocking threads.
///
/// Everything that starts or stops a process in this crate is written once, blocking, so that `Drop` can use
/// it too. When the returned future is dropped the work still runs to its end, and what it made is dropped,
/// hence removed.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(join) => match join.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::RuntimeEnded),
        },
    }
}
