//! Ctrl-C and SIGTERM: the first one asks everything to stop, the second one ends the process at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;
use crate::ui::Ui;

/// Listens for signals from now on; the token is cancelled by the first one.
///
/// # Errors
/// When the system takes no signal handlers.
pub fn listen(ui: &Ui) -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let (cancel, ui) = (token.clone(), ui.clone());
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::spawn(async move {
        received(&mut interrupt, &mut terminate).await;
        ui.say("Stopping: what is in flight is finished and recorded. Ctrl-C again ends at once.");
        cancel.cancel();
        received(&mut interrupt, &mut terminate).await;
        // Nothing is lost by this: whatever was not recorded is done again by the next run.
        std::process::exit(Exit::Interrupted as i32);
    });
    Ok(token)
}

async fn received(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
