//! Three applications that write without end, each its own rows, and hold every answer against what they were
//! told before.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lockstep::migration::Migration;
use lockstep::store::{ReadOptions, Store, WriteOptions};
use lockstep_core::{Kind, MigratableTable, Phase};
use lockstep_payments::{Payment, Payments};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{RwLock, RwLockWriteGuard};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::World;
use super::rows::payment_row;
use super::wait::eventually;

/// Applications.
const APPLICATIONS: i64 = 3;
/// Rows that each of them changes.
const ROWS: i64 = 12;
/// Ids of one application are so far from those of the next.
const FAR: i64 = 1_000_000;
/// Pause after each write, so that three of them leave a processor to what is tested.
const PAUSE: Duration = Duration::from_millis(2);

/// Applications that write until they are stopped.
pub struct Fleet {
    applications: Vec<(Migration, JoinHandle<()>)>,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

#[derive(Default)]
struct Shared {
    /// Held shared by each write, so that a test can have a moment without any.
    turn: RwLock<()>,
    /// State of each row by the last write that was acknowledged; `None` for a row that was deleted.
    rows: Mutex<BTreeMap<i64, Option<String>>>,
    wrong: Mutex<Vec<String>>,
    acknowledged: [AtomicU64; Phase::ALL.len()],
    unknown: AtomicU64,
}

impl Fleet {
    /// Starts them, each registered under a lease and with a pool of its own.
    pub async fn start(world: &World, lease: Duration) -> Self {
        let (shared, stop) = (Arc::<Shared>::default(), CancellationToken::new());
        let mut applications = Vec::new();
        for number in 1..=APPLICATIONS {
            let writes = WriteOptions { inline_timeout_ms: 3_000, ..WriteOptions::default() };
            let app =
                world.registered_app(world.source_options(), writes, ReadOptions::default(), lease).await;
            let writer = Writer {
                payments: app.store::<Payments>(),
                shared: Arc::clone(&shared),
                rng: StdRng::seed_from_u64(number as u64),
                ids: (0..ROWS).map(|n| number * FAR + n).collect(),
                next: number * FAR + ROWS,
                written: 0,
            };
            applications.push((app, tokio::spawn(writer.write_until(stop.clone()))));
        }
        Self { applications, shared, stop }
    }

    /// Writes that were acknowledged in a phase so far.
    pub fn acknowledged(&self, phase: Phase) -> u64 {
        self.shared.acknowledged[phase as usize].load(Ordering::Relaxed)
    }

    /// Writes whose outcome is unknown.
    pub fn unknown(&self) -> u64 {
        self.shared.unknown.load(Ordering::Relaxed)
    }

    /// Waits until `more` writes were acknowledged in a phase from now on.
    #[track_caller]
    pub fn until_acknowledged(&self, phase: Phase, more: u64) -> impl Future<Output = ()> + '_ {
        let enough = self.acknowledged(phase) + more;
        eventually("writes are acknowledged", move || async move {
            self.check();
            self.acknowledged(phase) >= enough
        })
    }

    /// A moment in which none of them writes; they go on when it is dropped.
    pub async fn at_rest(&self) -> RwLockWriteGuard<'_, ()> {
        let guard = self.shared.turn.write().await;
        self.check();
        guard
    }

    /// I7: every write that was acknowledged is in PostgreSQL. Called while no application writes.
    ///
    /// # Panics
    /// When one is not.
    pub async fn assert_in_source(&self, world: &World) {
        let sql = "SELECT payment_id, transaction_reference FROM payments";
        let found: Vec<(i64, Option<String>)> =
            sqlx::query_as(sql).fetch_all(world.strangers()).await.expect("rows");
        let found: BTreeMap<i64, Option<String>> = found.into_iter().collect();
        for (id, expected) in self.shared.rows.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let row = found.get(id).cloned().flatten();
            assert_eq!(&row, expected, "I7: payment {id} in PostgreSQL");
        }
    }

    /// Stops them.
    pub async fn stop(self) {
        self.stop.cancel();
        for (app, task) in self.applications {
            task.await.expect("a writer does not panic");
            app.shutdown().await;
        }
        check(&self.shared);
    }

    #[track_caller]
    fn check(&self) {
        check(&self.shared);
    }
}

#[track_caller]
fn check(shared: &Shared) {
    let wrong = shared.wrong.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

struct Writer {
    payments: Store<Payments>,
    shared: Arc<Shared>,
    rng: StdRng,
    ids: Vec<i64>,
    /// The id that takes the place of one whose state is unknown.
    next: i64,
    written: u64,
}

impl Writer {
    async fn write_until(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let shared = Arc::clone(&self.shared);
            let turn = shared.turn.read().await;
            self.one().await;
            drop(turn);
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn one(&mut self) {
        let at = self.rng.random_range(0..self.ids.len());
        let id = self.ids[at];
        let expected = self.known(id);
        let key = Payments::key(&row(id, ""));
        if let Ok(found) = self.payments.get(&key).await {
            let found = found.and_then(|row| row.transaction_reference);
            if found != expected {
                self.wrong(format!(
                    "I7: payment {id} was acknowledged as {expected:?} and reads as {found:?}"
                ));
            }
        }
        self.written += 1;
        let text = format!("{id}/{}", self.written);
        let (wrote, state) = match self.rng.random_range(0..5) {
            0 => (self.payments.delete(id).await, None),
            1 | 2 if expected.is_some() => {
                let set = text.clone();
                (
                    self.payments.update(id, move |row| row.transaction_reference = Some(set.clone())).await,
                    Some(text),
                )
            }
            _ => (self.payments.put(&row(id, &text)).await, Some(text)),
        };
        match wrote {
            Ok(outcome) => {
                self.shared.acknowledged[outcome.control.phase as usize].fetch_add(1, Ordering::Relaxed);
                self.shared.rows.lock().unwrap_or_else(PoisonError::into_inner).insert(id, state);
            }
            // No caller may be told either way (I8): no read looks at that row again.
            Err(error) if error.kind == Kind::Unknown => {
                self.shared.unknown.fetch_add(1, Ordering::Relaxed);
                self.shared.rows.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                self.ids[at] = self.next;
                self.next += 1;
            }
            // Nothing was written; the next look at this row holds it to that.
            Err(_) => {}
        }
    }

    fn known(&self, id: i64) -> Option<String> {
        self.shared.rows.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned().flatten()
    }

    fn wrong(&self, what: String) {
        self.shared.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }
}

fn row(id: i64, reference: &str) -> Payment {
    payment_row(id, 1 + id % 7, reference)
}
