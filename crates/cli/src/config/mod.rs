//! Configuration: the sections of the command line, over the loader that applications share
//! ([`lockstep::config`]).
//!
//! In reading order: [`sections`] (what can be set), `check` (what no type can say), `values` (as the crates
//! take it).

mod check;
mod proposed;
pub mod sections;
mod transport;
mod values;

#[cfg(all(test, feature = "sample"))]
mod tests;

pub use lockstep::config::{
    ConfigError, ENV_PREFIX, FILE, Inputs, Names, Registry, SecretUrl, Setting, TableSections, mask_passwords,
};
pub use lockstep_core::Moment;

use std::sync::OnceLock;

use figment::Figment;
use figment::providers::Serialized;
use lockstep::config::{Sorting, explain, gather, over};
use lockstep::store::{ReadOptions, WriteOptions};
use lockstep_coordinator::{BackfillOptions, ImportOptions, PlanOptions, RelayOptions, StepOptions};
use lockstep_daemon::ServeOptions;
use lockstep_declared::Declaration;
use lockstep_dynamo::Target;
use lockstep_postgres::{Relation, TableBinding};
use lockstep_validator::ValidateSettings;
use serde::{Deserialize, Serialize};

use crate::declared::Declared;
pub(crate) use proposed::require_tables_alone;
use sections::{CleanupSection, MigrateSection, SourceSection, TargetSection};

/// Everything that can be set, section by section. `config/lockstep.example.toml` shows all of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// PostgreSQL.
    pub source: SourceSection,
    /// DynamoDB.
    pub target: TargetSection,
    /// The tables that the program knows, one section each.
    pub tables: TableSections,
    /// The tables that a file declares, written as `[tables.NAME]` as well. They move beside those that the
    /// program knows, and in place of the sample's.
    #[serde(default, skip_serializing_if = "Declared::is_empty")]
    pub declared: Declared,
    /// Whether declared tables move in place of those that the program knows.
    #[serde(skip)]
    replaced: bool,
    /// Options of the backfill.
    pub backfill: BackfillOptions,
    /// Moving it by DynamoDB's import from S3.
    pub import: ImportOptions,
    /// Delivering changes.
    pub relay: RelayOptions,
    /// Changing the phase.
    pub steps: StepOptions,
    /// Options by which the stores that a run opens write.
    pub writes: WriteOptions,
    /// Options by which they read.
    pub reads: ReadOptions,
    /// Comparing both sides.
    pub validate: ValidateSettings,
    /// The whole run.
    pub migrate: MigrateSection,
    /// The daemon.
    pub serve: ServeOptions,
    /// Options on which a plan rests.
    pub plan: PlanOptions,
    /// Options of what is left when a migration is complete.
    pub cleanup: CleanupSection,
}

/// Tables that are not registered are declared ones.
fn sorting(registry: &Registry) -> Sorting<'_> {
    Sorting { registry, declared_keys: Some(&Declaration::OWN_KEYS) }
}

/// Stores that a configuration names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// None: the embedded ones are meant.
    Embedded,
    /// Both; a target without endpoint, region and profile is the one of the standard AWS chain.
    Configured,
}

impl Config {
    /// Makes the configuration of what is set where nothing is said, for a program that knows the tables of
    /// `registry`.
    pub fn of(registry: &Registry) -> Self {
        Self { tables: TableSections::of(registry), ..Self::default() }
    }

    /// Reads every layer and checks the result.
    ///
    /// # Errors
    /// Everything that is wrong, at once where it can be told apart, each with its key and origin.
    pub fn load(registry: &Registry, inputs: &Inputs) -> Result<Self, ConfigError> {
        let defaults = Figment::from(Serialized::defaults(Self::of(registry)));
        let gathered = gather(defaults, inputs, sorting(registry), &|layered| {
            Self::read(registry, layered).map(|_| ())
        })?;
        let config = Self::read(registry, &gathered.figment)?;
        check::check(&config, &gathered.figment)?;
        let (cleanup, source, import) = (&config.cleanup, &config.source, &config.import);
        let commands = [&cleanup.backup_check, &source.password_command, &import.upload];
        gathered.refuse_of_others(commands.map(Option::as_ref))?;
        Ok(config)
    }

    /// Reads one text over the defaults, and nothing else.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn of_text(registry: &Registry, text: &str) -> Result<Self, ConfigError> {
        let defaults = Figment::from(Serialized::defaults(Self::of(registry)));
        let figment = over(defaults, text, sorting(registry))?;
        let config = Self::read(registry, &figment)?;
        check::check(&config, &figment)?;
        Ok(config)
    }

    fn read(registry: &Registry, figment: &Figment) -> Result<Self, ConfigError> {
        let mut config: Self = figment.extract().map_err(|error| explain(figment, error))?;
        config.tables.resolve(registry, figment)?;
        config.replaced = registry.gives_way() && !config.declared.is_empty();
        Ok(config)
    }

    /// Tells whether declared tables move in place of those that the program knows.
    pub fn is_replaced(&self) -> bool {
        self.replaced
    }

    /// Returns every table that moves, with both its names.
    pub fn names(&self) -> Vec<Names<'_>> {
        let prefix = &self.target.table_prefix;
        let mut names = if self.replaced { Vec::new() } else { self.tables.names(prefix) };
        names.extend(self.declared.names(prefix));
        names
    }

    /// Returns every table that moves, by its name alone: neither store is asked.
    ///
    /// # Errors
    /// For a source that is no relation's name.
    pub fn relations(&self) -> lockstep_core::Result<Vec<Relation>> {
        self.names().iter().map(|names| names.source.parse()).collect()
    }

    /// Tells `target` what attributes are called in each table that is bound by now: before anything is
    /// asked of one. A declared table that could not be bound yet can be asked for nothing.
    pub fn name_attributes(&self, target: &Target) {
        let prefix = &self.target.table_prefix;
        let of_types = if self.replaced { Ok(Vec::new()) } else { self.tables.bindings(prefix) };
        for binding in of_types.into_iter().chain(self.declared.bindings()).flatten() {
            target.name_attributes(&binding.target_name, binding.table.naming());
        }
    }

    /// Returns every table that moves, bound to both its relations.
    ///
    /// # Errors
    /// For a source that is no relation's name; of declared tables, where the source was not reached.
    pub fn bindings(&self) -> lockstep_core::Result<Vec<TableBinding>> {
        let prefix = &self.target.table_prefix;
        let mut bindings = if self.replaced { Vec::new() } else { self.tables.bindings(prefix)? };
        bindings.extend(self.declared.bindings()?);
        Ok(bindings)
    }

    /// Returns what a person should know of the way to both stores, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        transport::warnings(self)
    }

    /// Checks whether stores are configured.
    ///
    /// # Errors
    /// Where only a target is: there is no default source to read.
    pub fn standing(&self) -> Result<Standing, ConfigError> {
        match (&self.source.url, self.target.is_named()) {
            (Some(_), _) => Ok(Standing::Configured),
            (None, false) => Ok(Standing::Embedded),
            (None, true) => Err(ConfigError::one(
                "a target is configured and source.url is not: set it in lockstep.toml or as LOCKSTEP_SOURCE__URL \
                 (postgres://…), or remove the target to run on the embedded stores",
            )),
        }
    }
}

/// Returns who is at work, for the journal: user and process.
pub fn actor() -> String {
    let user = ["LOGNAME", "USER"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()))
        .unwrap_or_else(|| user_of_process().to_owned());
    format!("{user} (pid {})", std::process::id())
}

/// Returns the user as the operating system says it: a service or a container has no such variables, and may
/// have a number and no name.
fn user_of_process() -> &'static str {
    static USER: OnceLock<String> = OnceLock::new();
    USER.get_or_init(|| {
        let ask = |option: &str| {
            let said = std::process::Command::new("id").arg(option).output().ok();
            let said = said.filter(|said| said.status.success())?;
            let name = String::from_utf8(said.stdout).ok()?.trim().to_owned();
            (!name.is_empty()).then_some(name)
        };
        ask("-un").or_else(|| Some(format!("uid {}", ask("-u")?))).unwrap_or_else(|| "unknown".to_owned())
    })
}
