//! An application's handle on both tables, and applications that die.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use lockstep::instance::InstanceOptions;
use lockstep::migration::{Migration, MigrationOptions, Tables};
use lockstep::store::{ReadOptions, WriteOptions};
use lockstep::sweeper::SweeperOptions;
use lockstep_integration_logs::IntegrationLogs;
use lockstep_payments::Payments;
use lockstep_postgres::{Source, SourceOptions};

use super::{LOGS, PAYMENTS, World};

/// A sweeper that sweeps once, when there is nothing yet: what a test leaves half-done stays so until the
/// test sweeps.
pub fn sweeping_never() -> SweeperOptions {
    SweeperOptions { every_ms: 3_600_000, age_ms_min: 3_600_000 }
}

impl World {
    /// An application that writes as `writes` says and never sweeps.
    pub fn app(&self, writes: WriteOptions) -> Migration {
        self.app_sweeping(writes, sweeping_never())
    }

    /// An application that writes and sweeps as told.
    pub fn app_sweeping(&self, writes: WriteOptions, sweeper: SweeperOptions) -> Migration {
        self.app_of(self.source.clone(), writes, sweeper)
    }

    /// An application with a pool of its own.
    pub fn app_of(&self, source: Source, writes: WriteOptions, sweeper: SweeperOptions) -> Migration {
        let tables = Tables::default()
            .add(IntegrationLogs::default(), LOGS, LOGS)
            .and_then(|tables| tables.add(Payments::default(), PAYMENTS, PAYMENTS))
            .expect("plain names");
        Migration::start(source, self.target.clone(), tables, writes, sweeper)
    }

    /// An application in a process of its own, as far as the product can tell: it connects by itself and is
    /// registered.
    pub async fn registered_app(
        &self,
        source: SourceOptions,
        writes: WriteOptions,
        reads: ReadOptions,
        lease: Duration,
    ) -> Migration {
        let options = self.app_options(source, lease).writes(writes).reads(reads).sweeper(sweeping_never());
        Migration::connect(options).await.expect("both stores are there")
    }

    /// Returns the options that [`World::registered_app`] connects with, with every other setting as it is by
    /// default.
    pub fn app_options(&self, source: SourceOptions, lease: Duration) -> MigrationOptions {
        MigrationOptions::new(source, self.target_options())
            .table(IntegrationLogs::default(), LOGS, LOGS)
            .and_then(|options| options.table(Payments::default(), PAYMENTS, PAYMENTS))
            .expect("plain names")
            .instance(InstanceOptions { name: "application under test".to_owned(), lease })
    }

    /// Open intents of strict writes.
    pub async fn intents(&self) -> i64 {
        self.value("SELECT count(*) FROM lockstep.intents").await
    }
}

/// A future that is dropped where it stands when it was polled a given number of times: a process that dies
/// between two steps, for each number another two. `None` says that it was.
pub struct CutShort<F> {
    future: Option<Pin<Box<F>>>,
    polls_left: usize,
}

impl<F: Future> CutShort<F> {
    /// `future`, but for its first `polls` polls only.
    pub fn after(polls: usize, future: F) -> Self {
        Self { future: Some(Box::pin(future)), polls_left: polls }
    }
}

impl<F: Future> Future for CutShort<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls_left == 0 {
            self.future = None;
            return Poll::Ready(None);
        }
        self.polls_left -= 1;
        let polled = self.future.as_mut().expect("not polled after its end").as_mut().poll(context).map(Some);
        if polled.is_pending() && self.polls_left == 0 {
            // Dropped where it waits, not when it is woken: what it waits for may then still happen, unseen.
            self.future = None;
            return Poll::Ready(None);
        }
        polled
    }
}
