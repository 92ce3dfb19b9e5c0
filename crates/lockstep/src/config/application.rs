//! Part of the configuration that an application takes.

use figment::Figment;
use figment::providers::Serialized;
use serde::{Deserialize, Serialize};

use super::{
    Check, ConfigError, Inputs, Registry, Sorting, SourceSection, TableSections, TargetSection, explain,
    gather,
};
use crate::migration::MigrationOptions;
use crate::store::{ReadOptions, WriteOptions};

/// The sections that an application reads; the others are the command line's, and are not looked at.
#[derive(Default, Serialize, Deserialize)]
struct Sections {
    source: SourceSection,
    target: TargetSection,
    tables: TableSections,
    writes: WriteOptions,
    reads: ReadOptions,
}

impl MigrationOptions {
    /// Returns the options of a migration of the tables of `registry`, as `inputs` configure it: the same
    /// file, the same environment and the same checks as the command line's.
    ///
    /// ```no_run
    /// # use lockstep::{CanaryQueries, Migration, MigrationOptions};
    /// # use lockstep::config::Inputs;
    /// # async fn example<Documents: CanaryQueries + Default>() -> Result<(), Box<dyn std::error::Error>> {
    /// let inputs = Inputs::of_process(None, None, Vec::new());
    /// let options = MigrationOptions::load(lockstep::tables![Documents], &inputs)?;
    /// let migration = Migration::connect(options).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Everything that is wrong, each with its key and origin; where no source is configured.
    pub fn load(registry: Registry, inputs: &Inputs) -> Result<Self, ConfigError> {
        let defaults = Sections { tables: TableSections::of(&registry), ..Sections::default() };
        let defaults = Figment::from(Serialized::defaults(defaults));
        let read = |figment: &Figment| read(figment, &registry);
        let sorting = Sorting { registry: &registry, declared_keys: None };
        let gathered = gather(defaults, inputs, sorting, &|layered| read(layered).map(|_| ()))?;
        let Sections { source, target, tables, writes, reads } = read(&gathered.figment)?;
        let mut check = Check::of(&gathered.figment);
        check.stores(&source, &target);
        check.calls(&writes, &reads);
        check.tables(&tables.names(&target.table_prefix), &target);
        if !check.problems.is_empty() {
            return Err(ConfigError::all(check.problems));
        }
        gathered.refuse_of_others([source.password_command.as_ref()])?;
        let Some(url) = &source.url else {
            return Err(ConfigError::one(
                "source.url is not set: set it in lockstep.toml or as LOCKSTEP_SOURCE__URL (postgres://…)",
            ));
        };
        let opened = tables.opened(&target.table_prefix).map_err(|error| ConfigError::one(error.message))?;
        let source = source.options_for(url.expose().to_owned(), "lockstep application");
        Ok(Self { tables: opened, writes, reads, ..Self::new(source, target.options()) })
    }
}

fn read(figment: &Figment, registry: &Registry) -> Result<Sections, ConfigError> {
    let mut sections: Sections = figment.extract().map_err(|error| explain(figment, error))?;
    sections.tables.resolve(registry, figment)?;
    Ok(sections)
}
