//! Reading suspects again: item, snapshot of the source, item.

use lockstep_core::{Attributes, Result, TargetKey, is_tombstone, version_of};
use lockstep_postgres::{KeyBound, KeyState, TableBinding};

use super::agreed::{accepted, agreements, taken, text_of};
use super::{Seen, Waiting, are_restless};
use crate::diff::{Class, SourceRow, classify, explain};
use crate::suspect::{Subject, place_of};
use crate::table_run::TableRun;
use crate::tasks::compute;

/// Reads every suspect once, in their order. It notes what becomes known of a subject meanwhile: the key of
/// an item, or of a row that can be held by now.
pub(super) async fn observe(run: &TableRun, waiting: &mut [Waiting]) -> Result<Vec<Seen>> {
    let places: Vec<TargetKey> =
        waiting.iter().filter_map(|one| one.suspect.subject.place().cloned()).collect();
    let before = run.reader.items(&run.binding, &places).await?;
    name_items(run, waiting, &before);
    let restless = are_restless(run, waiting);
    let taken_before = if restless { Some(taken(run, &places).await?) } else { None };
    let keys: Vec<Vec<String>> =
        waiting.iter().filter_map(|one| one.suspect.subject.key().cloned()).collect();
    let states = run.reader.look_up(&run.binding, &keys).await?;
    let accepted = accepted(run, &places).await?;
    let taken_after = if restless { Some(taken(run, &places).await?) } else { None };
    let after = run.reader.items(&run.binding, &places).await?;
    if restless {
        keep(waiting, &before);
        keep(waiting, &after);
    }
    let agreed = match (&taken_before, &taken_after) {
        (Some(first), Some(second)) => agreements(run, waiting, &states, (first, second)),
        _ => vec![false; waiting.len()],
    };

    let mut of_places = compare(run, waiting, before, states, after).await.into_iter();
    let mut seen = Vec::with_capacity(waiting.len());
    for (one, earlier) in waiting.iter_mut().zip(agreed) {
        let read = match &one.suspect.subject {
            Subject::Key { .. } | Subject::Item { .. } => {
                of_places.next().expect("one reading for every place")
            }
            Subject::Row { primary_key } => {
                let (of_row, subject) = observe_row(run, primary_key).await?;
                one.suspect.subject = subject.unwrap_or_else(|| one.suspect.subject.clone());
                of_row
            }
        };
        let accepted = one.suspect.subject.place().and_then(|place| accepted.get(&text_of(place)).copied());
        seen.push(Seen { earlier, accepted, ..read });
    }
    Ok(seen)
}

/// Keeps what the items at the places are, to hold later readings of the rows against.
fn keep(waiting: &mut [Waiting], items: &[Option<Attributes>]) {
    let at_places = waiting.iter_mut().filter(|one| one.suspect.subject.place().is_some());
    for (one, item) in at_places.zip(items) {
        one.earlier.keep(item.as_ref());
    }
}

/// Reads off the items which rows they are of.
fn name_items(run: &TableRun, waiting: &mut [Waiting], before: &[Option<Attributes>]) {
    let at_places = waiting.iter_mut().filter(|one| one.suspect.subject.place().is_some());
    for (one, item) in at_places.zip(before) {
        if let (Subject::Item { place }, Some(item)) = (&one.suspect.subject, item)
            && !is_tombstone(item)
            // Elsewhere it is of no row, whatever its attributes say.
            && run.binding.table.place_of_item(item).is_ok_and(|own| own == *place)
            && let Ok(key) = run.binding.table.key_of_item(item)
        {
            one.suspect.subject = Subject::Key { key, place: place.clone() };
        }
    }
}

/// Compares what the readings say of every suspect that has a place.
async fn compare(
    run: &TableRun,
    waiting: &[Waiting],
    before: Vec<Option<Attributes>>,
    states: Vec<KeyState>,
    after: Vec<Option<Attributes>>,
) -> Vec<Seen> {
    let with_place =
        waiting.iter().map(|one| &one.suspect.subject).filter(|subject| subject.place().is_some());
    let is_keyed: Vec<bool> = with_place.map(|subject| subject.key().is_some()).collect();
    let (binding, unmasked) = (run.binding.clone(), run.options.unmasked);
    let now_s = run.reader.source.now_at_least().timestamp();
    let seen = compute(move || {
        let mut states = states.iter();
        let readings = before.iter().zip(&after).zip(is_keyed);
        let see_one = |((before, after), is_keyed): ((&Option<Attributes>, &Option<Attributes>), bool)| {
            if is_keyed {
                let state = states.next().expect("a state for every key");
                return see(&binding, (before.as_ref(), after.as_ref()), state, now_s, unmasked);
            }
            see_nameless(&binding, before.as_ref(), after.as_ref())
        };
        readings.map(see_one).collect()
    });
    seen.await
}

/// An item that is of no row that could be looked up.
fn see_nameless(binding: &TableBinding, before: Option<&Attributes>, after: Option<&Attributes>) -> Seen {
    let class = match after.filter(|item| !is_tombstone(item)).map(|item| binding.table.key_of_item(item)) {
        None => Class::Absent,
        Some(Err(reason)) => Class::Undecodable(reason.column),
        // It is where no row belongs; or it came back, or was replaced: then it is read again, by its key.
        Some(Ok(_)) => Class::Extra,
    };
    let moved = before != after;
    Seen {
        moved,
        earlier: false,
        accepted: None,
        pending: false,
        dead_letter: false,
        live: after.is_some_and(|item| !is_tombstone(item)),
        version: after.and_then(version_of),
        class,
        fields: Vec::new(),
    }
}

fn see(
    binding: &TableBinding,
    (before, after): (Option<&Attributes>, Option<&Attributes>),
    state: &KeyState,
    now_s: i64,
    unmasked: bool,
) -> Seen {
    // An item without a version was not written by us and may change without one, so it is compared whole.
    let moved = match (before.map(version_of), after.map(version_of)) {
        (Some(None), Some(None)) => before != after,
        (before, after) => before != after,
    };
    let table = binding.table.as_ref();
    let class = if state.is_shared {
        Class::Shared(binding.primary_key().map(str::to_owned).collect())
    } else {
        classify(table, SourceRow::of(state), after, now_s)
    };
    let fields = match (&class, SourceRow::of(state), after) {
        (Class::Different(_) | Class::Undecodable(_), Some(row), Some(item)) => {
            explain(table, &row, item, unmasked)
        }
        _ => Vec::new(),
    };
    Seen {
        moved,
        earlier: false,
        accepted: None,
        pending: state.pending.is_some(),
        dead_letter: state.dead_letter,
        live: after.is_some_and(|item| !is_tombstone(item)),
        version: after.and_then(version_of),
        class,
        fields,
    }
}

/// Reads a row that the target could not hold. It has no place there, so there is no item to read.
async fn observe_row(run: &TableRun, primary_key: &KeyBound) -> Result<(Seen, Option<Subject>)> {
    let seen = |moved, pending, dead_letter, class| Seen {
        moved,
        earlier: false,
        accepted: None,
        pending,
        dead_letter,
        live: false,
        version: None,
        class,
        fields: Vec::new(),
    };
    let Some(state) = run.reader.look_up_row(&run.binding, primary_key).await? else {
        return Ok((seen(false, false, false, Class::Absent), None));
    };
    let row = SourceRow::LookedUp(&state);
    let table = run.binding.table.as_ref();
    let encoded = row.fields(|fields| table.encode_keyed(fields));
    match encoded {
        Err(reason) => Ok((
            seen(false, state.pending.is_some(), state.dead_letter, Class::Unholdable(reason.column)),
            None,
        )),
        Ok((item, key, _)) => {
            let subject = Subject::Key { key, place: place_of(&item) };
            Ok((seen(true, false, false, Class::Absent), Some(subject)))
        }
    }
}
