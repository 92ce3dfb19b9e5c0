//! The one handle that an application opens: its stores, and what runs behind them (R14).
//!
//! ```no_run
//! use lockstep::{MigratableTable, Migration, MigrationOptions, Result, SourceOptions, TargetOptions};
//! # async fn example<Logs: MigratableTable>(logs: Logs, source: SourceOptions, row: Logs::Row) -> Result<()> {
//! let options = MigrationOptions::new(source, TargetOptions::default()).table(logs, "integration_logs", "integration_logs")?;
//! let migration = Migration::connect(options).await?;
//! let store = migration.store::<Logs>();
//! store.put(&row).await?;
//! migration.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod options;

pub use options::MigrationOptions;
// For a migration on stores that are connected already, as tests and benches start one.
#[doc(hidden)]
pub use options::Tables;

use std::any::TypeId;
use std::sync::{Arc, Mutex, PoisonError};

use lockstep_core::{Kind, MigratableTable, Result, TargetRecord};
use lockstep_dynamo::Target;
use lockstep_postgres::Source;

use crate::instance::Instance;
use crate::store::{Store, WriteCounts, WriteOptions, Writer};
use crate::sweeper::{Sweeper, SweeperOptions};
use options::Stores;

/// An application's part in a migration; cheap to clone, and every clone is the same one.
#[derive(Clone)]
pub struct Migration {
    shared: Arc<Shared>,
}

struct Shared {
    writer: Writer,
    stores: Stores,
    /// `None` once it was shut down.
    background: Mutex<Option<Background>>,
}

/// The tasks that run behind the stores, in the order in which it is stopped.
struct Background {
    sweeper: Sweeper,
    /// `None` where no instance was registered.
    instance: Option<Instance>,
}

impl Migration {
    /// Connects to both stores, registers this process as an instance, and starts what runs behind the
    /// stores.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Migration, MigrationOptions, Result};
    /// # async fn example<Payments: MigratableTable>(options: MigrationOptions) -> Result<()> {
    /// let migration = Migration::connect(options).await?; // once, when the process starts
    /// let payments = migration.store::<Payments>(); // wherever it is needed: a handle is cheap
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the store that is the truth does not answer, or Lockstep was never installed in PostgreSQL. An
    /// application must be able to start without the other one: DynamoDB is asked only where PostgreSQL does
    /// not answer, or sends there.
    ///
    /// # Cancel safety
    /// Nothing runs behind it. A registration may stay, which steps wait for until its lease is over.
    #[crate::boxed]
    pub async fn connect(options: MigrationOptions) -> Result<Self> {
        let target = Target::connect(options.target).await;
        for binding in &options.tables.bindings {
            target.name_attributes(&binding.target_name, binding.table.naming());
        }
        let source = match Source::connect(&options.source).await {
            Err(error) if error.kind == Kind::Unavailable => {
                // If the truth is not there, what there is to be said is that PostgreSQL does not answer.
                let record = target.control().record().await.ok().flatten();
                record.filter(TargetRecord::holds_truth).ok_or(error)?;
                Source::connect_lazily(&options.source)?
            }
            connected => connected?,
        };
        // A source that is down says nothing; it was compared while it was up, and DynamoDB alone is written
        // meanwhile.
        let tables = &options.tables.bindings;
        let checked = match source.require_one_migration(target.control().table(), tables).await {
            Ok(()) => source.require_contract(tables).await,
            refused => refused,
        };
        let checked = match checked {
            Ok(()) => source.require_own_database().await,
            refused => refused,
        };
        if let Err(error) = checked
            && error.kind == Kind::Misconfigured
        {
            return Err(error);
        }
        let instance = Instance::start_with(&source, &target, options.instance).await?;
        let writer = Writer::with_phase(source, target, options.writes, instance.phase());
        writer.configure_reads(options.reads);
        Ok(Self::of(writer, options.tables, options.sweeper, Some(instance)))
    }

    /// On stores that are connected already, without a registration: it asks for the phase itself, and steps
    /// wait for it as for any other that they do not know. Must be called inside a Tokio runtime.
    #[doc(hidden)]
    pub fn start(
        source: Source,
        target: Target,
        tables: Tables,
        writes: WriteOptions,
        sweeper: SweeperOptions,
    ) -> Self {
        Self::of(Writer::new(source, target, writes), tables, sweeper, None)
    }

    fn of(writer: Writer, tables: Tables, sweeper: SweeperOptions, instance: Option<Instance>) -> Self {
        let stores = tables.stores(&writer);
        let background = Background { sweeper: Sweeper::start(writer.clone(), sweeper), instance };
        Self { shared: Arc::new(Shared { writer, stores, background: Mutex::new(Some(background)) }) }
    }

    /// Returns the handle on a table.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Migration, Store};
    /// # fn example<Payments: MigratableTable>(migration: Migration) {
    /// let payments: Store<Payments> = migration.store();
    /// # }
    /// ```
    ///
    /// # Panics
    /// When the table was not added to the options, which is a mistake in the program.
    pub fn store<T: MigratableTable>(&self) -> Store<T> {
        let store =
            self.shared.stores.get(&TypeId::of::<T>()).and_then(|store| store.downcast_ref::<Store<T>>());
        store
            .unwrap_or_else(|| {
                panic!("table {} is not in this migration: add it with MigrationOptions::table", T::NAME)
            })
            .clone()
    }

    /// Returns the writer of every store of this migration.
    #[doc(hidden)]
    pub fn writer(&self) -> &Writer {
        &self.shared.writer
    }

    /// Counts of the outcomes of this handle's writes so far.
    ///
    /// ```no_run
    /// # use lockstep::Migration;
    /// # fn example(migration: Migration) {
    /// let counts = migration.write_counts();
    /// println!("{} transactions committed, {} states left to a relay", counts.committed, counts.deferred);
    /// # }
    /// ```
    pub fn write_counts(&self) -> WriteCounts {
        self.shared.writer.counters().snapshot()
    }

    /// Stops what runs in the background and waits for it, then closes the source: writes under way are
    /// finished, later ones fail. Called again, it does nothing.
    ///
    /// ```no_run
    /// # use lockstep::Migration;
    /// # async fn example(migration: Migration) {
    /// // After the last request was answered: a deploy then waits for no lease of this process.
    /// migration.shutdown().await;
    /// # }
    /// ```
    ///
    /// # Cancel safety
    /// The tasks in the background end by themselves and are not waited for; the source stays open until the
    /// last handle is dropped.
    #[crate::boxed]
    pub async fn shutdown(&self) {
        let background = self.shared.background.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(background) = background else { return };
        background.sweeper.stop().await;
        if let Some(instance) = background.instance {
            instance.shutdown().await;
        }
        self.shared.writer.acknowledged().await;
        self.shared.writer.source().close().await;
    }
}
