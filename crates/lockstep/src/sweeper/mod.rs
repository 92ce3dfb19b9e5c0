//! The sweeper: resolves what crashes, rollbacks and lost replies of strict writes left half-done (R17), by
//! itself.

use std::sync::Arc;
use std::time::Duration;

use lockstep_core::Kind;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::store::Writer;

/// Settings of the sweeper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SweeperOptions {
    /// Pause between sweeps.
    pub every_ms: u64,
    /// Intents younger than this are left alone: their writes are likely under way, and looking costs.
    pub age_ms_min: u64,
}

impl Default for SweeperOptions {
    fn default() -> Self {
        Self { every_ms: 1_000, age_ms_min: 1_000 }
    }
}

/// A sweeper that runs in the background until it is stopped. Any number of them may run, in any number of
/// processes.
#[derive(Debug)]
pub(crate) struct Sweeper {
    stop: Arc<watch::Sender<bool>>,
    task: JoinHandle<()>,
}

impl Sweeper {
    /// Starts one. Must be called inside a Tokio runtime.
    pub(crate) fn start(writer: Writer, options: SweeperOptions) -> Self {
        let (stop, stopped) = watch::channel(false);
        Self { stop: Arc::new(stop), task: tokio::spawn(run(writer, options, stopped)) }
    }

    /// Stops it and waits until it has stopped; a sweep under way is finished.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

async fn run(writer: Writer, options: SweeperOptions, mut stopped: watch::Receiver<bool>) {
    let pause = Duration::from_millis(options.every_ms.max(1));
    let age_min = Duration::from_millis(options.age_ms_min);
    // Said once, not once a second.
    let mut failing: Option<Kind> = None;
    loop {
        if writer.phase().is_in_target() {
            // No strict write is under way, none was when the truth moved, and PostgreSQL may be down.
            if tokio::time::timeout(pause, stopped.wait_for(|stop| *stop)).await.is_ok() {
                return;
            }
            continue;
        }
        match writer.source().sweep_intents(age_min).await {
            Ok(swept) => {
                failing = None;
                writer.counters().add_swept(&swept);
                if swept.aborted + swept.forgotten > 0 {
                    tracing::info!(
                        aborted = swept.aborted,
                        forgotten = swept.forgotten,
                        "strict writes undone by the relay"
                    );
                }
            }
            Err(error) if failing != Some(error.kind) => {
                failing = Some(error.kind);
                tracing::warn!(kind = ?error.kind, "the sweeper cannot work, and tries on: {error}");
            }
            Err(_) => {}
        }
        // An error means that the handle is gone, and no caller can ever stop us.
        if tokio::time::timeout(pause, stopped.wait_for(|stop| *stop)).await.is_ok() {
            return;
        }
    }
}
