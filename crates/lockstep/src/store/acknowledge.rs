//! Acknowledging off the caller's path: what the target holds is taken out of the pending set by a task of
//! the writer, many keys in one statement.
//!
//! Not having acknowledged is harmless: the relay delivers again and finds the state there. So nothing here
//! is waited for, repeated or kept past a full queue.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use chrono::DateTime;
use tokio::sync::{mpsc, oneshot};

use lockstep_postgres::{Delivered, MarkedKey, Source};

/// Keys that wait to be acknowledged; beyond it they are left to the relay.
const QUEUE: usize = 10_000;
/// Keys in one statement.
const BATCH: usize = 500;

enum Message {
    Held(&'static str, Delivered),
    /// Answered when all that came before has been dealt with.
    Reached(oneshot::Sender<()>),
}

/// A key whose state the target holds, and which is still in the pending set.
#[derive(Clone)]
pub(crate) struct Held {
    pub(super) marked: MarkedKey,
    pub(super) delivered: Delivered,
}

/// The place at which a write beside an operation leaves what it delivers while the operation goes on: the
/// operation takes it out of the pending set with its own keys, in the transaction that it has anyway.
pub(crate) struct Beside(Mutex<Option<oneshot::Sender<Vec<Held>>>>);

/// The other end of it.
#[derive(Default)]
pub(crate) struct Started(Option<oneshot::Receiver<Vec<Held>>>);

/// Both ends.
pub(super) fn beside() -> (Beside, Started) {
    let (sender, receiver) = oneshot::channel();
    (Beside(Mutex::new(Some(sender))), Started(Some(receiver)))
}

impl Beside {
    /// The way of what is delivered, once.
    pub(super) fn way(&self) -> Option<oneshot::Sender<Vec<Held>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Started {
    /// Waits for what is delivered, within the inline time-out; it comes once.
    ///
    /// # Cancel safety
    /// Dropped, what is delivered is a relay's to acknowledge.
    pub(crate) async fn delivered(&mut self) -> Vec<Held> {
        match self.0.take() {
            // An error means that nothing was due, or that the task is gone: then a relay delivers.
            Some(coming) => coming.await.unwrap_or_default(),
            None => Vec::new(),
        }
    }
}

/// The way to the task, which begins with the first key, and ends with the last handle.
#[derive(Default)]
pub(super) struct Acknowledger {
    queue: OnceLock<mpsc::Sender<Message>>,
}

impl Acknowledger {
    /// Hands a key over. Must be called inside a runtime.
    pub(super) fn held(&self, source: &Source, Held { marked, delivered }: Held) {
        let table = marked.table;
        let queue = self.queue.get_or_init(|| {
            let (sender, receiver) = mpsc::channel(QUEUE);
            tokio::spawn(acknowledge(source.clone(), receiver));
            sender
        });
        if queue.try_send(Message::Held(table, delivered)).is_err() {
            tracing::debug!(table, "left to the relay to acknowledge: too many wait already");
        }
    }

    /// Waits until all that was handed over has been acknowledged, or left to the relay.
    pub(super) async fn acknowledged(&self) {
        let Some(queue) = self.queue.get() else { return };
        let (reached, answer) = oneshot::channel();
        if queue.send(Message::Reached(reached)).await.is_ok() {
            // An error means that the task is gone, and with it whatever it had to do.
            let _ = answer.await;
        }
    }
}

async fn acknowledge(source: Source, mut queue: mpsc::Receiver<Message>) {
    let mut messages = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut messages, BATCH).await > 0 {
        let mut tables: BTreeMap<&str, Vec<Delivered>> = BTreeMap::new();
        let mut reached = Vec::new();
        for message in messages.drain(..) {
            match message {
                Message::Held(table, delivered) => tables.entry(table).or_default().push(delivered),
                Message::Reached(answer) => reached.push(answer),
            }
        }
        for (table, delivered) in tables {
            // A mark made meanwhile keeps its age: our clock is not the source's.
            if let Err(error) = source.acknowledge(table, &delivered, DateTime::UNIX_EPOCH).await {
                tracing::debug!(table, kind = ?error.kind, "left to the relay to acknowledge: {error}");
            }
        }
        for answer in reached {
            // The writer that asked may have gone.
            let _ = answer.send(());
        }
    }
}
