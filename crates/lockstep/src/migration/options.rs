//! Options that an application gives of its migration.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;

use lockstep_core::{MigratableTable, Result};
use lockstep_dynamo::TargetOptions;
use lockstep_postgres::{Relation, SourceOptions, TableBinding};

use crate::instance::InstanceOptions;
use crate::store::{ReadOptions, Store, WriteOptions, Writer};
use crate::sweeper::SweeperOptions;

pub(super) type Stores = HashMap<TypeId, Box<dyn Any + Send + Sync>>;
type MakeStore = Box<dyn FnOnce(&Writer) -> (TypeId, Box<dyn Any + Send + Sync>) + Send>;

/// Options of a migration: where the stores are, which tables there are, and how they are written.
pub struct MigrationOptions {
    pub(crate) source: SourceOptions,
    pub(crate) target: TargetOptions,
    pub(crate) tables: Tables,
    pub(crate) writes: WriteOptions,
    pub(crate) reads: ReadOptions,
    pub(crate) sweeper: SweeperOptions,
    pub(crate) instance: InstanceOptions,
}

impl MigrationOptions {
    /// Makes a migration between these two stores, of no table yet.
    ///
    /// ```no_run
    /// # use lockstep::{MigrationOptions, SourceOptions, TargetOptions};
    /// # fn example(source: SourceOptions) {
    /// let target = TargetOptions { region: Some("eu-central-1".to_owned()), ..TargetOptions::default() };
    /// let options = MigrationOptions::new(source, target);
    /// # }
    /// ```
    pub fn new(source: SourceOptions, target: TargetOptions) -> Self {
        Self {
            source,
            target,
            tables: Tables::default(),
            writes: WriteOptions::default(),
            reads: ReadOptions::default(),
            sweeper: SweeperOptions::default(),
            instance: InstanceOptions::default(),
        }
    }

    /// Adds a table: where it is in PostgreSQL (`table` or `schema.table`) and what it is called in DynamoDB.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, MigrationOptions, Result};
    /// # async fn example<Documents: MigratableTable>(
    /// #     documents: Documents, options: MigrationOptions,
    /// # ) -> Result<()> {
    /// let options = options.table(documents, "shop.documents", "documents")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When `relation` is not of that form.
    pub fn table<T: MigratableTable>(mut self, table: T, relation: &str, target_name: &str) -> Result<Self> {
        self.tables = self.tables.add(table, relation, target_name)?;
        Ok(self)
    }

    /// Says how writes are made.
    ///
    /// ```no_run
    /// # use lockstep::{MigrationOptions, WriteMode, WriteOptions};
    /// # fn example(options: MigrationOptions) {
    /// let strict = WriteOptions { dual_write: WriteMode::Strict, ..WriteOptions::default() };
    /// let options = options.writes(strict);
    /// # }
    /// ```
    #[must_use]
    pub fn writes(mut self, writes: WriteOptions) -> Self {
        self.writes = writes;
        self
    }

    /// Says which reads the target answers, and which are compared; each store's [`reads`](Store::reads) can
    /// be turned later.
    ///
    /// ```no_run
    /// # use lockstep::{MigrationOptions, ReadOptions, Share};
    /// # fn example(options: MigrationOptions) -> Result<(), Box<dyn std::error::Error>> {
    /// let reads = ReadOptions { canary_percent: Share::percent(1.0)?, ..ReadOptions::default() };
    /// let options = options.reads(reads);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn reads(mut self, reads: ReadOptions) -> Self {
        self.reads = reads;
        self
    }

    /// Says what this process is called, and how long its lease is.
    ///
    /// ```no_run
    /// # use lockstep::{InstanceOptions, MigrationOptions};
    /// # fn example(options: MigrationOptions) {
    /// let name = "payments-api".to_owned();
    /// let options = options.instance(InstanceOptions { name, ..InstanceOptions::default() });
    /// # }
    /// ```
    #[must_use]
    pub fn instance(mut self, instance: InstanceOptions) -> Self {
        self.instance = instance;
        self
    }

    /// Says how often half-done writes are looked for.
    ///
    /// ```no_run
    /// # use lockstep::{MigrationOptions, SweeperOptions};
    /// # fn example(options: MigrationOptions) {
    /// let options = options.sweeper(SweeperOptions { every_ms: 5_000, ..SweeperOptions::default() });
    /// # }
    /// ```
    #[must_use]
    pub fn sweeper(mut self, sweeper: SweeperOptions) -> Self {
        self.sweeper = sweeper;
        self
    }
}

/// The tables of a migration, with their concrete types.
#[doc(hidden)]
#[derive(Default)]
pub struct Tables {
    make: Vec<MakeStore>,
    /// The same, to be compared with those of the migration.
    pub(crate) bindings: Vec<TableBinding>,
}

impl Tables {
    /// Adds a table; see [`MigrationOptions::table`].
    ///
    /// # Errors
    /// When `relation` is not of the form `table` or `schema.table`.
    pub fn add<T: MigratableTable>(self, table: T, relation: &str, target_name: &str) -> Result<Self> {
        self.add_shared(Arc::new(table), relation, target_name)
    }

    pub(crate) fn add_shared<T: MigratableTable>(
        mut self,
        table: Arc<T>,
        relation: &str,
        target_name: &str,
    ) -> Result<Self> {
        let relation: Relation = relation.parse()?;
        let target_name = target_name.to_owned();
        self.bindings.push(TableBinding {
            table: table.clone(),
            relation: relation.clone(),
            target_name: target_name.clone(),
        });
        self.make.push(Box::new(move |writer| {
            let binding = TableBinding { table: table.clone(), relation, target_name };
            (TypeId::of::<T>(), Box::new(Store::with_writer(writer.clone(), table, binding)))
        }));
        Ok(self)
    }

    pub(super) fn stores(self, writer: &Writer) -> Stores {
        self.make.into_iter().map(|make| make(writer)).collect()
    }
}
