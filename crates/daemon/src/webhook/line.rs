//! Messages that wait: those that are critical first, else in order, and those of one incident always in
//! order. Pure, but for the clock that it is given.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::Notify;

use crate::alerts::Severity;

/// Messages that wait; an older one is dropped for a newer one when there are more.
const WAITING_MAX: usize = 100;
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_LONGEST: Duration = Duration::from_secs(60);

/// A message that waits.
struct Waiting {
    message: Value,
    /// Time at which it was first sent.
    tried_at: Option<Instant>,
    /// Time from which it is sent again, and the pause that led to it. Each has its own: 1. A receiver fails
    /// on one message, whatever is done. 2. By one pause for all, each message after it waited for an hour.
    again: Option<(Instant, Duration)>,
}

/// Next thing to send.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    /// This message, which stays, and when it was first sent.
    Send(Value, Instant),
    /// Nothing before that time.
    Until(Instant),
    /// Nothing.
    Nothing,
}

/// Messages in their order, and the wish to send them.
#[derive(Clone, Default)]
pub(crate) struct Line(Arc<Messages>);

#[derive(Default)]
struct Messages {
    waiting: Mutex<VecDeque<Waiting>>,
    /// Those that will not be sent any more, for the task that put them.
    given_up: Mutex<Vec<Value>>,
    put: Notify,
}

impl Line {
    /// Never waits: where there are too many, the oldest is dropped, one of a warning before one that is
    /// critical.
    pub(crate) fn put(&self, message: Value) {
        let mut waiting = self.waiting();
        if waiting.len() >= WAITING_MAX {
            let oldest = waiting.iter().position(|one| !is_critical(&one.message)).unwrap_or(0);
            self.0.given_up().extend(waiting.remove(oldest).map(|one| one.message));
            metrics::counter!("lockstep_alert_notifications_total", "outcome" => "dropped").increment(1);
            tracing::error!("a notification was dropped: {WAITING_MAX} wait already");
        }
        waiting.push_back(Waiting { message, tried_at: None, again: None });
        self.0.put.notify_one();
    }

    /// Waits until another one is put.
    pub(super) async fn another(&self) {
        self.0.put.notified().await;
    }

    /// Takes what was not told: the receiver has not taken it, or there was no room.
    pub(crate) fn given_up(&self) -> Vec<Value> {
        std::mem::take(&mut *self.0.given_up())
    }

    /// All that wait.
    pub(crate) fn all(&self) -> Vec<Value> {
        self.waiting().iter().map(|one| one.message.clone()).collect()
    }

    /// The next one at `now`: of those that may be sent, the first that is critical, else the first.
    pub(crate) fn next(&self, now: Instant) -> Next {
        let mut waiting = self.waiting();
        let first = first_of_incidents(&waiting);
        let (due, later): (Vec<usize>, Vec<usize>) = first.into_iter().partition(|at| {
            waiting.get(*at).and_then(|one| one.again).is_none_or(|(again_at, _)| again_at <= now)
        });
        let is_urgent = |at: &usize| waiting.get(*at).is_some_and(|one| is_critical(&one.message));
        let chosen = due.iter().copied().find(is_urgent).or_else(|| due.first().copied());
        if let Some(one) = chosen.and_then(|at| waiting.get_mut(at)) {
            return Next::Send(one.message.clone(), *one.tried_at.get_or_insert(now));
        }
        let times = later.into_iter().filter_map(|at| waiting.get(at)?.again.map(|(again_at, _)| again_at));
        times.min().map_or(Next::Nothing, Next::Until)
    }

    /// The next one where no time is left to send any of them twice: those that failed come last.
    pub(super) fn next_at_the_end(&self) -> Option<Value> {
        let waiting = self.waiting();
        let first = first_of_incidents(&waiting).into_iter().filter_map(|at| waiting.get(at));
        let next = first.min_by_key(|one| (one.again.is_some(), !is_critical(&one.message)));
        next.map(|one| one.message.clone())
    }

    /// Takes one out, unless it was dropped meanwhile; and what an incident would have been told of before
    /// it got worse.
    pub(crate) fn done(&self, message: &Value) {
        let mut waiting = self.waiting();
        let Some(at) = waiting.iter().position(|one| one.message == *message) else { return };
        let mut n = 0;
        waiting.retain(|one| {
            n += 1;
            !(n == at + 1 || n <= at && is_milder(&one.message, message))
        });
    }

    /// Has one sent again, after a pause that grows.
    pub(super) fn failed(&self, message: &Value, now: Instant) {
        if let Some(one) = self.waiting().iter_mut().find(|one| one.message == *message) {
            let pause = one.again.map_or(PAUSE_FIRST, |(_, pause)| (pause * 2).min(PAUSE_LONGEST));
            one.again = Some((now + pause, pause));
        }
    }

    /// Takes one out that is not sent any more.
    pub(crate) fn give_up(&self, message: &Value) {
        // In this order: what is in neither was taken.
        self.0.given_up().push(message.clone());
        self.waiting().retain(|one| one.message != *message);
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Messages {
    fn given_up(&self) -> MutexGuard<'_, Vec<Value>> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Places of the messages before which none of their incident has to be sent. That an incident got worse does
/// not wait for the word that it began: the one says both.
fn first_of_incidents(waiting: &VecDeque<Waiting>) -> Vec<usize> {
    let mut firsts = Vec::new();
    for (at, one) in waiting.iter().enumerate() {
        let is_first = waiting.iter().take(at).all(|before| {
            incident(&before.message) != incident(&one.message) || is_milder(&before.message, &one.message)
        });
        if is_first {
            firsts.push(at);
        }
    }
    firsts
}

fn text<'a>(message: &'a Value, name: &str) -> &'a str {
    message.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn incident(message: &Value) -> &str {
    text(message, "alert_id")
}

/// Tells whether both raise one incident, and the first one less.
fn is_milder(message: &Value, than: &Value) -> bool {
    let raises = |message: &Value| text(message, "event") == "raised";
    incident(message) == incident(than)
        && raises(message)
        && raises(than)
        && !is_critical(message)
        && is_critical(than)
}

fn is_critical(message: &Value) -> bool {
    text(message, "severity") == Severity::Critical.name()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(id: usize, incident: &str, event: &str, severity: &str) -> Value {
        json!({ "id": id.to_string(), "alert_id": incident, "event": event, "severity": severity })
    }

    fn next(line: &Line, now: Instant) -> Option<Value> {
        match line.next(now) {
            Next::Send(message, _) => Some(message),
            Next::Until(_) | Next::Nothing => None,
        }
    }

    #[test]
    fn what_is_critical_goes_first_and_the_oldest_warning_is_dropped() {
        let (line, now) = (Line::default(), Instant::now());
        let one = |id: usize, severity: &str| message(id, &id.to_string(), "raised", severity);
        for id in 0..WAITING_MAX {
            line.put(one(id, if id == 0 { "critical" } else { "warning" }));
        }
        line.put(one(1_000, "critical"));
        assert_eq!(line.waiting().len(), WAITING_MAX);
        assert_eq!(next(&line, now), Some(one(0, "critical")), "in their order");
        line.done(&one(0, "critical"));
        assert_eq!(next(&line, now), Some(one(1_000, "critical")));
        line.done(&one(1_000, "critical"));
        let third = Some(one(2, "warning"));
        assert_eq!(next(&line, now), third, "the oldest that is no more than a warning was dropped");
    }

    #[test]
    fn what_fails_holds_up_its_own_incident_alone() {
        let (line, now) = (Line::default(), Instant::now());
        let (fails, its_end) =
            (message(1, "a", "raised", "critical"), message(2, "a", "resolved", "critical"));
        let (other, later) = (message(3, "b", "raised", "critical"), message(4, "c", "raised", "warning"));
        for one in [&fails, &its_end, &other, &later] {
            line.put(one.clone());
        }
        assert_eq!(next(&line, now).as_ref(), Some(&fails));
        line.failed(&fails, now);
        for one in [&other, &later] {
            assert_eq!(next(&line, now).as_ref(), Some(one), "it does not wait for the one that fails");
            line.done(one);
        }
        let again_at = now + PAUSE_FIRST;
        assert_eq!(line.next(now), Next::Until(again_at), "its end is not told before its beginning");
        assert_eq!(line.next(again_at), Next::Send(fails.clone(), now), "the hour counts from the first try");
        line.failed(&fails, again_at);
        assert_eq!(line.next(again_at), Next::Until(again_at + PAUSE_FIRST * 2));
        for _ in 0..20 {
            line.failed(&fails, now);
        }
        assert_eq!(line.next(now), Next::Until(now + PAUSE_LONGEST));
        line.give_up(&fails);
        assert_eq!(line.given_up(), std::slice::from_ref(&fails));
        assert_eq!(next(&line, now).as_ref(), Some(&its_end));
        line.done(&its_end);
        assert_eq!(line.next(now), Next::Nothing);
    }

    /// 1. A warning fails for as long as it is sent. 2. It gets worse: that is not held up by it, and once it
    /// is told the warning would take it back.
    #[test]
    fn an_incident_that_gets_worse_waits_for_no_milder_word_of_it() {
        let (line, now) = (Line::default(), Instant::now());
        let (mild, other) = (message(1, "a", "raised", "warning"), message(2, "b", "raised", "warning"));
        let (worse, end) = (message(3, "a", "raised", "critical"), message(4, "a", "resolved", "critical"));
        line.put(mild.clone());
        assert_eq!(next(&line, now).as_ref(), Some(&mild));
        line.failed(&mild, now);
        for one in [&other, &worse, &end] {
            line.put(one.clone());
        }
        assert_eq!(line.next_at_the_end().as_ref(), Some(&worse), "it has not failed, and is critical");
        assert_eq!(next(&line, now).as_ref(), Some(&worse));
        line.done(&worse);
        assert_eq!(line.all(), [other.clone(), end.clone()], "what was milder is told no more");
        line.failed(&end, now);
        assert_eq!(line.next_at_the_end(), Some(other), "what failed comes last");
    }
}
