//! A state in one line, for counterexamples: what differs from rest, and nothing else.

use std::fmt;

use crate::state::*;

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = |v: Version| match v {
            NONE => "-".to_owned(),
            INITIAL_LOAD => "0".to_owned(),
            v => format!("{}.{}", epoch_of(v), v % EPOCH),
        };
        let value = |v: Value| if v == GONE { "gone".to_owned() } else { format!("#{v}") };
        write!(f, "{:?}/{}", self.source.control.phase, self.source.control.epoch)?;
        for key in 0..KEYS {
            let item = match self.target.versions[key] {
                NONE => "absent".to_owned(),
                v => format!("{}@{}", value(self.target.items[key]), version(v)),
            };
            write!(f, "  row {key}: {} | {item}", value(self.source.rows[key]))?;
            if self.source.pending[key] != NONE {
                write!(f, " pending@{}", version(self.source.pending[key]))?;
            }
        }
        for (n, w) in self.writers.iter().enumerate().filter(|(_, w)| w.at != At::Idle) {
            match w.outcome {
                Outcome::NotYet if w.at == At::Done => {}
                Outcome::NotYet => {
                    let versions: Vec<String> =
                        w.op.keys().iter().map(|key| version(w.versions[*key])).collect();
                    write!(f, "  writer {n}: {:?} {:?} {:?} {}", w.mode, w.op, w.at, versions.join(","))?;
                }
                outcome => write!(f, "  writer {n}: {outcome:?}")?,
            }
            if w.intents != 0 {
                write!(f, " intents {:02b}", w.intents)?;
            }
        }
        if self.relay.at != RelayAt::Idle {
            let batch =
                |key: usize| format!("{}@{}", value(self.relay.rows[key]), version(self.relay.versions[key]));
            let keys: Vec<String> =
                (0..KEYS).filter(|key| self.relay.keys & bit(*key) != 0).map(batch).collect();
            write!(f, "  relay: {}", keys.join(","))?;
        }
        for (key, v, state) in self.unread() {
            write!(f, "  stream: {key} {}@{}", value(*state), version(*v))?;
        }
        if let Some(late) = self.late {
            write!(
                f,
                "  late: {} {}@{} if {:?}",
                late.key,
                value(late.value),
                version(late.version),
                late.guard
            )?;
        }
        if self.source.journal_open || self.coordinator.at != Stage::Idle {
            write!(f, "  step to {:?}: {:?}", self.coordinator.to, self.coordinator.at)?;
        }
        Ok(())
    }
}
