//! Hears of phase changes. A message is never believed: it only makes the keeper ask at once.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio_util::sync::CancellationToken;

use lockstep_postgres::make_own_session;
use lockstep_postgres::phase_channel;

use super::keeper::Wake;

/// Pause before listening is tried again; meanwhile the keeper polls.
const RETRY: Duration = Duration::from_secs(1);
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Wakes the keeper at each notification, until told to close.
pub(super) async fn listen(connect: PgConnectOptions, wake: Arc<Wake>, closing: CancellationToken) {
    let listening = async {
        loop {
            if let Err(error) = listen_once(&connect, &wake).await {
                tracing::debug!("not listening for phase changes: {error}");
            }
            tokio::time::sleep(RETRY).await;
        }
    };
    // Nothing is half-done when this is dropped: the connection goes, and PostgreSQL forgets the listener.
    closing.run_until_cancelled(listening).await;
}

async fn listen_once(connect: &PgConnectOptions, wake: &Wake) -> Result<(), sqlx::Error> {
    // The driver's listener wants a pool to reconnect from; one of its own, or it would keep one of the
    // application's.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .acquire_timeout(CONNECT_TIMEOUT)
        .after_connect(|connection, _| Box::pin(make_own_session(connection)))
        .connect_lazy_with(connect.clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(&phase_channel()).await?;
    loop {
        // At first and after each reconnection as well: notifications sent meanwhile are lost.
        wake.told.notify_one();
        listener.try_recv().await?;
    }
}
