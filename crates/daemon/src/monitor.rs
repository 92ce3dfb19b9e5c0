//! Telling of what is wrong: each alert once when it is raised, and once when it is over.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::alerts::{Alert, Severity};
use crate::shared::{PartState, Role, Shared};

/// Tells of alerts until the daemon ends. Only the leader does.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut snapshots = shared.snapshot.subscribe();
    let mut raised: BTreeMap<&'static str, Alert> = BTreeMap::new();
    loop {
        if shared.stop.run_until_cancelled(snapshots.changed()).await.is_none_or(|changed| changed.is_err()) {
            return;
        }
        let role = shared.role.borrow().clone();
        if let Role::Standby(why) = role {
            shared.note("monitor", PartState::Standby, Some(why));
            // The leader tells. What is still wrong when this one leads is told then.
            raised.clear();
            continue;
        }
        shared.note("monitor", PartState::Running, None);
        let now: Vec<Alert> = snapshots.borrow_and_update().alerts.clone();
        for alert in &now {
            let worse = raised.get(alert.name).is_none_or(|known| known.severity < alert.severity);
            if worse {
                match alert.severity {
                    Severity::Warning => tracing::warn!(alert = alert.name, "{}", alert.message),
                    Severity::Critical => tracing::error!(alert = alert.name, "{}", alert.message),
                }
            }
        }
        for (name, over) in &raised {
            if !now.iter().any(|alert| alert.name == *name) {
                tracing::warn!(alert = name, "over, since {} no more: {}", over.since.format("%H:%M:%S UTC"), over.message);
            }
        }
        raised = now.into_iter().map(|alert| (alert.name, alert)).collect();
    }
}
