//! Tables that a program knows: the list that its application and its command line share.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use figment::value::{Dict, Value};
use lockstep_core::Result;
use lockstep_postgres::TableBinding;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::migration::Tables;
use crate::store::{CanaryQueries, CanaryStore, Store, Writer};

/// The tables of a program, as [`tables!`](crate::tables) lists them.
///
/// ```no_run
/// # use lockstep::{CanaryQueries, Registry};
/// # fn listed<Documents: CanaryQueries + Default, Payments: CanaryQueries + Default>() -> Registry {
/// lockstep::tables![Documents, Payments]
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Registry {
    entries: Vec<Arc<dyn Entry>>,
    gives_way: bool,
}

/// Lists the tables of a program, for [`MigrationOptions::load`](crate::MigrationOptions::load) and for its
/// command line. A table with settings of its own in `[tables.NAME]` names their type:
/// `tables![Documents, Logs: LogsOptions]`, where `Logs: From<LogsOptions>`.
#[macro_export]
macro_rules! tables {
    (@add $registry:expr, $table:ty) => { $registry.table::<$table>() };
    (@add $registry:expr, $table:ty, $options:ty) => { $registry.table_with::<$table, $options>() };
    ($($table:ty $(: $options:ty)?),* $(,)?) => {{
        let registry = $crate::Registry::default();
        $(let registry = $crate::tables!(@add registry, $table $(, $options)?);)*
        registry
    }};
}

impl Registry {
    /// Adds a table without settings of its own.
    ///
    /// ```no_run
    /// # use lockstep::{CanaryQueries, Registry};
    /// # fn listed<Documents: CanaryQueries + Default>() -> Registry {
    /// // What `lockstep::tables![Documents]` writes.
    /// Registry::default().table::<Documents>()
    /// # }
    /// ```
    #[must_use]
    pub fn table<T: CanaryQueries + Default>(self) -> Self {
        self.add(Of { make: |_: NoOptions| T::default() })
    }

    /// Adds a table with settings `O`, which refuse unknown keys (`#[serde(deny_unknown_fields)]`).
    ///
    /// ```no_run
    /// # use lockstep::{CanaryQueries, Registry};
    /// /// Settings of the table, in its section beside `source` and `target`.
    /// #[derive(Default, serde::Serialize, serde::Deserialize)]
    /// #[serde(deny_unknown_fields, default)]
    /// struct LogsOptions {
    ///     ttl_days: Option<u32>,
    /// }
    ///
    /// # fn listed<Logs: CanaryQueries + From<LogsOptions>>() -> Registry {
    /// // What `lockstep::tables![Logs: LogsOptions]` writes.
    /// Registry::default().table_with::<Logs, LogsOptions>()
    /// # }
    /// ```
    #[must_use]
    pub fn table_with<T, O>(self) -> Self
    where
        T: CanaryQueries + From<O>,
        O: Default + Serialize + DeserializeOwned + 'static,
    {
        self.add(Of { make: T::from as fn(O) -> T })
    }

    fn add(mut self, entry: impl Entry + 'static) -> Self {
        self.entries.push(Arc::new(entry));
        self
    }

    /// These are a demonstration's: where a file declares tables, those move and these do not.
    #[doc(hidden)]
    #[must_use]
    pub fn giving_way(mut self) -> Self {
        self.gives_way = true;
        self
    }

    #[doc(hidden)]
    pub fn gives_way(&self) -> bool {
        self.gives_way
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.name() == name)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &dyn Entry> {
        self.entries.iter().map(|entry| &**entry)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries.iter().map(|entry| entry.name())).finish()
    }
}

/// Keys that are read of a section.
pub(super) type Read<T> = std::result::Result<T, Box<figment::Error>>;

/// A table that is known, and not yet located.
pub(super) trait Entry: Send + Sync {
    fn name(&self) -> &'static str;
    /// Returns its section where nothing is configured.
    fn defaults(&self) -> Dict;
    /// Returns the table by its section, and the section with every key.
    fn locate(&self, section: Dict) -> Read<(Arc<dyn Located>, Dict)>;
}

/// The table of a located one, whatever its type.
pub(super) type AnyOfTable<'a> = &'a (dyn Any + Send + Sync);

/// A table with its settings and its names on both sides.
pub(super) trait Located: Send + Sync {
    fn name(&self) -> &'static str;
    fn source(&self) -> &str;
    fn target(&self) -> &str;
    fn table(&self) -> AnyOfTable<'_>;
    fn binding(&self, prefix: &str) -> Result<TableBinding>;
    fn canary_store(&self, writer: Writer, binding: TableBinding) -> Box<dyn CanaryStore>;
    fn add_to(&self, tables: Tables, prefix: &str) -> Result<Tables>;
}

/// Settings of a table that has none.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoOptions {}

struct Of<T, O> {
    make: fn(O) -> T,
}

struct At<T> {
    table: Arc<T>,
    source: String,
    target: String,
}

/// Takes a text out of a section.
fn text(section: &mut Dict, key: &'static str) -> Read<String> {
    let missing = || figment::Error::from(figment::error::Kind::MissingField(key.into()));
    let value = section.remove(key).ok_or_else(missing)?;
    value.deserialize().map_err(|error: figment::Error| Box::new(error.with_path(key)))
}

impl<T, O> Entry for Of<T, O>
where
    T: CanaryQueries,
    O: Default + Serialize + DeserializeOwned + 'static,
{
    fn name(&self) -> &'static str {
        T::NAME
    }

    fn defaults(&self) -> Dict {
        section_of(&format!("public.{}", T::NAME), T::NAME, &O::default())
    }

    fn locate(&self, mut section: Dict) -> Read<(Arc<dyn Located>, Dict)> {
        let (source, target) = (text(&mut section, "source")?, text(&mut section, "target")?);
        let options: O = Value::from(section).deserialize()?;
        let canonical = section_of(&source, &target, &options);
        Ok((Arc::new(At { table: Arc::new((self.make)(options)), source, target }), canonical))
    }
}

fn section_of<O: Serialize>(source: &str, target: &str, options: &O) -> Dict {
    // Settings that do not serialise to a map are left out, and are then refused where they are read.
    let mut section = Value::serialize(options).ok().and_then(Value::into_dict).unwrap_or_default();
    section.insert("source".to_owned(), source.into());
    section.insert("target".to_owned(), target.into());
    section
}

impl<T: CanaryQueries> Located for At<T> {
    fn name(&self) -> &'static str {
        T::NAME
    }

    fn source(&self) -> &str {
        &self.source
    }

    fn target(&self) -> &str {
        &self.target
    }

    fn table(&self) -> AnyOfTable<'_> {
        &self.table
    }

    fn binding(&self, prefix: &str) -> Result<TableBinding> {
        Ok(TableBinding {
            table: self.table.clone(),
            relation: self.source.parse()?,
            target_name: format!("{prefix}{}", self.target),
        })
    }

    fn canary_store(&self, writer: Writer, binding: TableBinding) -> Box<dyn CanaryStore> {
        Box::new(Store::with_writer(writer, self.table.clone(), binding))
    }

    fn add_to(&self, tables: Tables, prefix: &str) -> Result<Tables> {
        tables.add_shared(self.table.clone(), &self.source, &format!("{prefix}{}", self.target))
    }
}
