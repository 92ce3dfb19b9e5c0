//! The cap on dollars, kept by what spends them (R50): by the daemon that leads, and by every process that
//! copies where none runs.

use std::time::{Duration, Instant};

use lockstep_postgres::{CountRow, Source};

use crate::spending::Spending;
use crate::spent::WRITE_UNITS;

/// Time between two readings of what was spent.
const EVERY: Duration = Duration::from_secs(10);

/// State of the cap when it was looked at last.
#[derive(Debug, Default)]
pub(crate) struct Cap {
    looked_at: Option<(Instant, f64)>,
    over: Option<String>,
}

impl Cap {
    /// Returns why nothing is to be copied; `None` below the cap, and without one. `set` is what operators
    /// have set, which goes before what was configured. Where what was spent cannot be read, what was so
    /// before holds.
    pub(crate) async fn over(
        &mut self,
        source: &Source,
        spending: &Spending,
        set: Option<f64>,
    ) -> Option<String> {
        let Some(cap) = set.or(spending.cap_usd) else {
            (self.looked_at, self.over) = (None, None);
            return None;
        };
        // A cap that was turned is looked at by what it is now.
        if self.looked_at.is_none_or(|(at, of)| of != cap || at.elapsed() >= EVERY)
            && let Ok(rows) = source.spent().await
        {
            self.looked_at = Some((Instant::now(), cap));
            self.over = said(usd(spending, &rows), cap);
        }
        self.over.clone()
    }
}

/// Returns what was spent, in dollars, by what every process has counted.
fn usd(spending: &Spending, rows: &[CountRow]) -> f64 {
    let units: i64 = rows.iter().filter(|row| row.name == WRITE_UNITS).map(|row| row.count).sum();
    units as f64 / 1e6 * spending.write_units_million_usd
}

fn said(usd: f64, cap: f64) -> Option<String> {
    (usd >= cap).then(|| {
        format!("{usd:.2} dollars are spent, and spend_cap_usd is {cap:.2}: it goes on when more is allowed")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_processes_have_counted_is_held_against_the_cap() {
        let row = |name: &str, count| CountRow {
            table_name: "payments".to_owned(),
            name: name.to_owned(),
            count,
            older: 0,
            newest_at: chrono::DateTime::UNIX_EPOCH,
        };
        let rows =
            [row(WRITE_UNITS, 3_000_000), row(WRITE_UNITS, 1_000_000), row("spent.throttled.relay", 9)];
        let spending = Spending { cap_usd: None, write_units_million_usd: 0.5 };
        assert_eq!(usd(&spending, &rows), 2.0);
        assert_eq!(said(2.0, 2.01), None);
        assert!(said(2.0, 2.0).is_some_and(|why| why.contains("2.00 dollars are spent")));
    }
}
