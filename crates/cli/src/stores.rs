//! The two stores of a run: those that are configured, or embedded ones that live as long as the run.

#[cfg(feature = "embedded")]
mod embedded;
#[cfg(not(feature = "embedded"))]
#[path = "stores/not_embedded.rs"]
mod embedded;

use std::time::Duration;

use lockstep_coordinator::{refuse_a_second, require_current};
use lockstep_core::Kind;
use lockstep_dynamo::Target;
use lockstep_postgres::{Source, control_schema};
use serde::Serialize;

use crate::Context;
use crate::config::{Config, Standing};
use crate::exit::Failure;
use crate::ui::Ui;
use embedded::Embedded;

/// Both stores, connected.
#[derive(Debug)]
pub struct Stores {
    /// PostgreSQL.
    pub source: Source,
    /// DynamoDB.
    pub target: Target,
    embedded: Option<Embedded>,
}

/// Stores that were left running, and how to reach and to remove them. The password is that of a throw-away
/// cluster, and the operator who asked for it to be kept needs it.
#[derive(Clone, Debug, Serialize)]
pub struct Kept {
    /// For `LOCKSTEP_SOURCE__URL`.
    pub source_url: String,
    /// For `LOCKSTEP_TARGET__ENDPOINT_URL`.
    pub endpoint_url: String,
    /// Removes both.
    pub removal: String,
}

impl Stores {
    /// Returns the configured stores, for commands that make no sense on others.
    ///
    /// # Errors
    /// When none are configured, or they do not answer; where the migration is complete, and another one has
    /// begun in this PostgreSQL; where one of other tables is under way there.
    pub async fn configured(config: &Config, ui: &Ui) -> anyhow::Result<Self> {
        let stores = Self::also_complete(config, ui).await?;
        stores.require_theirs(config).await?;
        Ok(stores)
    }

    /// Returns the same, for commands that a migration which is complete still has.
    ///
    /// # Errors
    /// When none are configured, or they do not answer.
    pub async fn also_complete(config: &Config, ui: &Ui) -> anyhow::Result<Self> {
        match config.source_options().filter(|_| config.standing() == Ok(Standing::Configured)) {
            Some(source) => {
                let target = target_of(config).await?;
                let source = Source::connect_as_operator(&source).await?;
                config.declared.bind(&source, &config.target.table_prefix).await?;
                config.name_attributes(&target);
                ui.say(&acts_on(config, &source, &target).await);
                source.refuse_untrusted_schemas(&config.relations()?).await?;
                claim(&source, &target).await?;
                Ok(Self { source, target, embedded: None })
            }
            None => {
                config.standing()?;
                Err(Failure::usage(
                    "no stores are configured: set source.url (LOCKSTEP_SOURCE__URL) and the target (LOCKSTEP_TARGET__REGION or \
                     LOCKSTEP_TARGET__ENDPOINT_URL), or try `cargo xtask migrate --keep`, which starts stores and prints how to \
                     reach them",
                ))
            }
        }
    }

    /// Returns the configured stores, of which nothing is asked of the target and no table need be there: for
    /// what takes Lockstep out.
    ///
    /// # Errors
    /// When no source is configured, or it does not answer.
    pub async fn to_take_out(config: &Config, ui: &Ui) -> anyhow::Result<Self> {
        let Some(options) = config.source_options() else {
            return Err(Failure::usage("no source is configured: set source.url (LOCKSTEP_SOURCE__URL)"));
        };
        let source = Source::connect_as_operator(&options).await?;
        source.refuse_foreign_schemas().await?;
        let target = Target::connect(config.target_options()).await;
        ui.say(&acts_on(config, &source, &target).await);
        Ok(Self { source, target, embedded: None })
    }

    /// Returns the configured stores, even if PostgreSQL does not answer now.
    ///
    /// # Errors
    /// When none are configured; where the migration is complete, and another one has begun in this
    /// PostgreSQL; where one of other tables is under way there.
    pub async fn configured_lazily(config: &Config, ui: &Ui) -> anyhow::Result<Self> {
        let (stores, is_away) = Self::lazily(config, ui).await?;
        // A source that does not answer is for the command to say, and is waited for once.
        if !is_away {
            stores.require_theirs(config).await?;
        }
        Ok(stores)
    }

    /// Returns the same, for commands that a migration which is complete still has.
    ///
    /// # Errors
    /// When none are configured.
    pub async fn also_complete_lazily(config: &Config, ui: &Ui) -> anyhow::Result<Self> {
        Ok(Self::lazily(config, ui).await?.0)
    }

    /// Returns the configured stores, and whether PostgreSQL did not answer.
    async fn lazily(config: &Config, ui: &Ui) -> anyhow::Result<(Self, bool)> {
        match config.source_options().filter(|_| config.standing() == Ok(Standing::Configured)) {
            Some(source) => {
                let target = target_of(config).await?;
                let source = Source::connect_lazily_as_operator(&source)?;
                // A store that does not answer is waited for once.
                let mut is_away = false;
                match config.declared.bind(&source, &config.target.table_prefix).await {
                    // A command that needs the tables says so.
                    Err(error) if error.kind != Kind::Misconfigured => {
                        // A pool that timed out does not know why.
                        let why = source.why_away(WHY_WITHIN).await;
                        config.declared.note_away(&why.unwrap_or(error));
                        is_away = true;
                    }
                    bound => bound?,
                }
                config.name_attributes(&target);
                ui.say(&acts_on(config, &source, &target).await);
                if !is_away {
                    // One that does not answer is for the command to say.
                    match source.refuse_untrusted_schemas(&config.relations()?).await {
                        Err(error) if error.kind == Kind::Misconfigured => return Err(error.into()),
                        Err(_) => {}
                        Ok(()) => claim(&source, &target).await?,
                    }
                }
                Ok((Self { source, target, embedded: None }, is_away))
            }
            None => Ok((Self::also_complete(config, ui).await?, false)),
        }
    }

    /// Refuses to go on in a database whose schema `lockstep` is that of a later migration, or of one of
    /// other tables than are configured. What cannot be read now is for the command to say.
    async fn require_theirs(&self, config: &Config) -> anyhow::Result<()> {
        require_current(&self.source, &self.target)?;
        match refuse_a_second(&self.source, &names(config)).await {
            Err(error) if error.kind == Kind::Refused => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Returns the configured stores, or embedded ones where none are. To be `kept`, DynamoDB runs in a
    /// process of its own.
    ///
    /// # Errors
    /// When they do not answer or do not start.
    pub async fn open(context: &Context, keep: bool, ui: &Ui) -> anyhow::Result<Self> {
        let config = &context.config;
        if config.standing()? == Standing::Configured {
            if keep {
                return Err(Failure::usage(
                    "--keep is for the embedded stores; configured ones are never removed",
                ));
            }
            return Self::configured(config, ui).await;
        }
        if context.demo().is_none() {
            let rehearsal = if cfg!(feature = "embedded") {
                "; `cargo xtask dynamo-server --port 8000` serves an embedded one for a rehearsal"
            } else {
                ""
            };
            return Err(Failure::usage(format!(
                "there are tables to move, and no source to read them from: set source.url \
                 (LOCKSTEP_SOURCE__URL), and the target{rehearsal}"
            )));
        }
        let embedded = Embedded::start(keep, ui).await?;
        let source =
            Source::connect_as_operator(&config.source_options_for(embedded.source_url().to_owned())).await?;
        let target = Target::connect(config.emulator_options_for(embedded.endpoint_url())).await;
        config.name_attributes(&target);
        Ok(Self { source, target, embedded: Some(embedded) })
    }

    /// Returns the same stores for another task of this process. Closing these closes nothing that is
    /// embedded.
    pub fn share(&self) -> Self {
        Self { source: self.source.clone(), target: self.target.clone(), embedded: None }
    }

    /// Tells whether the stores are this run's own.
    pub fn are_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// Disconnects, and removes or keeps the stores if they are ours.
    ///
    /// # Errors
    /// When a store does not end. The rows that were moved are not affected.
    pub async fn close(self, keep: bool) -> anyhow::Result<Option<Kept>> {
        self.source.close().await;
        match self.embedded {
            Some(embedded) => embedded.close(keep).await,
            None => Ok(None),
        }
    }
}

/// Returns the configured target, of which nothing is asked yet.
///
/// 1. An operator has set the source, and no target: no region, no endpoint. 2. Each request looks for
/// credentials in every place that AWS knows, which takes seconds, and it is those that are said to be
/// missing. 3. They are set, and it is the region.
///
/// # Errors
/// Where nothing says where the target is.
pub async fn target_of(config: &Config) -> anyhow::Result<Target> {
    let target = Target::connect(config.target_options()).await;
    if target.region().is_some() {
        return Ok(target);
    }
    let message = match &config.target.endpoint_url {
        None => {
            "no target is set: set target.region (LOCKSTEP_TARGET__REGION, or AWS_REGION) and give \
             credentials as to any AWS program, or set target.endpoint_url (LOCKSTEP_TARGET__ENDPOINT_URL) \
             and target.emulator_credentials = true for an emulator"
        }
        Some(_) => {
            "target.endpoint_url is set, and no region: set target.region (LOCKSTEP_TARGET__REGION, or \
             AWS_REGION), or target.emulator_credentials = true (LOCKSTEP_TARGET__EMULATOR_CREDENTIALS) \
             where it is an emulator's"
        }
    };
    Err(Failure::usage(message))
}

/// Returns the names of the tables that are configured.
pub fn names(config: &Config) -> Vec<&str> {
    config.names().into_iter().map(|named| named.name).collect()
}

/// Longest wait for a server to say why it does not answer.
const WHY_WITHIN: Duration = Duration::from_secs(4);

/// Tells the target whose it is, so that the control table of another migration is not taken for this one's,
/// and the source whether its schema is another one's by now. A source that does not answer, or does not let
/// this role read, cannot say; a command that moves something asks it again, and fails then.
async fn claim(source: &Source, target: &Target) -> anyhow::Result<()> {
    match lockstep_coordinator::claim(source, target).await {
        Err(error) if error.kind == Kind::Misconfigured => Err(error.into()),
        _ => Ok(()),
    }
}

/// Returns what a command is about to act on, in a line: an operator with two environments sees which one
/// this is.
async fn acts_on(config: &Config, source: &Source, target: &Target) -> String {
    let names = config.names();
    let tables: Vec<String> =
        names.iter().map(|named| format!("{} → {}", named.source, named.target)).collect();
    let account = match target.account().await {
        Some(account) => format!(", account {account}"),
        None => String::new(),
    };
    format!(
        "PostgreSQL {}; DynamoDB {}{account}; tables {}, control table {}",
        source.address(),
        target.address(),
        tables.join(", "),
        config.control_table()
    )
}

impl Kept {
    /// Returns what to type to go on.
    pub fn instructions(&self) -> String {
        let Self { source_url, endpoint_url, removal } = self;
        let program = std::env::var_os("CARGO").map_or_else(
            || {
                std::env::current_exe()
                    .unwrap_or_else(|_| std::path::PathBuf::from("xtask"))
                    .display()
                    .to_string()
            },
            |_| "cargo xtask".to_owned(),
        );
        let (psql, schema) = (psql(source_url), control_schema());
        format!(
            "The stores are left running. To go on with them:\n\n  \
             export LOCKSTEP_SOURCE__URL='{source_url}'\n  \
             export LOCKSTEP_TARGET__ENDPOINT_URL={endpoint_url}\n  \
             export LOCKSTEP_TARGET__EMULATOR_CREDENTIALS=true\n\n  \
             {program} status\n  {program} doctor\n  {program} validate\n  {program} rollback\n  {program} complete --help\n  \
             {psql} -c 'SELECT * FROM {schema}.journal'\n\n\
             To remove them:\n\n  {removal}"
        )
    }
}

/// Returns the line that starts `psql` without its password among the arguments, which every user of the
/// machine can read.
fn psql(url: &str) -> String {
    let parts = url.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
    let Some((Some((user, password)), place)) = parts.map(|(who, place)| (who.split_once(':'), place)) else {
        return "psql".to_owned();
    };
    format!("PGPASSWORD='{password}' psql 'postgres://{user}@{place}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_of_kept_stores_is_no_argument_of_a_program() {
        let shown = psql("postgres://postgres:s3cret@127.0.0.1:5433/lockstep");
        assert_eq!(shown, "PGPASSWORD='s3cret' psql 'postgres://postgres@127.0.0.1:5433/lockstep'");
    }
}
