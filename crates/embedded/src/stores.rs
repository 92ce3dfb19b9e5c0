//! Both stores together: what a run without configuration stands on.

use std::time::{Duration, Instant};

use crate::{Dynamo, DynamoOptions, Error, Postgres, PostgresOptions};

/// Options with which both stores are started. The default is a cluster that is not durable and a DynamoDB in
/// memory.
#[derive(Debug, Clone, Default)]
pub struct StoresOptions {
    /// The source.
    pub postgres: PostgresOptions,
    /// The target.
    pub dynamo: DynamoOptions,
}

/// A running PostgreSQL and a running DynamoDB. Dropped, both go, as each of them says.
///
/// The fields are public so that a caller can take them apart, to keep one or to crash the other.
#[derive(Debug)]
pub struct Stores {
    /// The source.
    pub postgres: Postgres,
    /// The target.
    pub dynamo: Dynamo,
    /// Time until both answered.
    pub started_in: Duration,
}

impl Stores {
    /// Starts both stores at once and returns when both answer.
    ///
    /// # Errors
    ///
    /// The first error of either; the other store is removed again.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its end, whatever had come up is removed in the background.
    pub async fn start(options: StoresOptions) -> Result<Stores, Error> {
        let begun = Instant::now();
        let (postgres, dynamo) =
            tokio::try_join!(Postgres::start(options.postgres), Dynamo::start_with(options.dynamo))?;
        let started_in = begun.elapsed();
        tracing::debug!(started_in_ms = started_in.as_millis(), "both stores answer");
        Ok(Stores { postgres, dynamo, started_in })
    }

    /// Stops and removes both stores.
    ///
    /// # Errors
    ///
    /// The first error; the other store is stopped all the same.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its end, both stores are removed all the same, in the background.
    pub async fn stop(self) -> Result<(), Error> {
        let (postgres, dynamo) = tokio::join!(self.postgres.stop(), self.dynamo.stop());
        postgres.and(dynamo)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_stores_come_up_and_go() {
        let stores = Stores::start(StoresOptions::default()).await.expect("both start");
        let data_dir = stores.postgres.data_dir().to_owned();
        stores.stop().await.expect("both stop");
        assert!(!data_dir.exists());
    }
}
