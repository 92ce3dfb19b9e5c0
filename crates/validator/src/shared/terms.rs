//! Terms that a process must share with the leader to take part.

use chrono::{DateTime, Utc};
use lockstep_core::Window;
use serde::{Deserialize, Serialize};

use crate::keep;
use crate::ledger::Layout;
use crate::table_run::TableRun;
use crate::tasks::Stopped;

/// Changes when sums or entries are made, or handed over, otherwise than before.
const FORMAT: u32 = 1;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Terms {
    version: String,
    format: u32,
    relation: String,
    target: String,
    target_id: Option<String>,
    epoch: i64,
    /// Columns, layout, window, capture, order of rows: everything that prints and pieces depend on.
    shape: String,
    seed: u64,
    partitions: usize,
    pub(super) segments: usize,
    start: Option<DateTime<Utc>>,
    end: Option<DateTime<Utc>>,
}

impl Terms {
    /// Returns those of this process, as it sees the table now; [`TableRun::check_stores`] must have looked.
    ///
    /// # Errors
    /// The stores'.
    pub(super) async fn of(run: &TableRun, layout: Layout) -> Result<Self, Stopped> {
        let (reader, binding) = (&run.reader, &run.binding);
        let state = reader.ask(|| reader.source.table_state(binding.name())).await?;
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            format: FORMAT,
            relation: binding.relation.sql(),
            target: format!("{} at {}", binding.target_name, reader.address()),
            target_id: run.target_id().map(str::to_owned),
            epoch: run.epoch,
            shape: keep::shape(run, state.as_ref()),
            seed: layout.seed,
            partitions: layout.partitions,
            segments: run.options.settings.scan_segments.max(1),
            start: run.options.window.start,
            end: run.options.window.end,
        })
    }

    pub(super) fn layout(&self) -> Layout {
        Layout { seed: self.seed, partitions: self.partitions }
    }

    pub(super) fn window(&self) -> Window {
        Window { start: self.start, end: self.end }
    }

    /// Returns why a process that sees this cannot take part under `self`. Pure.
    pub(super) fn refusal(&self, ours: &Self) -> Option<String> {
        let differ = |what: &str, theirs: &str, ours: &str| {
            Some(format!("the process that leads has {what} {theirs}, and this one {ours}"))
        };
        if (&self.version, self.format) != (&ours.version, ours.format) {
            return differ("version", &self.version, &ours.version);
        }
        if self.relation != ours.relation {
            return differ("relation", &self.relation, &ours.relation);
        }
        if self.target != ours.target {
            return differ("target", &self.target, &ours.target);
        }
        if self.target_id != ours.target_id {
            let id = |id: &Option<String>| id.clone().unwrap_or_else(|| "unknown".to_owned());
            return differ("target table id", &id(&self.target_id), &id(&ours.target_id));
        }
        if self.epoch != ours.epoch {
            return differ("epoch", &self.epoch.to_string(), &ours.epoch.to_string());
        }
        (self != ours).then(|| {
            "columns, key layout, window, capture or the order of rows are not as the process that \
             leads sees them"
                .to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_prints_depend_on_is_a_reason_to_refuse() {
        let ours = Terms {
            version: "1".to_owned(),
            format: 1,
            relation: "a".to_owned(),
            target: "t".to_owned(),
            target_id: Some("i".to_owned()),
            epoch: 3,
            shape: "s".to_owned(),
            seed: 1,
            partitions: 16,
            segments: 8,
            start: None,
            end: None,
        };
        assert_eq!(ours.refusal(&ours.clone()), None);
        let text = || "x".to_owned();
        let others = [
            (Terms { version: text(), ..ours.clone() }, "version"),
            (Terms { format: 2, ..ours.clone() }, "version"),
            (Terms { relation: text(), ..ours.clone() }, "relation"),
            (Terms { target: text(), ..ours.clone() }, "target x"),
            (Terms { target_id: None, ..ours.clone() }, "target table id unknown"),
            (Terms { epoch: 4, ..ours.clone() }, "epoch"),
            (Terms { shape: text(), ..ours.clone() }, "layout"),
            (Terms { seed: 2, ..ours.clone() }, "layout"),
            (Terms { partitions: 32, ..ours.clone() }, "layout"),
            (Terms { segments: 9, ..ours.clone() }, "layout"),
            (Terms { start: Some(DateTime::UNIX_EPOCH), ..ours.clone() }, "window"),
        ];
        for (theirs, expected) in others {
            let refused = theirs.refusal(&ours).unwrap_or_default();
            assert!(refused.contains(expected), "{expected}: {refused}");
        }
    }
}
