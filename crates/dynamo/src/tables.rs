//! Target tables: created as the trait says, or checked against it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, IndexStatus, KeySchemaElement, KeyType,
    Projection, ProjectionType, TableDescription, TableStatus, WarmThroughput,
};
use lockstep_core::{Error, KeyAttribute, Kind, Naming, Projected, Result, TargetSchema, VERSION_ATTRIBUTE};

use super::capacity::{WriteCapacity, write_capacities};
use super::mismatch::{UndeclaredIndex, mismatches, scalar, undeclared};
use super::{Backoff, Target, fault};

/// For how long who says so makes do with a description. It is of a moment ago in any case: DescribeTable is
/// eventually consistent.
///
/// An emulator counts every item of every index each time, which holds up every reader and writer there.
///
/// Source: Amazon DynamoDB API Reference, DescribeTable.
const DESCRIBED_LATELY: Duration = Duration::from_secs(5);

/// Tables that were ACTIVE lately. A table that is missing or being changed is asked for each time.
#[derive(Clone, Debug, Default)]
pub(super) struct Described(Arc<Mutex<HashMap<String, (Instant, TableDescription)>>>);

impl Described {
    pub(super) fn lately(&self, table: &str) -> Option<TableDescription> {
        let described = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        described.get(table).filter(|(at, _)| at.elapsed() < DESCRIBED_LATELY).map(|(_, found)| found.clone())
    }

    fn note(&self, table: &str, asked_at: Instant, found: &TableDescription) {
        let mut described = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if is_active(found) {
            described.insert(table.to_owned(), (asked_at, found.clone()));
        } else {
            described.remove(table);
        }
    }
}

/// A target table as it is now.
#[derive(Clone, Debug)]
pub struct TargetTable {
    /// DynamoDB's id, where the endpoint gives one: another one under the same name is another table.
    pub id: Option<String>,
    /// Properties that are not as they must be, one sentence each; empty when the table is usable.
    pub mismatches: Vec<String>,
    /// Indexes that the schema does not have.
    pub undeclared: Vec<UndeclaredIndex>,
    /// Whether table and indexes are ACTIVE.
    pub active: bool,
    /// Bounds of writes of the table and its indexes, as far as the endpoint says.
    pub capacities: Vec<WriteCapacity>,
}

/// Whether a table is there.
#[derive(Clone, Debug)]
pub enum TableStanding {
    /// There is no such table.
    Missing,
    /// There is one.
    There(TargetTable),
}

impl Target {
    /// Looks at a table.
    ///
    /// # Errors
    /// [`Kind::Denied`] and the like; a missing table is not an error.
    #[crate::boxed]
    pub async fn describe(&self, table: &str, schema: &TargetSchema) -> Result<TableStanding> {
        let found = self.ask_for_description(table).await?;
        Ok(found.map_or(TableStanding::Missing, |found| standing(&found, schema, &self.naming(table))))
    }

    /// Describes the table as [`describe`](Target::describe) does, but takes one that was ACTIVE within the
    /// last five seconds to be as it was.
    ///
    /// # Errors
    /// As there.
    #[crate::boxed]
    pub async fn describe_lately(&self, table: &str, schema: &TargetSchema) -> Result<TableStanding> {
        match self.described.lately(table) {
            Some(found) => Ok(standing(&found, schema, &self.naming(table))),
            None => self.describe(table, schema).await,
        }
    }

    /// Asks DynamoDB for the description of a table; `None` where there is none.
    pub(super) async fn ask_for_description(&self, table: &str) -> Result<Option<TableDescription>> {
        let asked_at = Instant::now();
        match self.client.describe_table().table_name(table).send().await {
            Ok(output) => {
                let doing = || format!("describing {table} at {}", self.address());
                let nothing = || Error::target(Kind::Unknown, doing(), "the answer describes no table");
                let found = output.table.ok_or_else(nothing)?;
                self.described.note(table, asked_at, &found);
                Ok(Some(found))
            }
            Err(e) => {
                let error = fault::error(format!("describing {table} at {}", self.address()), e);
                if error.message.starts_with("ResourceNotFoundException") { Ok(None) } else { Err(error) }
            }
        }
    }

    /// Creates a table, on demand, and waits until it and its indexes are ACTIVE. With `ttl`, expiry is
    /// switched on.
    ///
    /// # Errors
    /// The driver's; [`Kind::Unavailable`] when the table is not ACTIVE after about five minutes.
    #[crate::boxed]
    pub async fn create(&self, table: &str, schema: &TargetSchema, ttl: bool) -> Result<TargetTable> {
        let there = self.create_unprotected(table, schema).await?;
        if ttl {
            self.ensure_expiry(table).await?;
        }
        self.protect(table).await?;
        Ok(there)
    }

    /// Creates a table as [`Target::create`] does, without expiry and backups.
    pub(super) async fn create_unprotected(&self, table: &str, schema: &TargetSchema) -> Result<TargetTable> {
        let doing = format!("creating {table} at {}", self.address());
        let warm = self.warm(table);
        let Definition { attributes, key, indexes } =
            Definition::of(schema, &self.naming(table), warm.as_ref());
        let created = self
            .client
            .create_table()
            .table_name(table)
            .set_attribute_definitions(Some(attributes))
            .set_key_schema(Some(key))
            .set_global_secondary_indexes(indexes)
            .billing_mode(BillingMode::PayPerRequest)
            .set_warm_throughput(warm)
            .set_deletion_protection_enabled(self.options.deletion_protection.then_some(true))
            .send()
            .await;
        if let Err(error) = created.map_err(|e| fault::error(&doing, e)) {
            // Another process, or an earlier run whose answer was lost, is creating it: wait for that one.
            if !error.message.starts_with("ResourceInUseException") && error.kind != Kind::Unknown {
                return Err(error);
            }
        }
        self.wait_active(table, schema, &doing).await
    }

    /// Returns the throughput that a table is to be made with; none where nothing is said of it.
    fn warm(&self, table: &str) -> Option<WarmThroughput> {
        let units = *self.options.warm_write_units_per_s.get(table)?;
        let units = i64::try_from(units).unwrap_or(i64::MAX);
        Some(WarmThroughput::builder().write_units_per_second(units).build())
    }

    /// Waits until a table that is being made and its indexes are ACTIVE, for about five minutes.
    ///
    /// # Errors
    /// The driver's; [`Kind::Unavailable`] when they are not by then.
    pub async fn until_active(&self, table: &str, schema: &TargetSchema) -> Result<TargetTable> {
        self.wait_active(table, schema, &format!("waiting for {table}")).await
    }

    async fn wait_active(&self, table: &str, schema: &TargetSchema, doing: &str) -> Result<TargetTable> {
        let mut backoff = Backoff::patient();
        loop {
            match self.describe(table, schema).await? {
                TableStanding::There(there) if there.active => return Ok(there),
                _ => {
                    backoff
                        .pause(Error::target(Kind::Unavailable, doing, "the table is not ACTIVE yet"))
                        .await?
                }
            }
        }
    }

    /// Checks whether DynamoDB Streams answers, which is a service of its own with an endpoint of its own.
    /// `false` where what answers there knows no streams.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn reach_streams(&self) -> Result<bool> {
        let listed = self.streams.list_streams().limit(1).send().await;
        let asking = || format!("asking DynamoDB Streams at {}", self.streams_place());
        match listed.map_err(|e| fault::error(asking(), e)) {
            Err(error) if fault::is_not_known(&error) => Ok(false),
            listed => listed.map(|_| true),
        }
    }

    fn streams_place(&self) -> String {
        self.options.streams_endpoint_url.clone().unwrap_or_else(|| self.address())
    }

    /// Tells whether a table has no item at all.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn is_empty(&self, table: &str) -> Result<bool> {
        let page = self.client.scan().table_name(table).limit(1).consistent_read(true).send().await;
        let page = page.map_err(|e| fault::error(format!("looking into {table}"), e))?;
        Ok(page.items().is_empty() && page.last_evaluated_key().is_none())
    }

    /// Tells whether a table holds items that Lockstep did not write, judged by its first page of up to 100
    /// items.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn has_foreign_items(&self, table: &str) -> Result<bool> {
        let page = self.client.scan().table_name(table).limit(100).send().await;
        let page = page.map_err(|e| fault::error(format!("looking into {table}"), e))?;
        Ok(page.items().iter().any(|item| !item.contains_key(VERSION_ATTRIBUTE)))
    }
}

/// Definition as which a table is made.
pub(super) struct Definition {
    pub(super) attributes: Vec<AttributeDefinition>,
    pub(super) key: Vec<KeySchemaElement>,
    pub(super) indexes: Option<Vec<GlobalSecondaryIndex>>,
}

impl Definition {
    /// A put writes each index too, so all of them are to take as much as the table.
    pub(super) fn of(schema: &TargetSchema, naming: &Naming, warm: Option<&WarmThroughput>) -> Self {
        let attributes = naming.key_attributes(schema).into_iter().map(|attribute| {
            let definition = AttributeDefinition::builder()
                .attribute_name(attribute.name)
                .attribute_type(scalar(attribute.key_type));
            definition.build().expect("name and type were set")
        });
        let indexes = schema.indexes.iter().map(|index| {
            let (projection, listed) = match index.projection {
                Projected::Keys => (ProjectionType::KeysOnly, None),
                Projected::List(names) => (ProjectionType::Include, Some(names)),
                Projected::All => (ProjectionType::All, None),
            };
            let listed = listed.map(|names| names.iter().map(|&name| name.to_owned()).collect());
            let projection =
                Projection::builder().projection_type(projection).set_non_key_attributes(listed).build();
            GlobalSecondaryIndex::builder()
                .index_name(index.name)
                .set_key_schema(Some(key_schema(naming.index_key(index))))
                .projection(projection)
                .set_warm_throughput(warm.cloned())
                .build()
                .expect("name and key were set")
        });
        let indexes: Vec<_> = indexes.collect();
        Self {
            attributes: attributes.collect(),
            key: key_schema(naming.table_key(schema)),
            indexes: (!indexes.is_empty()).then_some(indexes),
        }
    }
}

fn standing(found: &TableDescription, schema: &TargetSchema, naming: &Naming) -> TableStanding {
    let (id, active) = (found.table_id.clone(), is_active(found));
    TableStanding::There(TargetTable {
        id,
        active,
        mismatches: mismatches(found, schema, naming),
        undeclared: undeclared(found, schema, naming),
        capacities: write_capacities(found),
    })
}

fn is_active(table: &TableDescription) -> bool {
    let mut indexes = table.global_secondary_indexes().iter();
    table.table_status == Some(TableStatus::Active)
        && indexes.all(|index| index.index_status() == Some(&IndexStatus::Active))
}

fn key_schema(attributes: impl Iterator<Item = KeyAttribute>) -> Vec<KeySchemaElement> {
    let types = [KeyType::Hash, KeyType::Range];
    let element = |(attribute, key_type): (KeyAttribute, KeyType)| {
        KeySchemaElement::builder()
            .attribute_name(attribute.name)
            .key_type(key_type)
            .build()
            .expect("name and type were set")
    };
    attributes.zip(types).map(element).collect()
}
