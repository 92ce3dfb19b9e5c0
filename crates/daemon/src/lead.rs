//! Leadership: of several daemons one leads, by a lock of PostgreSQL, and the others take over within
//! seconds.
//!
//! Both sides watch it. The leader asks every second whether its session is still there, and steps back when
//! it is not; PostgreSQL ends the session of a leader that says nothing. For the moment that both may take
//! themselves for the leader, nothing is lost: relays may run side by side, feeds have a lock of their own,
//! and so have steps.

use std::sync::Arc;
use std::time::Duration;

use lockstep_core::Kind;
use lockstep_postgres::{CoordinatorLock, Source};
use tokio_util::sync::CancellationToken;

use crate::part::Role;
use crate::shared::Shared;

const EVERY: Duration = Duration::from_secs(1);
/// A look that takes longer is as good as none: meanwhile another one may lead.
const LOOK_WITHIN: Duration = Duration::from_secs(4);
const TAKE_WITHIN: Duration = Duration::from_secs(10);
/// There is one lock in a database. 1. A migration is complete, and its daemon runs on. 2. Another begins. 3.
/// Its daemon would stand by for ever.
const ASIDE: &str = "its migration is complete, and another one has begun in this database";

/// Leads, or stands by, until `release` is cancelled; then the lock is given back.
pub(crate) async fn run(shared: Arc<Shared>, release: CancellationToken) {
    let source = &shared.migration.source;
    loop {
        if source.is_aside() {
            become_role(&shared, Role::Standby(ASIDE.to_owned()));
            if release.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
                return;
            }
            continue;
        }
        let taken =
            release.run_until_cancelled(tokio::time::timeout(TAKE_WITHIN, source.lock_leader())).await;
        let why = match taken {
            None => return,
            Some(Ok(Ok(lock))) => {
                tracing::info!("this daemon leads");
                become_role(&shared, Role::Leader);
                match hold(lock, source, &release).await {
                    None => return,
                    Some(why) => {
                        tracing::warn!("this daemon leads no more, and tries to again: {why}");
                        format!("its lock was lost: {why}")
                    }
                }
            }
            Some(Ok(Err(error))) if error.kind == Kind::Busy => "another daemon leads".to_owned(),
            Some(Ok(Err(error))) => format!("PostgreSQL cannot be asked who leads: {error}"),
            Some(Err(_)) => "PostgreSQL cannot be asked who leads: no answer within 10 s".to_owned(),
        };
        become_role(&shared, Role::Standby(why));
        if release.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            return;
        }
    }
}

/// Holds the lock until it is to be released, or is lost; then says why.
async fn hold(mut lock: CoordinatorLock, source: &Source, release: &CancellationToken) -> Option<String> {
    loop {
        if release.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            lock.release().await;
            return None;
        }
        if source.is_aside() {
            lock.release().await;
            return Some(ASIDE.to_owned());
        }
        match tokio::time::timeout(LOOK_WITHIN, lock.check()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Some(error.to_string()),
            Err(_) => return Some("PostgreSQL did not answer within 4 s".to_owned()),
        }
    }
}

fn become_role(shared: &Shared, role: Role) {
    shared.role.send_if_modified(|known| {
        let differs = *known != role;
        *known = role;
        differs
    });
}
