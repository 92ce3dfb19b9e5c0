//! Stores that this process starts, and takes away when it ends unless they are to be kept.

use anyhow::Context as _;
use lockstep_embedded::{DetachedDynamo, Dynamo, Postgres, PostgresOptions};

use super::Kept;
use crate::ui::{Ui, seconds};

/// A throw-away PostgreSQL and an embedded DynamoDB.
#[derive(Debug)]
pub(super) struct Embedded {
    postgres: Postgres,
    dynamo: EmbeddedDynamo,
}

#[derive(Debug)]
enum EmbeddedDynamo {
    /// Server in this process, and gone with it.
    Ours(Dynamo),
    /// Server in a process of its own, because it is to be kept.
    Detached(DetachedDynamo),
}

impl Embedded {
    /// Starts both. To be `kept`, DynamoDB runs in a process of its own.
    ///
    /// # Errors
    /// When one does not start; the other is gone then.
    pub(super) async fn start(keep: bool, ui: &Ui) -> anyhow::Result<Self> {
        ui.say("No stores are configured: starting a throw-away PostgreSQL and an embedded DynamoDB …");
        let begun = std::time::Instant::now();
        let dynamo = async {
            anyhow::Ok(if keep {
                let program = std::env::current_exe()
                    .context("looking for this program, to start the embedded DynamoDB")?;
                EmbeddedDynamo::Detached(DetachedDynamo::spawn(&program, ["dynamo-server"]).await?)
            } else {
                EmbeddedDynamo::Ours(Dynamo::start().await?)
            })
        };
        let (postgres, dynamo) = tokio::join!(Postgres::start(PostgresOptions::default()), dynamo);
        let (postgres, dynamo) = match (postgres, dynamo) {
            (Ok(postgres), Ok(dynamo)) => (postgres, dynamo),
            (Err(error), Ok(EmbeddedDynamo::Detached(dynamo))) => {
                // No other process would ever end it.
                dynamo.kill().await?;
                return Err(error.into());
            }
            (Err(error), _) => return Err(error.into()),
            (Ok(_), Err(error)) => return Err(error),
        };
        let embedded = Self { postgres, dynamo };
        ui.say(&format!(
            "  PostgreSQL on 127.0.0.1:{}, DynamoDB at {}, up in {}",
            embedded.postgres.port(),
            embedded.endpoint_url(),
            seconds(begun.elapsed().as_secs_f64())
        ));
        Ok(embedded)
    }

    pub(super) fn source_url(&self) -> &str {
        self.postgres.url()
    }

    pub(super) fn endpoint_url(&self) -> &str {
        match &self.dynamo {
            EmbeddedDynamo::Ours(dynamo) => dynamo.endpoint_url(),
            EmbeddedDynamo::Detached(dynamo) => dynamo.endpoint_url(),
        }
    }

    /// Removes or keeps them.
    ///
    /// # Errors
    /// When one does not end.
    pub(super) async fn close(self, keep: bool) -> anyhow::Result<Option<Kept>> {
        let Self { postgres, dynamo } = self;
        match (dynamo, keep) {
            (EmbeddedDynamo::Detached(dynamo), true) => {
                let endpoint_url = dynamo.endpoint_url().to_owned();
                let kept = postgres.keep().await?;
                let removal = format!("{}; kill {}", kept.removal, dynamo.pid());
                Ok(Some(Kept { source_url: kept.url, endpoint_url, removal }))
            }
            (EmbeddedDynamo::Detached(dynamo), false) => {
                let (postgres, dynamo) = tokio::join!(postgres.stop(), dynamo.kill());
                Ok(postgres.and(dynamo).map(|()| None)?)
            }
            (EmbeddedDynamo::Ours(dynamo), _) => {
                let (postgres, dynamo) = tokio::join!(postgres.stop(), dynamo.stop());
                Ok(postgres.and(dynamo).map(|()| None)?)
            }
        }
    }
}
