//! `reverse-feed`: PostgreSQL follows DynamoDB, until told to stop.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use lockstep_coordinator::{
    FeedProgress, FeedSummary, FeedTableProgress, FeedTableSummary, FeedUntil, MigrationContext,
    ReverseBackfill, Spent,
};
use lockstep_core::Advice::DeadLetters;
use lockstep_postgres::{Source, TableBinding};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::relay::noted;
use crate::exit::{Exit, Failure};
use crate::report::{print, print_json};
use crate::stores::Stores;
use crate::ui::{Counter, Sample, count, seconds};
use crate::{Context, help};

/// Brings what is written to DynamoDB back to PostgreSQL, until interrupted or until it has caught up
///
/// In DynamoOnly PostgreSQL is not written by applications. This feed keeps it level, through DynamoDB
/// Streams, so that one can go back without losing a write. Start it before the step to DynamoOnly and keep
/// it running until the migration is completed: streams keep a change for 24 hours. It switches the streams
/// on if need be. One may run at a time; it may be killed at any time, and goes on where it was. `status`
/// shows how far behind it is.
///
/// If it did not run for a day, or a stream was switched off and on, what the streams have lost is read from
/// the tables themselves with --backfill. Until then --until-empty ends with 1.
/// Rows that have no item at all are left then, unless --delete-absent says otherwise. One that should not
/// have expired holds up the way back until `dead-letters` has accepted it, or it is deleted.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask reverse-feed                   until Ctrl-C, which ends it with code 0\n  \
       cargo xtask reverse-feed --until-empty     until everything written so far is in PostgreSQL, for scripts\n  \
       cargo xtask reverse-feed --backfill        read the whole target, after a day without the feed;\n  \
                                                  beside a feed that runs it ends then, with code 0"
))]
pub struct Args {
    /// End as soon as everything that was written before the start has come through
    #[arg(long)]
    pub until_empty: bool,
    /// Read the whole target into PostgreSQL first
    #[arg(long)]
    pub backfill: bool,
    /// With --backfill: delete rows that have no item and should not have expired
    #[arg(long, requires = "backfill")]
    pub delete_absent: bool,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    feed: FeedSummary,
    backfilled: Vec<ReverseBackfill>,
}

/// Runs it.
///
/// # Errors
/// When capture was never installed, another feed runs, a store fails for good, or it is stopped before it
/// had caught up.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    let stores = Stores::configured(&context.config, &context.ui).await?;
    let migration = context.migration(&stores)?;
    if !stores.source.has_schema().await? {
        return Err(Failure::usage(
            "Lockstep was never installed in this source, so there is nothing to bring back; run `backfill` first",
        ));
    }
    // An older version of Lockstep may have made it.
    stores.source.migrate_schema().await?;
    for binding in &migration.tables {
        stores.source.capture_state(binding).await?.require_on(binding.name())?;
        stores.source.refresh_capture(binding).await?;
    }
    let backfilled = match args.backfill {
        true => read_back(&context, &migration, args.delete_absent).await?,
        false => Vec::new(),
    };
    // Beside a feed that runs already the whole is read, and the rest is that one's.
    if args.backfill && !args.until_empty && stores.source.at_work().await?.1.is_some() {
        return ended_beside(&context, stores, &migration.tables, backfilled).await;
    }
    let until =
        if args.until_empty { "until all of now are there" } else { "as they come, until it is stopped" };
    context.ui.say(&format!("Bringing the writes of DynamoDB to PostgreSQL, {until}"));
    let progress = Arc::new(FeedProgress::new(&migration.tables));
    let board = context.ui.board("reverse feed", {
        let progress = Arc::clone(&progress);
        move || progress.tables.iter().map(sample).collect()
    });
    let until = if args.until_empty { FeedUntil::Drained } else { FeedUntil::Cancelled };
    let options = context.config.reverse_feed_options();
    let feeding = unless_paused(&stores.source, &context, async |stop| {
        lockstep_coordinator::reverse_feed(&migration, &options, until, &progress, &stop).await
    });
    let mut spent = Spent::default();
    let fed = noted(feeding, async || spent.note_feed(&stores.source, progress.throttles()).await).await;
    board.close().await;
    let report = Report { feed: fed?, backfilled };
    if context.json {
        print_json(&report);
    } else {
        print(&text(&report.feed));
    }
    stores.close(false).await?;
    // To be stopped is how a feed without an end ends.
    if args.until_empty {
        context.check_cancelled()?;
        all_there(&report.feed)?;
    }
    Ok(Exit::Done)
}

/// Reads every target table into PostgreSQL, and says of each what that did.
async fn read_back(
    context: &Context,
    migration: &MigrationContext,
    delete_absent: bool,
) -> anyhow::Result<Vec<ReverseBackfill>> {
    let mut all = Vec::new();
    for binding in &migration.tables {
        let reading =
            lockstep_coordinator::reverse_backfill(migration, binding, delete_absent, &context.cancel);
        let read = reading.await?;
        context.ui.say(&format!(
            "  {}: {} items read, {} rows upserted, {} deleted, {} without an item left",
            read.name,
            count(read.items),
            count(read.upserted),
            count(read.deleted),
            count(read.absent)
        ));
        if read.held > 0 {
            context.ui.say(&format!(
                "  {}: {} of these have not expired and hold up the way back, but for those that you have \
                 accepted: {DeadLetters} has them after five minutes, and --backfill --delete-absent \
                 deletes them",
                read.name,
                count(read.held)
            ));
        }
        if read.renumbered > 0 {
            context.ui.say(&format!(
                "  {}: {} items that another program wrote were given a version of ours",
                read.name,
                count(read.renumbered)
            ));
        }
        all.push(read);
    }
    Ok(all)
}

/// Interval at which the pause is looked at.
const PAUSE_LOOKED_AT: Duration = Duration::from_secs(1);

/// Feeds whenever operators have not paused it, and returns the summary of the last feed.
async fn unless_paused<T, E>(
    source: &Source,
    context: &Context,
    feed: impl AsyncFn(CancellationToken) -> Result<T, E>,
) -> Result<T, E> {
    loop {
        let (stop, is_told) = (context.cancel.child_token(), Cell::new(false));
        if is_paused(source).await {
            context.ui.say("An operator has paused the reverse feed: it goes on once it is resumed");
            while is_paused(source).await && !stop.is_cancelled() {
                let _ = stop.run_until_cancelled(tokio::time::sleep(PAUSE_LOOKED_AT)).await;
            }
        }
        let watching = async {
            while !is_paused(source).await {
                tokio::time::sleep(PAUSE_LOOKED_AT).await;
            }
            is_told.set(true);
            stop.cancel();
            std::future::pending().await
        };
        let fed = tokio::select! {
            fed = feed(stop.clone()) => fed,
            () = watching => unreachable!("it waits for the feed to end"),
        };
        if !is_told.get() || context.cancel.is_cancelled() || fed.is_err() {
            return fed;
        }
    }
}

/// Tells whether operators have paused reverse feeds. A source that does not say is the feed's to wait for.
async fn is_paused(source: &Source) -> bool {
    source.tuning().await.is_ok_and(|tuning| tuning.feed_paused)
}

/// Ends a backfill beside a feed of another process, which goes on.
///
/// 1. A feed runs, as it should in DynamoOnly. 2. An operator reads the whole target once more, as `doctor`
/// says. 3. It is done, and the command fails, as two feeds may not run: a script takes the work for undone.
async fn ended_beside(
    context: &Context,
    stores: Stores,
    tables: &[TableBinding],
    backfilled: Vec<ReverseBackfill>,
) -> anyhow::Result<Exit> {
    let mut feed = FeedSummary { tables: Vec::new() };
    for binding in tables {
        let standing = stores.source.reverse_standing(binding.name()).await?;
        feed.tables.push(FeedTableSummary {
            name: binding.name(),
            records: 0,
            applied: 0,
            skipped: 0,
            missing: None,
            standing,
        });
    }
    if context.json {
        print_json(&Report { feed, backfilled });
    } else {
        print("The whole target was read. A reverse feed runs already, and goes on: this one ends here.");
    }
    stores.close(false).await?;
    Ok(Exit::Done)
}

/// Fails where a write is missing that no stream brings: a script goes by the exit code.
fn all_there(feed: &FeedSummary) -> anyhow::Result<()> {
    let missing = feed.tables.iter().find_map(|table| Some((table.name, table.missing.as_ref()?)));
    match missing {
        None => Ok(()),
        Some((name, why)) => {
            let message = format!("{name}: not everything written so far is in PostgreSQL: {why}");
            Err(Failure { exit: Exit::NotConsistent, message }.into())
        }
    }
}

fn sample(table: &FeedTableProgress) -> Sample {
    let mut notes = vec![format!("{} applied", count(table.applied()))];
    if table.put_off() > 0 {
        notes.push(format!("{} put off", count(table.put_off())));
    }
    let done = Counter { now: table.records(), ..Counter::default() };
    Sample { name: table.name.to_owned(), done, notes, ..Sample::default() }
}

fn text(feed: &FeedSummary) -> String {
    let lines = feed.tables.iter().map(|table| {
        let mut line = format!(
            "{}: {} records read, {} rows brought back",
            table.name,
            count(table.records),
            count(table.applied)
        );
        if let Some(standing) = &table.standing {
            line += &format!(", {} behind", seconds(standing.lag_s));
            if standing.again > 0 {
                line += &format!(
                    ", {} rows wait ({})",
                    standing.again,
                    standing.again_why.as_deref().unwrap_or_default()
                );
            }
        }
        line
    });
    lines.collect::<Vec<_>>().join("\n")
}
