//! Writers while rows are moved: strangers with raw SQL, and an application with store handles.

use std::num::NonZeroU32;

use async_trait::async_trait;
use lockstep_integration_logs::IntegrationLogs;
use lockstep_payments::Payments;
use lockstep_sample::store_writers::{Application, StoreCounts};
use lockstep_sample::writers::{Counts, WriterOptions, write_until};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::fill::connection;
use crate::Context;
use crate::demo::Writers;
use crate::report::LiveWrites;
use crate::stores::Stores;

/// Raw writers that share their half of the rate. More than one, so that they meet on the same rows.
const RAW_WRITERS: u32 = 2;

/// Writers at work. Dropped, the raw ones are aborted and the application stops after its operation.
#[derive(Debug)]
pub(super) struct Live {
    stop: CancellationToken,
    raw: JoinSet<Counts>,
    application: Option<JoinHandle<StoreCounts>>,
}

impl Live {
    /// Starts writers that together do `per_second` operations, half of them raw.
    ///
    /// # Errors
    /// Where the tables are not bound as the sample needs them.
    pub(super) fn start(
        context: &Context,
        stores: &Stores,
        per_second: u32,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let (stop, mut raw) = (CancellationToken::new(), JoinSet::new());
        let for_raw = per_second.div_ceil(2);
        for (writer, share) in (1_u64..).zip(shares(for_raw)) {
            let options = WriterOptions { seed: seed.wrapping_add(writer), per_second: share };
            raw.spawn(write_until(connection(&stores.source), options, stop.child_token()));
        }
        let application = match NonZeroU32::new(per_second - for_raw) {
            Some(share) => {
                let options = WriterOptions { seed, per_second: share };
                Some(tokio::spawn(application(context, stores)?.write_until(options, stop.child_token())))
            }
            None => None,
        };
        Ok(Self { stop, raw, application })
    }
}

#[async_trait]
impl Writers for Live {
    async fn stop(mut self: Box<Self>) -> anyhow::Result<LiveWrites> {
        self.stop.cancel();
        let mut counts = Counts::default();
        while let Some(writer) = self.raw.join_next().await {
            counts.merge(writer?);
        }
        let (mut applied, mut deferred) = (0, 0);
        if let Some(application) = self.application.take() {
            let store = application.await?;
            (applied, deferred) = (store.applied, store.deferred);
            counts.merge(store.operations);
        }
        let total = counts.total();
        if let Some(refusal) = &counts.last_refusal {
            tracing::warn!("a live write was refused: {refusal}");
        }
        Ok(LiveWrites {
            done: total.done,
            rows: counts.rows,
            unknown: total.unknown,
            failed: total.given_up + total.refused,
            slowest_ms: u64::try_from(counts.slowest.as_millis()).unwrap_or(u64::MAX),
            applied,
            deferred,
        })
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn shares(rate: u32) -> impl Iterator<Item = NonZeroU32> {
    // The first takes what does not divide.
    let share = move |writer| rate / RAW_WRITERS + if writer == 0 { rate % RAW_WRITERS } else { 0 };
    (0..RAW_WRITERS).map(share).filter_map(NonZeroU32::new)
}

fn application(context: &Context, stores: &Stores) -> anyhow::Result<Application> {
    let (config, writer) = (&context.config, context.writer(stores));
    let prefix = &config.target.table_prefix;
    let logs = config.tables.store::<IntegrationLogs>(&writer, prefix)?;
    let payments = config.tables.store::<Payments>(&writer, prefix)?;
    let (Some(logs), Some(payments)) = (logs, payments) else {
        anyhow::bail!("live writers need the logs and the payments, and this program does not know them");
    };
    logs.reads().configure(&config.reads);
    payments.reads().configure(&config.reads);
    Ok(Application::new(&stores.source, logs, payments))
}
