//! Text about what the initial load was planned to take and what it took: of `cost`, `status` and `backfill`.

use lockstep_coordinator::{LoadTook, Share};

use crate::report::table;
use crate::ui::{EACH_MAX, count, seconds};

/// Two lines a table, or two for all of many; nothing where nothing was planned.
pub(super) fn text(histories: &[LoadTook]) -> String {
    if histories.is_empty() {
        return String::new();
    }
    let headers = ["initial load", "", "rows", "write units", "dollars", "time", "rows/s"];
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
    let folded = fold(histories);
    let lines = folded.iter().flat_map(|history| {
        let took = if history.ended { "took" } else { "so far" };
        [
            line(&history.table, "planned", &history.planned, history.write_units_plus_minus),
            line("", took, &history.took, 0.0),
        ]
    });
    format!("\n{}", table(&headers, lines))
}

/// Many tables as one: sums, and the time of the one that took longest.
fn fold(histories: &[LoadTook]) -> Vec<LoadTook> {
    if histories.len() <= EACH_MAX {
        return histories.to_vec();
    }
    let sum = |side: fn(&LoadTook) -> &Share| Share {
        rows: histories.iter().map(|h| side(h).rows).sum(),
        write_units: histories.iter().map(|h| side(h).write_units).sum(),
        usd: histories.iter().map(|h| side(h).usd).sum(),
        seconds: histories.iter().map(|h| side(h).seconds).fold(0.0, f64::max),
        rows_per_s: histories.iter().map(|h| side(h).rows_per_s).sum(),
    };
    vec![LoadTook {
        table: format!("{} tables", histories.len()),
        planned: sum(|history| &history.planned),
        write_units_plus_minus: histories.iter().map(|h| h.write_units_plus_minus).sum(),
        took: sum(|history| &history.took),
        ended: histories.iter().all(|history| history.ended),
    }]
}
