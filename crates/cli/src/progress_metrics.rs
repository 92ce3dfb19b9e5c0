//! Metrics of a command that runs for hours, served while it runs (R47).

use std::net::SocketAddr;

use lockstep_daemon::serve_metrics;
use metrics::{counter, gauge};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::exit::Failure;
use crate::ui::Ui;

/// Serves `/metrics` at `address` until what is returned is dropped: the requests of this process to both
/// stores, and what its boards count.
///
/// # Errors
/// For an address that other machines reach, as no token is asked for, and one that is taken.
pub(crate) async fn serve(address: SocketAddr, ui: &Ui) -> anyhow::Result<AbortOnDropHandle<()>> {
    if !address.ip().is_loopback() {
        return Err(Failure::usage(format!(
            "--metrics-listen {address}: metrics are served without a token, so only to this machine: write \
             127.0.0.1:{}",
            address.port()
        )));
    }
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| Failure::usage(format!("--metrics-listen {address} cannot be had: {error}")))?;
    ui.say(&format!("Metrics: http://{}/metrics", listener.local_addr()?));
    let boards = ui.clone();
    Ok(AbortOnDropHandle::new(tokio::spawn(serve_metrics(listener, move || count(&boards)))))
}

/// Sets what each board that is open counts at the moment. What one that was closed had counted stays.
fn count(ui: &Ui) {
    for (work, samples) in ui.counted() {
        for sample in samples {
            let labels = [("work", work.clone()), ("table", sample.name)];
            counter!("lockstep_work_done_total", &labels).absolute(sample.done.now);
            if sample.done.end > 0 {
                gauge!("lockstep_work_expected", &labels).set(sample.done.end as f64);
            }
            if let Some(bytes) = sample.bytes {
                counter!("lockstep_work_read_bytes_total", &labels).absolute(bytes);
            }
            if let Some(units) = sample.capacity_units {
                counter!("lockstep_work_write_units_total", &labels).absolute(units);
            }
            if let Some(items) = sample.items {
                counter!("lockstep_work_items_total", &labels).absolute(items);
            }
            if let Some((keys, oldest_ms)) = sample.lag {
                gauge!("lockstep_work_pending_keys", &labels).set(keys as f64);
                gauge!("lockstep_work_pending_oldest_seconds", &labels).set(oldest_ms as f64 / 1_000.0);
            }
        }
    }
}
