//! `cost`: what the migration has cost so far.

use lockstep_coordinator::load_took;
use lockstep_core::settings::SPEND_CAP_USD;
use lockstep_daemon::Spend;

use super::took;
use crate::exit::Exit;
use crate::report::{key_values, print, print_json, table};
use crate::stores::Stores;
use crate::ui::count;
use crate::{Context, help};

/// Shows what the migration has cost so far, and what it will have cost
///
/// Write units that backfills and relays of every machine have consumed, and read units of comparisons, as
/// DynamoDB told them, at the prices of `[plan]`. The forecast takes it that the rest of the initial load
/// costs as much a range as what is done. Beyond spend_cap_usd copying and comparing stop; changes go on
/// being delivered. What applications write and read themselves, streams, and storage are not in it: `plan`
/// tells those beforehand. Below it, what the initial load of each table was reckoned to take when its
/// copying began, and what it took: its time is that from the beginning to the end, pauses included.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask cost\n  cargo xtask cost --json | jq .usd\n  cargo xtask set spend_cap_usd 200 --reason budget"
))]
pub struct Args {}

/// Runs it.
///
/// # Errors
/// When PostgreSQL does not answer.
pub async fn run(context: Context, _args: Args) -> anyhow::Result<Exit> {
    let stores = Stores::configured_lazily(&context.config, &context.ui).await?;
    let status = lockstep_coordinator::status_of_source(&stores.source, &context.tables()?).await?;
    let rows = stores.source.spent().await?;
    let set = match status.installed {
        true => stores.source.settings().await?,
        false => Vec::new(),
    };
    let set = set.iter().find(|row| row.name == SPEND_CAP_USD).and_then(|row| row.value.as_f64());
    let spend =
        Spend::of(&rows, Some(&status), &context.config.plan, set.or(context.config.serve.spend_cap()));
    let histories = load_took(&stores.source, &context.config.plan).await?;
    if context.json {
        let mut shown = serde_json::to_value(&spend)?;
        shown["history"] = serde_json::to_value(&histories)?;
        print_json(&shown);
    } else {
        print(&(text(&spend) + &took::text(&histories)));
    }
    stores.close(false).await?;
    Ok(Exit::Done)
}

fn text(spend: &Spend) -> String {
    let usd = |usd: Option<f64>, otherwise: &str| {
        usd.map_or_else(|| otherwise.to_owned(), |usd| format!("{usd:.2} dollars"))
    };
    let mut text = key_values(&[
        (
            "spent",
            format!(
                "{:.2} dollars: {} write units, {} read units of comparisons",
                spend.usd,
                count(spend.write_units.unsigned_abs()),
                count(spend.read_units.unsigned_abs())
            ),
        ),
        ("when the initial load is copied", usd(spend.forecast_usd, "not known yet")),
        ("cap", usd(spend.cap_usd, "none")),
        ("prices", format!("as of {}", spend.prices_as_of)),
    ]);
    let rows = spend.tables.iter().map(|table| {
        let units = |units: i64| count(units.unsigned_abs());
        let usd = format!("{:.2}", table.usd);
        vec![table.name.clone(), units(table.write_units), units(table.read_units), usd]
    });
    text += "\n";
    text += &table(&["table", "write units", "read units", "dollars"], rows);
    text
}
