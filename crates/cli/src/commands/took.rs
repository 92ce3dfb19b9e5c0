//! What history was planned to take and what it took, as text: of `cost`, `status` and `backfill`.

use lockstep_coordinator::{LoadTook, Share};

use crate::report::table;
use crate::ui::{count, seconds};

/// Two lines a table; nothing where nothing was planned.
pub(super) fn text(histories: &[LoadTook]) -> String {
    if histories.is_empty() {
        return String::new();
    }
    let headers = ["history", "", "rows", "write units", "dollars", "time", "rows/s"];
    let line = |name: &str, side: &str, share: &Share, band: f64| {
        let units = count(share.write_units as u64);
        vec![
            name.to_owned(),
            side.to_owned(),
            count(share.rows as u64),
            if band > 0.0 { format!("{units} ± {}", count(band as u64)) } else { units },
            format!("{:.2}", share.usd),
            seconds(share.seconds),
            count(share.rows_per_s as u64),
        ]
    };
    let lines = histories.iter().flat_map(|history| {
        let took = if history.ended { "took" } else { "so far" };
        [
            line(&history.table, "planned", &history.planned, history.write_units_plus_minus),
            line("", took, &history.took, 0.0),
        ]
    });
    format!("\n{}", table(&headers, lines))
}
