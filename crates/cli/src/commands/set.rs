//! `set`: turn what every process of the migration follows, while it runs.

use std::time::Duration;

use lockstep_core::settings::{KNOBS, RAMP, REASON_CHARS_MAX, Ramp, Takes, is_reason, of_name};
use lockstep_postgres::Turn;
use serde_json::{Value, json};

use super::settings::show;
use crate::config::actor;
use crate::durations::duration;
use crate::exit::{Exit, Failure};
use crate::stores::Stores;
use crate::{Context, help};

/// Turns a setting for every process of the migration, within a second
///
/// Applications, backfill and daemon follow it, whichever machine they run on; `settings` lists what there
/// is. The journal keeps who turned it, from what to what, and why. With --for it ends by itself, and what
/// each process was configured with counts again; `default` takes it back at once. PostgreSQL alone is asked.
///
/// --ramp raises a share by itself: a running `serve` takes each step when --hold is over, no alert is
/// raised, and nothing that was read on both stores has differed since the step before.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask set canary_percent 5 --for 1h --reason 'ticket 4711'\n  \
       cargo xtask set canary_percent --ramp 1,5,25,100 --hold 30m --reason 'go live'\n  \
       cargo xtask set canary_percent 0 --reason 'wrong answers'   reads go back to PostgreSQL\n  \
       cargo xtask set hybrid_read best_effort --for 15m           while DynamoDB throttles\n  \
       cargo xtask set canary_percent default                      as each process is configured"
))]
pub struct Args {
    /// Name of the setting; `settings` lists them
    pub name: String,
    /// Value to set; `default` takes it back
    #[arg(required_unless_present = "ramp", conflicts_with = "ramp", allow_negative_numbers = true)]
    pub value: Option<String>,
    /// For how long: 90s, 15m, 1h, 2d
    #[arg(long = "for", value_name = "TIME", value_parser = duration, conflicts_with = "ramp")]
    pub during: Option<Duration>,
    /// Reason, for the journal
    #[arg(long, value_name = "WORDS")]
    pub reason: Option<String>,
    /// Percentages, one after the other
    #[arg(long, value_name = "P,P,…", value_delimiter = ',', requires = "hold")]
    pub ramp: Option<Vec<f64>>,
    /// Time that each step of the ramp holds before the next is asked for
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "ramp")]
    pub hold: Option<Duration>,
}

/// Runs it.
///
/// # Errors
/// For a name that is none and a value that it does not take, and when PostgreSQL does not answer.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    let knob = of_name(&args.name).map_err(Failure::usage)?;
    let reason = args.reason.as_deref().map(str::trim).filter(|reason| !reason.is_empty());
    if reason.is_some_and(|reason| !is_reason(reason)) {
        return Err(Failure::usage(format!(
            "--reason has at most {REASON_CHARS_MAX} characters, none of them a control character"
        )));
    }
    let value = match args.value.as_deref() {
        None | Some("default") => None,
        // A part that is not paused has no setting.
        Some("false") if knob.takes == Takes::Yes => None,
        Some(text) => Some(knob.typed(text).map_err(Failure::usage)?),
    };
    if args.ramp.is_some() && knob.takes != Takes::Percent {
        let led: Vec<&str> =
            KNOBS.iter().filter(|knob| knob.takes == Takes::Percent).map(|knob| knob.name).collect();
        return Err(Failure::usage(format!("a ramp leads a percentage: {}", led.join(", "))));
    }
    let stores = Stores::configured_lazily(&context.config, &context.ui).await?;
    // That it is not there yet, or of before, is said by what is asked next.
    stores.source.settings().await?;
    let led_by = format!("{RAMP}{}", knob.name);
    let ramp = match (args.ramp, args.hold) {
        (Some(steps), Some(hold)) => {
            let now_s = stores.source.clock().await?.timestamp_millis() as f64 / 1_000.0;
            Some(Ramp::new(steps, hold.as_secs(), now_s).map_err(Failure::usage)?)
        }
        _ => None,
    };
    let (first, kept) =
        (ramp.as_ref().map(|ramp| Value::from(ramp.percent())), ramp.as_ref().map(|ramp| json!(ramp)));
    let value = first.as_ref().or(value.as_ref());
    // A person decides by more than what is set, so it is set whatever there is.
    let mut turns = vec![Turn { name: knob.name, value, during: args.during, ..Turn::default() }];
    if knob.takes == Takes::Percent {
        // Turned by hand, it is not led any more.
        turns.push(Turn { name: &led_by, value: kept.as_ref(), ..Turn::default() });
    }
    stores.source.turn(&turns, &actor(), reason, &json!({})).await?;
    show(&context, &stores.source).await?;
    stores.close(false).await?;
    Ok(Exit::Done)
}
