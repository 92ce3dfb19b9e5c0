//! The naive checker: both sides read whole, put into maps, compared. It shares nothing with the validator but the codecs.

use std::collections::BTreeMap;

use lockstep_core::{AnyTable, Attributes, Fields, MigratableTable, Row, TargetKey, VERSION_ATTRIBUTE, is_tombstone, version_of};
use lockstep_integration_logs::IntegrationLogs;
use lockstep_payments::Payments;
use sqlx::AssertSqlSafe;

use super::World;

impl World {
    /// What is wrong between the stores, one sentence each; empty when they hold the same.
    ///
    /// A row that the target cannot hold must have no live item, and be a dead letter.
    pub async fn disagreements(&self) -> Vec<String> {
        let mut wrong = self.disagreements_of(&IntegrationLogs::default()).await;
        wrong.extend(self.disagreements_of(&Payments::default()).await);
        wrong
    }

    async fn disagreements_of<T: MigratableTable>(&self, table: &T) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut live = BTreeMap::new();
        for item in self.items(T::NAME).await {
            if version_of(&item).is_none() {
                wrong.push(format!("{}: an item without a version", T::NAME));
            }
            if !is_tombstone(&item) {
                live.insert(place(&item), item);
            }
        }
        let (rows, unholdable) = self.rows(table).await;
        for (place, (row, expected)) in rows {
            let Some(item) = live.remove(&place) else {
                wrong.push(format!("{}: {place} is missing in the target", T::NAME));
                continue;
            };
            match T::decode(&item) {
                Err(reason) => wrong.push(format!("{}: {place} does not decode: {reason}", T::NAME)),
                Ok(found) => {
                    wrong.extend(row.differing(&found).iter().map(|column| format!("{}: {place} differs in {column}", T::NAME)))
                }
            }
            // Attributes that are no columns are derived, so they are equal to the letter.
            let is_derived = |name: &str| name != VERSION_ATTRIBUTE && !T::Row::COLUMNS.iter().any(|column| column.name == name);
            let names = expected.keys().chain(item.keys()).filter(|name| is_derived(name));
            let differing = names.filter(|name| expected.get(*name) != item.get(*name));
            wrong.extend(differing.map(|name| format!("{}: {place} differs in attribute {name}", T::NAME)));
        }
        wrong.extend(live.keys().map(|place| format!("{}: {place} is in the target only", T::NAME)));
        let dead_letters: i64 =
            self.value(&format!("SELECT count(*) FROM lockstep.dead_letters WHERE table_name = '{}'", T::NAME)).await;
        if dead_letters != unholdable {
            wrong.push(format!("{}: {unholdable} rows cannot be held, but there are {dead_letters} dead letters", T::NAME));
        }
        wrong
    }

    /// Every row that the target can hold, by where it belongs, with the item it should be; and how many it cannot hold.
    async fn rows<T: MigratableTable>(&self, table: &T) -> (BTreeMap<String, (T::Row, Attributes)>, i64) {
        let columns: Vec<&str> = AnyTable::columns(table).iter().map(|column| column.name).collect();
        let sql = format!("SELECT {} FROM {}", columns.join(", "), T::NAME);
        let found = sqlx::query(AssertSqlSafe(sql)).fetch_all(self.strangers()).await.expect("the source reads");
        let (mut rows, mut unholdable) = (BTreeMap::new(), 0);
        for found in &found {
            let row = Fields::of_query(found, 0, T::Row::from_fields);
            match row.and_then(|row| Ok((MigratableTable::encode(table, &row)?.into_attributes(), row))) {
                Ok((item, row)) => drop(rows.insert(place(&item), (row, item))),
                Err(_) => unholdable += 1,
            }
        }
        (rows, unholdable)
    }
}

fn place(item: &Attributes) -> String {
    format!("{:?}", TargetKey::of(item).expect("every item has a key"))
}
