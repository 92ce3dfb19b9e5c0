//! Description of the table for the framework.

use std::num::NonZeroU32;

use chrono::{DateTime, TimeDelta, Utc};
use lockstep::{Aggregate, Item, MigratableTable, Reference, Rule, TargetKey, TargetSchema, Unholdable};
use serde::{Deserialize, Serialize};

use crate::item;
use crate::row::{IntegrationLog, LogKey};

/// Settings of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IntegrationLogsOptions {
    /// Over how many partitions one service's day is spread. It decides keys, so it is fixed once a migration
    /// has begun.
    pub write_shards: NonZeroU32,
    /// Days after `log_timestamp` that an item may be removed; none, or 0 where the file format has no null,
    /// keeps it.
    pub ttl_days: Option<u32>,
}

impl Default for IntegrationLogsOptions {
    fn default() -> Self {
        Self { write_shards: NonZeroU32::MIN, ttl_days: Some(90) }
    }
}

/// The table `integration_logs`.
#[derive(Clone, Copy, Debug, Default)]
pub struct IntegrationLogs {
    /// Settings of the table.
    pub options: IntegrationLogsOptions,
}

impl From<IntegrationLogsOptions> for IntegrationLogs {
    fn from(options: IntegrationLogsOptions) -> Self {
        Self { options }
    }
}

impl MigratableTable for IntegrationLogs {
    type Row = IntegrationLog;
    type Key = LogKey;

    const NAME: &'static str = "integration_logs";
    const TARGET: TargetSchema = item::TARGET;
    const DAY_COLUMN: Option<&'static str> = Some("log_timestamp");

    fn key(row: &IntegrationLog) -> LogKey {
        LogKey {
            log_id: row.log_id,
            service_name: row.service_name.clone(),
            log_timestamp: row.log_timestamp,
        }
    }

    fn target_key(&self, key: &LogKey) -> Result<TargetKey, Unholdable> {
        item::target_key(key, self.options.write_shards.get())
    }

    fn index_attributes(&self, row: &IntegrationLog, item: &mut Item) -> Result<(), Unholdable> {
        item::index_attributes(row, item)
    }

    fn expires(&self) -> bool {
        self.options.ttl_days.is_some_and(|days| days > 0)
    }

    fn expiry(&self) -> String {
        format!("ttl_days={}", self.options.ttl_days.unwrap_or(0))
    }

    fn expires_at(&self, row: &IntegrationLog) -> Option<DateTime<Utc>> {
        let days = self.options.ttl_days.filter(|days| *days > 0)?;
        row.log_timestamp.checked_add_signed(TimeDelta::days(days.into()))
    }

    fn layout(&self) -> String {
        format!("write_shards={}", self.options.write_shards)
    }

    fn reveals(&self, column: &str) -> bool {
        // Documents, messages and names of users may hold anything.
        const TECHNICAL: [&str; 9] = [
            "log_id",
            "application_id",
            "log_type",
            "service_name",
            "status_code",
            "is_success",
            "processing_time_ms",
            "log_timestamp",
            lockstep::TTL_ATTRIBUTE,
        ];
        TECHNICAL.contains(&column)
    }

    fn rules(&self) -> &'static [Rule<IntegrationLog>] {
        RULES
    }

    fn aggregates(&self) -> &'static [Aggregate<IntegrationLog>] {
        AGGREGATES
    }

    fn references(&self) -> &'static [Reference] {
        &[Reference { column: "application_id", to_table: "applications", to_column: "application_id" }]
    }
}

const AGGREGATES: &[Aggregate<IntegrationLog>] = &[Aggregate {
    name: "calls",
    by: &["service", "outcome"],
    group: |log, group| {
        group.push(&log.service_name);
        group.push(if log.is_success { "success" } else { "error" });
    },
    value: None,
}];

const RULES: &[Rule<IntegrationLog>] = &[
    Rule { name: "log_id_is_positive", holds: |log| log.log_id > 0 },
    Rule { name: "log_type_is_named", holds: |log| !log.log_type.trim().is_empty() },
    Rule { name: "service_is_named", holds: |log| !log.service_name.trim().is_empty() },
    Rule {
        name: "error_has_a_message",
        holds: |log| log.is_success || log.error_message.as_ref().is_some_and(|m| !m.is_empty()),
    },
    Rule {
        name: "processing_time_is_not_negative",
        holds: |log| log.processing_time_ms.is_none_or(|ms| ms >= 0),
    },
];
