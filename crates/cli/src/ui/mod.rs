//! Display for people while a command works. All of it goes to stderr; stdout has the report alone.
//!
//! In reading order: `text` (numbers as words), `rates` (from counters to rates, pure), `board` (one line or
//! bar a table).

mod board;
mod rates;
mod text;

pub use board::Board;
pub use lockstep_core::{printable, printable_cell, printable_json};
pub use rates::{Counter, Sample};
pub use text::{count, seconds};

/// Up to this number of tables, each is shown by itself.
pub const EACH_MAX: usize = 12;

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use indicatif::{MultiProgress, ProgressDrawTarget};
use lockstep_coordinator::{GateResult, Observer, alike};

/// A handle on the screen; cheap to clone.
#[derive(Clone)]
pub struct Ui {
    /// `None` where stderr is no terminal.
    bars: Option<MultiProgress>,
    quiet: bool,
    /// Whether each gate is shown, and not only how many pass.
    each_gate: bool,
    /// Gates that were decided and are not shown yet: those that say the same are shown as one.
    gates: Arc<Mutex<Vec<GateResult>>>,
    /// Boards that are open, with their titles, for who counts what they show.
    boards: Arc<Mutex<Vec<OpenBoard>>>,
}

/// Samples of all tables at the moment.
type Counts = dyn Fn() -> Vec<Sample> + Send + Sync;
/// Title of a board, and what it counts for as long as it is open.
type OpenBoard = (String, Weak<Counts>);

impl std::fmt::Debug for Ui {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ui").field("quiet", &self.quiet).finish_non_exhaustive()
    }
}

impl Ui {
    /// Returns the process's stderr. `quiet` leaves only warnings and errors.
    pub fn stderr(quiet: bool) -> Self {
        let bars = || MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(5));
        let bars = (!quiet && std::io::stderr().is_terminal()).then(bars);
        Self { bars, quiet, each_gate: false, gates: Arc::default(), boards: Arc::default() }
    }

    /// The same, which shows `each_gate` or how many of them pass.
    pub fn with_gates(self, each_gate: bool) -> Self {
        Self { each_gate, ..self }
    }

    /// Says one thing, above the bars if there are any.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            self.print(text);
        }
    }

    /// Says something that the operator must not miss.
    pub fn warn(&self, text: &str) {
        self.print(text);
    }

    /// Shows the progress of `sample`, called now and then, until the board is closed.
    pub fn board(&self, title: &str, sample: impl Fn() -> Vec<Sample> + Send + Sync + 'static) -> Board {
        let source: Arc<Counts> = Arc::new(sample);
        let mut boards = self.boards.lock().unwrap_or_else(PoisonError::into_inner);
        boards.retain(|(_, board)| board.strong_count() > 0);
        boards.push((title.to_owned(), Arc::downgrade(&source)));
        Board::open(self.clone(), title, source)
    }

    /// Returns what each board that is open shows at the moment, with its title, also where the command is
    /// quiet.
    pub fn counted(&self) -> Vec<(String, Vec<Sample>)> {
        let boards = self.boards.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let open = boards.iter().filter_map(|(title, board)| Some((title.clone(), board.upgrade()?())));
        open.collect()
    }

    /// Shows the gates that were decided: those that refuse and those that tell something, and of the others
    /// how many there are. Every other line but a note comes after them.
    pub fn show_gates(&self) {
        self.show_telling_gates();
        let passed = std::mem::take(&mut *self.gates()).len();
        if passed > 0 && !self.quiet {
            let (gates, each) = if passed == 1 { ("gate passes", "it") } else { ("gates pass", "each") };
            self.put(&format!("  gate  ok      {passed} {gates}; -v shows {each}"));
        }
    }

    /// Shows those of the gates that are to be read, in any case each where that is asked for.
    fn show_telling_gates(&self) {
        let mut gates = self.gates();
        let (told, silent) = std::mem::take(&mut *gates)
            .into_iter()
            .partition(|gate: &GateResult| self.each_gate || !gate.passed || gate.tells);
        *gates = silent;
        drop(gates);
        if self.quiet {
            return;
        }
        for gate in alike(&told) {
            let mark = if gate.first.passed { "ok      " } else { "REFUSED " };
            self.put(&format!("  gate  {mark}{}", gate.sentence(" — ")));
            if let Some(next) = &gate.first.next {
                self.put(&format!("              → {next}"));
            }
        }
    }

    fn gates(&self) -> MutexGuard<'_, Vec<GateResult>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn print(&self, text: &str) {
        self.show_gates();
        self.put(text);
    }

    fn put(&self, text: &str) {
        let text = crate::program::spoken(text);
        let text = printable(&text);
        // A reader who went away must not end the migration, as the panic of `eprintln!` would.
        let print = || drop(writeln!(std::io::stderr(), "{text}"));
        match &self.bars {
            Some(bars) => bars.suspend(print),
            None => print(),
        }
    }
}

impl Observer for Ui {
    fn gate(&self, gate: &GateResult) {
        self.gates().push(gate.clone());
        // A message about the migration as a whole is shown at once.
        if gate.table.is_none() {
            self.show_telling_gates();
        }
    }

    /// A note stands among the gates, and those that pass go on being counted: they are one line.
    fn note(&self, text: &str) {
        self.show_telling_gates();
        if !self.quiet {
            self.put(&format!("  {text}"));
        }
    }
}

/// Output of log lines: above the bars.
impl<'a> tracing_subscriber::fmt::MakeWriter<'a> for Ui {
    type Writer = LogLine;
    fn make_writer(&'a self) -> LogLine {
        LogLine { ui: self.clone(), line: Vec::new() }
    }
}

/// One log line, printed when it is whole.
#[derive(Debug)]
pub struct LogLine {
    ui: Ui,
    line: Vec<u8>,
}

impl Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.line.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.line);
        if !text.trim().is_empty() {
            self.ui.print(text.trim_end());
        }
    }
}
