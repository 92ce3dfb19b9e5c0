//! `plan`: hours, write units and dollars, before anything begins. Reads only the source.

use lockstep_coordinator::{Assumptions, Estimate, LoadPathEstimate, Mean, estimate};

use crate::exit::{Exit, Failure};
use crate::report::{key_values, print, print_json, table};
use crate::stores::Stores;
use crate::ui::count;
use crate::{Context, help};

/// Tells hours, write units and dollars before anything begins
///
/// Looks at some rows of each table and at PostgreSQL's statistics, and tells for each way of copying the
/// initial load how long it takes and what it costs, and what each phase costs a month at the rate at which
/// the tables are used now. Numbers that come from a sample carry their band. Prices, and what PostgreSQL
/// costs today, are set in `[plan]` of the configuration. Nothing is written, in either store, and DynamoDB
/// is not asked for anything.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask plan\n  \
       cargo xtask plan --write-units-per-s 10000          how long at 10,000 write units a second\n  \
       cargo xtask plan --source-month-usd 1400            beside what PostgreSQL costs a month\n  \
       cargo xtask plan --json | jq .load_paths"
))]
pub struct Args {
    /// Write units a second that all tables together may take [default: backfill.write_units_per_s_max]
    #[arg(long, value_name = "N")]
    pub write_units_per_s: Option<u64>,
    /// Cost of PostgreSQL a month, in dollars [default: plan.source_month_usd]
    #[arg(long, value_name = "USD")]
    pub source_month_usd: Option<f64>,
}

/// Runs it.
///
/// # Errors
/// When the source does not answer, or a table is not there.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    let mut options = context.config.plan.clone();
    if let Some(usd) = args.source_month_usd {
        if !usd.is_finite() || usd < 0.0 {
            return Err(Failure::usage(format!(
                "--source-month-usd {usd}: write an amount of dollars, 0 or more"
            )));
        }
        options.source_month_usd = usd;
    }
    let configured = context.config.backfill.write_units_per_s_max;
    let assumptions = Assumptions {
        options,
        write_units_per_s_max: args.write_units_per_s.filter(|units| *units > 0).or(configured),
        canary_percent: context.config.reads.canary_percent.into(),
        counted_pages_max: i64::MAX,
    };
    // Accepts tables of a later migration while another one is under way.
    let stores = Stores::also_complete(&context.config, &context.ui).await?;
    let tables = context.tables()?;
    let estimate = context.unless_cancelled(estimate(&stores.source, &tables, &assumptions)).await??;
    if context.json {
        print_json(&estimate);
    } else {
        print(&text(&estimate));
    }
    stores.close(false).await?;
    Ok(Exit::Done)
}

/// Reads and writes that were counted for less than this say nothing of a month.
const COUNTED_AT_LEAST_S: f64 = 3_600.0;

fn text(estimate: &Estimate) -> String {
    let mut text = tables(estimate);
    text += "\n\nHistory, once:\n";
    let headers =
        ["load path", "write units", "of indexes", "dollars", "new tables", "at quota", "at the limit"];
    let rows = estimate.load_paths.iter().map(|path| {
        let name =
            if path.available { path.path.to_owned() } else { format!("{} (not built yet)", path.path) };
        let [new, quota] =
            [path.hours_new_table, path.hours_at_quota].map(|hours| hours_of(path, Some(hours)));
        vec![
            name,
            mean(path.write_units, 0),
            count(path.index_units as u64),
            mean(path.usd, 2),
            new,
            quota,
            hours_of(path, path.hours_at_limit),
        ]
    });
    text += &table(&headers, rows);
    text += &by_the_month(estimate);
    for warning in &estimate.warnings {
        text += &format!("\n! {warning}");
    }
    let prices = &estimate.prices;
    text + "\n" + &key_values(&[("prices", format!("as of {}, {}", prices.as_of, prices.read_at))])
}

/// Returns what each phase costs at the rate that was counted. Gives no monthly cost below one hour of
/// statistics: after a load, or after a reset of the statistics, it is the load or nothing that was counted.
fn by_the_month(estimate: &Estimate) -> String {
    if estimate.tables.iter().any(|t| t.counted_for_s < COUNTED_AT_LEAST_S) {
        return "\n\nWhat each phase costs cannot be said yet: PostgreSQL has counted reads and writes for less \
                than an hour. Run `cargo xtask plan` again when it has counted for longer."
            .to_owned();
    }
    let mut text = "\n\nEach phase, at today's rate:\n".to_owned();
    let rows = estimate.phases.iter().map(|phase| {
        vec![
            phase.phase.map_or_else(|| "afterwards".to_owned(), |phase| phase.to_string()),
            format!("{:.1}", phase.write_units_per_s),
            format!("{:.1}", phase.read_units_per_s),
            format!("{:.2}", phase.usd_per_month),
        ]
    });
    text += &table(&["phase", "write units/s", "read units/s", "dollars a month"], rows);
    if let Some(saving) = &estimate.saving {
        let (word, percent) =
            if saving.percent >= 0.0 { ("less", saving.percent) } else { ("more", -saving.percent) };
        let met = if saving.percent >= saving.goal_percent { "met" } else { "missed" };
        text += &format!(
            "\nafterwards {:.2} dollars a month instead of {:.2}: {percent:.0} % {word}; the goal of {:.0} % less is {met}",
            saving.target_month_usd, saving.source_month_usd, saving.goal_percent
        );
    }
    text
}

fn tables(estimate: &Estimate) -> String {
    let headers =
        ["table", "rows", "item bytes", "units a row", "with indexes", "writes/s", "reads/s", "counted over"];
    let rows = estimate.tables.iter().map(|t| {
        vec![
            t.name.clone(),
            count(t.rows as u64),
            mean(t.sample.item_bytes, 0),
            mean(t.sample.table_units, 2),
            mean(t.sample.units, 2),
            format!("{:.1}", t.writes_per_s),
            format!("{:.1}", t.reads_per_s),
            format!("{:.1} h", t.counted_for_s / 3_600.0),
        ]
    });
    table(&headers, rows)
}

fn mean(mean: Mean, digits: usize) -> String {
    if mean.plus_minus == 0.0 {
        return format!("{:.digits$}", mean.value);
    }
    format!("{:.digits$} ± {:.digits$}", mean.value, mean.plus_minus)
}

fn hours_of(path: &LoadPathEstimate, hours: Option<f64>) -> String {
    match hours {
        Some(hours) if path.write_units.value > 0.0 => format!("{hours:.2} h"),
        _ => "—".to_owned(),
    }
}
