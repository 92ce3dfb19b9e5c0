//! Chunks of a history on their way into a table: generated on blocking threads, sent by any number of
//! connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lockstep_core::{ColumnSpec, Doing, Error, Kind, MigratableTable, Result, Row};
use lockstep_integration_logs::{IntegrationLog, IntegrationLogs};
use lockstep_payments::{Payment, Payments};
use sqlx::PgConnection;
use tokio::sync::mpsc;

use super::line;
use crate::generate::{CHUNK_ROWS, History};

/// Chunks that wait for a connection: enough that neither side idles, few enough that memory stays at
/// megabytes.
const WAITING_MAX: usize = 3;
/// Room for the lines of a chunk at the start; it grows where it must.
const CHUNK_BYTES: usize = 1_000 * CHUNK_ROWS as usize;

/// Form in which a table is fed.
pub(super) struct Shape {
    name: &'static str,
    columns: &'static [ColumnSpec],
    chunks: fn(&History) -> u64,
    /// Appends the lines of a chunk and says how many there are.
    write: fn(&History, u64, &mut Vec<u8>) -> u64,
}

pub(super) const LOGS: Shape = Shape {
    name: IntegrationLogs::NAME,
    columns: IntegrationLog::COLUMNS,
    chunks: History::log_chunks,
    write: |history, chunk, out| lines(history.chunk_of_logs(chunk), out, line::log),
};

pub(super) const PAYMENTS: Shape = Shape {
    name: Payments::NAME,
    columns: Payment::COLUMNS,
    chunks: History::payment_chunks,
    write: |history, chunk, out| lines(history.chunk_of_payments(chunk), out, line::payment),
};

fn lines<R>(rows: impl Iterator<Item = R>, out: &mut Vec<u8>, append: fn(&mut Vec<u8>, &R)) -> u64 {
    let mut count = 0;
    for row in rows {
        append(out, &row);
        count += 1;
    }
    count
}

/// The chunks of one table that are not taken yet, shared by the connections.
pub(super) struct Feed {
    history: History,
    shape: &'static Shape,
    next: Arc<AtomicU64>,
}

struct Chunk {
    lines: Vec<u8>,
    rows: u64,
}

impl Feed {
    pub(super) fn new(history: History, shape: &'static Shape) -> Self {
        Self { history, shape, next: Arc::default() }
    }

    /// Copies chunks over `connection` until none is left.
    pub(super) async fn copy(
        &self,
        connection: &mut PgConnection,
        progress: &(impl Fn(u64) + Sync),
    ) -> Result<()> {
        let doing = format!("loading {}", self.shape.name);
        let columns: Vec<&str> = self.shape.columns.iter().map(|column| column.name).collect();
        let statement = format!("COPY {} ({}) FROM STDIN", self.shape.name, columns.join(", "));
        let mut copy = connection.copy_in_raw(&statement).await.doing(&doing)?;
        let (sender, mut chunks) = mpsc::channel(WAITING_MAX);
        let generator = self.generator(sender);
        while let Some(Chunk { lines, rows }) = chunks.recv().await {
            copy.send(lines).await.doing(&doing)?;
            progress(rows);
        }
        // The channel also closes when the generator panics; then the rows are not all, and must not be kept.
        if generator.await.is_err() {
            copy.abort("the generator failed").await.doing(&doing)?;
            return Err(Error::source(Kind::Invalid, doing, "the generator of sample rows panicked"));
        }
        copy.finish().await.doing(&doing)?;
        Ok(())
    }

    /// Generates chunks until none is left, or until no connection receives them.
    fn generator(&self, sender: mpsc::Sender<Chunk>) -> tokio::task::JoinHandle<()> {
        let (history, shape, next) = (self.history, self.shape, Arc::clone(&self.next));
        tokio::task::spawn_blocking(move || {
            let chunks = (shape.chunks)(&history);
            loop {
                let chunk = next.fetch_add(1, Ordering::Relaxed);
                if chunk >= chunks {
                    return;
                }
                let mut lines = Vec::with_capacity(CHUNK_BYTES);
                let rows = (shape.write)(&history, chunk, &mut lines);
                if sender.blocking_send(Chunk { lines, rows }).is_err() {
                    return;
                }
            }
        })
    }
}
