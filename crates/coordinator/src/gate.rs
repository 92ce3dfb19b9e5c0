//! Gates: one check, all checks of a step, and the observer that hears of each as it is decided.

use serde::Serialize;

/// The outcome of one check.
#[derive(Clone, Debug, Serialize)]
pub struct GateResult {
    /// Name of the gate: what it checks, in a few words.
    pub name: String,
    /// Table that was checked; `None` for the migration as a whole.
    pub table: Option<String>,
    /// Whether the step may go on.
    pub passed: bool,
    /// Description of what was found.
    pub detail: String,
    /// Advice on what to do about it.
    pub next: Option<String>,
    /// Whether people are to read it although it passed: it names something to think of before the step.
    #[serde(skip)]
    pub tells: bool,
}

impl GateResult {
    pub(crate) fn pass(name: &str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let tells = detail.starts_with("WARNING");
        Self { name: name.to_owned(), table: None, passed: true, detail, next: None, tells }
    }

    pub(crate) fn fail(name: &str, detail: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            table: None,
            passed: false,
            detail: detail.into(),
            next: Some(next.into()),
            tells: false,
        }
    }

    pub(crate) fn check(
        name: &str,
        passed: bool,
        detail: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        if passed { Self::pass(name, detail) } else { Self::fail(name, detail, next) }
    }

    /// The same, to be read although it passed where it names anything.
    pub(crate) fn tells_if(mut self, names_something: bool) -> Self {
        self.tells = self.tells || names_something;
        self
    }

    pub(crate) fn of(mut self, table: &str) -> Self {
        self.table = Some(table.to_owned());
        self
    }
}

/// All gates of one step.
#[derive(Clone, Debug, Default, Serialize)]
pub struct GateReport {
    /// Results of the gates, in the order in which they were checked.
    pub results: Vec<GateResult>,
}

impl GateReport {
    /// Tells whether nothing refuses the step.
    pub fn passed(&self) -> bool {
        self.results.iter().all(|gate| gate.passed)
    }
}

/// Receives gate results and notes while a command runs. Called from the coordinator's task; it must not
/// block.
pub trait Observer: Send + Sync {
    /// A gate has been decided.
    fn gate(&self, gate: &GateResult);
    /// Something a person would want to know.
    fn note(&self, text: &str);
}

/// An observer who looks away.
impl Observer for () {
    fn gate(&self, _gate: &GateResult) {}
    fn note(&self, _text: &str) {}
}

/// Collects results and shows each as it comes.
pub(crate) struct Collector<'a> {
    pub(crate) report: GateReport,
    observer: &'a dyn Observer,
}

impl<'a> Collector<'a> {
    pub(crate) fn new(observer: &'a dyn Observer) -> Self {
        Self { report: GateReport::default(), observer }
    }

    pub(crate) fn add(&mut self, gate: GateResult) {
        self.observer.gate(&gate);
        self.report.results.push(gate);
    }
}
