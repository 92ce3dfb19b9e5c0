//! Findings of the doctor.

use serde::Serialize;

use crate::remedy::Remedy;

/// Age from which something waits because no process is working on it, in seconds. A relay takes a fraction
/// of a second.
pub(super) const WAITS_S: f64 = 60.0;

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something may be lost or wrong, or nothing can go on, until an operator acts.
    Broken,
    /// It is safe as it is, and wants to be looked at.
    Attention,
}

/// One thing that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Severity: how bad it is.
    pub severity: Severity,
    /// Name of the table that it is about; `None` for the migration as a whole.
    pub table: Option<String>,
    /// Fact that was found.
    pub what: String,
    /// Meaning of the fact for the data.
    pub means: String,
    /// Command to run, or thing to do.
    pub next: String,
    /// Remedy that the repair of the state applies, if it has one.
    pub remedy: Option<Remedy>,
}

/// Everything that the doctor has to say.
#[derive(Clone, Debug, Serialize)]
pub struct Diagnosis {
    /// State of the migration, in a sentence.
    pub state: String,
    /// Whether nothing is broken.
    pub sound: bool,
    /// Things that are safe to do now.
    pub safe: Vec<String>,
    /// Findings, the worst first.
    pub findings: Vec<Finding>,
    /// Commands to run now, in this order.
    pub next: Vec<String>,
}

impl Finding {
    pub(super) fn broken(what: impl Into<String>, means: impl Into<String>, next: impl Into<String>) -> Self {
        let (what, means, next) = (what.into(), means.into(), next.into());
        Self { severity: Severity::Broken, table: None, what, means, next, remedy: None }
    }

    pub(super) fn attention(
        what: impl Into<String>,
        means: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Attention, ..Self::broken(what, means, next) }
    }

    pub(super) fn of(mut self, table: &str) -> Self {
        self.table = Some(table.to_owned());
        self
    }

    pub(super) fn repaired_by(mut self, remedy: Remedy) -> Self {
        self.remedy = Some(remedy);
        self
    }
}
