//! `tables`: what Lockstep would create in DynamoDB, for those who create tables by other means. Reads the
//! configuration only.

use clap::ValueEnum;
use lockstep_postgres::Source;

use crate::exit::Exit;
use crate::infrastructure::{Blueprint, aws_cli, cloudformation, terraform};
use crate::report::{print, print_json};
use crate::{Context, help};

/// Prints the DynamoDB tables as Terraform, CloudFormation or commands
///
/// Every table that moves and the control table: keys, indexes, expiry, stream, deletion protection,
/// point-in-time recovery. Tables that were made from it before the migration begins are adopted as they
/// stand, after they have been checked. No store is asked for anything.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask tables --format terraform > dynamodb.tf\n  \
       cargo xtask tables --format cloudformation > dynamodb.json\n  \
       cargo xtask tables --format cli | sh"
))]
pub struct Args {
    /// Format to print
    #[arg(long, value_enum, default_value = "terraform")]
    pub format: Format,
}

/// Program that reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Terraform's AWS provider
    Terraform,
    /// An AWS CloudFormation template in JSON
    Cloudformation,
    /// Commands of the AWS command line
    Cli,
}

/// Runs it.
///
/// # Errors
/// For a configuration in which a source is no relation's name.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    if let (false, Some(source)) = (context.config.declared.is_empty(), context.config.source_options()) {
        // Their keys follow from the schema.
        let source = Source::connect_as_operator(&source).await?;
        context.config.declared.bind(&source, &context.config.target.table_prefix).await?;
        source.close().await;
    }
    let tables = Blueprint::all(&context.tables()?, context.config.control_table());
    match args.format {
        Format::Cloudformation => print_json(&cloudformation(&tables)),
        format if context.json => print_json(&serde_json::json!({ "text": text(format, &tables) })),
        format => print(&text(format, &tables)),
    }
    Ok(Exit::Done)
}

fn text(format: Format, tables: &[Blueprint]) -> String {
    if format == Format::Cli { aws_cli(tables) } else { terraform(tables) }
}
