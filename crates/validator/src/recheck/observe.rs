//! Reading suspects again: item, snapshot of the source, item.

use chrono::Utc;
use lockstep_core::source::{KeyBound, KeyState, TableBinding};
use lockstep_core::{Attributes, Result, TargetKey, version_of};

use super::{Seen, Waiting};
use crate::diff::{Class, SourceRow, classify};
use crate::suspect::{Subject, place_of};
use crate::table_run::TableRun;
use crate::tasks::compute;

/// Reads every suspect once, in their order. A row that can be held by now becomes a key, to be seen the next time.
pub(super) async fn observe(run: &TableRun, waiting: &mut [Waiting]) -> Result<Vec<Seen>> {
    let mut keys = Vec::new();
    let mut places = Vec::new();
    for one in waiting.iter() {
        if let Subject::Key { key, place } = &one.suspect.subject {
            keys.push(key.clone());
            places.push(place.clone());
        }
    }
    let mut of_keys = observe_keys(run, keys, places).await?.into_iter();
    let mut seen = Vec::with_capacity(waiting.len());
    for one in waiting {
        seen.push(match &one.suspect.subject {
            Subject::Key { .. } => of_keys.next().expect("one reading for every key"),
            Subject::Row { primary_key } => {
                let (of_row, subject) = observe_row(run, primary_key).await?;
                one.suspect.subject = subject.unwrap_or_else(|| one.suspect.subject.clone());
                of_row
            }
        });
    }
    Ok(seen)
}

async fn observe_keys(run: &TableRun, keys: Vec<Vec<String>>, places: Vec<TargetKey>) -> Result<Vec<Seen>> {
    let before = run.reader.items(&run.binding.target_name, &places).await?;
    let states = run.reader.look_up(&run.binding, &keys).await?;
    let after = run.reader.items(&run.binding.target_name, &places).await?;
    let binding = run.binding.clone();
    let seen = compute(move || {
        let now_s = Utc::now().timestamp();
        let readings = before.iter().zip(&states).zip(&after);
        readings.map(|((before, state), after)| see(&binding, before.as_ref(), state, after.as_ref(), now_s)).collect()
    });
    Ok(seen.await)
}

fn see(binding: &TableBinding, before: Option<&Attributes>, state: &KeyState, after: Option<&Attributes>, now_s: i64) -> Seen {
    // An item without a version was not written by us and may change without one, so it is compared whole.
    let moved = match (before.map(version_of), after.map(version_of)) {
        (Some(None), Some(None)) => before != after,
        (before, after) => before != after,
    };
    Seen {
        moved,
        pending: state.pending.is_some(),
        dead_letter: state.dead_letter,
        version: after.and_then(version_of),
        class: classify(binding.table.as_ref(), SourceRow::of(state), after, now_s),
    }
}

/// Reads a row that the target could not hold. It has no place there, so there is no item to read.
async fn observe_row(run: &TableRun, primary_key: &KeyBound) -> Result<(Seen, Option<Subject>)> {
    let seen = |moved, pending, dead_letter, class| Seen { moved, pending, dead_letter, version: None, class };
    let Some(state) = run.reader.look_up_row(&run.binding, primary_key).await? else {
        return Ok((seen(false, false, false, Class::Absent), None));
    };
    let row = SourceRow::LookedUp(&state);
    let table = run.binding.table.as_ref();
    let encoded = row.fields(|fields| table.encode(fields)).and_then(|item| Ok((item, row.fields(|f| table.key_of_row(f))?)));
    match encoded {
        Err(reason) => Ok((seen(false, state.pending.is_some(), state.dead_letter, Class::Unholdable(reason.column)), None)),
        Ok((item, key)) => {
            let subject = Subject::Key { key, place: place_of(&item) };
            Ok((seen(true, false, false, Class::Absent), Some(subject)))
        }
    }
}
