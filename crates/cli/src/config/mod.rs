//! Configuration: the only place that reads files and the environment.
//!
//! Five layers, later ones win: defaults; `lockstep.toml` (or `--config FILE`); the table `[profile.NAME]` of
//! that file, if a profile is chosen; environment variables `LOCKSTEP_SECTION__KEY`; flags. Unknown keys are
//! refused in every layer, because a misspelt bound is no bound. Every message names the key and where its
//! value came from, and none shows a password.
//!
//! In reading order: [`sections`] (what can be set), [`layers`] (where it comes from), `check` (what no type
//! can say), `explain` (errors as sentences), [`SecretUrl`].

mod check;
mod explain;
pub mod layers;
mod moment;
mod secret;
pub mod sections;
mod transport;
mod values;

#[cfg(test)]
mod tests;

pub use explain::ConfigError;
pub use layers::{Inputs, Setting};
pub use moment::Moment;
pub use secret::{SecretUrl, mask_passwords};

use figment::Figment;
use figment::providers::Serialized;
use lockstep::store::{ReadOptions, WriteOptions};
use lockstep_coordinator::PlanOptions;
use lockstep_postgres::TableBinding;
use serde::{Deserialize, Serialize};

use crate::declared::Declared;
use crate::registry::{Names, Tables};
use sections::{
    BackfillSection, CleanupSection, MigrateSection, RelaySection, ServeSection, SourceSection, StepsSection,
    TargetSection, ValidateSection,
};

/// The file that is read when `--config` names none, in the working directory.
pub const FILE: &str = "lockstep.toml";
/// What the environment variables begin with.
pub const ENV_PREFIX: &str = "LOCKSTEP_";

/// Everything that can be set, section by section. `config/lockstep.example.toml` shows all of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// PostgreSQL.
    pub source: SourceSection,
    /// DynamoDB.
    pub target: TargetSection,
    /// The tables that move, one section each.
    pub tables: Tables,
    /// The tables that a file declares, written as `[tables.NAME]` as well; where there are any, these move
    /// and no others.
    #[serde(default, skip_serializing_if = "Declared::is_empty")]
    pub declared: Declared,
    /// Moving history.
    pub backfill: BackfillSection,
    /// Delivering changes.
    pub relay: RelaySection,
    /// Changing the phase.
    pub steps: StepsSection,
    /// How the stores that a run opens write.
    pub writes: WriteOptions,
    /// How they read.
    pub reads: ReadOptions,
    /// Comparing both sides.
    pub validate: ValidateSection,
    /// The whole run.
    pub migrate: MigrateSection,
    /// The daemon.
    pub serve: ServeSection,
    /// What a plan rests on.
    pub plan: PlanOptions,
    /// What is left when a migration is complete.
    pub cleanup: CleanupSection,
}

/// Which stores a configuration names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// None: the embedded ones are meant.
    Embedded,
    /// Both; a target without endpoint, region and profile is the one of the standard AWS chain.
    Configured,
}

impl Config {
    /// Reads every layer and checks the result.
    ///
    /// # Errors
    /// Everything that is wrong, at once where it can be told apart, each with its key and origin.
    pub fn load(inputs: &Inputs) -> Result<Self, ConfigError> {
        let defaults = Figment::from(Serialized::defaults(Config::default()));
        let figment = layers::gather(defaults, inputs)?;
        let config: Self = figment.extract().map_err(|error| explain::explain(&figment, error))?;
        check::check(&config, &figment)?;
        if config.cleanup.backup_check.is_some() || config.source.password_command.is_some() {
            layers::refuse_writable_by_others(inputs)?;
        }
        Ok(config)
    }

    /// Reads one text over the defaults, and nothing else.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn of_text(text: &str) -> Result<Self, ConfigError> {
        let defaults = Figment::from(Serialized::defaults(Config::default()));
        let figment = layers::over(defaults, text)?;
        let config: Self = figment.extract().map_err(|error| explain::explain(&figment, error))?;
        check::check(&config, &figment)?;
        Ok(config)
    }

    /// Every table that moves, with both its names.
    pub fn names(&self) -> Vec<Names<'_>> {
        let prefix = &self.target.table_prefix;
        if self.declared.is_empty() { self.tables.names(prefix) } else { self.declared.names(prefix) }
    }

    /// Every table that moves, bound to both its relations.
    ///
    /// # Errors
    /// For a source that is no relation's name; of declared tables, where the source was not reached.
    pub fn bindings(&self) -> lockstep_core::Result<Vec<TableBinding>> {
        if self.declared.is_empty() {
            self.tables.bindings(&self.target.table_prefix)
        } else {
            self.declared.bindings()
        }
    }

    /// What a person should know of the way to both stores, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        transport::warnings(self)
    }

    /// Whether stores are configured.
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

/// Who is at work, for the journal: user and process.
pub fn actor() -> String {
    let user = ["LOGNAME", "USER"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok())
        .unwrap_or_else(|| "unknown".to_owned());
    format!("{user} (pid {})", std::process::id())
}
