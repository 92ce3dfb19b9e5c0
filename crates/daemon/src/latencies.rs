//! Latencies of both stores, as this daemon has met them lately, against a budget of one's own (R48). Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Time whose answers count.
const WINDOW: Duration = Duration::from_mins(5);
/// Fewest answers that say anything of one in a hundred.
const ANSWERS_MIN: usize = 20;
/// Answers of which one may take longer.
const OF: usize = 100;

/// Answers of both stores.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    answers: VecDeque<(&'static str, Instant, Duration)>,
}

/// A store more of whose answers take longer than they may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slow {
    pub(crate) store: &'static str,
    /// Answers that took longer, of how many.
    pub(crate) over: usize,
    pub(crate) of: usize,
    pub(crate) ms_max: u64,
}

impl Latencies {
    /// Notes one answer.
    pub(crate) fn note(&mut self, store: &'static str, now: Instant, took: Duration) {
        self.answers.push_back((store, now, took));
        while self.answers.front().is_some_and(|(_, at, _)| now.duration_since(*at) > WINDOW) {
            self.answers.pop_front();
        }
    }

    /// Returns the stores that took longer than `ms_max` for more than one answer in a hundred, and for two
    /// at least: of sixty, a single one is more than that already, and says nothing.
    pub(crate) fn over(&self, now: Instant, ms_max: f64) -> Vec<Slow> {
        let mut slow = Vec::new();
        for store in ["PostgreSQL", "DynamoDB"] {
            let lately = self
                .answers
                .iter()
                .filter(|(of, at, _)| *of == store && now.saturating_duration_since(*at) <= WINDOW);
            let took: Vec<f64> = lately.map(|(.., took)| took.as_secs_f64() * 1_000.0).collect();
            let over = took.iter().filter(|ms| **ms > ms_max).count();
            if took.len() >= ANSWERS_MIN && over >= 2 && over * OF > took.len() {
                slow.push(Slow { store, over, of: took.len(), ms_max: ms_max as u64 });
            }
        }
        slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_one_answer_in_a_hundred_is_over_the_budget_and_one_alone_is_not() {
        let (mut latencies, begun) = (Latencies::default(), Instant::now());
        let at = |s: u64| begun + Duration::from_secs(s);
        for s in 0..60 {
            latencies.note("PostgreSQL", at(s), Duration::from_millis(5));
            latencies.note("DynamoDB", at(s), Duration::from_millis(if s == 7 { 400 } else { 5 }));
        }
        assert_eq!(latencies.over(at(60), 100.0), Vec::new(), "one alone");
        latencies.note("DynamoDB", at(61), Duration::from_millis(101));
        let slow = [Slow { store: "DynamoDB", over: 2, of: 61, ms_max: 100 }];
        assert_eq!(latencies.over(at(62), 100.0), slow);
        assert_eq!(latencies.over(at(62), 500.0), Vec::new(), "within a larger one");
        assert_eq!(latencies.over(at(500), 100.0), Vec::new(), "what was minutes ago is over");
    }
}
