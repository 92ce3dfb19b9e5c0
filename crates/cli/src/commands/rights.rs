//! `iam-policy` and `grants`: what each role needs, and no more.

use clap::ValueEnum;
use lockstep_core::Phase;
use lockstep_dynamo::{Resources, Role, Target, policy, requests};
use lockstep_postgres::{GrantedRole, Relation, grants};
use serde_json::json;

use crate::exit::{Exit, Failure};
use crate::report::{print, print_json};
use crate::{Context, help};

/// Role that is to have the rights.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Who {
    /// Commands that move something
    Operator,
    /// A program that embeds the stores
    Application,
    /// `status`, `doctor`, `report`: commands that change nothing
    ReadOnly,
    /// `uninstall --drop-target-tables`, beside the operator's rights
    Remover,
}

/// Prints the IAM policy of a role, with the resources of this configuration
///
/// It is made from the one table of the requests that Lockstep can send. Nothing is changed, and PostgreSQL
/// is not asked. The account is the one of the credentials, if AWS says it; name it with --account otherwise.
/// For tables with a key of your own in KMS name its ARN with --kms-key: without it a policy has no right to
/// it. With --phase it has what that phase and later ones ask for. With import.s3 the operator's policy has
/// what an import needs of S3 and of CloudWatch Logs, and to write there where Lockstep does; the right to
/// copy files to the bucket is else for who runs import.upload.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask iam-policy --role operator --account 123456789012 --region eu-central-1\n  \
       cargo xtask iam-policy --role operator --phase HybridRead\n  \
       cargo xtask iam-policy --role application > application.json"
))]
pub struct PolicyArgs {
    /// Whose
    #[arg(long, value_enum, required_unless_present = "requests")]
    pub role: Option<Who>,
    /// Show instead every request that Lockstep can send, the module that sends it, and the actions that it
    /// needs
    #[arg(long, conflicts_with = "role")]
    pub requests: bool,
    /// Account of the tables [default: that of the credentials]
    #[arg(long, value_name = "DIGITS")]
    pub account: Option<String>,
    /// Region of the tables [default: target.region, or that of the AWS chain]
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// Only what this phase and later ones need [default: every phase]
    #[arg(long, value_name = "PHASE", conflicts_with = "requests")]
    pub phase: Option<Phase>,
    /// ARN of a key in KMS by which tables are encrypted; may be given several times
    #[arg(long, value_name = "ARN", value_parser = key_arn)]
    pub kms_key: Vec<String>,
}

/// A key by its ARN: by its id or an alias a policy would allow nothing.
fn key_arn(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let is_key = matches!(parts[..], ["arn", _, "kms", _, _, key] if key.starts_with("key/"));
    is_key
        .then(|| text.to_owned())
        .ok_or_else(|| "a policy names a key by its ARN: arn:aws:kms:REGION:ACCOUNT:key/ID".to_owned())
}

/// Prints the grants of a role in PostgreSQL, as SQL
///
/// Those of `application` and `read-only` are run by the operator, once schema lockstep is there: it owns it.
/// Those of `operator` are run by who owns the database. Nothing is changed, and no store is asked. No role
/// needs to be a superuser.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask grants --role application --to app | psql …\n  \
       cargo xtask grants --role operator --to migrator --database loans"
))]
pub struct GrantArgs {
    /// Whose
    #[arg(long, value_enum)]
    pub role: Who,
    /// Name of the role in PostgreSQL
    #[arg(long, value_name = "NAME")]
    pub to: String,
    /// Name of the database, for `operator`
    #[arg(long, value_name = "NAME", required_if_eq("role", "operator"))]
    pub database: Option<String>,
}

/// Prints a policy.
///
/// # Errors
/// Where account or region is not known.
pub async fn iam_policy(context: Context, args: PolicyArgs) -> anyhow::Result<Exit> {
    let role = match args.role {
        Some(Who::Operator) => Role::Operator,
        Some(Who::Application) => Role::Application,
        Some(Who::ReadOnly) => Role::ReadOnly,
        Some(Who::Remover) => Role::Remover,
        None => {
            print_json(&requests());
            return Ok(Exit::Done);
        }
    };
    let target = Target::connect(context.config.target_options()).await;
    let Some(region) = args.region.or_else(|| target.region()) else {
        return Err(Failure::usage("no region is configured: name one with --region"));
    };
    let account = match args.account {
        Some(account) => Some(account),
        None => target.account().await,
    };
    let Some(account) = account else {
        return Err(Failure::usage("AWS does not say which account this is: name it with --account"));
    };
    let tables = context.config.names();
    let tables = tables.into_iter().map(|named| named.target).collect();
    let import = context.config.import.destination();
    let import = import.map(|(bucket, prefix)| (bucket.to_owned(), prefix.to_owned()));
    let control = context.config.control_table();
    let import_is_direct = context.config.import.is_direct();
    let keys = args.kms_key;
    let resources = Resources { region, account, tables, control, import, import_is_direct, keys };
    print_json(&policy(role, args.phase, &resources));
    Ok(Exit::Done)
}

/// Prints grants.
///
/// # Errors
/// For a configuration whose tables do not read.
#[allow(clippy::unused_async)] // as every command is called
pub async fn grant(context: Context, args: GrantArgs) -> anyhow::Result<Exit> {
    let role = match args.role {
        // In PostgreSQL it is the owner of the tables that takes triggers out.
        Who::Operator | Who::Remover => GrantedRole::Operator,
        Who::Application => GrantedRole::Application,
        Who::ReadOnly => GrantedRole::ReadOnly,
    };
    let relations = context.config.relations()?;
    let tables: Vec<&Relation> = relations.iter().collect();
    let statements = grants(role, &args.to, args.database.as_deref().unwrap_or_default(), &tables);
    if context.json {
        print_json(&json!({ "statements": statements }));
    } else {
        print(&statements.join("\n"));
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Registry};

    #[test]
    fn the_rights_on_declared_tables_are_known_without_a_store() {
        let text = "[tables.orders]\nsource = \"shop.orders\"\n";
        let config = Config::of_text(&Registry::default(), text).expect("a configuration");
        assert!(config.bindings().is_err(), "the columns are not known");
        let relations = config.relations().expect("the tables are");
        assert_eq!(relations.iter().map(ToString::to_string).collect::<Vec<_>>(), ["shop.orders"]);
    }
}
