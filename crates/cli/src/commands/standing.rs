//! The state of each table, as `status` shows it. Of many tables `status` shows those that need attention,
//! and one line says what the others have in common.

use lockstep_coordinator::{Status, TableStatus, first_of};

use crate::report::table;
use crate::ui::{EACH_MAX, count, seconds};

/// Number of tables listed that need attention.
const SHOWN_MAX: usize = 8;
/// Number of tables listed when none needs attention.
const AT_REST_SHOWN: usize = 3;

/// Returns a line a table.
pub(super) fn tables(status: &Status) -> String {
    let headers = [
        "table",
        "capture",
        "target",
        "ranges",
        "rows copied",
        "relayed",
        "pending",
        "oldest",
        "dead letters",
    ];
    let (shown, others) = told_apart(&status.tables);
    let mut rows: Vec<Vec<String>> = shown
        .iter()
        .map(|t| {
            let names = [t.name.clone(), t.capture.clone(), t.target.clone()];
            names.into_iter().chain(numbers(&[*t])).collect()
        })
        .collect();
    if others.is_empty() {
        return format!("\n{}", table(&headers, rows));
    }
    let all_of = |of: fn(&TableStatus) -> bool, all: &str| match others.iter().filter(|t| !of(t)).count() {
        0 => all.to_owned(),
        not => format!("{not} not {all}"),
    };
    let names = [
        format!("and {} more", others.len()),
        all_of(|t| t.capture == "on", "on"),
        all_of(|t| t.target.ends_with("(ACTIVE)"), "ACTIVE"),
    ];
    rows.push(names.into_iter().chain(numbers(&others)).collect());
    format!("\n{}\n  each of them: `status --json`", table(&headers, rows))
}

/// Sums, and the oldest age.
fn numbers(tables: &[&TableStatus]) -> [String; 6] {
    let sum = |of: fn(&TableStatus) -> u64| tables.iter().map(|t| of(t)).sum::<u64>();
    let oldest_s = tables.iter().map(|t| t.oldest_s).fold(0.0, f64::max);
    let dead = sum(|t| t.dead_letters.unsigned_abs());
    let open = sum(|t| t.dead_letters_unacknowledged.unsigned_abs());
    [
        format!("{}/{}", sum(|t| t.ranges_done), sum(|t| t.ranges)),
        count(sum(|t| t.rows_backfilled)),
        count(sum(|t| t.relayed.unsigned_abs())),
        count(sum(|t| t.pending.unsigned_abs())),
        seconds(oldest_s),
        format!("{dead} ({open} open)"),
    ]
}

/// Returns the tables that are shown, in their order, and the others.
fn told_apart(tables: &[TableStatus]) -> (Vec<&TableStatus>, Vec<&TableStatus>) {
    if tables.len() <= EACH_MAX {
        return (tables.iter().collect(), Vec::new());
    }
    // The larger, the more it wants to be looked at.
    let wants = |t: &TableStatus| {
        let is_wrong = t.capture != "on" || !t.target.ends_with("(ACTIVE)") || t.reverse_alarm.is_some();
        let waits_ms = if t.pending > 0 { (t.oldest_s * 1e3) as u64 + 1 } else { 0 };
        (is_wrong, t.dead_letters_unacknowledged, t.ranges - t.ranges_done.min(t.ranges), waits_ms)
    };
    let rest = (false, 0, 0, 0);
    let mut order: Vec<usize> = (0..tables.len()).collect();
    order.sort_by_key(|at| (std::cmp::Reverse(wants(&tables[*at])), *at));
    let wanting = order.iter().filter(|at| wants(&tables[**at]) > rest).count();
    order.truncate(if wanting == 0 { AT_REST_SHOWN } else { wanting.min(SHOWN_MAX) });
    let is_shown = |at: usize| order.contains(&at);
    let (shown, others): (Vec<_>, Vec<_>) = tables.iter().enumerate().partition(|(at, _)| is_shown(*at));
    (without_places(shown), without_places(others))
}

fn without_places(side: Vec<(usize, &TableStatus)>) -> Vec<&TableStatus> {
    side.into_iter().map(|(_, table)| table).collect()
}

/// Returns where the reverse feed stands, where there is one: a line a table, and one for those of many of
/// which there is nothing to say.
pub(super) fn reverse_feed(status: &Status) -> String {
    let fed: Vec<_> =
        status.tables.iter().filter_map(|table| Some((table, table.reverse_feed.as_ref()?))).collect();
    let follows = status.feed_follows();
    let is_many = fed.len() > EACH_MAX;
    let (mut text, mut alike) = (String::new(), Vec::new());
    for (table, feed) in fed {
        if is_many && feed.again == 0 && table.reverse_alarm.is_none() {
            alike.push((table, feed));
            continue;
        }
        let behind = if follows { format!("{} behind", seconds(feed.lag_s)) } else { "rests".to_owned() };
        text += &format!(
            "\nreverse feed of {}: {behind}, {} rows brought back, {} shards open",
            table.name,
            count(feed.applied.unsigned_abs()),
            feed.shards_open
        );
        if feed.again > 0 {
            text +=
                &format!(", {} rows wait ({})", feed.again, feed.again_why.as_deref().unwrap_or_default());
        }
        if let Some(alarm) = &table.reverse_alarm {
            text += &format!("\n  ALARM: {alarm}");
        }
    }
    if !alike.is_empty() {
        let names: Vec<&str> = alike.iter().map(|(table, _)| table.name.as_str()).collect();
        let lag_s = alike.iter().map(|(_, feed)| feed.lag_s).fold(0.0, f64::max);
        let applied: u64 = alike.iter().map(|(_, feed)| feed.applied.unsigned_abs()).sum();
        let behind = if follows { format!("at most {} behind", seconds(lag_s)) } else { "rests".to_owned() };
        let names = first_of(&names, AT_REST_SHOWN);
        text += &format!("\nreverse feed of {names}: {behind}, {} rows brought back", count(applied));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(number: usize) -> TableStatus {
        TableStatus {
            name: format!("table_{number:02}"),
            capture: "on".to_owned(),
            target: format!("table_{number:02} (ACTIVE)"),
            ranges_done: 2,
            ranges: 2,
            rows_backfilled: 10,
            rows_of_done_ranges: 10,
            pending: 0,
            oldest_s: 0.0,
            dead_letters: 0,
            dead_letters_unacknowledged: 0,
            relayed: 1,
            reverse_feed: None,
            reverse_alarm: None,
        }
    }

    #[test]
    fn of_fifty_tables_those_that_want_to_be_looked_at_are_shown_and_the_others_are_one_line() {
        let mut status = Status { tables: (1..=50).map(of).collect(), ..Status::default() };
        let text = tables(&status);
        assert!(text.lines().count() < 12, "{text}");
        assert!(text.contains("and 47 more") && text.contains("94/94") && text.contains("470"), "{text}");
        status.tables[6].capture = "absent".to_owned();
        status.tables[30] = TableStatus { pending: 4, oldest_s: 90.0, ..of(31) };
        let text = tables(&status);
        assert!(
            text.contains("table_07") && text.contains("table_31") && !text.contains("table_01"),
            "{text}"
        );
        assert!(text.contains("and 48 more"), "{text}");
        status.tables.truncate(EACH_MAX);
        assert!(!tables(&status).contains("more"));
    }
}
