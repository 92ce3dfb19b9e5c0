//! Whether the source is busy enough for the initial load to move more slowly (R11).

use std::time::{Duration, Instant};

use lockstep_postgres::{Load, Source, Tuning};

/// Time between two questions.
const EVERY: Duration = Duration::from_secs(2);
/// Part of the source's sessions that may be at work, in percent, where no setting says otherwise.
const SESSIONS_PERCENT: i64 = 60;
/// Distance that a replica may be behind, where no setting says otherwise.
const REPLICA_LAG_MB: i64 = 256;
/// Megabytes a second of write-ahead log, where no setting says otherwise: most of the 125 MiB/s that a gp3
/// volume of AWS has unless it is given more, and reads need some of it.
const WAL_MB_PER_S: i64 = 100;
const MB: i64 = 1024 * 1024;

/// Strain that was found last, for as long as it holds.
#[derive(Debug, Default)]
pub(crate) struct Strain {
    asked_at: Option<Instant>,
    /// Position of the write-ahead log when it was asked for last, and when that was.
    wal: Option<(Instant, i64)>,
    found: Option<String>,
}

impl Strain {
    /// Returns why the initial load should move more slowly, if it should. A source that does not say how
    /// busy it is shows no strain: the statistics are an advice, and their absence stops nothing.
    pub(crate) async fn of(&mut self, source: &Source, tuning: &Tuning) -> Option<String> {
        if self.asked_at.is_none_or(|at| at.elapsed() >= EVERY) {
            self.asked_at = Some(Instant::now());
            self.found = match source.load().await {
                Ok(load) => strain(&load, self.wal_per_s(&load), tuning),
                Err(error) => {
                    tracing::debug!("how busy the source is, is not known: {error}");
                    None
                }
            };
        }
        self.found.clone()
    }

    /// Bytes of write-ahead log a second since it was asked for last; `None` where there is no earlier
    /// position of this server. One that has failed over may be behind the other.
    fn wal_per_s(&mut self, load: &Load) -> Option<i64> {
        let now = load.wal_bytes.map(|bytes| (Instant::now(), bytes));
        let before = std::mem::replace(&mut self.wal, now);
        let ((at, bytes), (was_at, was)) = (now?, before?);
        let passed_s = (at - was_at).as_secs_f64();
        (bytes >= was && passed_s > 0.0).then(|| ((bytes - was) as f64 / passed_s) as i64)
    }
}

fn strain(load: &Load, wal_per_s: Option<i64>, tuning: &Tuning) -> Option<String> {
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
    let lag_mb = load.replica_lag_bytes.unwrap_or(0) / MB;
    if lag_mb > lag_mb_max {
        return Some(format!(
            "a replica of PostgreSQL is {lag_mb} MB behind, and {lag_mb_max} are allowed beside a backfill"
        ));
    }
    let wal_mb_max = tuning.source_wal_mb_per_s_max.unwrap_or(WAL_MB_PER_S);
    let wal_mb = wal_per_s.unwrap_or(0) / MB;
    (wal_mb > wal_mb_max).then(|| {
        format!(
            "PostgreSQL writes {wal_mb} MB of write-ahead log a second, and {wal_mb_max} are allowed beside \
             a backfill"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_initial_load_is_slower_where_the_source_is_past_a_bound_and_says_which() {
        let strain = |load: &Load, tuning: &Tuning| strain(load, None, tuning);
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
        let writing = |mb, tuning: &Tuning| super::strain(&calm, Some(mb * MB), tuning);
        assert_eq!(writing(WAL_MB_PER_S, &Tuning::default()), None);
        assert!(writing(101, &Tuning::default()).is_some_and(|why| why.contains("101 MB of write-ahead")));
        let lowered = Tuning { source_wal_mb_per_s_max: Some(7), ..Tuning::default() };
        assert!(writing(8, &lowered).is_some_and(|why| why.contains("and 7 are allowed")));
    }

    #[test]
    fn the_rate_of_the_log_is_known_from_the_second_look_on_and_not_across_a_failover() {
        let mut strain = Strain::default();
        let mut at = |wal_bytes| strain.wal_per_s(&Load { wal_bytes, ..Load::default() });
        assert_eq!(at(Some(1_000)), None, "nothing to go by yet");
        std::thread::yield_now();
        assert!(at(Some(50_000)).is_some_and(|per_s| per_s >= 49_000));
        assert_eq!(at(Some(40_000)), None, "another server, which is behind");
        assert_eq!(at(None), None, "a replica has none");
        assert_eq!(at(Some(90_000)), None);
    }
}
