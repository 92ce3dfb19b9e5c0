//! Text about what the initial load was planned to take and what it took: of `cost`, `status` and `backfill`.

use lockstep_coordinator::{LoadCost, LoadTook};

use crate::report::table;
use crate::ui::{EACH_MAX, count, seconds};

/// Two lines a table, or two for all of many; nothing where nothing was planned.
pub(super) fn text(loads: &[LoadTook]) -> String {
    if loads.is_empty() {
        return String::new();
    }
    let headers = ["initial load", "", "rows", "write units", "dollars", "time", "rows/s"];
    let line = |name: &str, side: &str, share: &LoadCost, band: f64| {
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
    let folded = fold(loads);
    let lines = folded.iter().flat_map(|load| {
        let took = if load.ended { "took" } else { "so far" };
        [
            line(&load.table, "planned", &load.planned, load.write_units_plus_minus),
            line("", took, &load.took, 0.0),
        ]
    });
    format!("\n{}", table(&headers, lines))
}

/// Many tables as one: sums, and the time of the one that took longest.
fn fold(loads: &[LoadTook]) -> Vec<LoadTook> {
    if loads.len() <= EACH_MAX {
        return loads.to_vec();
    }
    let sum = |side: fn(&LoadTook) -> &LoadCost| LoadCost {
        rows: loads.iter().map(|h| side(h).rows).sum(),
        write_units: loads.iter().map(|h| side(h).write_units).sum(),
        usd: loads.iter().map(|h| side(h).usd).sum(),
        seconds: loads.iter().map(|h| side(h).seconds).fold(0.0, f64::max),
        rows_per_s: loads.iter().map(|h| side(h).rows_per_s).sum(),
    };
    vec![LoadTook {
        table: format!("{} tables", loads.len()),
        planned: sum(|load| &load.planned),
        write_units_plus_minus: loads.iter().map(|h| h.write_units_plus_minus).sum(),
        took: sum(|load| &load.took),
        ended: loads.iter().all(|load| load.ended),
    }]
}
