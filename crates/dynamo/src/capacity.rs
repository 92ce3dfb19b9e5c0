//! Write units a second that a table takes, as far as its description says, and that the account allows.

use aws_sdk_dynamodb::types::{BillingMode, TableDescription};
use lockstep_core::Result;

use super::{Target, fault};

/// Quotas of the account in this region, in write units a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteQuotas {
    /// Most that one table or index may be given, on demand as well.
    pub table: Option<u64>,
    /// Most that all provisioned tables may be given together.
    pub account: Option<u64>,
}

impl Target {
    /// Asks for the account's quotas. Amazon answers this about once a minute, and throttles who asks more
    /// often.
    ///
    /// # Errors
    /// The driver's: of an emulator that knows no such call, and of a role that may not ask, too.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    #[crate::boxed]
    pub async fn write_quotas(&self) -> Result<WriteQuotas> {
        let asked = self.client.describe_limits().send().await;
        let limits = asked.map_err(|error| fault::error("asking for the account's quotas", error))?;
        let units = |quota: Option<i64>| quota.filter(|units| *units > 0).map(i64::unsigned_abs);
        Ok(WriteQuotas {
            table: units(limits.table_max_write_capacity_units),
            account: units(limits.account_max_write_capacity_units),
        })
    }
}

/// Write units a second that a new table on demand takes at once, where it was made without warm throughput.
///
/// Source: Amazon DynamoDB Developer Guide, "DynamoDB on-demand capacity mode", "Initial throughput".
pub const NEW_TABLE_UNITS_PER_S: u64 = 4_000;

impl Target {
    /// Returns the write units a second that a table which is to be made will take at once.
    pub fn warm_when_made(&self, table: &str) -> u64 {
        let warm = self.options.warm_write_units_per_s.get(table);
        warm.copied().unwrap_or(NEW_TABLE_UNITS_PER_S).max(NEW_TABLE_UNITS_PER_S)
    }
}

/// Bounds on the writes of a table or of one of its indexes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteCapacity {
    /// The index; `None` is the table.
    pub index: Option<String>,
    /// Write units a second.
    pub units_per_s: u64,
    /// Kind of the bound.
    pub bound: WriteBound,
}

/// Way in which writes are bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteBound {
    /// Provisioned capacity: what is beyond it is throttled.
    Provisioned,
    /// A limit that was set on a table on demand: the same.
    Limited,
    /// On demand: what the table takes at once. It grows under load, and throttles meanwhile.
    Warm,
}

/// Returns the bounds of a table and its indexes; none where the endpoint does not say.
pub(super) fn write_capacities(table: &TableDescription) -> Vec<WriteCapacity> {
    let on_demand = table.billing_mode_summary().and_then(|summary| summary.billing_mode());
    let is_on_demand = on_demand == Some(&BillingMode::PayPerRequest);
    let mut found = Vec::new();
    let mut add = |index: Option<&str>, units: Option<i64>, bound| {
        // No limit is -1, and no capacity 0.
        let units = units.filter(|units| *units > 0).and_then(|units| u64::try_from(units).ok());
        if let Some(units_per_s) = units {
            found.push(WriteCapacity { index: index.map(str::to_owned), units_per_s, bound });
        }
    };
    let provisioned = table.provisioned_throughput().and_then(|given| given.write_capacity_units());
    let limited = table.on_demand_throughput().and_then(|given| given.max_write_request_units());
    let warm = table.warm_throughput().and_then(|given| given.write_units_per_second());
    let bounds = |provisioned, limited, warm| match is_on_demand {
        true => [(limited, WriteBound::Limited), (warm, WriteBound::Warm)],
        false => [(provisioned, WriteBound::Provisioned), (None, WriteBound::Warm)],
    };
    for (units, bound) in bounds(provisioned, limited, warm) {
        add(None, units, bound);
    }
    for index in table.global_secondary_indexes() {
        let provisioned = index.provisioned_throughput().and_then(|given| given.write_capacity_units());
        let limited = index.on_demand_throughput().and_then(|given| given.max_write_request_units());
        let warm = index.warm_throughput().and_then(|given| given.write_units_per_second());
        for (units, bound) in bounds(provisioned, limited, warm) {
            add(index.index_name(), units, bound);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::{
        BillingModeSummary, GlobalSecondaryIndexDescription, OnDemandThroughput,
        ProvisionedThroughputDescription, TableWarmThroughputDescription,
    };

    use super::*;

    #[test]
    fn a_table_says_what_it_takes_by_the_mode_in_which_it_is_paid() {
        let provisioned =
            |units| ProvisionedThroughputDescription::builder().write_capacity_units(units).build();
        let index = GlobalSecondaryIndexDescription::builder()
            .index_name("by_id")
            .provisioned_throughput(provisioned(5))
            .build();
        let table = TableDescription::builder()
            .provisioned_throughput(provisioned(100))
            .warm_throughput(TableWarmThroughputDescription::builder().write_units_per_second(4_000).build())
            .global_secondary_indexes(index);
        let by = |index: Option<&str>, units_per_s, bound| WriteCapacity {
            index: index.map(str::to_owned),
            units_per_s,
            bound,
        };
        let expected =
            [by(None, 100, WriteBound::Provisioned), by(Some("by_id"), 5, WriteBound::Provisioned)];
        assert_eq!(write_capacities(&table.clone().build()), expected);
        let on_demand = table
            .billing_mode_summary(
                BillingModeSummary::builder().billing_mode(BillingMode::PayPerRequest).build(),
            )
            .on_demand_throughput(OnDemandThroughput::builder().max_write_request_units(-1).build());
        assert_eq!(write_capacities(&on_demand.clone().build()), [by(None, 4_000, WriteBound::Warm)]);
        let limit = OnDemandThroughput::builder().max_write_request_units(50).build();
        let limited = write_capacities(&on_demand.on_demand_throughput(limit).build());
        assert_eq!(limited, [by(None, 50, WriteBound::Limited), by(None, 4_000, WriteBound::Warm)]);
    }
}
