//! The naive checker: both sides read whole, put into maps, compared. It shares nothing with the validator
//! but the codecs.

use std::collections::BTreeMap;

use lockstep_core::{
    AnyTable, Attributes, Fields, MigratableTable, Row, TargetKey, VERSION_ATTRIBUTE, WRITERS_ATTRIBUTE,
    is_tombstone, version_of,
};
use lockstep_integration_logs::IntegrationLogs;
use lockstep_payments::Payments;
use sqlx::AssertSqlSafe;

use super::World;

impl World {
    /// Returns what is wrong between the stores, one sentence each; empty when they hold the same.
    ///
    /// A row that the target cannot hold must have no live item, and be a dead letter.
    pub async fn disagreements(&self) -> Vec<String> {
        let mut wrong: Vec<String> = self
            .differences()
            .await
            .into_iter()
            .map(|(table, place, what)| format!("{table}: {place} {what}"))
            .collect();
        wrong.extend(self.uncounted_dead_letters(&IntegrationLogs::default()).await);
        wrong.extend(self.uncounted_dead_letters(&Payments::default()).await);
        wrong
    }

    /// Returns where the stores differ: the table, the place in the target, and what is wrong there.
    pub async fn differences(&self) -> Vec<(&'static str, String, String)> {
        let mut wrong = self.differences_of(&IntegrationLogs::default()).await;
        wrong.extend(self.differences_of(&Payments::default()).await);
        wrong
    }

    async fn differences_of<T: MigratableTable>(&self, table: &T) -> Vec<(&'static str, String, String)> {
        let mut wrong = Vec::new();
        let mut differ = |place: &str, what: String| wrong.push((T::NAME, place.to_owned(), what));
        let mut live = BTreeMap::new();
        for item in self.items(T::NAME).await {
            if version_of(&item).is_none() {
                differ(&place(&item), "has no version".to_owned());
            }
            if !is_tombstone(&item) {
                live.insert(place(&item), item);
            }
        }
        let (rows, _) = self.rows(table).await;
        for (place, (row, expected)) in rows {
            let Some(item) = live.remove(&place) else {
                differ(&place, "is missing in the target".to_owned());
                continue;
            };
            match T::decode(&item) {
                Err(reason) => differ(&place, format!("does not decode: {reason}")),
                Ok(found) => row
                    .differing(&found)
                    .iter()
                    .for_each(|column| differ(&place, format!("differs in {column}"))),
            }
            // Attributes that are no columns are derived, so they are equal to the letter.
            let is_derived = |name: &str| {
                name != VERSION_ATTRIBUTE
                    && name != WRITERS_ATTRIBUTE
                    && !T::Row::COLUMNS.iter().any(|column| column.name == name)
            };
            let names = expected.keys().chain(item.keys()).filter(|name| is_derived(name));
            let differing = names.filter(|name| expected.get(*name) != item.get(*name));
            differing.for_each(|name| differ(&place, format!("differs in attribute {name}")));
        }
        live.keys().for_each(|place| differ(place, "is in the target only".to_owned()));
        wrong
    }

    async fn uncounted_dead_letters<T: MigratableTable>(&self, table: &T) -> Option<String> {
        let (_, unholdable) = self.rows(table).await;
        let dead_letters: i64 = self
            .value(&format!("SELECT count(*) FROM lockstep.dead_letters WHERE table_name = '{}'", T::NAME))
            .await;
        (dead_letters != unholdable).then(|| {
            format!(
                "{}: {unholdable} rows cannot be held, but there are {dead_letters} dead letters",
                T::NAME
            )
        })
    }

    /// Every row that the target can hold, by where it belongs, with the item it should be; and how many it
    /// cannot hold.
    async fn rows<T: MigratableTable>(&self, table: &T) -> (BTreeMap<String, (T::Row, Attributes)>, i64) {
        let columns: Vec<&str> = AnyTable::columns(table).iter().map(|column| column.name).collect();
        let sql = format!("SELECT {} FROM {}", columns.join(", "), T::NAME);
        let found =
            sqlx::query(AssertSqlSafe(sql)).fetch_all(self.strangers()).await.expect("the source reads");
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
