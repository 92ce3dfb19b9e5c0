//! `repair`: what a comparison found, brought to what PostgreSQL says.

use lockstep_coordinator::{Repairable, find_repairs, repair, repairs_of};
use lockstep_validator::{Report, ValidateOptions};
use serde_json::json;

use super::repair_list::{listed, told};
use super::repair_state;
use crate::exit::{Exit, Failure};
use crate::report::{print, print_json};
use crate::stores::Stores;
use crate::{Context, help};

/// Lists what a comparison found, or brings DynamoDB to what PostgreSQL says
///
/// Both sides are compared first, whole, while writers go on; --last takes the findings of the newest
/// recorded verdict instead. With --apply each key is marked as changed, so the relay writes its row again
/// under a fresh version, or a tombstone where there is no row. PostgreSQL is never changed. Then each key is
/// read again from both stores: until that has shown that they agree it counts as unverified, also when this
/// command was killed; run it again, and it begins with those. What the comparison found is recorded, as what
/// `validate` finds is: no step forward is taken until a `validate` of everything finds nothing.
///
/// With --state it repairs the migration itself, as `doctor` proposes: after a store lost history a new epoch
/// begins, above every version that was seen; triggers are installed again; a restored target table is taken
/// over and filled; steps of a dead coordinator are settled. Where PostgreSQL may be the one that forgot,
/// what differs is only listed, for you to decide: --take-target KEY brings a row back from DynamoDB, --apply
/// lets PostgreSQL stand. A row that DynamoDB says was deleted is left by --apply: with --bring-back it is
/// written again, with --take-target KEY a row that was deleted in the time that PostgreSQL lost is deleted.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask repair                    list what there is to repair\n  \
       cargo xtask repair --apply            repair it, and read it again\n  \
       cargo xtask repair --apply --max 10   ten keys first\n  \
       cargo xtask repair --last             what the newest verdict found\n  \
       cargo xtask repair --state            what is wrong with the migration itself, and what would be done\n  \
       cargo xtask repair --state --apply    do it; run it again if it is broken off\n  \
       cargo xtask repair --take-target 4711 --apply   PostgreSQL forgot this row; take DynamoDB's\n  \
       cargo xtask repair --apply --bring-back   also what DynamoDB says was deleted"
))]
pub struct Args {
    /// Repair, instead of only listing
    #[arg(long)]
    pub apply: bool,
    /// Most keys that are repaired; the others are listed
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub max: u32,
    /// Take the findings of the newest recorded verdict instead of comparing
    #[arg(long)]
    pub last: bool,
    /// Mend the state of the migration instead of rows: list what `doctor` proposes, or do it with --apply
    #[arg(long, conflicts_with_all = ["max", "last", "take_target"])]
    pub state: bool,
    /// The other way round: write the rows of findings to PostgreSQL as DynamoDB has them, where PostgreSQL
    /// has forgotten them. One source key as it is listed, behind TABLE/ where several share it, or `all`;
    /// may be given several times
    #[arg(long, value_name = "KEY")]
    pub take_target: Vec<String>,
    /// Also write rows that DynamoDB says were deleted: they are in both stores again
    #[arg(long, conflicts_with_all = ["state", "take_target"])]
    pub bring_back: bool,
}

/// Runs it.
///
/// # Errors
/// When a store does not answer, or Lockstep was never installed, or there is no verdict to take findings
/// from.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    let stores = Stores::configured(&context.config, &context.ui).await?;
    context.tell_of_pause(&stores.source).await;
    if !stores.source.has_schema().await? {
        return Err(Failure::usage("Lockstep was never installed in this source; run `backfill` first"));
    }
    let options = context.config.validate_options();
    if args.state {
        return repair_state::state(context, stores, args.apply, &options).await;
    }
    let migration = context.migration(&stores)?;
    // No relay may be running yet, so what is pending is not waited for.
    let options = ValidateOptions { wait_for_pending: false, quality: false, ..options };
    let repairs = match args.last {
        true => repairs_of(&migration, &newest(&stores).await?).await?,
        false => find_repairs(&migration, &options, &context.cancel).await?,
    };
    context.check_cancelled()?;
    if args.apply && !args.take_target.is_empty() {
        let chosen = chosen(&args.take_target, &repairs.repairable)?;
        return repair_state::take(context, stores, &repairs, &chosen).await;
    }
    let within: Vec<Repairable> = repairs
        .repairable
        .iter()
        .filter(|finding| args.bring_back || finding.deletion.is_none())
        .take(args.max as usize)
        .cloned()
        .collect();
    let repaired = match args.apply {
        true => Some(repair(&migration, &within, &options, &context.cancel).await?),
        false => None,
    };
    if context.json {
        print_json(&json!({ "findings": repairs, "repaired": repaired }));
    } else {
        print(&listed(&repairs));
        if let Some(repaired) = &repaired {
            print(&told(repaired));
        }
    }
    stores.close(false).await?;
    context.check_cancelled()?;
    let left = repairs.repairable.len() - repaired.as_ref().map_or(0, |_| within.len());
    let nothing_left =
        left == 0 && repairs.unrepairable.is_empty() && repairs.unlisted == 0 && repairs.failures.is_empty();
    let all_verified = repaired.is_none_or(|repaired| repaired.unverified.is_empty());
    Ok(if nothing_left && all_verified { Exit::Done } else { Exit::NotConsistent })
}

/// The findings that are meant. A row of PostgreSQL is deleted only where it alone is named: two tables, or
/// rows of one, may have the beginning of a key in common.
fn chosen(named: &[String], findings: &[Repairable]) -> anyhow::Result<Vec<Repairable>> {
    for name in named {
        let deleted: Vec<String> = findings
            .iter()
            .filter(|finding| finding.may_be_deleted() && is_named(name, finding))
            .map(|finding| format!("{}/{}", finding.table, finding.key.join(", ")))
            .collect();
        if deleted.len() > 1 {
            return Err(Failure::usage(format!(
                "`{name}` names {} rows that would be deleted, and nothing was done; name each by its \
                 table and whole key: {}",
                deleted.len(),
                deleted.join("; ")
            )));
        }
    }
    let is_chosen = |finding: &&Repairable| {
        let is_all = |name: &String| name == "all" && finding.deletion.is_none();
        named.iter().any(|name| is_all(name) || is_named(name, finding))
    };
    Ok(findings.iter().filter(is_chosen).cloned().collect())
}

/// Whether a finding is meant: by its key or the first part of it, behind its table or not.
fn is_named(name: &str, finding: &Repairable) -> bool {
    let of_table = name.strip_prefix(finding.table.as_str()).and_then(|rest| rest.strip_prefix('/'));
    let is_key =
        |key: &str| key == finding.key.join(", ") || finding.key.first().is_some_and(|own| own == key);
    is_key(name) || of_table.is_some_and(is_key)
}

async fn newest(stores: &Stores) -> anyhow::Result<Report> {
    let Some(verdict) = stores.source.latest_verdict().await? else {
        return Err(Failure::usage(
            "no verdict was recorded yet; run `validate`, or `repair` without --last",
        ));
    };
    Ok(serde_json::from_value(verdict.report)?)
}

#[cfg(test)]
mod tests {
    use lockstep_coordinator::Deletion;
    use lockstep_core::Version;
    use lockstep_validator::FindingClass;

    use super::*;

    fn finding(table: &str, key: &[&str], deleted: bool) -> Repairable {
        let deletion = deleted.then_some(Deletion { version: Version(7), may_be_lost: true });
        Repairable {
            table: table.to_owned(),
            class: FindingClass::Missing,
            key: key.iter().map(|part| (*part).to_owned()).collect(),
            columns: Vec::new(),
            deletion,
        }
    }

    #[test]
    fn a_row_is_deleted_only_by_a_name_that_is_its_alone() {
        let findings = [
            finding("logs", &["4711", "a"], true),
            finding("logs", &["4711", "b"], true),
            finding("payments", &["4711", "a"], true),
            finding("payments", &["4712", "a"], false),
        ];
        let of = |name: &str| chosen(&[name.to_owned()], &findings);
        for shared in ["4711", "logs/4711", "4711, a"] {
            let refused = of(shared).expect_err("it names several").to_string();
            assert!(refused.contains("name each by its table and whole key"), "{shared}: {refused}");
        }
        assert_eq!(of("payments/4711").expect("one"), findings[2..3]);
        assert_eq!(of("logs/4711, b").expect("one"), findings[1..2]);
        assert_eq!(of("all").expect("no deletion"), findings[3..]);
        assert!(of("logs/4712").expect("another table's").is_empty());
    }
}
