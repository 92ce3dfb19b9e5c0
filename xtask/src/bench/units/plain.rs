//! The same done plainly, into the same tables: what is counted is one put, or one delete, and nothing around
//! it.
//!
//! Whatever prepares it (an item that has to be there before, or not) goes past the proxy and is not counted.

use std::collections::HashMap;

use anyhow::Context;
use aws_sdk_dynamodb::Client;
use lockstep_core::{AttributeValue, Attributes, is_bookkeeping};

use super::counting::{Counted, Proxy};
use crate::bench::worker;

pub(super) struct Plain {
    counted: std::sync::Arc<Counted>,
    measured: Client,
    aside: Client,
}

impl Plain {
    pub(super) async fn new(proxy: &Proxy, endpoint_url: &str) -> Self {
        let measured = worker::target(&proxy.url).await.client().clone();
        let aside = worker::target(endpoint_url).await.client().clone();
        Self { counted: std::sync::Arc::clone(&proxy.counted), measured, aside }
    }

    /// The items at these places.
    pub(super) async fn items(&self, table: &str, places: &[Attributes]) -> anyhow::Result<Vec<Attributes>> {
        let mut items = Vec::with_capacity(places.len());
        for place in places {
            let request =
                self.aside.get_item().table_name(table).consistent_read(true).set_key(Some(place.clone()));
            items.push(request.send().await?.item.context("an item that was written is not there")?);
        }
        Ok(items)
    }

    /// Write units of putting an item where there is none, on average; the items stay.
    pub(super) async fn inserts(&self, table: &str, places: &[Attributes]) -> anyhow::Result<f64> {
        self.again(table, self.items(table, places).await?).await
    }

    /// Write units of putting each item of this correlation where there is none, all of them together; the
    /// items stay.
    pub(super) async fn inserts_of(&self, table: &str, correlation_id: &str) -> anyhow::Result<f64> {
        let scan = self
            .aside
            .scan()
            .table_name(table)
            .consistent_read(true)
            .filter_expression("correlation_id = :c");
        let scan = scan.expression_attribute_values(":c", AttributeValue::S(correlation_id.to_owned()));
        let items = scan.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await?;
        anyhow::ensure!(!items.is_empty(), "no item of {table} has the correlation id of the calls");
        let puts = items.len() as f64;
        Ok(self.again(table, items).await? * puts)
    }

    /// Takes items away, uncounted, and puts them again, counted.
    async fn again(&self, table: &str, items: Vec<Attributes>) -> anyhow::Result<f64> {
        for item in &items {
            let place = item.iter().filter(|(name, _)| ["PK", "SK"].contains(&name.as_str()));
            let place = place.map(|(name, value)| (name.clone(), value.clone())).collect();
            self.aside.delete_item().table_name(table).set_key(Some(place)).send().await?;
        }
        self.puts(table, items).await
    }

    /// Write units of putting each item over what was there before it. A plain item has no version, so that
    /// the versions of both are the same: index copies are rewritten only for what the caller changed.
    pub(super) async fn updates(
        &self,
        table: &str,
        before: &[Attributes],
        after: &[Attributes],
    ) -> anyhow::Result<f64> {
        let mut changed = Vec::with_capacity(after.len());
        for (old, new) in before.iter().zip(after) {
            self.aside.put_item().table_name(table).set_item(Some(old.clone())).send().await?;
            let kept = old.iter().filter(|(name, _)| is_bookkeeping(name));
            let own = new.iter().filter(|(name, _)| !is_bookkeeping(name));
            changed.push(
                own.chain(kept).map(|(name, value)| (name.clone(), value.clone())).collect::<HashMap<_, _>>(),
            );
        }
        let units = self.puts(table, changed).await?;
        for new in after {
            self.aside.put_item().table_name(table).set_item(Some(new.clone())).send().await?;
        }
        Ok(units)
    }

    /// Write units of deleting each item. What is there afterwards is there again in the end.
    pub(super) async fn deletes(
        &self,
        table: &str,
        before: &[Attributes],
        places: &[Attributes],
    ) -> anyhow::Result<f64> {
        let after = self.items(table, places).await?;
        for old in before {
            self.aside.put_item().table_name(table).set_item(Some(old.clone())).send().await?;
        }
        self.counted.take();
        for place in places {
            self.measured.delete_item().table_name(table).set_key(Some(place.clone())).send().await?;
        }
        let units = self.of(table, places.len());
        for new in after {
            self.aside.put_item().table_name(table).set_item(Some(new)).send().await?;
        }
        Ok(units)
    }

    async fn puts(&self, table: &str, items: Vec<Attributes>) -> anyhow::Result<f64> {
        let puts = items.len();
        self.counted.take();
        for item in items {
            self.measured.put_item().table_name(table).set_item(Some(item)).send().await?;
        }
        Ok(self.of(table, puts))
    }

    /// Units of one of `writes` writes; what runs in the background writes to other tables.
    fn of(&self, table: &str, writes: usize) -> f64 {
        self.counted.take().0.get(table).copied().unwrap_or_default() / writes.max(1) as f64
    }
}
