//! The lease of a worker: while it lasts, no other worker reads what it has read.
//!
//! What counts is judged by tokens, so this side needs no clock: a worker that has lost its lease reads on in
//! vain until it hears of it.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lockstep_core::Result;
use lockstep_postgres::{Pulse, Registering, Source};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::options::Sharing;
use crate::table_run::TableRun;

/// Renewals of one lease, if each succeeds at once.
const RENEWALS: u32 = 4;

/// A worker that others know of. Dropped, it is renewed no more.
#[derive(Debug)]
pub(super) struct Registered {
    pub(super) id: i64,
    source: Source,
    over: CancellationToken,
    _closing: DropGuard,
}

/// Returns a random number, unique to this registration.
pub(super) fn by_chance() -> i64 {
    i64::try_from(RandomState::new().build_hasher().finish() >> 1).unwrap_or(1).max(1)
}

impl Registered {
    /// Registers under an id of its own.
    ///
    /// # Errors
    /// The source's.
    pub(super) async fn register(run: &Arc<TableRun>, sharing: &Sharing) -> Result<Self> {
        let (source, id, lease) = (run.reader.source.clone(), by_chance(), sharing.lease);
        let name = format!("{}, comparing {}", sharing.name, run.binding.name());
        source.register_worker(&Registering { id, name: &name, coordinator: false, lease }).await?;
        let (over, closing) = (CancellationToken::new(), CancellationToken::new());
        let keeping = keep(source.clone(), id, lease, Arc::clone(run), over.clone());
        tokio::spawn(closing.clone().run_until_cancelled_owned(keeping));
        Ok(Self { id, source, over, _closing: closing.drop_guard() })
    }

    /// Waits until the source has said that it is over.
    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }

    /// Gives back what is held, so that others need not wait for the lease to end. They wait where the source
    /// does not hear of it.
    pub(super) async fn end(self) {
        if let Err(error) = self.source.end_worker(self.id).await {
            tracing::debug!("a worker's lease is left to end by itself: {error}");
        }
    }
}

async fn keep(source: Source, id: i64, lease: Duration, run: Arc<TableRun>, over: CancellationToken) {
    let rows = || run.progress().source_rows.load(Ordering::Relaxed);
    let (mut rows_before, mut before) = (rows(), Instant::now());
    loop {
        tokio::time::sleep(lease / RENEWALS).await;
        let (now, at) = (rows(), Instant::now());
        let seconds = (at - before).as_secs_f64().max(0.001);
        let pulse = Pulse {
            // It takes pieces and no ranges. 1. It reads segments of the target, or waits for the leader. 2.
            // Its pulse says that it has found no range. 3. Every worker of a backfill splits its ranges,
            // again and again, for one that takes none.
            idle: false,
            rows: i64::try_from(now).unwrap_or(i64::MAX),
            rows_per_s: now.saturating_sub(rows_before) as f64 / seconds,
            slowed_by: None,
        };
        match source.renew_worker(id, lease, pulse).await {
            Ok(true) => (rows_before, before) = (now, at),
            Ok(false) => return over.cancel(),
            // There may be time for another try, and the source judges.
            Err(error) => tracing::debug!("a worker's lease was not renewed: {error}"),
        }
    }
}
