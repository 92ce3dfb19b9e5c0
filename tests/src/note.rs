//! Notes of a writer about a row, one line each, and how a test reads them.

use std::fmt;

use lockstep_core::Phase;

/// A line of a writer's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The row's table.
    pub table: String,
    /// Id of the row.
    pub id: i64,
    /// Event that is noted.
    pub noted: Noted,
}

/// Note about a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Noted {
    /// A write of it was acknowledged.
    Acknowledged {
        /// Phase of the write.
        phase: Phase,
        /// State that it holds since; `None` when it was deleted.
        state: Option<String>,
    },
    /// It is unknown what became of a write of it.
    Unknown,
    /// It was read, and was not what was acknowledged last.
    Wrong {
        /// State that was read.
        found: Option<String>,
    },
}

const NOTHING: &str = "-";

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, id, noted } = self;
        let or_nothing = |state: &Option<String>| state.clone().unwrap_or_else(|| NOTHING.to_owned());
        match noted {
            Noted::Acknowledged { phase, state } => {
                write!(f, "{table} {id} acknowledged {phase} {}", or_nothing(state))
            }
            Noted::Unknown => write!(f, "{table} {id} unknown"),
            Noted::Wrong { found } => write!(f, "{table} {id} reads {}", or_nothing(found)),
        }
    }
}

impl Note {
    /// The note of a line.
    ///
    /// # Panics
    /// When it is none.
    pub fn parse(line: &str) -> Self {
        let words: Vec<&str> = line.split(' ').collect();
        let state = |word: &str| (word != NOTHING).then(|| word.to_owned());
        let (table, id, noted) = match words[..] {
            [table, id, "acknowledged", phase, of] => {
                (table, id, Noted::Acknowledged { phase: phase.parse().expect("a phase"), state: state(of) })
            }
            [table, id, "unknown"] => (table, id, Noted::Unknown),
            [table, id, "reads", of] => (table, id, Noted::Wrong { found: state(of) }),
            _ => panic!("{line:?} is no note"),
        };
        Self { table: table.to_owned(), id: id.parse().expect("an id"), noted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_was_noted() {
        let state = Some("1000003/7".to_owned());
        for noted in [
            Noted::Acknowledged { phase: Phase::DynamoOnly, state: state.clone() },
            Noted::Acknowledged { phase: Phase::HybridRead, state: None },
            Noted::Unknown,
            Noted::Wrong { found: state },
            Noted::Wrong { found: None },
        ] {
            let note = Note { table: "payments".to_owned(), id: 1_000_003, noted };
            assert_eq!(Note::parse(&note.to_string()), note);
        }
    }
}
