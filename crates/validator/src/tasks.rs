//! Using the processors: workers with an owner, and computing off the async threads.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};

/// Reason why a pass ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stopped {
    /// A store failed for longer than we wait.
    #[error(transparent)]
    Store(#[from] lockstep_core::Error),
    /// A key cannot be written as a literal, so the next chunk has no beginning.
    #[error("the next chunk has no beginning: {0}")]
    Border(lockstep_core::Unholdable),
    /// A page ended at a key that no item of ours can have.
    #[error("the next page begins at a key that is not one of this table")]
    Cursor,
    /// A file of the ledger failed.
    #[error(
        "a file in {folder} cannot be used: {error}; make room there, or name another folder ({setting})"
    )]
    Spool {
        /// Path of the folder.
        folder: String,
        /// Setting that names another folder.
        setting: String,
        /// Error of the operating system.
        error: std::io::Error,
    },
    /// Lease that is over: this process was stopped, or cut off from the source, and what it read under the
    /// lease counts no more.
    #[error("the lease of this process was over; its part is read again")]
    LeaseOver,
    /// The comparison that this process leads, or takes part in, is there no more.
    #[error(
        "the comparison was given up: its leader was stopped, or cut off from the source, and another one \
         began; run it again"
    )]
    GivenUp,
    /// This process is not fit to take part.
    #[error("{0}")]
    Unfit(String),
    /// An export is not whole, or not what its manifest says.
    #[error("an export is refused: {0}")]
    Export(String),
    /// A file of an export is not what the manifest says, which is known once it was read.
    #[error("an export is refused: {0}")]
    NotTheManifests(String),
    /// A worker panicked.
    #[error("a worker panicked; this is a bug of Lockstep: {0}")]
    Panicked(String),
    /// The recheck ended before the pass that feeds it; the recheck says why.
    #[error("suspects are not rechecked any more")]
    RecheckEnded,
}

/// Returns the passes that did not come to their end, and why; empty where all did. The recheck says itself
/// why it ended: that its feeders then stopped adds nothing.
pub(crate) fn failures<const N: usize>(ends: [(&str, Result<(), Stopped>); N]) -> Vec<String> {
    let told = |(what, end): (&str, Result<(), Stopped>)| match end {
        Ok(()) | Err(Stopped::RecheckEnded) => None,
        Err(error) => Some(format!("{what}: {error}")),
    };
    ends.into_iter().filter_map(told).collect()
}

/// Runs `work` on rayon's threads.
///
/// # Cancel safety
/// A cancelled call lets the work end and forgets its result.
///
/// # Panics
/// As `work` does: the panic comes back here, where the worker that asked has an owner.
pub(crate) async fn compute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = oneshot::channel();
    rayon::spawn(move || {
        // The caller may be gone; then the result is of no use.
        let _ = send.send(catch_unwind(AssertUnwindSafe(work)));
    });
    match receive.await.expect("a job sends its result before it ends") {
        Ok(result) => result,
        Err(panic) => resume_unwind(panic),
    }
}

/// Waits for all workers, or stops the others when one has stopped.
pub(crate) async fn join(mut workers: JoinSet<Result<(), Stopped>>) -> Result<(), Stopped> {
    while let Some(worker) = workers.join_next().await {
        ended(worker)?;
    }
    Ok(())
}

/// Returns how a worker ended: a panic in it is an error of its owner.
pub(crate) fn ended(worker: Result<Result<(), Stopped>, JoinError>) -> Result<(), Stopped> {
    worker.unwrap_or_else(|_| Err(Stopped::Panicked(lockstep_core::PANICKED.to_owned())))
}
