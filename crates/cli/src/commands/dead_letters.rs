//! `dead-letters`: rows that could not be moved, and what to do about them.

use lockstep_coordinator::{Renumbered, renumber_foreign};
use lockstep_core::Phase;
use lockstep_postgres::{DeadLetter, OpenLetters, TableBinding};
use serde_json::json;

use super::shared::RESUME;
use crate::config::actor;
use crate::exit::{Exit, Failure};
use crate::report::{print, print_json, table};
use crate::stores::Stores;
use crate::{Context, help};

/// Lists rows that could not be moved, retries or accepts them
///
/// A row that DynamoDB cannot hold (over 400 KB, NaN, infinity, years past 9999) is set aside with its
/// reason. It blocks no other row, and no verdict is "consistent" while one of them is not acknowledged.
/// Repair the row in PostgreSQL, which captures the change by itself, or --retry after the table crate has
/// learnt to hold it, or --acknowledge that it stays behind: the list ends with the mark of those it shows,
/// and what came after it is not accepted.
///
/// An item that another program gave a version of an epoch that never began is set aside by the reverse feed.
/// --retry gives it one of the present epoch, contents as they are; while PostgreSQL is the truth, its row is
/// put over it.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask dead-letters                               all of them\n  \
       cargo xtask dead-letters --table payments --retry      try those of one table again; a relay must run\n  \
       cargo xtask dead-letters --acknowledge 5f0c9a71d3e2    accept that those of a list stay behind"
))]
pub struct Args {
    /// Only those of one table
    #[arg(long, value_name = "NAME")]
    pub table: Option<String>,
    /// Accept that they stay behind, those of the list with this mark and no others [default: those that
    /// stand now]; your name is kept with them
    #[arg(long, value_name = "MARK", num_args = 0..=1, default_missing_value = "")]
    pub acknowledge: Option<String>,
    /// Hand them to the relay once more; give items that another program wrote a version of ours
    #[arg(long, conflicts_with = "acknowledge")]
    pub retry: bool,
    /// Most that are listed for each table
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
}

/// Runs it.
///
/// # Errors
/// When the source does not answer, or there is no such table.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    let known: Vec<&str> = context.config.names().iter().map(|names| names.name).collect();
    if let Some(name) = args.table.as_deref().filter(|name| !known.contains(name)) {
        return Err(Failure::usage(format!("there is no table {name}; there are: {}", known.join(", "))));
    }
    let stores = Stores::configured(&context.config, &context.ui).await?;
    let tables: Vec<TableBinding> = context
        .tables()?
        .into_iter()
        .filter(|t| args.table.as_deref().is_none_or(|name| name == t.name()))
        .collect();
    let (mut acknowledged, mut retried): (i64, u64) = (0, 0);
    let mut renumbered = Renumbered::default();
    let mut waiting: Vec<Waiting> = Vec::new();
    let phase = stores.source.control().await?.phase;
    let names: Vec<&str> = tables.iter().map(|binding| binding.name()).collect();
    if let Some(mark) = &args.acknowledge {
        let open = stores.source.open_letters(&names).await?;
        // Without a mark those that stand now, as scripts have always said it.
        let mark = if mark.is_empty() { &open.mark } else { mark };
        if open.count > 0 {
            let listed = stores.source.acknowledge_listed(&names, &actor(), mark).await?;
            let Some(listed) = listed else { return Err(not_listed(&open, mark, args.table.as_deref())) };
            acknowledged = listed;
        }
    }
    for binding in &tables {
        if context.cancel.is_cancelled() {
            return Err(Failure::interrupted(RESUME));
        }
        if args.retry {
            let there = renumber_foreign(&context.migration(&stores)?, binding).await?;
            (renumbered.done, renumbered.left) = (renumbered.done + there.done, renumbered.left + there.left);
            // In DynamoOnly no relay runs; the reverse feed tries its letters by itself.
            if phase != Phase::DynamoOnly {
                retried += stores.source.retry_dead_letters(binding.name()).await?;
            }
        }
        if let Some(feed) = stores.source.reverse_standing(binding.name()).await? {
            let (_, open) = stores.source.count_dead_letters(binding.name()).await?;
            if phase == Phase::DynamoOnly && feed.again > open {
                waiting.push(Waiting {
                    table: binding.name(),
                    rows: feed.again - open,
                    why: feed.again_why.unwrap_or_default(),
                });
            }
        }
    }
    let (letters, open) = stores.source.listed_letters(&names, i64::from(args.limit)).await?;
    let shown = letters.iter().filter(|letter| letter.acknowledged_at.is_none()).count();
    // What is accepted is what is listed.
    let mark = (usize::try_from(open.count) == Ok(shown)).then_some(&open.mark);
    if context.json {
        print_json(&json!({ "dead_letters": letters, "acknowledged": acknowledged, "retried": retried,
                "renumbered": renumbered, "waiting": waiting, "open": open.count, "mark": mark }));
    } else {
        print(&text(&letters));
        for Waiting { table, rows, why } in &waiting {
            print(&format!(
                "{table}: {rows} rows wait, as PostgreSQL does not take them now ({why}); the reverse feed \
                 tries them again, and after five minutes each is listed here"
            ));
        }
        match mark {
            Some(mark) if open.count > 0 => print(&format!(
                "{} are not acknowledged; `{}` accepts that these stay behind",
                open.count,
                accepting(mark, args.table.as_deref())
            )),
            Some(_) => {}
            None => print(&format!(
                "{} are not acknowledged, and {shown} of them are listed: `cargo xtask dead-letters --limit {}` lists \
                 all, and then tells how to accept them",
                open.count, open.count
            )),
        }
        if args.acknowledge.is_some() {
            print(&format!("{acknowledged} newly acknowledged; they stay behind"));
        }
        if renumbered != Renumbered::default() {
            print(&format!(
                "{} items were given a version of ours, contents as they were; {} are left",
                renumbered.done, renumbered.left
            ));
        }
        if args.retry {
            print(&format!("{retried} handed to the relay; `cargo xtask relay --until-empty` tries them"));
        }
    }
    stores.close(false).await?;
    Ok(Exit::Done)
}

/// Returns the command that accepts these letters.
fn accepting(mark: &str, table: Option<&str>) -> String {
    let table = table.map_or_else(String::new, |name| format!(" --table {name}"));
    format!("cargo xtask dead-letters --acknowledge {mark}{table}")
}

/// Refuses to accept what was not listed.
fn not_listed(open: &OpenLetters, mark: &str, table: Option<&str>) -> anyhow::Error {
    let mut again = "cargo xtask dead-letters".to_owned();
    again.extend(table.map(|name| format!(" --table {name}")));
    let message = format!(
        "what is set aside is not what was listed with the mark {mark}: {} rows are, and none was accepted. \
         Look at them again with `{again}`, which says how to accept these",
        open.count
    );
    Failure { exit: Exit::Refused, message }.into()
}

/// Rows that PostgreSQL does not take now, and that are no dead letters yet.
#[derive(serde::Serialize)]
struct Waiting {
    table: &'static str,
    rows: i64,
    why: String,
}

/// Most characters of a key that are shown to people; `--json` has all of it.
const KEY_SHOWN_MAX: usize = 80;

fn shortened(key: &str) -> String {
    match key.char_indices().nth(KEY_SHOWN_MAX) {
        Some((at, _)) => format!("{}… ({} characters)", &key[..at], key.chars().count()),
        None => key.to_owned(),
    }
}

fn text(letters: &[DeadLetter]) -> String {
    if letters.is_empty() {
        return "There are no dead letters.".to_owned();
    }
    let headers = ["table", "key", "reason", "found by", "at", "attempts", "acknowledged"];
    table(
        &headers,
        letters.iter().map(|letter| {
            let acknowledged = match (&letter.acknowledged_by, letter.acknowledged_at) {
                (Some(by), Some(at)) => format!("by {by}, {}", at.format("%Y-%m-%d %H:%M")),
                _ => "no".to_owned(),
            };
            vec![
                letter.table_name.clone(),
                shortened(&letter.key),
                letter.reason.clone(),
                letter.stage.clone(),
                letter.found_at.format("%Y-%m-%d %H:%M:%S").to_string(),
                letter.attempts.to_string(),
                acknowledged,
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_key_is_shortened_at_a_character_and_a_short_one_is_not() {
        assert_eq!(shortened("[7]"), "[7]");
        let long = "ü".repeat(4_000);
        let shown = shortened(&long);
        assert!(shown.chars().count() < 120 && shown.contains("(4000 characters)"), "{shown}");
    }
}
