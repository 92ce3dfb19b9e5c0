//! Leases while the truth is in the target: the same rows and the same rules as in PostgreSQL; see
//! `source/instances.rs` for why each step is in its place.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::{DateTime, SecondsFormat, Utc};
use lockstep_core::{
    Attributes, Epoch, InstanceRow, InstanceState, Kind, Registration, Result, SK, TargetRecord,
};

use super::{TargetControl, key, number, number_at, text, text_at};

use crate::fault;

const INSTANCES: &str = "INSTANCES";
/// Processes that were killed never come back for their items; kept for people for a day.
const EXPIRED_KEPT_MS: i64 = 24 * 3_600 * 1_000;

impl TargetControl {
    /// Makes an instance known, or known again. It has acknowledged nothing yet.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`] where the table is another migration's; the driver's.
    pub async fn register(&self, who: &Registration) -> Result<()> {
        self.require_own_table().await?;
        let mut item = key(INSTANCES, &who.id.to_string());
        item.insert("name".to_owned(), text(&who.name));
        item.insert("pid".to_owned(), number(std::process::id()));
        item.insert("started_at".to_owned(), stamp(who.started_at));
        item.insert("lease_ms".to_owned(), number(who.lease.as_millis()));
        item.insert("state".to_owned(), text("live"));
        item.insert("renewed_at".to_owned(), stamp(Utc::now()));
        // Higher than any count before: a waiting coordinator takes another number for another renewal.
        item.insert("renewals".to_owned(), number(Utc::now().timestamp_micros()));
        let sent = self.target.client.put_item().table_name(&self.table).set_item(Some(item)).send().await;
        sent.map(drop).map_err(|e| fault::error("registering this instance", e))
    }

    /// Renews a lease, acknowledges `epoch`, and then reads the record; `None` where the instance is not
    /// registered any more: then the record was not read either, for an instance that no step waits for must
    /// not serve by it.
    pub async fn renew(&self, id: i64, epoch: Option<Epoch>) -> Result<Option<Option<TargetRecord>>> {
        let mut sets = "SET renewed_at = :now, renewals = renewals + :one".to_owned();
        let mut values = HashMap::from([
            (":now".to_owned(), stamp(Utc::now())),
            (":one".to_owned(), number(1)),
            (":live".to_owned(), text("live")),
        ]);
        if let Some(epoch) = epoch {
            sets += ", epoch = :epoch";
            values.insert(":epoch".to_owned(), number(epoch));
        }
        let sent = self
            .target
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(INSTANCES, &id.to_string())))
            .update_expression(sets)
            .condition_expression("#s = :live")
            .expression_attribute_names("#s", "state")
            .set_expression_attribute_values(Some(values))
            .send()
            .await;
        match sent.map_err(|e| fault::error("renewing this instance's lease", e)) {
            Ok(_) => self.record().await.map(Some),
            Err(error) if error.kind == Kind::Refused => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Forgets an instance that serves nothing any more by what the target says.
    pub async fn deregister(&self, id: i64) -> Result<()> {
        let key = Some(key(INSTANCES, &id.to_string()));
        let sent = self.target.client.delete_item().table_name(&self.table).set_key(key).send().await;
        sent.map(drop).map_err(|e| fault::error("deregistering this instance", e))
    }

    /// Every instance that is registered in the target, live ones first.
    ///
    /// # Errors
    /// The driver's.
    pub async fn instances(&self) -> Result<Vec<InstanceRow>> {
        let (mut rows, mut start) = (Vec::new(), None);
        loop {
            let request = self
                .target
                .client
                .query()
                .table_name(&self.table)
                .consistent_read(true)
                .key_condition_expression("PK = :p")
                .expression_attribute_values(":p", text(INSTANCES))
                .set_exclusive_start_key(start);
            let page = match request.send().await.map_err(|e| fault::error("reading the instances", e)) {
                Err(error) if error.message.starts_with("ResourceNotFoundException") => return Ok(Vec::new()),
                page => page?,
            };
            for item in page.items.unwrap_or_default() {
                rows.push(parse(&item).ok_or_else(|| self.damaged("an instance"))?);
            }
            start = page.last_evaluated_key.filter(|key| !key.is_empty());
            if start.is_none() {
                rows.sort_by(|a, b| {
                    let of = |row: &InstanceRow| {
                        (row.state == InstanceState::Expired, row.name.clone(), row.started_at, row.id)
                    };
                    of(a).cmp(&of(b))
                });
                return Ok(rows);
            }
        }
    }

    /// Notes that an instance's lease was waited out, unless it has renewed since `seen`; says whether it was
    /// noted. From then on its renewals find nothing, and it has to register again before it is told the
    /// phase. One that was over a day ago is forgotten.
    ///
    /// # Errors
    /// The driver's.
    pub async fn expire_instance(&self, seen: &InstanceRow) -> Result<bool> {
        self.require_own_table().await?;
        let doing = "noting that a lease is over";
        let place = Some(key(INSTANCES, &seen.id.to_string()));
        if seen.state == InstanceState::Expired && seen.lease_left_ms < -EXPIRED_KEPT_MS {
            let request = self.target.client.delete_item().table_name(&self.table).set_key(place);
            let sent = request
                .condition_expression("renewals = :seen")
                .expression_attribute_values(":seen", number(seen.renewals));
            return settled(sent.send().await.map(drop).map_err(|e| fault::error(doing, e)));
        }
        let request = self.target.client.update_item().table_name(&self.table).set_key(place);
        let sent = request
            .update_expression("SET #s = :expired")
            .condition_expression("renewals = :seen")
            .expression_attribute_names("#s", "state")
            .expression_attribute_values(":expired", text("expired"))
            .expression_attribute_values(":seen", number(seen.renewals));
        settled(sent.send().await.map(drop).map_err(|e| fault::error(doing, e)))
    }
}

fn settled(sent: Result<()>) -> Result<bool> {
    match sent {
        Ok(()) => Ok(true),
        Err(error) if error.kind == Kind::Refused => Ok(false),
        Err(error) => Err(error),
    }
}

fn stamp(at: DateTime<Utc>) -> AttributeValue {
    text(at.to_rfc3339_opts(SecondsFormat::Micros, true))
}

fn parse(item: &Attributes) -> Option<InstanceRow> {
    let at = |name: &str| DateTime::parse_from_rfc3339(text_at(item, name)?).ok().map(|at| at.to_utc());
    let (lease_ms, renewed_at) = (number_at(item, "lease_ms")?, at("renewed_at")?);
    Some(InstanceRow {
        id: text_at(item, SK)?.parse().ok()?,
        name: text_at(item, "name")?.to_owned(),
        // DynamoDB does not tell from where it was called.
        host: "unknown".to_owned(),
        pid: number_at(item, "pid")?,
        started_at: at("started_at")?,
        epoch: number_at(item, "epoch"),
        lease_ms,
        renewals: number_at(item, "renewals")?,
        renewed_at,
        lease_left_ms: lease_ms - (Utc::now() - renewed_at).num_milliseconds(),
        state: if text_at(item, "state")? == "live" { InstanceState::Live } else { InstanceState::Expired },
    })
}
