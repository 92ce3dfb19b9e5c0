//! Queries of applications about the logs (R1), the same in every phase and newest first.
//!
//! Ties of a microsecond are broken by `log_id`, the higher first. A log past its expiry is not answered; see
//! [`lockstep::store::query`] for what holds of every query.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use lockstep::store::query::{Partitions, TimeRange};
use lockstep::{
    AttributeValue, CanaryQueries, Error, Kind, MigratableTable, Query, Result, Selection, Store,
};

use crate::item::{self, BY_APPLICATION, BY_CORRELATION, BY_ID, ERRORS_BY_DAY};
use crate::row::IntegrationLog;
use crate::table::IntegrationLogs;

/// Most days of one [`LogQueries::by_service`]: each is a partition of its own, times the write shards. Ten
/// years.
pub const DAYS_MAX: usize = 3_660;

/// Counts asked for at once by [`LogQueries::counts_by_service_and_day`].
const COUNTS_AT_ONCE: usize = 8;

/// The order of every query: that of the sort key.
const ORDER: &[&str] = &["log_timestamp", "log_id"];
const TIME: &str = "log_timestamp";

/// Number of logs that one service wrote on one UTC day.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DayCount {
    /// The service.
    pub service_name: String,
    /// The day.
    pub day: NaiveDate,
    /// Number of its logs.
    pub logs: u64,
}

/// The queries of a store of logs.
///
/// ```no_run
/// use futures::TryStreamExt;
/// use lockstep::Store;
/// use lockstep_integration_logs::{IntegrationLogs, LogQueries};
///
/// # async fn example(logs: Store<IntegrationLogs>) -> lockstep::Result<()> {
/// let now = chrono::Utc::now();
/// let mut lately = std::pin::pin!(logs.by_service("credit-bureau", now - chrono::TimeDelta::hours(36)..now)?.stream());
/// while let Some(log) = lately.try_next().await? {
///     println!("{} {}", log.log_timestamp, log.is_success);
/// }
/// # Ok(())
/// # }
/// ```
pub trait LogQueries {
    /// Returns the log with an id. In the target an index finds its key, and the item is then read from the
    /// table: the index is eventually consistent, the item is not. In DynamoOnly a log is found by id a
    /// moment after it was written.
    ///
    /// # Errors
    /// As for [`Selection::stream`].
    ///
    /// # Cancel safety
    /// Reading has no effect.
    fn by_id(&self, log_id: i64) -> impl Future<Output = Result<Option<IntegrationLog>>> + Send;

    /// Returns the logs of a loan application. Eventually consistent in the target.
    fn by_application(&self, application_id: i32) -> Selection<IntegrationLogs>;

    /// Returns the logs of a service within a range of time. Strongly consistent in the target, which is read
    /// one day after the other, all write shards of a day at once. Both ends of the range must be given,
    /// unless the table's expiry gives the first.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a range that is open, or of more than [`DAYS_MAX`] days; the same in every
    /// phase.
    fn by_service(
        &self,
        service_name: &str,
        range: impl std::ops::RangeBounds<DateTime<Utc>>,
    ) -> Result<Selection<IntegrationLogs>>;

    /// Returns the errors of a UTC day, of all services. Eventually consistent in the target, which finds
    /// them by a sparse index.
    fn errors_of_day(&self, day: NaiveDate) -> Selection<IntegrationLogs>;

    /// Returns the logs of one operation. Eventually consistent in the target.
    fn by_correlation(&self, correlation_id: &str) -> Selection<IntegrationLogs>;

    /// Counts the logs that each service wrote on each day, from `first_day` to `last_day`: by service in the
    /// order given, then by day, days without a log included. Services must be named, because the target
    /// keeps no list of them. Strongly consistent.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for more than [`DAYS_MAX`] days; otherwise as for [`Selection::count`].
    ///
    /// # Cancel safety
    /// Reading has no effect.
    fn counts_by_service_and_day(
        &self,
        services: &[&str],
        first_day: NaiveDate,
        last_day: NaiveDate,
    ) -> impl Future<Output = Result<Vec<DayCount>>> + Send;
}

impl LogQueries for Store<IntegrationLogs> {
    async fn by_id(&self, log_id: i64) -> Result<Option<IntegrationLog>> {
        let partition = Partitions::one(AttributeValue::N(log_id.to_string()));
        self.select(Query::new("by_id", ORDER, partition).matching("log_id", &log_id).on(BY_ID)).first().await
    }

    fn by_application(&self, application_id: i32) -> Selection<IntegrationLogs> {
        let partition = Partitions::one(AttributeValue::S(item::of_application(application_id)));
        let query =
            Query::new("by_application", ORDER, partition).matching("application_id", &application_id);
        self.select(query.on(BY_APPLICATION).within(TIME, alive(self.table(), TimeRange::ALL)))
    }

    fn by_service(
        &self,
        service_name: &str,
        range: impl std::ops::RangeBounds<DateTime<Utc>>,
    ) -> Result<Selection<IntegrationLogs>> {
        let range = alive(self.table(), TimeRange::of(range));
        let (days, nth_day) = range.days().ok_or_else(|| refused("both ends of the range must be given"))?;
        if days > DAYS_MAX {
            return Err(refused(&format!(
                "{days} days were asked for, at most {DAYS_MAX} can be; ask for a part of them"
            )));
        }
        let (service, write_shards) = (service_name.to_owned(), self.table().options.write_shards.get());
        let partitions = Partitions::groups(service_name, days, move |nth| {
            item::partitions(&service, nth_day(nth), write_shards).map(AttributeValue::S).collect()
        });
        let query =
            Query::new("by_service", ORDER, partitions).matching("service_name", &service_name.to_owned());
        Ok(self.select(query.within(TIME, range)))
    }

    fn errors_of_day(&self, day: NaiveDate) -> Selection<IntegrationLogs> {
        let partition = Partitions::one(AttributeValue::S(item::errors_of(&day.to_string())));
        let query = Query::new("errors_of_day", ORDER, partition).matching("is_success", &false);
        self.select(query.on(ERRORS_BY_DAY).within(TIME, alive(self.table(), TimeRange::day(day))))
    }

    fn by_correlation(&self, correlation_id: &str) -> Selection<IntegrationLogs> {
        let partition = Partitions::one(AttributeValue::S(item::of_correlation(correlation_id)));
        let query = Query::new("by_correlation", ORDER, partition)
            .matching("correlation_id", &correlation_id.to_owned());
        self.select(query.on(BY_CORRELATION).within(TIME, alive(self.table(), TimeRange::ALL)))
    }

    async fn counts_by_service_and_day(
        &self,
        services: &[&str],
        first_day: NaiveDate,
        last_day: NaiveDate,
    ) -> Result<Vec<DayCount>> {
        let days: Vec<NaiveDate> =
            first_day.iter_days().take_while(|day| *day <= last_day).take(DAYS_MAX + 1).collect();
        if days.len() > DAYS_MAX {
            return Err(refused(&format!(
                "more than {DAYS_MAX} days were asked for; ask for a part of them"
            )));
        }
        let cells: Vec<(String, NaiveDate)> = services
            .iter()
            .flat_map(|service| days.iter().map(|day| ((*service).to_owned(), *day)))
            .collect();
        let counts = stream::iter(cells.into_iter().map(|(service_name, day)| {
            let range = TimeRange::day(day);
            let store = self.clone();
            async move {
                let logs = match (range.from(), range.before()) {
                    (Some(from), Some(before)) => {
                        store.by_service(&service_name, from..before)?.count().await?
                    }
                    _ => 0,
                };
                Ok(DayCount { service_name, day, logs })
            }
        }));
        counts.buffered(COUNTS_AT_ONCE).try_collect().await
    }
}

impl CanaryQueries for IntegrationLogs {
    fn canary_queries(store: &Store<Self>, row: &IntegrationLog) -> Vec<(&'static str, Selection<Self>)> {
        let (at, hour) = (row.log_timestamp, TimeDelta::hours(1));
        let around = at.checked_sub_signed(hour).unwrap_or(at)..at.checked_add_signed(hour).unwrap_or(at);
        let mut asked = Vec::new();
        asked.extend(row.application_id.map(|id| ("by application", store.by_application(id))));
        asked.extend(row.correlation_id.as_deref().map(|id| ("by correlation", store.by_correlation(id))));
        asked.extend(store.by_service(&row.service_name, around).ok().map(|of| ("by service and time", of)));
        asked.push(("errors of a day", store.errors_of_day(at.date_naive())));
        asked
    }
}

/// Returns the part of a range whose logs have not expired: the others need not be read to be left out.
fn alive(table: &IntegrationLogs, range: TimeRange) -> TimeRange {
    let days = table.options.ttl_days.filter(|_| table.expires());
    days.and_then(TimeRange::alive_since).map_or(range, |since| range.not_before(since))
}

fn refused(why: &str) -> Error {
    Error::source(Kind::Invalid, format!("querying {}", IntegrationLogs::NAME), why)
}
