//! `bench`: how fast it is, beside what limits it. Measures stores of its own and touches no configured one.

use clap::Subcommand;

use lockstep_cli::exit::Exit;
use lockstep_cli::{Context, help};

use crate::bench;

/// Measures how fast the initial load moves and is compared, and what a store handle costs, beside the limits
/// of the same machine in the same run
///
/// Numbers of one machine say little about another, so what counts are ratios: a backfill into a target that
/// accepts and discards, beside a raw binary COPY of the same rows, a replay of prepared requests, and a
/// plain loop of one SDK call a row. Runs in a release build, which is made first if need be.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask bench backfill                    100,000 and 1,000,000 rows\n  \
       cargo xtask bench backfill --rows 50000 --json\n  \
       cargo xtask bench validate                    a full comparison of as many rows\n  \
       cargo xtask bench writes                      each call beside the same work done bare\n  \
       cargo xtask bench relay                       changes a second, and the lag while others write\n  \
       cargo xtask bench reverse                     records a second of the reverse feed\n  \
       cargo xtask bench units --json                write units of each operation in each phase\n  \
       cargo xtask bench scale                       one, two and four workers where waiting is the limit"
))]
pub struct Args {
    /// Measure in the build at hand, even if it is not optimised: to see that it works, not how fast
    #[arg(long, global = true)]
    pub unoptimised: bool,
    /// Subject to measure.
    #[command(subcommand)]
    pub what: What,
}

/// Subjects that can be measured.
#[derive(Clone, Debug, Subcommand)]
pub enum What {
    /// Measures the backfill: rows a second, memory, and what capture costs a writer
    #[command(after_help = help!("  cargo xtask bench backfill\n  cargo xtask bench backfill --rows 100000 --rows 1000000"))]
    Backfill {
        /// Rows of the table; more than one size is measured one after the other
        #[arg(long, value_name = "N", default_values_t = [100_000, 1_000_000])]
        rows: Vec<u64>,
        /// Seed of the rows
        #[arg(long, value_name = "N", default_value_t = 1)]
        seed: u64,
        /// Number of times that each thing is measured; the best counts, as a busy host only ever slows
        #[arg(long, value_name = "N", default_value_t = bench::machine::ROUNDS)]
        rounds: u32,
    },
    /// Measures the store handle: each call beside the same work done bare
    #[command(after_help = help!("  cargo xtask bench writes\n  cargo xtask bench writes --calls 5000 --json"))]
    Writes {
        /// Calls of each kind
        #[arg(long, value_name = "N", default_value_t = 2_000)]
        calls: usize,
    },
    /// Measures a full comparison: rows a second, memory, and what differences cost
    #[command(after_help = help!("  cargo xtask bench validate\n  cargo xtask bench validate --rows 100000 --json"))]
    Validate {
        /// Rows of the table; more than one size is measured one after the other
        #[arg(long, value_name = "N", default_values_t = [100_000, 1_000_000])]
        rows: Vec<u64>,
        /// Number of times that each thing is measured; the best counts, as a busy host only ever slows
        #[arg(long, value_name = "N", default_value_t = bench::machine::ROUNDS)]
        rounds: u32,
    },
    /// Measures the relay: changes a second for inserts and updates, and the lag while others write
    #[command(after_help = help!("  cargo xtask bench relay\n  cargo xtask bench relay --rows 50000 --writes-per-s 5000 --json"))]
    Relay {
        /// Rows inserted, and then updated
        #[arg(long, value_name = "N", default_value_t = 100_000)]
        rows: u64,
        /// Writes a second while the lag is measured
        #[arg(long, value_name = "N", default_value_t = 5_000)]
        writes_per_s: u64,
        /// Seconds that the lag is measured for
        #[arg(long, value_name = "N", default_value_t = 10)]
        lag_seconds: u64,
        /// Number of times that each thing is measured; the best counts, as a busy host only ever slows
        #[arg(long, value_name = "N", default_value_t = bench::machine::ROUNDS)]
        rounds: u32,
    },
    /// Measures the reverse feed: records a second from the target's stream into PostgreSQL
    #[command(after_help = help!("  cargo xtask bench reverse\n  cargo xtask bench reverse --rows 50000 --json"))]
    Reverse {
        /// Rows written in DynamoOnly in each round
        #[arg(long, value_name = "N", default_value_t = 20_000)]
        rows: u64,
        /// Number of times that each thing is measured; the best counts, as a busy host only ever slows
        #[arg(long, value_name = "N", default_value_t = bench::machine::ROUNDS)]
        rounds: u32,
    },
    /// Counts write units: each operation in each phase beside a plain put of the same item
    #[command(after_help = help!("  cargo xtask bench units\n  cargo xtask bench units --calls 100 --json"))]
    Units {
        /// Calls of each kind
        #[arg(long, value_name = "N", default_value_t = 50)]
        calls: usize,
    },
    /// Measures what more worker processes bring where the target's latency is the limit
    ///
    /// A ratio of waiting, so that a build that is not optimised measures it as well.
    #[command(after_help = help!("  cargo xtask bench scale\n  cargo xtask bench scale --rows 50000 --json"))]
    Scale {
        /// Rows of the table
        #[arg(long, value_name = "N", default_value_t = 80_000)]
        rows: u64,
        /// Milliseconds that the target thinks before each answer
        #[arg(long, value_name = "N", default_value_t = 5)]
        latency_ms: u64,
        /// Number of times that each thing is measured; the best counts, as a busy host only ever slows
        #[arg(long, value_name = "N", default_value_t = bench::machine::ROUNDS)]
        rounds: u32,
    },
    /// The measured process of `relay`.
    #[command(hide = true)]
    Deliver {
        /// The null target.
        endpoint_url: String,
        /// Rows inserted, and then updated.
        rows: u64,
        /// Writes a second while the lag is measured.
        writes_per_s: u64,
        /// For how long.
        lag_seconds: u64,
    },
    /// The measured process of `validate`.
    #[command(hide = true)]
    Compare {
        /// The null target.
        endpoint_url: String,
        /// Name of the table.
        subject: String,
    },
    /// The measured process of `backfill`.
    #[command(hide = true)]
    Worker {
        /// The null target.
        endpoint_url: String,
        /// Kind of the ranges: `auto`, `key` or `blocks`.
        ranges: String,
        /// Name of the table.
        subject: String,
    },
    /// A worker's process of `scale`.
    #[command(hide = true)]
    Shift {
        /// The null target.
        endpoint_url: String,
    },
}

impl What {
    /// Whether numbers of a debug build would mislead.
    pub fn needs_release(&self) -> bool {
        matches!(
            self,
            Self::Backfill { .. } | Self::Validate { .. } | Self::Relay { .. } | Self::Reverse { .. }
        )
    }
}

/// Runs it.
///
/// # Errors
/// When a store does not start or fails.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    match args.what {
        What::Backfill { rows, seed, rounds } => {
            context.unless_cancelled(bench::backfill::run(&rows, rounds, seed, context.json)).await??;
        }
        What::Writes { calls } => context.unless_cancelled(bench::writes::run(calls, context.json)).await??,
        What::Validate { rows, rounds } => {
            context.unless_cancelled(bench::validate::run(&rows, rounds, context.json)).await??
        }
        What::Compare { endpoint_url, subject } => {
            bench::validate::measured::run(&endpoint_url, &subject).await?
        }
        What::Worker { endpoint_url, ranges, subject } => {
            bench::worker::run(&endpoint_url, &ranges, &subject).await?
        }
        What::Shift { endpoint_url } => bench::scale::run_worker(&endpoint_url).await?,
        What::Relay { rows, writes_per_s, lag_seconds, rounds } => {
            let asked = bench::relay::Asked { rows, writes_per_s, lag_seconds, rounds };
            context.unless_cancelled(bench::relay::run(asked, context.json)).await??;
        }
        What::Deliver { endpoint_url, rows, writes_per_s, lag_seconds } => {
            bench::relay::run_measured(&endpoint_url, rows, writes_per_s, lag_seconds).await?;
        }
        What::Reverse { rows, rounds } => {
            context.unless_cancelled(bench::reverse::run(rows, rounds, context.json)).await??
        }
        What::Units { calls } => context.unless_cancelled(bench::units::run(calls, context.json)).await??,
        What::Scale { rows, latency_ms, rounds } => {
            context.unless_cancelled(bench::scale::run(rows, latency_ms, rounds, context.json)).await??;
        }
    }
    Ok(Exit::Done)
}
