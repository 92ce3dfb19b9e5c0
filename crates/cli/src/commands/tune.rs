//! `tune`: change the rate of what is running.

use lockstep_postgres::Tuning;
use serde_json::json;

use crate::exit::{Exit, Failure};
use crate::report::{print, print_json};
use crate::stores::Stores;
use crate::{Context, help};

/// Changes the rate of what is running, within a second
///
/// A running backfill looks at this setting once a second, whichever machine it runs on. Without a flag the
/// setting in force is shown. What `set write_units_per_s_max` has set goes before it. The setting stays
/// until it is changed again; `default` hands it back to backfill.write_units_per_s_max of the configuration.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask tune                                  what is in force\n  \
       cargo xtask tune --write-units-per-s-max 500      at most 500 write units a second\n  \
       cargo xtask tune --write-units-per-s-max default  what the configuration says"
))]
pub struct Args {
    /// Most write units a second over all tables, or `default`
    #[arg(long, value_name = "N")]
    pub write_units_per_s_max: Option<String>,
}

/// Runs it.
///
/// # Errors
/// When the source does not answer, or Lockstep was never installed there.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    let setting = args.write_units_per_s_max.as_deref().map(units).transpose()?;
    let stores = Stores::configured(&context.config, &context.ui).await?;
    if let Some(write_units_per_s_max) = setting {
        stores.source.tune(Tuning { write_units_per_s_max, ..Tuning::default() }).await?;
    }
    let Tuning { write_units_per_s_max, .. } = stores.source.tuning().await?;
    if context.json {
        print_json(&json!({ "write_units_per_s_max": write_units_per_s_max }));
    } else {
        let units =
            write_units_per_s_max.map_or_else(|| "as configured".to_owned(), |units| units.to_string());
        print(&format!("write_units_per_s_max: {units}"));
    }
    stores.close(false).await?;
    Ok(Exit::Done)
}

fn units(text: &str) -> anyhow::Result<Option<i64>> {
    match text.parse::<i64>() {
        _ if text == "default" => Ok(None),
        Ok(units) if units > 0 => Ok(Some(units)),
        _ => Err(Failure::usage(format!(
            "--write-units-per-s-max {text}: write a whole number, 1 or more, or `default`"
        ))),
    }
}
