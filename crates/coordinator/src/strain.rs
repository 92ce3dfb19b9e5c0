//! Whether the source is busy enough for the initial load to move more slowly (R11).

use std::time::{Duration, Instant};

use lockstep_postgres::{Load, Source, Tuning};

/// Time between two questions.
const EVERY: Duration = Duration::from_secs(2);
/// Part of the source's sessions that may be at work, in percent, where no setting says otherwise.
const SESSIONS_PERCENT: i64 = 60;
/// Distance that a replica may be behind, where no setting says otherwise.
const REPLICA_LAG_MB: i64 = 256;

/// Strain that was found last, for as long as it holds.
#[derive(Debug, Default)]
pub(crate) struct Strain {
    asked_at: Option<Instant>,
    found: Option<String>,
}

impl Strain {
    /// Returns why the initial load should move more slowly, if it should. A source that does not say how
    /// busy it is shows no strain: the statistics are an advice, and their absence stops nothing.
    pub(crate) async fn of(&mut self, source: &Source, tuning: &Tuning) -> Option<String> {
        if self.asked_at.is_none_or(|at| at.elapsed() >= EVERY) {
            self.asked_at = Some(Instant::now());
            self.found = match source.load().await {
                Ok(load) => strain(&load, tuning),
                Err(error) => {
                    tracing::debug!("how busy the source is, is not known: {error}");
                    None
                }
            };
        }
        self.found.clone()
    }
}

fn strain(load: &Load, tuning: &Tuning) -> Option<String> {
    let sessions_max = tuning
        .source_active_sessions_max
        .unwrap_or_else(|| (load.sessions_max * SESSIONS_PERCENT / 100).max(1));
    let lag_mb_max = tuning.source_replica_lag_mb_max.unwrap_or(REPLICA_LAG_MB);
    if load.active_sessions > sessions_max {
        return Some(format!(
            "PostgreSQL is busy: {} sessions are at work, and {sessions_max} are allowed beside a backfill",
            load.active_sessions
        ));
    }
    let lag_mb = load.replica_lag_bytes.unwrap_or(0) / (1024 * 1024);
    (lag_mb > lag_mb_max).then(|| {
        format!(
            "a replica of PostgreSQL is {lag_mb} MB behind, and {lag_mb_max} are allowed beside a backfill"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_initial_load_is_slower_where_sessions_or_a_replica_are_past_their_bounds_and_says_which() {
        let calm = Load { active_sessions: 60, sessions_max: 100, ..Load::default() };
        assert_eq!(strain(&calm, &Tuning::default()), None);
        let busy = Load { active_sessions: 61, ..calm };
        assert!(
            strain(&busy, &Tuning::default()).is_some_and(|why| why.starts_with("PostgreSQL is busy: 61"))
        );
        let raised = Tuning { source_active_sessions_max: Some(61), ..Tuning::default() };
        assert_eq!(strain(&busy, &raised), None, "the setting counts");
        let behind = Load { replica_lag_bytes: Some(300 << 20), ..calm };
        assert!(strain(&behind, &Tuning::default()).is_some_and(|why| why.contains("300 MB behind")));
        let raised = Tuning { source_replica_lag_mb_max: Some(300), ..Tuning::default() };
        assert_eq!(strain(&behind, &raised), None);
    }
}
