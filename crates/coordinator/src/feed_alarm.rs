//! Whether the reverse feed has everything, and what is wrong with it if not.

use lockstep_core::Advice::{RetryDeadLetters, ReverseBackfill, ReverseFeed};
use lockstep_postgres::reverse::FeedStanding;

/// Lag from which the feed is in danger: half of what streams keep, so that there is as long again to do
/// something.
const LAG_ALARM_S: f64 = lockstep_core::RETENTION.as_secs() as f64 / 2.0;

/// Returns why a feed does not have everything, so that the way back is closed; `None` where it is open.
pub(crate) fn closed(standing: &FeedStanding) -> Option<String> {
    if let (Some(at), Some(why)) = (standing.lost_at, &standing.lost_why) {
        return Some(format!(
            "records were lost ({why}; noticed {}): the way back is closed until \
                {ReverseBackfill} has read the whole target",
            at.format("%Y-%m-%d %H:%M:%S UTC")
        ));
    }
    if let (true, Some(why)) = (standing.foreign_count > 0, &standing.foreign_why) {
        return Some(format!(
            "{} changes went round Lockstep ({why}) and are not in PostgreSQL: run \
                {ReverseBackfill}",
            standing.foreign_count
        ));
    }
    None
}

/// Returns why a feed stands still, in a sentence; `None` where it does not.
pub(crate) fn stopped(standing: &FeedStanding) -> Option<String> {
    let why = standing.stopped_why.as_ref()?;
    Some(format!(
        "it stands still before a record of an epoch that PostgreSQL has never begun: a store may have lost history ({why}). \
         It goes on by itself once both stores show that none is lost"
    ))
}

/// Returns what another program did to versions of items, in a sentence; `None` where it did nothing of the
/// kind.
pub(crate) fn foreign(standing: &FeedStanding) -> Option<String> {
    let items = match standing.foreign_versions {
        0 => return None,
        1 => "1 item has a version".to_owned(),
        several => format!("{several} items have versions"),
    };
    Some(format!(
        "{items} of an epoch that never began: another program wrote there. Applications cannot write such rows until \
         {RetryDeadLetters} gives them a version of ours"
    ))
}

/// Returns what is wrong with a feed, in a sentence that says what to do; `None` when nothing is.
pub(crate) fn alarm(standing: &FeedStanding) -> Option<String> {
    let of_records = behind(standing);
    if standing.lost_at.is_some() {
        return of_records;
    }
    stopped(standing).or(of_records).or_else(|| foreign(standing))
}

/// Returns the same of a feed that is behind, or lacks something.
pub(crate) fn behind(standing: &FeedStanding) -> Option<String> {
    if standing.lost_at.is_some() {
        return closed(standing);
    }
    if standing.lag_s > LAG_ALARM_S {
        return Some(format!(
            "it is {:.0} h behind and streams keep 24 h: start {ReverseFeed}, or \
                find out what holds it up",
            standing.lag_s / 3_600.0
        ));
    }
    closed(standing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_postgres::reverse::FeedStanding;

    #[track_caller]
    fn check(standing: FeedStanding, says: Option<&str>) {
        let alarm = alarm(&standing);
        assert_eq!(alarm.is_some(), says.is_some(), "{alarm:?}");
        assert!(alarm.is_none_or(|alarm| alarm.contains(says.unwrap_or_default())));
    }

    #[test]
    fn an_alarm_comes_while_there_is_still_half_of_the_time_left() {
        let hours = |h: f64| FeedStanding { lag_s: h * 3_600.0, ..FeedStanding::default() };
        check(hours(0.0), None);
        check(hours(11.9), None);
        check(hours(13.0), Some("13 h behind"));
        let lost = FeedStanding {
            lost_at: Some(chrono::Utc::now()),
            lost_why: Some("trimmed".to_owned()),
            ..hours(0.0)
        };
        check(lost, Some(&ReverseBackfill.to_string()));
        let stopped = Some("DynamoDB is away".to_owned());
        check(FeedStanding { stopped_why: stopped.clone(), ..hours(0.0) }, Some("(DynamoDB is away)"));
        check(FeedStanding { stopped_why: stopped, ..hours(13.0) }, Some("stands still"));
        let versions = |foreign_versions| FeedStanding { foreign_versions, ..hours(0.0) };
        check(versions(1), Some("1 item has a version of an epoch"));
        check(versions(2), Some(&RetryDeadLetters.to_string()));
        check(
            FeedStanding { foreign_count: 2, foreign_why: Some("by hand".to_owned()), ..hours(0.0) },
            Some("2 changes"),
        );
    }
}
