//! `validate --counts`: both sides counted, and nothing compared.

use lockstep_validator::ValidateOptions;

use crate::Context;
use crate::exit::Exit;
use crate::report::{counts, print, print_json};
use crate::stores::Stores;

/// Counts both sides, each day by itself where that is asked for.
pub(super) async fn run_counts(
    context: &Context,
    stores: Stores,
    options: &ValidateOptions,
    by_day: bool,
) -> anyhow::Result<Exit> {
    let tables = context.tables()?;
    context.tell_of_pause(&stores.source).await;
    let mut units = 0.0;
    for binding in &tables {
        units += stores.target.scan_units_estimate(&binding.target_name).await?;
    }
    // DynamoDB knows the size of a table as it was hours ago.
    context.ui.say(&format!(
        "Counting takes about {units:.0} read units of DynamoDB, by sizes that are some hours old"
    ));
    let counting = lockstep_validator::count(&stores.source, &stores.target, &tables, options, by_day);
    let report = context.unless_cancelled(counting).await??;
    if context.json {
        print_json(&report);
    } else {
        print(&counts(&report));
    }
    stores.close(false).await?;
    Ok(if report.agrees { Exit::Done } else { Exit::NotConsistent })
}
