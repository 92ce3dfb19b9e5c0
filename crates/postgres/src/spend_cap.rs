//! The bill that every process adds to, and the cap on dollars, kept by what spends them (R50): by the daemon
//! that leads, and by every process that copies or compares where none runs.

use std::time::{Duration, Instant};

use super::{CountRow, Source};

/// The name under which write units are counted.
pub const WRITE_UNITS: &str = "spent.write_units";

/// The name under which it is counted what comparisons read.
pub const READ_UNITS: &str = "spent.read_units";

/// Prefix of the names under which it is counted what DynamoDB asked to slow down for, by what sent it.
pub const THROTTLED: &str = "spent.throttled.";

/// Time between two readings of what was spent.
const EVERY: Duration = Duration::from_secs(10);

/// Dollars that may be spent, and what units cost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spending {
    /// Dollars after which nothing is copied or compared, where no setting says otherwise.
    pub cap_usd: Option<f64>,
    /// Dollars of a million write units.
    pub write_units_million_usd: f64,
    /// Dollars of a million read units.
    pub read_units_million_usd: f64,
}

impl Spending {
    /// Returns the cost of what a row counts, in dollars; nothing where it counts no units.
    pub fn usd(&self, row: &CountRow) -> f64 {
        let million_usd = match row.name.as_str() {
            WRITE_UNITS => self.write_units_million_usd,
            READ_UNITS => self.read_units_million_usd,
            _ => 0.0,
        };
        row.count as f64 / 1e6 * million_usd
    }
}

/// State of the cap when it was looked at last.
#[derive(Debug, Default)]
pub struct Cap {
    looked_at: Option<(Instant, f64)>,
    over: Option<String>,
}

impl Cap {
    /// Returns why nothing is to be copied or compared; `None` below the cap, and without one. `set` is what
    /// operators have set, which goes before what was configured. Where what was spent cannot be read, what
    /// was so before holds.
    ///
    /// # Cancel safety
    /// It is looked at again.
    #[crate::boxed]
    pub async fn over(&mut self, source: &Source, spending: &Spending, set: Option<f64>) -> Option<String> {
        let Some(cap) = set.or(spending.cap_usd) else {
            (self.looked_at, self.over) = (None, None);
            return None;
        };
        // A cap that was turned is looked at by what it is now.
        if self.looked_at.is_none_or(|(at, of)| of != cap || at.elapsed() >= EVERY)
            && let Ok(rows) = source.spent().await
        {
            self.looked_at = Some((Instant::now(), cap));
            self.over = said(rows.iter().map(|row| spending.usd(row)).sum(), cap);
        }
        self.over.clone()
    }
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
        let rows = [
            row(WRITE_UNITS, 3_000_000),
            row(WRITE_UNITS, 1_000_000),
            row(READ_UNITS, 2_000_000),
            row("spent.throttled.relay", 9),
        ];
        let spending =
            Spending { cap_usd: None, write_units_million_usd: 0.5, read_units_million_usd: 0.125 };
        let usd: f64 = rows.iter().map(|row| spending.usd(row)).sum();
        assert_eq!(usd, 2.25, "reads cost as well, and a throttle costs nothing");
        assert_eq!(said(2.25, 2.26), None);
        assert!(said(2.25, 2.25).is_some_and(|why| why.contains("2.25 dollars are spent")));
    }
}
