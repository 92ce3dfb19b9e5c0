//! An endpoint that cannot be routed to: nothing refuses the connection, and nothing takes it.

use std::time::{Duration, Instant};

use lockstep_coordinator::{MigrationContext, Progress, RelayUntil, relay};
use lockstep_core::MigratableTable;
use lockstep_core::{Kind, Phase};
use lockstep_dynamo::{Target, TargetOptions};
use lockstep_payments::Payments;
use lockstep_tests::World;
use lockstep_tests::world::rows::{logs, payment_row, payments};
use lockstep_tests::world::{LOGS, PAYMENTS, eventually, within};
use lockstep_validator::CancellationToken;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const CONNECT: Duration = Duration::from_millis(300);

/// An address of this machine at which packets are dropped, as a firewall drops them: the queue of
/// connections that wait to be accepted is full.
struct Blackhole {
    listener: TcpListener,
    endpoint: String,
    queued: Vec<TcpStream>,
}

impl Blackhole {
    async fn open() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        let listener = socket.listen(1).expect("it listens");
        let address = listener.local_addr().expect("an address");
        let mut queued = Vec::new();
        while let Ok(connected) = tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
            queued.push(connected.expect("nothing refuses it"));
            assert!(queued.len() < 100, "the queue of this system has no end");
        }
        Self { listener, endpoint: format!("http://{address}"), queued }
    }

    /// There is a route again, to the emulator.
    fn lead_to(self, place: String) {
        drop(self.queued);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = self.listener.accept().await {
                let place = place.clone();
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(place).await.expect("the emulator");
                    // Either end is how a connection ends.
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
    }
}

/// 1. A security group, or a route table, loses its entry. 2. Nothing answers, and nothing refuses. 3. Each
/// request ends with the time of a connection, long before that of an answer, and is known to have done
/// nothing. 4. What runs for weeks waits, says for what, and goes on when there is a route again.
#[tokio::test]
async fn an_endpoint_that_drops_every_packet_is_an_outage_that_is_named_and_is_waited_out() {
    let world = World::start().await;
    world.sql(&format!("{}; {}", logs(1, 20), payments(1, 5))).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    world.relay_until_empty().await;
    world.sql("UPDATE payments SET currency = 'CHF'").await;
    let blackhole = Blackhole::open().await;
    let target = Target::connect(TargetOptions {
        endpoint_url: Some(blackhole.endpoint.clone()),
        connect_timeout: CONNECT,
        request_timeout: Duration::from_secs(20),
        ..world.target_options()
    })
    .await;

    let key = Payments::default().target_key(&Payments::key(&payment_row(1, 1, ""))).expect("a key");
    let begun = Instant::now();
    let read = target.get(PAYMENTS, &key).await.expect_err("there is no route");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?} for one connection", begun.elapsed());
    assert_eq!(read.kind, Kind::Unavailable, "{read}: nothing was sent");
    assert!(read.to_string().contains(&blackhole.endpoint), "{read}");

    let migration = MigrationContext { target, ..world.migration() };
    let (progress, cancel) = (Progress::new(&migration.tables), CancellationToken::new());
    let relaying = relay(&migration, RelayUntil::Cancelled, &progress, &cancel);
    let (relayed, ()) = tokio::join!(relaying, async {
        eventually("the relay says what it waits for", || async {
            let tables = progress.tables.iter().filter_map(|table| table.held_back_by());
            tables.into_iter().any(|why| why.contains(&blackhole.endpoint))
        })
        .await;
        assert_eq!(world.pending(PAYMENTS).await.len(), 5);
        let place = world.plain_target.address().trim_start_matches("http://").to_owned();
        blackhole.lead_to(place);
        eventually("the relay goes on", || async { world.pending(PAYMENTS).await.is_empty() }).await;
        cancel.cancel();
    });
    relayed.expect("an outage ends no relay");
    assert!(world.pending(LOGS).await.is_empty());
    within(Duration::from_secs(60), world.assert_converged()).await;
}
