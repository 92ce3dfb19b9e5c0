//! The shop, which writes and reads through its stores, and never asks for the phase.

use std::time::{Duration, Instant};

use chrono::Utc;
use lockstep::{Error, Kind, MigratableTable as _, Migration, Store};
use shop::{Customer, Customers, Event, Events, Level, Piece, Stock};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Writes that were acknowledged.
#[derive(Default)]
pub struct Written {
    pub calls: u64,
    pub events: Vec<Uuid>,
    pub customers: i64,
    pub pieces: i32,
}

#[derive(Clone, Copy, PartialEq)]
enum Told {
    Work,
    Pause,
    End,
}

/// The shop at work.
pub struct Shop {
    told: watch::Sender<Told>,
    paused: watch::Receiver<bool>,
    work: JoinHandle<Written>,
}

impl Shop {
    pub fn start(migration: &Migration) -> Self {
        let ((told, tells), (says, paused)) = (watch::channel(Told::Work), watch::channel(false));
        let stores = (migration.store(), migration.store(), migration.store());
        Self { told, paused, work: tokio::spawn(work(stores, tells, says)) }
    }

    /// Waits until the call under way has ended, and lets none begin.
    pub async fn pause(&mut self) {
        self.told.send(Told::Pause).expect("the shop is at work");
        self.paused.wait_for(|paused| *paused).await.expect("the shop is at work");
    }

    pub fn go_on(&self) {
        self.told.send(Told::Work).expect("the shop is at work");
    }

    pub async fn end(self) -> Written {
        self.told.send(Told::End).expect("the shop is at work");
        self.work.await.expect("every call ended as it should")
    }
}

/// Longest that the shop repeats a call whose lease was over: some leases, on a machine with no time to spare.
const FENCED_MAX: Duration = Duration::from_secs(60);

/// Time between two orders. One piece of stock changes with each: a key that is written without a rest is on its
/// way whenever it is looked at, and a comparison ends incomplete.
const BETWEEN_ORDERS: Duration = Duration::from_millis(50);

/// Makes a call, again while the lease of the shop is over, which it renews by itself. A call that was fenced
/// has done nothing.
async fn call<T, F>(what: &str, mut call: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, Error>>,
{
    let begun = Instant::now();
    loop {
        match call().await {
            Ok(done) => return done,
            Err(error) if error.kind == Kind::Fenced && begun.elapsed() < FENCED_MAX => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => panic!("{what}: {error}"),
        }
    }
}

type Stores = (Store<Customers>, Store<Stock>, Store<Events>);

async fn work(
    (customers, stock, events): Stores,
    mut tells: watch::Receiver<Told>,
    says: watch::Sender<bool>,
) -> Written {
    let mut written = Written::default();
    loop {
        let told = *tells.borrow_and_update();
        match told {
            Told::End => return written,
            Told::Pause => {
                says.send_replace(true);
                if tells.changed().await.is_err() {
                    return written;
                }
                says.send_replace(false);
                continue;
            }
            Told::Work => tokio::time::sleep(BETWEEN_ORDERS).await,
        }
        let n = written.calls;
        written.calls += 1;
        let event = Event {
            event_id: Uuid::from_u128(n.into()),
            customer_id: i64::try_from(n % 300).expect("small"),
            at: Utc::now(),
            body: format!("order {n}"),
            receipt: (!n.is_multiple_of(3)).then(|| n.to_be_bytes().to_vec()),
        };
        let key = Events::key(&event);
        call("put", || events.put(&event)).await;
        assert!(call("read", || events.get(&key)).await.is_some(), "its own write is read");
        if n.is_multiple_of(5) {
            call("deleted", || events.delete(event.event_id)).await;
            assert_eq!(call("read", || events.get(&key)).await, None, "a deleted row is gone");
        } else {
            written.events.push(event.event_id);
        }
        written.pieces = i32::try_from(n).expect("small");
        let piece = Piece { warehouse: "w#new".to_owned(), sku: "a#b".to_owned(), pieces: written.pieces };
        call("put", || stock.put(&piece)).await;
        if n.is_multiple_of(10) {
            let customer = Customer {
                customer_id: 0,
                email: format!("{n}@example.org"),
                country: "DE".to_owned(),
                level: if n.is_multiple_of(20) { Level::New } else { Level::Regular },
                since: Utc::now(),
            };
            call("inserted", || customers.insert(&customer)).await;
            written.customers += 1;
        }
    }
}
