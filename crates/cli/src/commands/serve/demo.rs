//! `serve --demo`: stores of its own, filled, written to, and moved to DualWrite.

use lockstep_core::Phase;

use super::args::Args;
use crate::Context;
use crate::commands::migrate::live;
use crate::commands::seed;
use crate::demo::{Rows, Writers};
use crate::stores::Stores;
use crate::ui::Ui;

/// Seed of everything that is made up.
const SEED: u64 = 1;

/// Stores that live as long as the daemon, and who writes to them.
pub(super) struct Demo {
    pub(super) stores: Stores,
    live: Option<Box<dyn Writers>>,
}

impl Demo {
    pub(super) async fn start(context: &Context, args: &Args) -> anyhow::Result<Self> {
        if context.config.standing()? == crate::config::Standing::Configured {
            return Err(crate::exit::Failure::usage(
                "--demo runs on stores of its own, and stores are configured: run `serve` without --demo, or without that \
                 configuration",
            ));
        }
        let ui = &context.ui;
        ui.say("Starting a throw-away PostgreSQL and an embedded DynamoDB …");
        let stores = context.unless_cancelled(Stores::open(context, false, &Ui::stderr(true))).await??;
        match Self::prepare(context, &stores, args).await {
            Ok(live) => Ok(Self { stores, live }),
            Err(error) => {
                stores.close(false).await?;
                Err(error)
            }
        }
    }

    async fn prepare(
        context: &Context,
        stores: &Stores,
        args: &Args,
    ) -> anyhow::Result<Option<Box<dyn Writers>>> {
        let ui = &context.ui;
        seed::fill(context, &stores.source, Rows { logs: args.logs, payments: args.logs / 5, seed: SEED })
            .await?;
        let live = live::start(context, stores, args.live_writes, SEED)?;
        let coordinator = context.stepping_coordinator(stores).await?;
        ui.say("Copying the initial load while writers go on, then stepping to DualWrite …");
        let moved = async {
            context.unless_cancelled(coordinator.prepare(&())).await??;
            coordinator.backfill(&context.cancel).await?;
            context.step(&coordinator, Phase::DualWrite, None, &(), &context.cancel).await
        };
        let moved = moved.await;
        coordinator.close().await;
        moved.map(|_| live)
    }

    /// Stops the writers, and removes the stores.
    pub(super) async fn end(self, context: &Context) -> anyhow::Result<()> {
        if let Some(live) = self.live {
            live.stop().await?;
        }
        self.stores.close(false).await?;
        context.ui.say("The throw-away stores are gone.");
        Ok(())
    }
}
