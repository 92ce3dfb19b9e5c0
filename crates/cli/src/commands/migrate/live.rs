//! Who writes while rows are moved: strangers with raw SQL, and an application with store handles.

use std::num::NonZeroU32;

use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::Context;
use crate::commands::seed::connection;
use crate::exit::Failure;
use crate::probes::handles::{Handle, handle};
use crate::report::LiveWrites;
use crate::stores::Stores;
use lockstep_sample::store_writers::{Application, StoreCounts};
use lockstep_sample::writers::{Counts, WriterOptions, write_until};

/// Raw writers that share their half of the rate. More than one, so that they meet on the same rows.
const RAW_WRITERS: u32 = 2;

/// Writers at work. Dropped, the raw ones are aborted and the application stops after its operation.
#[derive(Debug)]
pub(in crate::commands) struct Live {
    stop: CancellationToken,
    raw: JoinSet<Counts>,
    application: Option<JoinHandle<StoreCounts>>,
}

impl Live {
    /// Starts writers that together do `per_second` operations, half of them raw; none for 0.
    ///
    /// # Errors
    /// Where the tables are not bound as the sample needs them.
    pub(in crate::commands) fn start(
        context: &Context,
        stores: &Stores,
        per_second: u32,
        seed: u64,
    ) -> anyhow::Result<Option<Self>> {
        if per_second == 0 {
            return Ok(None);
        }
        if !context.config.declared.is_empty() {
            return Err(Failure::usage(
                "live writers know the sample's tables only: leave --live-writes out, and let your own applications write",
            ));
        }
        let (stop, mut raw) = (CancellationToken::new(), JoinSet::new());
        let for_raw = per_second.div_ceil(2);
        for (writer, share) in (1_u64..).zip(shares(for_raw)) {
            let options = WriterOptions { seed: seed.wrapping_add(writer), per_second: share };
            raw.spawn(write_until(connection(&stores.source), options, stop.clone()));
        }
        let application = match NonZeroU32::new(per_second - for_raw) {
            Some(share) => {
                let options = WriterOptions { seed, per_second: share };
                Some(tokio::spawn(application(context, stores)?.write_until(options, stop.clone())))
            }
            None => None,
        };
        Ok(Some(Self { stop, raw, application }))
    }

    /// Stops them, each after the operation under way, and says what they did.
    pub(in crate::commands) async fn stop(mut self) -> anyhow::Result<LiveWrites> {
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
    let (mut logs, mut payments) = (None, None);
    for binding in context.tables()? {
        let handle = handle(&config.tables, &binding, &writer);
        handle.iter().for_each(|handle| handle.configure_reads(&config.reads));
        match handle {
            Some(Handle::Logs(store)) => logs = Some(store),
            Some(Handle::Payments(store)) => payments = Some(store),
            None => {}
        }
    }
    match (logs, payments) {
        (Some(logs), Some(payments)) => Ok(Application::new(&stores.source, logs, payments)),
        _ => Err(anyhow::anyhow!(
            "live writers need the logs and the payments, which registry.rs does not list"
        )),
    }
}
