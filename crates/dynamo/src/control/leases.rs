//! Leases while the truth is in the target: the same rows and the same rules as in PostgreSQL; see
//! `postgres/instances.rs` for why each step is in its place.
//!
//! They are spread over [`PARTITIONS`] partitions: one takes a thousand writes a second, and each instance
//! acknowledges in the same pause. An earlier version keeps all of them in one partition, and looks for them
//! there only. 1. Applications are upgraded first. 2. Their leases are where the coordinator of before does
//! not look. 3. Its step waits for none of them. So a lease is spread only while the record says so, which
//! this version writes with each change and an earlier one leaves out; an instance that finds it otherwise
//! than where its lease is takes the lease there. Leases are listed from both.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_dynamodb::types::ReturnValue;
use chrono::Utc;
use lockstep_core::{
    Attributes, Epoch, InstanceRow, InstanceState, Kind, Registration, Result, TargetRecord,
};

use super::attributes::{LEASES, OWNER, SPREAD};
use super::lease_item::{PARTITIONS, TOGETHER, parse, renewals, spread, spread_of, stamp, told};
use super::{PK, TargetControl, key, number, text, text_at};

use crate::fault;

/// Partitions in which leases are to be kept, as the record said last, and where those of this process are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leases(Arc<Kept>);

#[derive(Debug, Default)]
struct Kept {
    spread: AtomicBool,
    partitions: Mutex<HashMap<i64, String>>,
}

impl Leases {
    pub(super) fn learn(&self, record: &Attributes) {
        self.0.spread.store(text_at(record, LEASES) == Some(SPREAD), SeqCst);
    }

    /// Returns the partition in which the lease of `id` is to be.
    fn due(&self, id: i64) -> String {
        if self.0.spread.load(SeqCst) { spread_of(id) } else { TOGETHER.to_owned() }
    }

    /// Place of the lease.
    fn of(&self, id: i64) -> String {
        let kept = self.0.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&id).cloned().unwrap_or_else(|| TOGETHER.to_owned())
    }

    fn keep(&self, id: i64, partition: Option<String>) {
        let mut kept = self.0.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        match partition {
            Some(partition) => kept.insert(id, partition),
            None => kept.remove(&id),
        };
    }
}

/// Items in the partitions of leases.
#[derive(Clone, Debug, Default)]
pub struct LeasesSeen {
    /// Registered instances, live ones first.
    pub instances: Vec<InstanceRow>,
    /// Keys of items that are no lease: no instance renews them, and no step waits for them.
    pub unread: Vec<String>,
}

/// Processes that were killed never come back for their items; kept for people for a day.
const EXPIRED_KEPT_MS: i64 = 24 * 3_600 * 1_000;

impl TargetControl {
    /// Makes an instance known, or known again. It has acknowledged nothing yet.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`] where the table is another migration's; the driver's.
    #[crate::boxed]
    pub async fn register(&self, who: &Registration) -> Result<()> {
        self.require_own_table().await?;
        let partition = self.leases().due(who.id);
        let mut item = key(&partition, &who.id.to_string());
        item.insert("name".to_owned(), text(&who.name));
        item.insert("pid".to_owned(), number(std::process::id()));
        item.insert("started_at".to_owned(), stamp(who.started_at));
        item.insert("lease_ms".to_owned(), number(who.lease.as_millis()));
        item.insert("state".to_owned(), text("live"));
        item.insert("renewed_at".to_owned(), stamp(Utc::now()));
        // Higher than any count before: a waiting coordinator takes another number for another renewal.
        item.insert("renewals".to_owned(), number(Utc::now().timestamp_micros()));
        if let Some(owner) = self.owner() {
            item.insert(OWNER.to_owned(), text(owner));
        }
        self.put_lease(item).await?;
        self.leases().keep(who.id, Some(partition));
        Ok(())
    }

    async fn put_lease(&self, item: Attributes) -> Result<()> {
        let sent = self.target.client.put_item().table_name(&self.table).set_item(Some(item)).send().await;
        sent.map(drop).map_err(|e| fault::error("registering this instance", e))
    }

    /// Renews a lease, acknowledges `epoch`, and then reads the record; `None` where the instance is not
    /// registered any more: then the record was not read either, for an instance that no step waits for must
    /// not serve by it.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn renew(&self, id: i64, epoch: Option<Epoch>) -> Result<Option<Option<TargetRecord>>> {
        let mut sets = "SET renewed_at = :now, renewals = renewals + :one".to_owned();
        let mut values = HashMap::from([
            (":now".to_owned(), stamp(Utc::now())),
            (":one".to_owned(), number(1)),
            (":live".to_owned(), text("live")),
        ]);
        let mut names = HashMap::from([("#s".to_owned(), "state".to_owned())]);
        if let Some(epoch) = epoch {
            sets += ", epoch = :epoch";
            values.insert(":epoch".to_owned(), number(epoch));
        }
        if let Some(owner) = self.owner() {
            sets += ", #owner = :owner";
            values.insert(":owner".to_owned(), text(owner));
            names.insert("#owner".to_owned(), OWNER.to_owned());
        }
        let partition = self.leases().of(id);
        let sent = self
            .target
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(&partition, &id.to_string())))
            .update_expression(sets)
            .condition_expression("#s = :live")
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values))
            .return_values(ReturnValue::AllNew)
            .send()
            .await;
        let lease = match sent.map_err(|e| fault::error("renewing this instance's lease", e)) {
            Ok(output) => output.attributes.unwrap_or_default(),
            Err(error) if error.kind == Kind::Refused => return Ok(None),
            Err(error) => return Err(error),
        };
        let record = self.record().await?;
        let due = self.leases().due(id);
        if record.is_some() && due != partition {
            self.move_lease(id, lease, &partition, due).await?;
        }
        Ok(Some(record))
    }

    /// Takes a lease, which was renewed just now, to where it is looked for. It is there before it is gone
    /// here, with what it has acknowledged. Broken off between the two, what is left runs out by itself.
    async fn move_lease(&self, id: i64, mut lease: Attributes, from: &str, to: String) -> Result<()> {
        lease.extend(key(&to, &id.to_string()));
        self.put_lease(lease).await?;
        self.leases().keep(id, Some(to));
        self.delete_lease(id, from).await
    }

    /// Forgets an instance that serves nothing any more by what the target says.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn deregister(&self, id: i64) -> Result<()> {
        self.delete_lease(id, &self.leases().of(id)).await?;
        self.leases().keep(id, None);
        Ok(())
    }

    async fn delete_lease(&self, id: i64, partition: &str) -> Result<()> {
        let key = Some(key(partition, &id.to_string()));
        let sent = self.target.client.delete_item().table_name(&self.table).set_key(key).send().await;
        sent.map(drop).map_err(|e| fault::error("deregistering this instance", e))
    }

    fn leases(&self) -> &Leases {
        &self.target.leases
    }

    /// Every instance that is registered in the target, live ones first.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn instances(&self) -> Result<Vec<InstanceRow>> {
        Ok(self.leases_seen().await?.instances)
    }

    /// The same, with what stands beside them and is no lease.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn leases_seen(&self) -> Result<LeasesSeen> {
        // One that is on its way from one partition to another is in both for a moment, with what it has
        // acknowledged. Two that are read at once would miss it: 1. Its new place is read, and it is not
        // there yet. 2. It moves. 3. Its old place is read. So the old one is read before the others, and
        // after them for one that goes back.
        let mut listed = vec![self.instances_in(TOGETHER.to_owned()).await?];
        let partitions = (0..PARTITIONS).map(spread);
        listed.extend(futures::future::try_join_all(partitions.map(|p| self.instances_in(p))).await?);
        listed.push(self.instances_in(TOGETHER.to_owned()).await?);
        let mut rows = BTreeMap::<i64, InstanceRow>::new();
        let mut unread = BTreeSet::new();
        for seen in &mut listed {
            unread.extend(seen.unread.drain(..));
        }
        for row in listed.into_iter().flat_map(|seen| seen.instances) {
            if rows.get(&row.id).is_none_or(|known| known.renewals < row.renewals) {
                rows.insert(row.id, row);
            }
        }
        let mut rows: Vec<InstanceRow> = rows.into_values().collect();
        rows.sort_by(|a, b| {
            let of = |row: &InstanceRow| {
                (row.state == InstanceState::Expired, row.name.clone(), row.started_at, row.id)
            };
            of(a).cmp(&of(b))
        });
        Ok(LeasesSeen { instances: rows, unread: unread.into_iter().collect() })
    }

    async fn instances_in(&self, partition: String) -> Result<LeasesSeen> {
        let (mut seen, mut start) = (LeasesSeen::default(), None);
        loop {
            let request = self
                .target
                .client
                .query()
                .table_name(&self.table)
                .consistent_read(true)
                .key_condition_expression("#pk = :p")
                .expression_attribute_names("#pk", PK)
                .expression_attribute_values(":p", text(&partition))
                .set_exclusive_start_key(start);
            let page = match request.send().await.map_err(|e| fault::error("reading the instances", e)) {
                Err(error) if error.message.starts_with("ResourceNotFoundException") => return Ok(seen),
                page => page?,
            };
            for item in page.items.unwrap_or_default() {
                // Instances of another migration serve by another record.
                if self.why_foreign(&item).is_none() {
                    match parse(&item) {
                        Some(row) => seen.instances.push(row),
                        None => seen.unread.push(told(&item)),
                    }
                }
            }
            start = page.last_evaluated_key.filter(|key| !key.is_empty());
            if start.is_none() {
                return Ok(seen);
            }
        }
    }

    /// Notes that an instance's lease was waited out, unless it has renewed since `seen`; says whether it was
    /// noted. From then on its renewals find nothing, and it has to register again before it is told the
    /// phase. One that was over a day ago is forgotten.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn expire_instance(&self, seen: &InstanceRow) -> Result<bool> {
        self.require_own_table().await?;
        // Where it was seen is where its count of renewals is as it was seen.
        Ok(self.expire_in(&spread_of(seen.id), seen).await? || self.expire_in(TOGETHER, seen).await?)
    }

    async fn expire_in(&self, partition: &str, seen: &InstanceRow) -> Result<bool> {
        let doing = "noting that a lease is over";
        // What another program wrote for a count is compared as it stands: one that is none is never equal to
        // a number, and its lease would be waited out again and again.
        let Some(item) = self.read(partition, &seen.id.to_string()).await? else { return Ok(false) };
        if renewals(&item) != seen.renewals {
            return Ok(false);
        }
        let as_seen = match item.get("renewals") {
            Some(_) => "renewals = :seen",
            None => "attribute_exists(#pk) AND attribute_not_exists(renewals)",
        };
        let mut names = HashMap::new();
        let mut values = HashMap::new();
        match item.get("renewals") {
            Some(count) => drop(values.insert(":seen".to_owned(), count.clone())),
            None => drop(names.insert("#pk".to_owned(), PK.to_owned())),
        }
        let place = Some(key(partition, &seen.id.to_string()));
        if seen.state == InstanceState::Expired && seen.lease_left_ms < -EXPIRED_KEPT_MS {
            let request = self.target.client.delete_item().table_name(&self.table).set_key(place);
            let sent = request
                .condition_expression(as_seen)
                .set_expression_attribute_names(Some(names).filter(|names| !names.is_empty()))
                .set_expression_attribute_values(Some(values).filter(|values| !values.is_empty()));
            return answered(sent.send().await.map(drop).map_err(|e| fault::error(doing, e)));
        }
        names.insert("#s".to_owned(), "state".to_owned());
        values.insert(":expired".to_owned(), text("expired"));
        let request = self.target.client.update_item().table_name(&self.table).set_key(place);
        let sent = request
            .update_expression("SET #s = :expired")
            .condition_expression(as_seen)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values));
        answered(sent.send().await.map(drop).map_err(|e| fault::error(doing, e)))
    }
}

fn answered(sent: Result<()>) -> Result<bool> {
    match sent {
        Ok(()) => Ok(true),
        Err(error) if error.kind == Kind::Refused => Ok(false),
        Err(error) => Err(error),
    }
}
