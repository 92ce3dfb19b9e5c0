//! A null target that this process serves, while another one is measured.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::null_target::{Captured, NullTarget, NullTotals};

/// A running null target; dropped, it stops by itself.
pub(super) struct Served {
    pub(super) url: String,
    pub(super) address: SocketAddr,
    pub(super) captured: Arc<Captured>,
    stop: oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<NullTotals>,
}

impl Served {
    /// Serves it on a free port.
    pub(super) async fn start(target: NullTarget) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind("127.0.0.1:0").await.context("opening a port for the null target")?;
        let address = listener.local_addr()?;
        let captured = target.captured();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(target.serve(listener, async move {
            // Dropping the sender stops it as well.
            let _ = stopped.await;
        }));
        Ok(Self { url: format!("http://{address}"), address, captured, stop, serving })
    }

    /// Cuts all connections and waits for that.
    ///
    /// # Errors
    /// When the target has panicked: what was measured with it is wrong.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        let _ = self.stop.send(());
        self.serving.await.context("the null target did not serve to its end").map(drop)
    }
}
