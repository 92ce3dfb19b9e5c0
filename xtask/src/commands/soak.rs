//! `soak`: the random schedules of the tests, one seed after the other, for a night.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};
use tokio::process::Command;

use lockstep_cli::exit::Exit;
use lockstep_cli::report::{print, print_json};
use lockstep_cli::{Context, help};

/// The tests that take seeds.
const TESTS: &str = "schedules::";
/// Variable in which they look for them.
const SEEDS: &str = "LOCKSTEP_TEST_SEEDS";

/// Runs random schedules with faults, one seed after the other, until one fails
///
/// Each seed is three schedules of the test suite, on stores of their own: applications, strangers, relays,
/// feeds, steps through all phases, while both networks fail and processes are stopped and killed. A model
/// says what may be seen; once the networks are well, every process must write again and both stores agree.
/// The third has triggers, references and policies around the tables, and a source that is restored. The
/// first seed that fails ends the run, with what failed and the command that repeats it. Builds the tests
/// once, from this checkout.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask soak                     without an end, from a seed of the clock\n  \
       cargo xtask soak --for 8h            a night\n  \
       cargo xtask soak --seed 17 --for 1s  that seed alone"
))]
pub struct Args {
    /// Begin no further seed after so long: 90s, 30m or 8h
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub bound: Option<Duration>,
    /// The first seed; the others follow it [default: by the clock]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// Runs it.
///
/// # Errors
/// When the tests cannot be built or started.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    context.ui.say("Building the tests.");
    let tests = context.unless_cancelled(build()).await??;
    let by_clock = || SystemTime::UNIX_EPOCH.elapsed().map_or(1, |elapsed| elapsed.as_secs());
    let (first, begun) = (args.seed.unwrap_or_else(by_clock), Instant::now());
    let mut seeds = 0;
    for seed in first.. {
        context.ui.say(&format!("seed {seed}"));
        let output = Command::new(&tests)
            .arg(TESTS)
            .env(SEEDS, seed.to_string())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = context.unless_cancelled(output).await?.context("starting the tests")?;
        seeds += 1;
        if !output.status.success() {
            let again =
                format!("{SEEDS}={seed} cargo test -p lockstep-tests --test it {TESTS} -- --nocapture");
            let told = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            if context.json {
                print_json(&json!({ "seeds": seeds, "failed": seed, "again": again, "output": told }));
            } else {
                print(&format!(
                    "{told}\nseed {seed} failed, the {seeds}. of this run. To repeat it:\n  {again}"
                ));
            }
            return Ok(Exit::NotConsistent);
        }
        if args.bound.is_some_and(|bound| begun.elapsed() >= bound) {
            break;
        }
    }
    match context.json {
        true => print_json(&json!({ "seeds": seeds, "first": first, "failed": null })),
        false => print(&format!("{seeds} seeds, from {first} on; none failed.")),
    }
    Ok(Exit::Done)
}

/// Builds the tests, and says where they are: once, so that work in the checkout meanwhile changes nothing.
async fn build() -> anyhow::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "test",
            "--quiet",
            "--package",
            "lockstep-tests",
            "--test",
            "it",
            "--no-run",
            "--message-format",
            "json",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .context("starting cargo; `soak` needs the checkout that it was built from")?;
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let built =
        messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|message| {
            let is_ours = message["target"]["name"] == "it" && message["target"]["kind"] == json!(["test"]);
            message["executable"].as_str().filter(|_| is_ours).map(PathBuf::from)
        });
    built.filter(|_| output.status.success()).ok_or_else(|| anyhow!("the tests do not build; see above"))
}

fn duration(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3_600)];
    let parsed = units.iter().find_map(|(unit, seconds)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*seconds).map(Duration::from_secs)
    });
    parsed.ok_or_else(|| "a number and s, m or h, as in 8h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_and_a_unit() {
        for (text, seconds) in [("90s", 90), ("30m", 1_800), ("8h", 28_800)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "h", "8", "8d", "-1h", "1.5h", "99999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
