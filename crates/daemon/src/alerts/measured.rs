//! Alerts by what applications counted, and by what a comparison found.

use super::{Found, Severity, Thresholds};
use crate::counted::Counted;
use crate::measure::Measured;

/// Judges what applications counted, against the bounds of the reference system.
pub(super) fn of_counted(counted: &Counted, limits: &Thresholds, found: &mut Found<'_>) {
    let open = counted.operations_open;
    for (name, value, (target, bound), whole, what) in [
        (
            "write_success",
            counted.write_success_percent,
            limits.write_success,
            counted.writes,
            "writes of applications within the hour were made; look at the errors and throttles of both stores".to_owned(),
        ),
        (
            "coordinated_operations",
            counted.operations_completed_percent,
            limits.operations,
            counted.operations,
            format!("coordinated operations within the hour were completed, and {open} began and did not end; read the log rows that they leave"),
        ),
    ] {
        let Some(value) = value.filter(|value| *value < target) else { continue };
        let severity = if value < bound { Severity::Critical } else { Severity::Warning };
        found.add(name, severity, format!("{value:.3} % of {whole} {what}; more than {target} % should"));
    }
    if counted.shadow_differ > 0 {
        let message = format!(
            "{} of {} shadow reads of applications within the hour differ; run `validate`, then `repair`",
            counted.shadow_differ, counted.shadow_reads
        );
        found.add("shadow_mismatches", Severity::Warning, message);
    }
}

/// Percentages against their bounds: below what should be is a warning, below what must be is critical.
pub(super) fn of_measured(measured: &Measured, limits: &Thresholds, found: &mut Found<'_>) {
    let severity = |below_target: bool, below_bound: bool| match (below_target, below_bound) {
        (_, true) => Some(Severity::Critical),
        (true, _) => Some(Severity::Warning),
        _ => None,
    };
    let what = format!("of {} rows compared at {}", measured.compared, measured.at.format("%H:%M:%S UTC"));
    for (name, word, value, (target, bound)) in [
        ("data_consistency", "agree", measured.consistency_percent, limits.consistency),
        ("field_accuracy", "are equal in every field", measured.accuracy_percent, limits.accuracy),
    ] {
        if let Some(severity) = severity(value < target, value < bound) {
            let message = format!(
                "{value:.3} % {what} {word}; more than {target} % should; run `validate`, then `repair`"
            );
            found.add(name, severity, message);
        }
    }
    let (target, bound) = limits.orphans;
    let value = measured.orphans_percent;
    if let Some(severity) = severity(value > target, value > bound) {
        let message =
            format!("{value:.3} % of items have no row; less than {target} % should; run `orphans`");
        found.add("orphans", severity, message);
    }
}
