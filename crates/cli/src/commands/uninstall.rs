//! `uninstall`: takes Lockstep out where PostgreSQL is the truth, or out of a copy.

use std::path::PathBuf;

use lockstep_coordinator::{Uninstall, UninstallOptions, refuse_a_second, uninstall};
use lockstep_core::Kind;
use lockstep_postgres::TableBinding;
use serde_json::json;

use super::confirm::confirm;
use super::journal_file::JournalFile;
use crate::exit::Exit;
use crate::report::{print, print_json};
use crate::stores::{Stores, names};
use crate::{Context, help};

/// Takes Lockstep out of PostgreSQL: triggers and schema lockstep leave, and no row changes
///
/// From PostgresOnly and DualWrite only, where PostgreSQL is read and has every write. From HybridRead and
/// DynamoOnly `rollback` comes first, or `complete`, which ends a migration the other way. Refused while an
/// application uses Lockstep's stores, and while anything else depends on schema lockstep.
///
/// The journal is written to a file. The tables in DynamoDB stay, with what they hold, unless
/// --drop-target-tables says otherwise; they are of no use to a later migration, which refuses to begin over
/// them.
///
/// Refused where PostgreSQL lost history, and where what only DynamoDB has was not decided about: it may be
/// the only copy of acknowledged writes, and schema lockstep has every note of it. `repair --state` and
/// `repair --take-target` bring it back; --give-up-lost goes on without it. With --drop-target-tables each
/// table is read to its end first, which takes read units, and is refused where it has items of others.
///
/// --copy is for a database that was made from a snapshot, a clone or a dump of the source: it carries the
/// triggers, which refuse or capture writes. DynamoDB is neither asked nor changed then.
///
/// Broken off at any point, the same command goes on.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask uninstall                              asks for the name of the database\n  \
       cargo xtask uninstall --yes --drop-target-tables   and deletes the tables in DynamoDB\n  \
       cargo xtask uninstall --copy                       in a staging database made from a snapshot"
))]
pub struct Args {
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Delete the tables in DynamoDB as well, with every item
    #[arg(long)]
    pub drop_target_tables: bool,
    /// Give up what only DynamoDB has of a time that PostgreSQL lost, or of what PostgreSQL refused
    #[arg(long, conflicts_with = "copy")]
    pub give_up_lost: bool,
    /// This database is a copy of the source
    #[arg(long, conflicts_with = "drop_target_tables")]
    pub copy: bool,
    /// Id that a copy has from its source, where the server does not tell one from the other; the refusal
    /// names it
    #[arg(long, value_name = "ID", requires = "copy")]
    pub migration_id: Option<String>,
    /// File that the journal is written to [default: lockstep-journal-DATABASE-EPOCH.jsonl in this folder,
    /// with -2 and so on where that is the journal of another migration]
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
}

/// Runs it.
///
/// # Errors
/// When a gate refuses, or a store fails.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    let stores = Stores::to_take_out(&context.config, &context.ui).await?;
    let database = stores.source.database().await?;
    confirm(args.yes, &database, &what_of(&context, &args))?;
    let tables = tables(&context, &stores, (args.drop_target_tables, args.copy)).await?;
    let migration = context.migration_of(&stores, tables);
    let archive = JournalFile { path: args.journal, database };
    let options = UninstallOptions {
        drop_target_tables: args.drop_target_tables,
        give_up_lost: args.give_up_lost,
        copy: args.copy,
        migration_id: args.migration_id,
    };
    let done = uninstall(&migration, &options, &archive, &context.ui).await?;
    if context.json {
        print_json(&json!(done));
    } else {
        print(&told(&done, &context, args.drop_target_tables));
    }
    stores.close(false).await?;
    Ok(Exit::Done)
}

/// Returns the tables, which only their removal in DynamoDB needs.
///
/// 1. A declared table is dropped, or gets another key, while its migration is under way. 2. Its declaration
/// does not read any more. 3. The way out must not be shut by that.
async fn tables(
    context: &Context,
    stores: &Stores,
    (needed, copy): (bool, bool),
) -> anyhow::Result<Vec<TableBinding>> {
    let (config, prefix) = (&context.config, &context.config.target.table_prefix);
    let bound = config.declared.bind(&stores.source, prefix).await;
    config.name_attributes(&stores.target);
    match bound.and_then(|()| config.bindings()) {
        Err(error) if !needed && error.kind == Kind::Misconfigured => {
            context.ui.warn(&format!("note: {error}"));
            // By name at least: these are perhaps none of the migration that is under way.
            if !copy {
                refuse_a_second(&stores.source, &names(config)).await?;
            }
            Ok(Vec::new())
        }
        bound => Ok(bound?),
    }
}

fn what_of(context: &Context, args: &Args) -> String {
    let schema = &context.config.source.control_schema;
    let mut what = format!("take triggers and schema {schema} out of this database");
    if args.give_up_lost {
        what += ", give up what PostgreSQL has lost and only DynamoDB has";
    }
    if !args.drop_target_tables {
        return what;
    }
    format!("{what}, and delete {} in DynamoDB for good", targets(context).join(", "))
}

fn targets(context: &Context) -> Vec<String> {
    let names = context.config.names().into_iter().map(|named| named.target);
    names.chain([context.config.control_table()]).collect()
}

fn told(done: &Uninstall, context: &Context, dropped: bool) -> String {
    if done.was_gone {
        return "Schema lockstep is not in this database; there is nothing to do.".to_owned();
    }
    let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let mut text = format!("Lockstep is out of this database. Triggers taken out: {}.", list(&done.triggers));
    if let Some(file) = &done.journal_file {
        text += &format!("\nThe journal is in {file}.");
    }
    text += &if dropped {
        format!("\nDeleted in DynamoDB: {}.", list(&done.target_tables))
    } else {
        format!(
            "\nDynamoDB was left as it is ({}). Nothing keeps these tables up to date any more, and a \
            later migration needs others, or \
             needs them deleted.",
            targets(context).join(", ")
        )
    };
    text
}
