//! Bounds beyond which something is wrong.

use lockstep_postgres::HeldBack;

/// Bounds beyond which something is wrong.
#[derive(Clone, Debug)]
pub(crate) struct Thresholds {
    /// Age of the oldest pending key, in seconds.
    pub(crate) pending_warning_s: f64,
    pub(crate) pending_critical_s: f64,
    /// Marks that are gone and that PostgreSQL keeps in the pending set.
    pub(crate) pending_dead: i64,
    /// Age of the newest verdict while DynamoDB is read, in seconds.
    pub(crate) verdict_warning_s: f64,
    /// Share that a comparison should reach, and the one that it must not fall below, in percent: those of
    /// the reference system.
    pub(crate) consistency: (f64, f64),
    pub(crate) accuracy: (f64, f64),
    /// Share that orphans should stay below, and the one that they must not exceed, in percent.
    pub(crate) orphans: (f64, f64),
    /// Share of applications' writes and coordinated operations that should succeed, and the one that it must
    /// not fall below.
    pub(crate) write_success: (f64, f64),
    pub(crate) operations: (f64, f64),
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            pending_warning_s: 60.0,
            pending_critical_s: 300.0,
            pending_dead: HeldBack::DEAD,
            verdict_warning_s: 24.0 * 3600.0,
            consistency: (99.9, 99.5),
            accuracy: (99.99, 99.9),
            orphans: (0.01, 0.1),
            write_success: (99.95, 99.9),
            operations: (99.9, 99.5),
        }
    }
}
