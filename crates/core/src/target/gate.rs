//! A request that is made and signed while it may not leave yet.
//!
//! A strict write puts only when its intent is durable (I9). Making and signing the request takes as long as writing the
//! intent does, and needs nothing of it; so both go on at once, and the request waits here, with everything done but the
//! sending.

use std::fmt;
use std::sync::Arc;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use tokio::sync::Semaphore;

tokio::task_local! {
    static GATE: Gate;
}

/// What requests wait at, closed until it is opened. One that is dropped closed lets nothing out for ever.
#[derive(Clone)]
pub(crate) struct Gate {
    opened: Arc<Semaphore>,
}

impl Gate {
    /// A closed one.
    pub(crate) fn closed() -> Self {
        Self { opened: Arc::new(Semaphore::new(0)) }
    }

    /// Lets everything out that waits, and whatever comes.
    pub(crate) fn open(&self) {
        self.opened.add_permits(1);
    }

    /// Runs `sending`, none of whose requests leaves before the gate is open.
    pub(crate) async fn before<F: Future>(&self, sending: F) -> F::Output {
        GATE.scope(self.clone(), sending).await
    }

    async fn passed(&self) -> Result<(), ConnectorError> {
        // A permit given back lets the next one through as well.
        self.opened.acquire().await.map(drop).map_err(|closed| ConnectorError::user(closed.into()))
    }
}

/// An HTTP client whose requests wait at the gate of the task that makes them, if it has one.
#[derive(Debug)]
pub(super) struct Gated(pub(super) SharedHttpClient);

impl HttpClient for Gated {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let connector = self.0.http_connector(settings, components);
        match GATE.try_with(Gate::clone) {
            Ok(gate) => SharedHttpConnector::new(AtGate { connector, gate }),
            Err(_) => connector,
        }
    }
}

struct AtGate {
    connector: SharedHttpConnector,
    gate: Gate,
}

impl HttpConnector for AtGate {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (connector, gate) = (self.connector.clone(), self.gate.clone());
        HttpConnectorFuture::new(async move {
            gate.passed().await?;
            connector.call(request).await
        })
    }
}

impl fmt::Debug for AtGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtGate").finish_non_exhaustive()
    }
}
