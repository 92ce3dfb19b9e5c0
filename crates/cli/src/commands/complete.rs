//! `complete`: ends a migration for good.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use lockstep_coordinator::{Completion, PurgeOptions, PurgeProgress, Purged, complete, purge};
use lockstep_dynamo::Purge;
use serde_json::json;

use super::confirm::confirm;
use super::journal_file::JournalFile;
use crate::exit::Exit;
use crate::report::{print, print_json};
use crate::stores::Stores;
use crate::ui::{Counter, Sample, count};
use crate::{Context, help};

/// Ends a migration that stands in DynamoOnly: there is no way back afterwards
///
/// The reverse feed is seen through, both stores are compared whole, and every finding refuses. The journal
/// is written to a file. Then one write to DynamoDB's control record completes the migration; after it only
/// tidying is left: the reverse feed ends, triggers and schema lockstep leave PostgreSQL, with a copy of the
/// journal in schema lockstep_archive. The tables stay, with a guard that refuses every write to them;
/// `cleanup --drop-source` drops them.
///
/// Applications go on as they are, and with versions: they are what an update is conditional on. The control
/// table stays for them.
///
/// --purge takes out of DynamoDB what only a migration needs: tombstones, and, when no application uses a
/// Lockstep store any more, the versions. It does not wait: while a request from before the completion can
/// still arrive it refuses; run it again later.
///
/// Broken off at any point, the same command goes on.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask complete                         asks for the name of the database\n  \
       cargo xtask complete --yes --journal end.jsonl\n  \
       cargo xtask complete --yes --purge tombstones --writes-per-s-max 500"
))]
pub struct Args {
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// File that the journal is written to [default: lockstep-journal-DATABASE-EPOCH.jsonl in this folder,
    /// with -2 and so on where that is the journal of another migration]
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
    /// Take out of DynamoDB as well what only a migration needs
    #[arg(long, value_name = "WHAT")]
    pub purge: Option<What>,
    /// Most writes a second of --purge
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub writes_per_s_max: Option<u64>,
}

/// Items that --purge takes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum What {
    /// Tombstones of before the completion
    Tombstones,
    /// Those, and the versions of all items: no Lockstep store can be used afterwards
    All,
}

/// Runs it.
///
/// # Errors
/// When a gate refuses, or a store fails.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    let stores = Stores::also_complete(&context.config, &context.ui).await?;
    let database = stores.source.database().await?;
    confirm(args.yes, &database, "complete the migration: there is no way back to PostgreSQL afterwards")?;
    let migration = context.migration(&stores)?;
    let archive = JournalFile { path: args.journal, database };
    let options = context.config.validate_options();
    context.tell_of_pause(&stores.source).await;
    let completion = complete(&migration, &options, &archive, &context.ui, &context.cancel).await?;
    let mut purged = Vec::new();
    for what in args.purge.iter().flat_map(|what| what.steps()) {
        let progress = Arc::new(PurgeProgress::default());
        let board = context.ui.board("purge", {
            let progress = Arc::clone(&progress);
            move || vec![sample(&progress)]
        });
        let options = PurgeOptions { what: *what, writes_per_s_max: args.writes_per_s_max };
        let done = purge(&migration, options, &progress, &context.cancel).await;
        board.close().await;
        purged.push((*what, done?));
    }
    if context.json {
        let purged: Vec<_> =
            purged.iter().map(|(what, tables)| json!({ "what": what, "tables": tables })).collect();
        print_json(&json!({ "completion": completion, "purged": purged }));
    } else {
        print(&told(&completion, &purged));
    }
    stores.close(false).await?;
    Ok(Exit::Done)
}

impl What {
    fn steps(self) -> &'static [Purge] {
        match self {
            Self::Tombstones => &[Purge::Tombstones],
            Self::All => &[Purge::Tombstones, Purge::Versions],
        }
    }
}

fn sample(progress: &PurgeProgress) -> Sample {
    let done = Counter { now: progress.looked_at.load(Relaxed), ..Counter::default() };
    let notes = vec![format!("{} taken out", count(progress.purged.load(Relaxed)))];
    Sample { name: "items".to_owned(), done, notes, ..Sample::default() }
}

fn told(completion: &Completion, purged: &[(Purge, Vec<Purged>)]) -> String {
    let mut text = format!(
        "The migration is complete (epoch {}). DynamoDB is the truth for good; the journal is in {}.\n\
         The source tables are there still, and refuse every write: `cleanup --drop-source` drops them.\n\
         The streams of the target tables stay on, for another program may read them.",
        completion.epoch, completion.journal_file
    );
    for (what, tables) in purged {
        for table in tables {
            let what = match what {
                Purge::Tombstones => "tombstones taken out",
                Purge::Versions => "items without a version now",
            };
            text += &format!(
                "\n{}: {} {what}, of {} items looked at",
                table.table,
                count(table.purged),
                count(table.looked_at)
            );
        }
    }
    text
}
