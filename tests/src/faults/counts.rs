//! Counts of what the proxy saw and did.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::fault::FaultKind;

/// Totals since the proxy was started; they only grow.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    seen: BTreeMap<String, u64>,
    injected: BTreeMap<(FaultKind, String), u64>,
    /// Requests the emulator answered (a duplicate counts twice).
    pub forwarded: u64,
    /// Requests the emulator could not be asked, or whose answer could not be understood; their connections
    /// were cut. Not a fault that a test scripted: a test whose emulator stays up asserts zero.
    pub upstream_failures: u64,
}

impl Counts {
    /// Calls of this operation that came in, whatever became of them.
    pub fn seen(&self, operation: &str) -> u64 {
        self.seen.get(operation).copied().unwrap_or(0)
    }

    /// Calls that came in.
    pub fn seen_in_all(&self) -> u64 {
        self.seen.values().sum()
    }

    /// Returns how often the fault happened. A fault counts when it has happened: a lost reply once the write
    /// is applied, a duplicate after the second, a delay when the request stands at the gate.
    pub fn injected(&self, kind: FaultKind) -> u64 {
        self.injected.iter().filter(|((fault, _), _)| *fault == kind).map(|(_, count)| count).sum()
    }

    /// Returns how often the fault happened to this operation.
    pub fn injected_on(&self, kind: FaultKind, operation: &str) -> u64 {
        self.injected.get(&(kind, operation.to_owned())).copied().unwrap_or(0)
    }

    pub(super) fn see(&mut self, operation: &str) {
        match self.seen.get_mut(operation) {
            Some(count) => *count += 1,
            None => drop(self.seen.insert(operation.to_owned(), 1)),
        }
    }

    pub(super) fn inject(&mut self, kind: FaultKind, operation: &str) {
        *self.injected.entry((kind, operation.to_owned())).or_default() += 1;
    }
}

/// One call, kept for assertions.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The operation: `PutItem`, …
    pub operation: String,
    /// The first table the call names.
    pub table: Option<String>,
    /// The fault that was chosen for it, if any.
    pub fault: Option<FaultKind>,
    /// The body as it came in.
    pub body: Bytes,
}

/// The first calls that came in, up to a limit: the beginning is what a test can foresee.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub(super) limit: usize,
    pub(super) kept: Vec<Recorded>,
}

impl Recorder {
    pub(super) fn keep(&mut self, recorded: impl FnOnce() -> Recorded) {
        if self.kept.len() < self.limit {
            self.kept.push(recorded());
        }
    }
}
