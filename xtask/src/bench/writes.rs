//! `bench writes`: what the store handle costs a caller, beside the same work done bare, both in turn in one
//! run.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use lockstep::operation::Operation;
use lockstep_core::{MigratableTable, Phase};
use lockstep_embedded::{Dynamo, Postgres, PostgresOptions};
use lockstep_integration_logs::{IntegrationLogs, OperationLogs};
use serde::Serialize;

use super::machine::{self, Ticks, median_us};
use super::stage::Stage;

/// Calls before the measured ones: plans, caches and connections are warm then.
const WARM_UP: usize = 200;
/// Multiples of the same statements by hand that writes should not exceed (R56).
const BEST_EFFORT_GOAL: f64 = 1.10;
const STRICT_GOAL: f64 = 1.15;
const COORDINATED_GOAL: f64 = 1.25;

/// One kind of call and its twin.
#[derive(Debug, Serialize)]
pub struct Pair {
    /// Name of what was called.
    pub what: &'static str,
    /// Name of what the bare twin does.
    pub twin: &'static str,
    /// Median of the call, in microseconds.
    pub ours_us: f64,
    /// Median of its twin.
    pub bare_us: f64,
    /// The call as a multiple of its twin.
    pub ratio: f64,
    /// Ratio that it should not exceed; a goal, and no bound of a test.
    pub ratio_max: f64,
}

/// Everything measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Calls of each kind.
    pub calls: usize,
    /// Each kind of call and its twin.
    pub pairs: Vec<Pair>,
    /// Share of the processor time that the machine's host gave to others meanwhile, from 0 to 1, where the
    /// platform tells.
    pub stolen: Option<f64>,
}

/// Measures `calls` of each kind and prints what was seen, as text or as JSON.
///
/// # Errors
/// The stores'.
pub async fn run(calls: usize, json: bool) -> anyhow::Result<()> {
    let begun = Ticks::now();
    let postgres = Postgres::start(PostgresOptions::default()).await?;
    let dynamo = Dynamo::start().await?;
    let bench = Stage::prepare(postgres.url(), dynamo.endpoint_url()).await?;
    let mut pairs = vec![
        bench
            .insert(
                "put-free insert, PostgresOnly",
                "the same INSERT, captured",
                calls,
                BEST_EFFORT_GOAL,
                false,
            )
            .await?,
    ];
    bench.step(Phase::DualWrite).await?;
    pairs.push(
        bench
            .insert(
                "best-effort insert, DualWrite",
                "the same INSERT, captured, then PutItem",
                calls,
                BEST_EFFORT_GOAL,
                true,
            )
            .await?,
    );
    bench.step(Phase::HybridRead).await?;
    pairs.push(bench.strict(calls).await?);
    pairs.push(bench.coordinated(calls / 2).await?);
    // The writes of the bare twins are pending, and a target that far behind answers nothing.
    bench.deliver().await?;
    pairs.push(bench.get(calls * 2).await?);
    bench.migration.shutdown().await;
    if json {
        let report = Report { calls, pairs, stolen: machine::stolen_since(begun) };
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&pairs);
        machine::print(machine::stolen_since(begun));
    }
    dynamo.stop().await?;
    postgres.stop().await?;
    Ok(())
}

fn print(pairs: &[Pair]) {
    println!("calls of the store handle, medians, ratios of this one run");
    for Pair { what, twin, ours_us, bare_us, ratio, ratio_max } in pairs {
        println!(
            "  {what:<32} {ours_us:>7.0} µs   {ratio:>5.2} of {bare_us:>6.0} µs (at most {ratio_max:.2} is wanted)   bare: {twin}"
        );
    }
    println!(
        "The inline put is on the caller's path: a write returns when the target has it, or after the inline time-out."
    );
}

impl Stage {
    async fn insert(
        &self,
        what: &'static str,
        twin: &'static str,
        calls: usize,
        ratio_max: f64,
        with_put: bool,
    ) -> anyhow::Result<Pair> {
        let mut bare = self.bare().await?;
        let ours = async || Ok(self.logs.insert(&self.log).await.map(drop)?);
        let bare = async || {
            let row = bare.insert(&self.log).await?;
            if with_put { bare.put(&row).await } else { Ok(()) }
        };
        measure(what, twin, calls, ratio_max, ours, bare).await
    }

    async fn strict(&self, calls: usize) -> anyhow::Result<Pair> {
        let mut bare = self.bare().await?;
        let ours = async || Ok(self.logs.insert(&self.log).await.map(drop)?);
        let twin = "BEGIN, INSERT, a one-row commit beside it, PutItem, COMMIT";
        measure("strict insert, HybridRead", twin, calls, STRICT_GOAL, ours, async || {
            bare.insert_strictly(&self.log).await
        })
        .await
    }

    async fn coordinated(&self, calls: usize) -> anyhow::Result<Pair> {
        let mut bare = self.bare().await?;
        let sink = Arc::new(OperationLogs::of("bench"));
        let ours = async || {
            Operation::run(&self.migration, sink.clone(), "take payment", "bench", async |operation| {
                operation.insert(&self.payments, &self.payment).await.map(drop)
            })
            .await?;
            Ok(())
        };
        let twin = "INSERT and PutItem of the start; both INSERTs, a two-row commit beside them, TransactWriteItems, COMMIT";
        let bare = async || bare.operate(&self.log, &self.payment).await;
        measure("coordinated payment, HybridRead", twin, calls, COORDINATED_GOAL, ours, bare).await
    }

    async fn get(&self, calls: usize) -> anyhow::Result<Pair> {
        let bare = self.bare().await?;
        let row = self.logs.insert(&self.log).await?.row.context("the row")?;
        let key = IntegrationLogs::key(&row);
        let ours = async || {
            anyhow::ensure!(self.logs.get(&key).await?.is_some(), "the row is not there");
            Ok(())
        };
        measure("get, HybridRead", "GetItem, strongly consistent", calls, 1.1, ours, async || {
            bare.get(&key).await
        })
        .await
    }
}

/// Calls both in turn, so that whatever else the machine does meets both alike.
async fn measure(
    what: &'static str,
    twin: &'static str,
    calls: usize,
    ratio_max: f64,
    mut ours: impl AsyncFnMut() -> anyhow::Result<()>,
    mut bare: impl AsyncFnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Pair> {
    let (mut of_ours, mut of_bare) = (Vec::with_capacity(calls), Vec::with_capacity(calls));
    for call in 0..WARM_UP + calls {
        let begun = Instant::now();
        ours().await.with_context(|| what)?;
        let between = Instant::now();
        bare().await.with_context(|| twin)?;
        if call >= WARM_UP {
            of_ours.push(between - begun);
            of_bare.push(between.elapsed());
        }
    }
    let (ours_us, bare_us) = (median_us(of_ours), median_us(of_bare));
    Ok(Pair { what, twin, ours_us, bare_us, ratio: ours_us / bare_us, ratio_max })
}
