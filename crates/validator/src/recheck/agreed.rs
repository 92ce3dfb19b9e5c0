//! Whether rows of keys that never rest are states that their items had a moment ago; `earlier` says what
//! proves it.

use std::collections::HashMap;

use lockstep_core::{Phase, Result, TargetKey, Version, place};
use lockstep_postgres::KeyState;

use super::earlier::stood_at;
use super::waiting::Waiting;
use crate::diff::{Class, SourceRow, classify};
use crate::table_run::TableRun;

/// Returns the versions that the feed has taken of these places, by their texts.
pub(super) async fn taken(run: &TableRun, places: &[TargetKey]) -> Result<HashMap<String, Version>> {
    let texts: Vec<String> = places.iter().map(text_of).collect();
    run.reader.ask(|| run.reader.source.reverse_versions(&run.binding, &texts)).await
}

/// Returns the versions of items at these places, by their texts, whose state the source stays without, as an
/// operator has accepted. Elsewhere than in DynamoOnly nothing is excused by that: the source decides there.
pub(super) async fn accepted(run: &TableRun, places: &[TargetKey]) -> Result<HashMap<String, Version>> {
    if run.phase != Phase::DynamoOnly || places.is_empty() {
        return Ok(HashMap::new());
    }
    let texts: Vec<String> = places.iter().map(text_of).collect();
    run.reader.ask(|| run.reader.source.reverse_accepted(&run.binding, &texts)).await
}

/// For each suspect: whether its row is a state that its item had in this comparison.
pub(super) fn agreements(
    run: &TableRun,
    waiting: &[Waiting],
    states: &[KeyState],
    (before, after): (&HashMap<String, Version>, &HashMap<String, Version>),
) -> Vec<bool> {
    let mut states = states.iter();
    let agrees = |one: &Waiting, state: &KeyState| {
        let text = text_of(one.suspect.subject.place()?);
        let item = one.earlier.at(stood_at(before.get(&text), after.get(&text))?)?;
        let now_s = run.reader.source.now_at_least().timestamp();
        Some(classify(run.binding.table.as_ref(), SourceRow::of(state), Some(item), now_s) == Class::Equal)
    };
    let of_one = |one: &Waiting| {
        one.suspect.subject.key()?;
        agrees(one, states.next()?)
    };
    waiting.iter().map(of_one).map(|agreed| agreed.unwrap_or(false)).collect()
}

pub(super) fn text_of(key: &TargetKey) -> String {
    place(&key.to_attributes())
}
