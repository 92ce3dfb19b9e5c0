//! `bench units`: write units of each operation in each phase, beside a plain put of the same item into the
//! same table.
//!
//! Units are the price that users pay. The endpoint counts them, of every request of every part; see
//! `counting`.

mod counting;
mod plain;

use std::sync::Arc;

use anyhow::Context;
use lockstep::operation::Operation;
use lockstep::store::Store;
use lockstep_core::{MigratableTable, Phase};
use lockstep_embedded::{Dynamo, Postgres, PostgresOptions};
use lockstep_integration_logs::{IntegrationLogs, OperationLogs};
use lockstep_payments::Payments;
use serde::Serialize;

use super::stage::Stage;
use counting::{Proxy, Units};
use plain::Plain;

/// One operation in one phase.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// Phase of the measurement.
    pub phase: Phase,
    /// Operation that was called.
    pub operation: String,
    /// Number of calls.
    pub calls: usize,
    /// Write units of one call, all tables together, on average.
    pub write_units_per_call: f64,
    /// The same by table.
    pub write_units_per_call_by_table: Units,
    /// Writes that the endpoint refused, of all calls; what they consumed it does not say.
    pub refused_writes: u64,
    /// Write units of doing the same plainly: a put, or for a delete a delete.
    pub plain_write_units: f64,
    /// The one as a multiple of the other.
    pub ratio: f64,
    /// Ratio that it should not exceed.
    pub ratio_max: f64,
}

/// Everything measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Calls of each kind.
    pub calls: usize,
    /// Each operation in each phase.
    pub costs: Vec<Cost>,
}

/// Counts `calls` of each kind and prints what was seen, as text or as JSON.
///
/// # Errors
/// The stores'.
pub async fn run(calls: usize, json: bool) -> anyhow::Result<()> {
    let postgres = Postgres::start(PostgresOptions::default()).await?;
    let dynamo = Dynamo::start().await?;
    let proxy = Proxy::start(([127, 0, 0, 1], dynamo.port()).into())
        .await
        .context("opening a port for the counting proxy")?;
    let stage = Stage::prepare(postgres.url(), &proxy.url).await?;
    let plain = Plain::new(&proxy, dynamo.endpoint_url()).await;
    let counting = Counting { stage, proxy, plain, calls: calls.max(1) };
    let mut costs = Vec::new();
    for phase in [Phase::DualWrite, Phase::HybridRead, Phase::DynamoOnly] {
        eprintln!("counting in {phase:?}");
        counting.stage.step(phase).await?;
        costs.extend(counting.phase(phase).await.with_context(|| format!("counting in {phase:?}"))?);
    }
    counting.stage.migration.shutdown().await;
    let report = Report { calls: counting.calls, costs };
    match json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => print(&report),
    }
    dynamo.stop().await?;
    postgres.stop().await?;
    Ok(())
}

struct Counting {
    stage: Stage,
    proxy: Proxy,
    plain: Plain,
    calls: usize,
}

impl Counting {
    async fn phase(&self, phase: Phase) -> anyhow::Result<Vec<Cost>> {
        let Stage { logs, payments, log, payment, .. } = &self.stage;
        let mut costs = self
            .table(
                phase,
                &IntegrationLogs::default(),
                logs,
                log,
                |log| log.log_id,
                |log| log.processing_time_ms = Some(77_777),
            )
            .await?;
        let change = |payment: &mut lockstep_payments::Payment| {
            payment.transaction_reference = Some("BENCH-REFERENCE".to_owned())
        };
        costs.extend(
            self.table(phase, &Payments::default(), payments, payment, |payment| payment.payment_id, change)
                .await?,
        );
        let payment = costs.iter().find(|cost| cost.operation == "insert payments");
        let plain_of_payment = payment.context("payments were inserted")?.plain_write_units;
        costs.push(self.coordinated(phase, plain_of_payment).await?);
        Ok(costs)
    }

    /// Inserts, updates and deletes as many rows of one table.
    async fn table<T: MigratableTable>(
        &self,
        phase: Phase,
        table: &T,
        store: &Store<T>,
        row: &T::Row,
        id: impl Fn(&T::Row) -> i64,
        change: impl Fn(&mut T::Row),
    ) -> anyhow::Result<Vec<Cost>> {
        let places = |rows: &[T::Row]| {
            let place = |row: &T::Row| Ok(table.target_key(&T::key(row))?.to_attributes());
            rows.iter().map(place).collect::<anyhow::Result<Vec<_>>>()
        };
        let mut rows = Vec::with_capacity(self.calls);
        self.begin().await?;
        for _ in 0..self.calls {
            let outcome = store.insert(row).await?;
            anyhow::ensure!(
                outcome.control.phase == phase,
                "the call was made in {:?}",
                outcome.control.phase
            );
            rows.push(outcome.row.context("the row that was inserted")?);
        }
        let inserted = self.counted().await?;
        let places = places(&rows)?;
        let of_put = self.plain.inserts(T::NAME, &places).await?;

        let before = self.plain.items(T::NAME, &places).await?;
        self.begin().await?;
        for row in &rows {
            anyhow::ensure!(store.update(id(row), &change).await?.found, "a row to be updated is gone");
        }
        let updated = self.counted().await?;
        let of_update =
            self.plain.updates(T::NAME, &before, &self.plain.items(T::NAME, &places).await?).await?;

        let before = self.plain.items(T::NAME, &places).await?;
        self.begin().await?;
        for row in &rows {
            anyhow::ensure!(store.delete(id(row)).await?.found, "a row to be deleted is gone");
        }
        let deleted = self.counted().await?;
        let of_delete = self.plain.deletes(T::NAME, &before, &places).await?;
        let cost =
            |what: &str, counted, plain| self.cost(phase, format!("{what} {}", T::NAME), counted, plain);
        Ok(vec![
            cost("insert", inserted, of_put),
            cost("update", updated, of_update),
            cost("delete", deleted, of_delete),
        ])
    }

    /// A payment together with the logs of its start and its end.
    async fn coordinated(&self, phase: Phase, plain_of_payment: f64) -> anyhow::Result<Cost> {
        let correlation = format!("bench-units-{phase:?}");
        let sink = Arc::new(OperationLogs::of("bench"));
        self.begin().await?;
        for _ in 0..self.calls {
            Operation::run(
                &self.stage.migration,
                sink.clone(),
                "take payment",
                &correlation,
                async |operation| operation.insert(&self.stage.payments, &self.stage.payment).await.map(drop),
            )
            .await?;
        }
        let counted = self.counted().await?;
        // The logs of an operation are in other indexes than the logs above, so theirs is a cost of its own.
        let logs = self.plain.inserts_of(IntegrationLogs::NAME, &correlation).await? / self.calls as f64;
        let plain = plain_of_payment + logs;
        Ok(self.cost(phase, "coordinated payment and two logs".to_owned(), counted, plain))
    }

    /// Begins to count: from here on what is consumed is the calls'.
    async fn begin(&self) -> anyhow::Result<()> {
        self.stage.deliver().await?;
        self.proxy.counted.take();
        Ok(())
    }

    /// Returns what the calls consumed, and what delivering the rest of them did.
    async fn counted(&self) -> anyhow::Result<(Units, u64)> {
        self.stage.deliver().await?;
        Ok(self.proxy.counted.take())
    }

    fn cost(
        &self,
        phase: Phase,
        operation: String,
        (units, refused_writes): (Units, u64),
        plain: f64,
    ) -> Cost {
        let calls = self.calls;
        let by_table: Units = units.into_iter().map(|(table, units)| (table, units / calls as f64)).collect();
        let write_units_per_call: f64 = by_table.values().sum();
        let ratio_max = match phase {
            Phase::DynamoOnly => 2.5,
            // A transaction counts twice.
            Phase::HybridRead => 2.0,
            _ if operation.starts_with("coordinated") => 2.0,
            _ => 1.0,
        };
        Cost {
            phase,
            operation,
            calls,
            write_units_per_call,
            write_units_per_call_by_table: by_table,
            refused_writes,
            plain_write_units: plain,
            ratio: write_units_per_call / plain,
            ratio_max,
        }
    }
}

fn print(report: &Report) {
    println!(
        "write units of a call, counted by the endpoint, beside a plain put of the same item ({} calls each)",
        report.calls
    );
    for cost in &report.costs {
        println!(
            "  {:<11} {:<34} {:>6.2} units   {:>5.2} x of {:>5.2} (at most {:.1})   {} refused",
            format!("{:?}", cost.phase),
            cost.operation,
            cost.write_units_per_call,
            cost.ratio,
            cost.plain_write_units,
            cost.ratio_max,
            cost.refused_writes
        );
    }
}
