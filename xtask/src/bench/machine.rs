//! Effects of the machine itself on the numbers.
//!
//! A virtual machine gets the processor time that its host has left. On a busy host that is half as much in
//! one second as in the next, and a single reading of two things then compares two moments instead. So
//! everything is measured in rounds, each thing once a round, and the best of each counts: what was taken
//! away can only have made a reading worse.

use std::fs;
use std::time::Duration;

/// Rounds of a benchmark where none are asked for.
pub const ROUNDS: u32 = 3;

/// The better of the best so far and another reading.
pub fn better(best: Option<f64>, reading: f64) -> Option<f64> {
    Some(best.map_or(reading, |best| best.max(reading)))
}

/// Median in microseconds.
pub fn median_us(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
}

/// Processor time since the machine started, in ticks, and how many of them went to others on the same host.
#[derive(Clone, Copy, Debug)]
pub struct Ticks {
    stolen: u64,
    total: u64,
}

impl Ticks {
    /// Reads the counters as of now, on Linux; see `proc_stat(5)`.
    pub fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    fn parse(stat: &str) -> Option<Self> {
        // user, nice, system, idle, iowait, irq, softirq, steal; what follows is counted among these already.
        let counts = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace().take(8);
        let counts: Vec<u64> = counts.map(str::parse).collect::<Result<_, _>>().ok()?;
        Some(Self { stolen: *counts.get(7)?, total: counts.iter().sum() })
    }

    /// Share of the processor time since then that the machine's host gave to others, from 0 to 1.
    pub fn stolen_since(self, then: Self) -> f64 {
        let total = self.total.saturating_sub(then.total);
        if total == 0 { 0.0 } else { self.stolen.saturating_sub(then.stolen) as f64 / total as f64 }
    }
}

/// Share of the processor time since `then` that was taken away, where the platform tells.
pub fn stolen_since(then: Option<Ticks>) -> Option<f64> {
    Some(Ticks::now()?.stolen_since(then?))
}

/// Says what was taken away, if it is enough to matter.
pub fn print(stolen: Option<f64>) {
    if let Some(share) = stolen.filter(|share| *share >= 0.01) {
        println!("the machine's host gave {:.0} % of its processor time to others meanwhile", share * 100.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_took_is_a_share_of_all_time() {
        let then = Ticks::parse("cpu  10 0 10 60 0 0 0 20 5 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n").expect("a line");
        let now = Ticks::parse("cpu  40 0 20 80 0 0 0 60 9 0\n").expect("a line");
        assert!((now.stolen_since(then) - 0.4).abs() < 1e-9);
        assert!(now.stolen_since(now).abs() < 1e-9, "no time, nothing stolen");
        assert!(Ticks::parse("intr 1 2 3\n").is_none());
    }
}
