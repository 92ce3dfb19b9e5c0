//! The log of one operation.

use std::sync::Arc;
use std::time::Instant;

use chrono::{SubsecRound, Utc};
use lockstep_core::{Error, MigratableTable, Result};

use super::{LogSink, OperationEvent, Stage};
use crate::store::{Started, Store};

/// Says what happens to an operation, and for how long it has been under way.
pub(super) struct OwnLog<S: LogSink> {
    store: Store<S::Table>,
    sink: Arc<S>,
    name: String,
    correlation_id: String,
    began: Instant,
}

impl<S: LogSink> OwnLog<S> {
    /// The log of an operation that begins now.
    pub(super) fn new(store: Store<S::Table>, sink: Arc<S>, name: &str, correlation_id: &str) -> Self {
        let (name, correlation_id) = (name.to_owned(), correlation_id.to_owned());
        Self { store, sink, name, correlation_id, began: Instant::now() }
    }

    /// The store of the log's table.
    pub(super) fn store(&self) -> &Store<S::Table> {
        &self.store
    }

    /// Logs the start. It is committed when this returns, and on its way to the target.
    pub(super) async fn start(&self) -> Result<Started> {
        self.store.insert_beside(&self.row(Stage::Start, None)).await
    }

    /// Logs that it was rolled back, and why. It was, whether that can be logged or not.
    pub(super) async fn failure(&self, reason: &Error) {
        match self.store.insert_beside(&self.row(Stage::Failure, Some(&reason.to_string()))).await {
            Ok(mut started) => self.store.writer().acknowledge(started.delivered().await),
            Err(error) => {
                tracing::warn!(kind = ?error.kind, "the failure of an operation could not be logged: {error}")
            }
        }
    }

    pub(super) fn row(&self, stage: Stage, message: Option<&str>) -> <S::Table as MigratableTable>::Row {
        self.sink.row(&OperationEvent {
            name: &self.name,
            correlation_id: &self.correlation_id,
            stage,
            at: Utc::now().trunc_subsecs(6),
            elapsed: (stage != Stage::Start).then(|| self.began.elapsed()),
            message,
        })
    }
}
