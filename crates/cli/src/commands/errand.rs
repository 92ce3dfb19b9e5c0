//! Errand of a run of `advance` or `rollback`, kept in the journal until the command has ended: the same
//! command, given again after it was broken off, finishes that and takes no further step.
//!
//! Without `--to` the goal is the phase next to the one that is found. A `rollback` that was broken off after
//! its flip finds the phase that it went to itself, and took the next one for its goal: from DynamoOnly by
//! way of HybridRead to DualWrite.

use lockstep_coordinator::Coordinator;
use lockstep_core::Phase;
use lockstep_postgres::{IntentId, Source};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::direction::Direction;
use crate::exit::Failure;

/// The note with which an errand begins.
const BEGUN: &str = "asked to step";
/// The note with which it ends.
const ENDED: &str = "stepped as asked";

/// Details of it that the journal keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    way: Direction,
    /// The phase that was named.
    named: Option<Phase>,
    from: Phase,
    to: Phase,
}

/// An errand.
#[derive(Debug)]
pub(super) struct Errand {
    kept: Kept,
    /// Name of the operator or process, for the journal.
    actor: String,
    /// Entry of it in the journal, once it has begun.
    entry: Option<i64>,
    /// Whether an earlier run began it.
    goes_on: bool,
}

impl Errand {
    /// The errand that an earlier run of the same command did not end, or a new one, from phase `from`.
    ///
    /// # Errors
    /// When there is no step further that way; the source's.
    pub(super) async fn of(
        coordinator: &Coordinator,
        way: Direction,
        named: Option<Phase>,
        from: Phase,
    ) -> anyhow::Result<Self> {
        let actor = coordinator.migration().actor.clone();
        if let Some((entry, kept)) = unended(&coordinator.migration().source).await? {
            let there = from == kept.to && coordinator.steps_since(entry).await? <= 1;
            if kept.is_same(way, named) && (named.is_some() || there) {
                return Ok(Self { kept, actor, entry: Some(entry), goes_on: true });
            }
        }
        if let Some(kept) = finished(coordinator.finished(), way, named, from) {
            return Ok(Self { kept, actor, entry: None, goes_on: true });
        }
        let to = named.or(way.next(from));
        let to = to.ok_or_else(|| {
            Failure::usage(format!("the phase is {from}: there is no step further that way"))
        })?;
        Ok(Self { kept: Kept { way, named, from, to }, actor, entry: None, goes_on: false })
    }

    /// The same, kept in the journal. The coordinator's lock is held, so the newest note is ours.
    pub(super) async fn begun(self, coordinator: &Coordinator) -> anyhow::Result<Self> {
        if self.entry.is_some() {
            return Ok(self);
        }
        let source = &coordinator.migration().source;
        source.journal_note(&self.actor, BEGUN, &json!(self.kept)).await?;
        let entry = source.newest_note(BEGUN).await?.map(|entry| entry.id);
        Ok(Self { entry, ..self })
    }

    /// Phase that it goes to.
    pub(super) fn to(&self) -> Phase {
        self.kept.to
    }

    /// Whether an earlier run began it.
    pub(super) fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// Says that there is no step left to take for it.
    pub(super) fn is_done(&self) -> String {
        let Kept { from, to, .. } = self.kept;
        format!(
            "The way {from} → {to} that an earlier run of this command began is behind us. This run ends what is left of that, and \
             takes no further step. For one more, give the command once more, or name the phase with --to"
        )
    }

    /// The command has ended, or nothing is under way any more: given again, it is another one.
    pub(super) async fn end(&self, source: &Source) -> anyhow::Result<()> {
        if let Some(of) = self.entry {
            source.journal_note(&self.actor, ENDED, &json!({ "of": of })).await?;
        }
        Ok(())
    }
}

impl Kept {
    fn is_same(&self, way: Direction, named: Option<Phase>) -> bool {
        (self.way, self.named) == (way, named)
    }
}

/// The newest errand, unless it has ended.
async fn unended(source: &Source) -> anyhow::Result<Option<(i64, Kept)>> {
    let Some(begun) = source.newest_note(BEGUN).await? else { return Ok(None) };
    if source.was_noted(IntentId(begun.id), ENDED).await? {
        return Ok(None);
    }
    // Of another version, it is none that could be gone on with.
    Ok(serde_json::from_value(begun.detail).ok().map(|kept| (begun.id, kept)))
}

/// The step that this very command has finished when it began, where an errand was not kept: the step was
/// taken by something else, or by an older version.
fn finished(steps: &[(Phase, Phase)], way: Direction, named: Option<Phase>, phase: Phase) -> Option<Kept> {
    let (from, to) = *steps.last()?;
    let is_it = named.is_none() && to == phase && way.next(from) == Some(to);
    is_it.then_some(Kept { way, named, from, to })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Phase::{DualWrite, DynamoOnly, HybridRead};

    #[test]
    fn only_a_finished_step_of_the_same_way_that_led_here_stands_for_the_next() {
        let back = [(DynamoOnly, HybridRead)];
        let kept = Kept { way: Direction::Back, named: None, from: DynamoOnly, to: HybridRead };
        assert_eq!(finished(&back, Direction::Back, None, HybridRead), Some(kept));
        assert_eq!(finished(&back, Direction::Forward, None, HybridRead), None);
        assert_eq!(finished(&back, Direction::Back, None, DualWrite), None, "something else led here");
        assert_eq!(
            finished(&back, Direction::Back, Some(DualWrite), HybridRead),
            None,
            "a phase that is named is the goal"
        );
        assert_eq!(finished(&[], Direction::Back, None, HybridRead), None);
    }
}
