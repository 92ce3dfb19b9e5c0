//! The naive model: what was tried on each row, what its caller was told, and what may be seen of it. It
//! knows nothing of phases, versions or stores.
//!
//! A write *precedes* another if it had ended before the other began. Of writes that overlap it is unknown
//! which is the newer one; of those that do not, it is known.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// A row, by table and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(pub(crate) &'static str, pub(crate) i64);

/// State of a row: every write writes something that no other does, so what is seen says who wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Absent,
    Holds(String),
}

/// Answer to the caller of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Acknowledged,
    /// Acknowledged by the target alone, in DynamoOnly.
    AcknowledgedByTarget,
    /// It failed, or there was nothing to write to.
    Nothing,
    /// It is unknown, or the caller died.
    Unknown,
}

impl Told {
    pub(crate) fn is_acknowledged(self) -> bool {
        matches!(self, Self::Acknowledged | Self::AcknowledgedByTarget)
    }
}

#[derive(Debug)]
struct Attempt {
    state: State,
    began: u64,
    /// `None` while it is under way, and for ever if it stays unknown: it may happen yet.
    ended: Option<(u64, Told)>,
}

/// An attempt under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trying(Key, usize);

#[derive(Debug, Default)]
struct History {
    now: u64,
    rows: BTreeMap<Key, Vec<Attempt>>,
}

/// Record of what was tried so far, by all actors.
#[derive(Debug, Default)]
pub(crate) struct Model(Mutex<History>);

impl Model {
    /// A row that is there before any actor writes.
    pub(crate) fn starts_with(&self, key: Key, token: &str) {
        let trying = self.begin(key, State::Holds(token.to_owned()));
        self.end(trying, Told::Acknowledged);
    }

    /// A moment, to be taken before something is looked at.
    pub(crate) fn moment(&self) -> u64 {
        self.with(|history| history.now)
    }

    /// Notes the beginning of a write; called before anything of it leaves.
    pub(crate) fn begin(&self, key: Key, state: State) -> Trying {
        self.with(|history| {
            history.now += 1;
            let attempts = history.rows.entry(key).or_default();
            let is_new = state == State::Absent || attempts.iter().all(|a| a.state != state);
            assert!(
                is_new,
                "{state:?} of {key:?} was written before: what is seen would not say who wrote it"
            );
            attempts.push(Attempt { state, began: history.now, ended: None });
            Trying(key, attempts.len() - 1)
        })
    }

    /// Notes the end of a write; called once its caller has the answer.
    pub(crate) fn end(&self, Trying(key, at): Trying, told: Told) {
        self.with(|history| {
            history.now += 1;
            if let Some(attempt) = history.rows.get_mut(&key).and_then(|attempts| attempts.get_mut(at)) {
                attempt.ended = (told != Told::Unknown).then_some((history.now, told));
            }
        });
    }

    /// Returns why no reader may see `state` at `key`, if it was looked at after `moment`; `None` if it may
    /// be seen.
    pub(crate) fn objection(&self, key: Key, state: &State, moment: u64) -> Option<String> {
        self.with(|history| {
            let attempts = history.rows.get(&key).map(Vec::as_slice).unwrap_or_default();
            // The last one that every reader must see, or something newer.
            let newest = attempts.iter().filter(|a| a.is_known_before(moment)).max_by_key(|a| a.began);
            let precedes = |a: &Attempt, b: &Attempt| a.ended.is_some_and(|(ended, _)| ended < b.began);
            let explains = |a: &&Attempt| {
                a.state == *state
                    && !matches!(a.ended, Some((_, Told::Nothing)))
                    && !attempts.iter().any(|b| b.is_known_before(moment) && precedes(a, b))
            };
            let at_first = *state == State::Absent && newest.is_none();
            if at_first || attempts.iter().any(|a| explains(&a)) {
                return None;
            }
            let same: Vec<_> = attempts.iter().filter(|a| a.state == *state).collect();
            Some(format!("{key:?} holds {state:?} at {moment}, of {same:?}; acknowledged last: {newest:?}"))
        })
    }

    /// Returns what was tried, each with its answer; without those whose outcome is unknown.
    pub(crate) fn told(&self) -> Vec<(Key, String, Told)> {
        self.with(|history| {
            let tried = history.rows.iter().flat_map(|(key, attempts)| attempts.iter().map(|a| (*key, a)));
            let told = tried.filter_map(|(key, a)| match (&a.state, a.ended) {
                (State::Holds(token), Some((_, told))) => Some((key, token.clone(), told)),
                _ => None,
            });
            told.collect()
        })
    }

    /// Counts the writes that got this answer.
    pub(crate) fn count(&self, told: Told) -> usize {
        let is = |attempt: &&Attempt| attempt.ended.is_some_and(|(_, ended)| ended == told);
        self.with(|history| history.rows.values().flatten().filter(is).count())
    }

    /// Every row that an actor ever wrote to.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.with(|history| history.rows.keys().copied().collect())
    }

    fn with<T>(&self, work: impl FnOnce(&mut History) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Attempt {
    fn is_known_before(&self, moment: u64) -> bool {
        self.ended.is_some_and(|(ended, told)| told.is_acknowledged() && ended <= moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key("t", 1);

    fn holds(token: &str) -> State {
        State::Holds(token.to_owned())
    }

    fn write(model: &Model, token: &str, told: Told) {
        let trying = model.begin(KEY, holds(token));
        model.end(trying, told);
    }

    #[track_caller]
    fn check(model: &Model, allowed: &[&str]) {
        let now = model.moment();
        for token in ["a", "b", "c", "d"] {
            assert_eq!(
                model.objection(KEY, &holds(token), now).is_none(),
                allowed.contains(&token),
                "{token}"
            );
        }
        assert_eq!(model.objection(KEY, &State::Absent, now).is_none(), allowed.contains(&""), "absent");
    }

    #[test]
    fn what_was_acknowledged_is_there_or_something_newer() {
        let model = Model::default();
        check(&model, &[""]);
        write(&model, "a", Told::Acknowledged);
        check(&model, &["a"]);
        write(&model, "b", Told::Acknowledged);
        check(&model, &["b"]);
        let deleting = model.begin(KEY, State::Absent);
        check(&model, &["b", ""]);
        model.end(deleting, Told::Acknowledged);
        check(&model, &[""]);
    }

    #[test]
    fn what_failed_is_never_seen_and_what_is_not_known_may_come_at_any_time() {
        let model = Model::default();
        write(&model, "a", Told::Acknowledged);
        write(&model, "b", Told::Nothing);
        check(&model, &["a"]);
        write(&model, "c", Told::Unknown);
        check(&model, &["a", "c"]);
        write(&model, "d", Told::Acknowledged);
        check(&model, &["c", "d"]);
    }

    #[test]
    fn of_writes_that_overlap_either_may_be_the_newer_one() {
        let model = Model::default();
        let a = model.begin(KEY, holds("a"));
        write(&model, "b", Told::Acknowledged);
        model.end(a, Told::Acknowledged);
        check(&model, &["a", "b"]);
        let before = model.moment();
        write(&model, "c", Told::Acknowledged);
        check(&model, &["c"]);
        assert_eq!(model.objection(KEY, &holds("a"), before), None, "it was looked at before");
    }
}
