//! `validate`: compare every row of both sides.

use std::path::PathBuf;

use lockstep_coordinator::{MigrationContext, record_found};
use lockstep_core::{Phase, Window};
use lockstep_dynamo::{ExportPlace, SPEAKS_S3};
use lockstep_postgres::TableBinding;
use lockstep_validator::{Sample, TableReport, ValidateOptions, report_of_keys, validate_keys};

use super::no_relay::told_beside;
use super::validate_counts::run_counts;
use super::validate_shared::{help_out, sharing};
use crate::config::{Moment, Setting};
use crate::evidence::write_page;
use crate::exit::{Exit, Failure};
use crate::report::{exit_of_report, print, print_json, validation};
use crate::stores::Stores;
use crate::{Context, help};

/// Compares every row of both sides, field by field
///
/// Writers may go on: a difference is looked at again until it has come to rest, so lag is not drift. Changes
/// that wait for delivery are delivered by a relay, which must be running beside this, or the verdict cannot
/// be consistent; with --no-relay what is pending is counted at once instead of waited for. The verdict is
/// recorded, and the step to HybridRead asks for a fresh one. For each field that differs the report says
/// where: the column, the path inside a document, and whether a side is NULL, absent or empty. Values are
/// masked, except those the table's crate says hold nothing to hide; --unmasked shows all.
///
/// What was read is kept in `validate.folder`, so a run that was killed, or whose store failed, is resumed by
/// running it again; its report then speaks as of the beginning of the first part.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask validate              while a relay runs\n  \
       cargo xtask validate --no-relay   no relay runs: what is pending is a finding\n  \
       cargo xtask validate --quiescent  no application writes: counts must agree as well, nothing may be pending\n  \
       cargo xtask validate --rate 500   take at most 500 read units a second from DynamoDB\n  \
       cargo xtask validate --from 2026-01-01 --to 2026-02-01   only rows of January; no gate takes that verdict\n  \
       cargo xtask validate --sample 1000 --seed 7   a thousand rows and a thousand items of each table, in seconds\n  \
       cargo xtask validate --key payments/42   one row, by its primary key\n  \
       cargo xtask validate --incremental   only what changed since the last full one\n  \
       cargo xtask validate --counts --by-day   only count, each day by itself\n  \
       cargo xtask validate --with-workers   others read a part: validate --help-out, worker --stay\n  \
       cargo xtask validate --restart    forget what an unfinished run has read\n  \
       cargo xtask validate --html audit.html --latency   a page, with latencies of both stores\n  \
       cargo xtask validate --json | jq '.verdict, .reasons'"
))]
pub struct Args {
    /// All writers are stopped: compare counts too, and let nothing be pending
    #[arg(long)]
    pub quiescent: bool,
    /// No relay is running: do not wait for what is pending
    #[arg(long)]
    pub no_relay: bool,
    /// Do not judge the data itself: no business rules, sums, daily counts or references
    #[arg(long)]
    pub no_quality: bool,
    /// Also write the report as a page of its own, to be sent
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Also time the same queries on both stores, this often each
    #[arg(long, value_name = "TIMES", num_args = 0..=1, default_missing_value = "100", default_value_t = 0, hide_default_value = true)]
    pub latency: usize,
    /// Compute the digests under this seed, that of an earlier report's manifest
    #[arg(long, value_name = "HEX", value_parser = seed)]
    pub digest_seed: Option<u64>,
    /// Show the values of fields that differ; for who may read the rows anyway, never stored
    #[arg(long)]
    pub unmasked: bool,
    /// Most read units a second taken from the target, all tables together; 0 takes what it gives
    #[arg(long, value_name = "UNITS")]
    pub rate: Option<u64>,
    /// About how much memory a table may take, in megabytes
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u64).range(16..))]
    pub memory_mb: Option<u64>,
    /// Only rows from this day or moment on, by the day column of each table
    #[arg(long, value_name = "DAY")]
    pub from: Option<Moment>,
    /// Only rows before this day or moment
    #[arg(long, value_name = "DAY")]
    pub to: Option<Moment>,
    /// Only this number of rows and items of each table, chosen by chance, instead of all; no gate takes that
    /// verdict
    #[arg(long, value_name = "N", conflicts_with_all = ["quiescent", "restart"],
          value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub sample: Option<u64>,
    /// Decides which; the same seed takes the same rows while they are there
    #[arg(long, value_name = "N", requires = "sample", default_value_t = 1, allow_negative_numbers = true)]
    pub seed: i64,
    /// Only keys that changed since the newest full validation that found nothing, delivered or not
    ///
    /// That one must be of this phase, or of the one before the last step, and no older than a day. The
    /// verdict is as old as it, because changes that are made in DynamoDB itself are not captured and are
    /// seen by a full validation only.
    #[arg(long, conflicts_with_all = ["sample", "from", "to", "restart"])]
    pub incremental: bool,
    /// Only count rows and items, exactly, and compare nothing; no gate takes that for a verdict
    ///
    /// Both sides must agree within validate.count_tolerance. What is pending is shown, and excuses nothing:
    /// let the relay catch up, or stop the writers. What the scan will take of DynamoDB is said before.
    #[arg(long, conflicts_with_all = ["quiescent", "no_relay", "sample", "restart", "incremental"])]
    pub counts: bool,
    /// With --counts: each day by itself, where a table has a day
    #[arg(long, requires = "counts")]
    pub by_day: bool,
    /// Only one row, by its primary key: TABLE/VALUE, or TABLE/VALUE,VALUE; no verdict is recorded, but that
    /// it differs is
    #[arg(long, value_name = "TABLE/KEY", conflicts_with_all = ["quiescent", "restart", "sample", "incremental", "counts", "from", "to", "html"])]
    pub key: Option<String>,
    /// Let other processes read a part of both sides: `validate --help-out`, or `worker --stay`
    ///
    /// They may come and go at any time, on any machine with the same configuration and version. This process
    /// reads too, looks again at what differs, and has the verdict, which is as good as one of its own alone.
    /// Nothing is kept for another run, and the data itself is not judged. The rate holds for all of them
    /// together. `status` names those that take part.
    #[arg(long, conflicts_with_all = ["sample", "incremental", "counts", "restart", "key"])]
    pub with_workers: bool,
    /// Read a part of the comparison that `validate --with-workers` leads elsewhere, and end with it
    #[arg(long, conflicts_with_all = ["with_workers", "quiescent", "no_relay", "no_quality", "html",
          "latency", "digest_seed", "unmasked", "from", "to", "sample", "incremental", "counts", "key",
          "restart", "from_export"])]
    pub help_out: bool,
    /// With --help-out: wait for the next one; to be stopped is then how it ends, with 0
    #[arg(long, requires = "help_out")]
    pub stay: bool,
    /// An export of a table whose items are read instead: s3://BUCKET/…/AWSDynamoDB/ID, or a folder that it
    /// was copied to; one a table
    ///
    /// What differs is looked up in both stores, so findings are of now. What agrees is not, so the report
    /// speaks as of the export, and no gate takes that verdict: see docs/scale.md.
    #[arg(long, value_name = "PLACE", value_parser = export_place,
          conflicts_with_all = ["quiescent", "sample", "incremental", "counts", "key", "with_workers",
                                "restart"])]
    pub from_export: Vec<ExportPlace>,
    /// Begin again, whatever an unfinished run has left
    #[arg(long)]
    pub restart: bool,
}

impl Args {
    /// Returns the flags that set a key.
    pub fn settings(&self) -> Vec<Setting> {
        let rate = Setting::of("validate.read_units_per_s_max", self.rate);
        rate.into_iter().chain(Setting::of("validate.memory_mb", self.memory_mb)).collect()
    }

    /// Returns how to compare, by the configuration and these flags.
    fn options(&self, context: &Context) -> ValidateOptions {
        let config = &context.config;
        let options = config.validate_options();
        let window = Window {
            start: self.from.map_or(options.window.start, |from| Some(from.0)),
            end: self.to.map_or(options.window.end, |to| Some(to.0)),
        };
        ValidateOptions {
            window,
            quiescent: self.quiescent,
            incremental: self.incremental,
            wait_for_pending: !self.no_relay,
            kept: config.validate.kept(self.restart),
            exports: self.from_export.clone(),
            sharing: self.with_workers.then(|| sharing(context, None)),
            sample: self.sample.map(|rows| Sample { rows: rows as usize, seed: self.seed }),
            unmasked: self.unmasked,
            quality: !self.no_quality,
            spending: Some(config.spending()),
            digest_seed: self.digest_seed,
            ..options
        }
    }
}

fn export_place(text: &str) -> Result<ExportPlace, String> {
    match ExportPlace::of(text) {
        ExportPlace::S3 { .. } if !SPEAKS_S3 => {
            Err(format!("this program was built without S3: copy it first, with `aws s3 sync {text} DIR`"))
        }
        ExportPlace::Folder(_) if text.starts_with("s3:") => {
            Err("a place in S3 is written s3://BUCKET/PREFIX".to_owned())
        }
        place => Ok(place),
    }
}

fn seed(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text, 16).map_err(|_| "a seed is up to 16 hexadecimal digits".to_owned())
}

/// Runs it.
///
/// # Errors
/// When a store does not answer, or it is told to stop.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    let stores = Stores::configured(&context.config, &context.ui).await?;
    if !stores.source.has_schema().await? {
        return Err(Failure::usage(
            "Lockstep was never installed in this source, so there is nothing to compare; run `backfill` first",
        ));
    }
    if args.help_out {
        return help_out(&context, stores, &args.options(&context), args.stay).await;
    }
    if let Some(key) = &args.key {
        let report = one_key(&context, &stores, key, &args.options(&context)).await?;
        if context.json {
            print_json(&report);
        } else {
            print(&of_one_key(key, &report));
        }
        stores.close(false).await?;
        return Ok(match is_same(&report) {
            true => Exit::Done,
            false if report.store_failed && report.findings_total() == 0 => Exit::Infrastructure,
            false => Exit::NotConsistent,
        });
    }
    if args.counts {
        return run_counts(&context, stores, &args.options(&context), args.by_day).await;
    }
    if args.incremental {
        let refusals = context.refusals_of_incremental(&stores, false).await?;
        if !refusals.is_empty() {
            return Err(Failure::usage(refusals.join("\n")));
        }
    }
    let options = args.options(&context);
    let report = context.validate_and_time(&stores, &options, args.latency, &context.cancel).await?;
    if let Some(path) = &args.html {
        write_page(path, &report, &stores.source).await?;
        context.ui.say(&format!("The page is in {}", path.display()));
    }
    if context.json {
        print_json(&report);
    } else {
        print(&validation(&report));
    }
    stores.close(false).await?;
    context.check_cancelled()?;
    Ok(exit_of_report(&report))
}

/// Compares the row and the item of one key, typed as `TABLE/VALUE,VALUE`.
pub(super) async fn one_key(
    context: &Context,
    stores: &Stores,
    typed: &str,
    options: &ValidateOptions,
) -> anyhow::Result<TableReport> {
    let (table, key) = typed.split_once('/').ok_or_else(|| {
        Failure::usage(format!("`{typed}` names no key: write TABLE/VALUE, as payments/42"))
    })?;
    let tables = context.tables()?;
    let binding = tables.iter().find(|binding| binding.name() == table).ok_or_else(|| {
        let known: Vec<&str> = tables.iter().map(|binding| binding.name()).collect();
        Failure::usage(format!("there is no table {table}; there are: {}", known.join(", ")))
    })?;
    let values: Vec<String> = match binding.table.primary_key_columns() {
        // A comma may be part of it.
        1 => vec![key.to_owned()],
        _ => key.split(',').map(str::to_owned).collect(),
    };
    let keys = match stores.source.whole_keys(binding, &values).await {
        Err(error) if error.kind == lockstep_core::Kind::Invalid => {
            return Err(Failure::usage(error.to_string()));
        }
        keys => keys?,
    };
    if keys.is_empty() {
        return Err(Failure::usage(format!(
            "{table} has no row of this key, and its item cannot be found by the primary key alone: a whole validation sees it"
        )));
    }
    context.tell_of_pause(&stores.source).await;
    let options = ValidateOptions { kept: None, quality: false, spending: None, ..options.clone() };
    let comparing = validate_keys(&stores.source, &stores.target, binding, &keys, &options, &context.cancel);
    let report = match options.wait_for_pending {
        true => told_beside(context, &stores.source, std::slice::from_ref(binding), comparing).await,
        false => comparing.await,
    };
    context.check_cancelled()?;
    record_one_key(context, stores, binding, &report, &options).await?;
    Ok(report)
}

/// Records that one key differs. 1. A verdict is consistent. 2. An item is lost, and who looks at its key
/// sees that. 3. A step went by the verdict, over what was known to be missing. Before anything is copied a
/// row without an item is no finding.
async fn record_one_key(
    context: &Context,
    stores: &Stores,
    binding: &TableBinding,
    report: &TableReport,
    options: &ValidateOptions,
) -> anyhow::Result<()> {
    let control = stores.source.control().await?;
    if control.phase == Phase::PostgresOnly {
        return Ok(());
    }
    let migration = MigrationContext { tables: vec![binding.clone()], ..context.migration(stores)? };
    let found = report_of_keys(report.clone(), &control, options);
    Ok(record_found(&migration, &found).await?)
}

/// Tells whether both stores were read, and say the same. What waits for delivery, or is in neither store,
/// was not compared, and nothing is said of it (I11).
pub(super) fn is_same(report: &TableReport) -> bool {
    let compared = report.equal + report.expired > 0;
    report.complete && report.failure.is_none() && report.findings_total() == 0 && compared
}

fn of_one_key(key: &str, report: &TableReport) -> String {
    if let Some(failure) = &report.failure {
        return format!("{key}: not compared: {failure}");
    }
    let mut text = match is_same(report) {
        true => format!("{key}: both stores say the same"),
        false if report.findings_total() == 0 => {
            format!("{key}: NOT compared: it waits for delivery, is a dead letter, or is in neither store")
        }
        false => format!("{key}: they do NOT say the same"),
    };
    for finding in &report.findings {
        text += &format!("\n  {} {}", finding.class, finding.columns.join(", "));
    }
    text
}
