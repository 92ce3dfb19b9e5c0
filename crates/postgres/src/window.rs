//! The window of days that a run is about, as conditions of SQL on a row called `s`.

use chrono::{DateTime, Utc};
use lockstep_core::Window;

use super::TableBinding;
use super::binding::{quote_identifier, quote_literal};

pub(crate) fn window_conditions_sql(window: &Window, binding: &TableBinding) -> Vec<String> {
    let Some(column) = binding.table.day_column() else { return Vec::new() };
    let column = format!("s.{}", quote_identifier(column));
    let bound = |operator: &str, at: &Option<DateTime<Utc>>| {
        at.map(|at| format!("{column} {operator} {}::timestamptz", quote_literal(&at.to_rfc3339())))
    };
    [bound(">=", &window.start), bound("<", &window.end)].into_iter().flatten().collect()
}

pub(crate) fn window_sql(window: &Window, binding: &TableBinding, keyword: &str) -> String {
    let conditions = window_conditions_sql(window, binding);
    if conditions.is_empty() { String::new() } else { format!(" {keyword} {}", conditions.join(" AND ")) }
}
