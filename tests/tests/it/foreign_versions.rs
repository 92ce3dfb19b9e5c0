//! Versions that another program chose, of epochs that never began: no command may be left without a way on
//! by them, and what such items say is kept.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use lockstep_coordinator::FeedUntil;
use lockstep_core::{
    Attributes, Epoch, Kind, MigratableTable, Phase, TargetKey, VERSION_ATTRIBUTE, Version, is_tombstone,
    version_of,
};
use lockstep_payments::{Payment, PaymentKey, Payments};
use lockstep_tests::World;
use lockstep_tests::world::rows::{payment_row, payments};
use lockstep_tests::world::{PAYMENTS, eventually};
use tokio_util::sync::CancellationToken;

use crate::process::{command, ended};

const LEASE: Duration = Duration::from_secs(10);
/// Value that the other program writes; it is no command's to print.
const ANOTHERS: &str = "XQZ";

/// Both stores with some payments, after every step, so the streams are on.
async fn in_dynamo_only() -> World {
    let world = World::start().await;
    world.sql(&payments(1, 9)).await;
    world.migrated_to(Phase::DynamoOnly).await.close().await;
    world
}

/// The item of a payment, as it is.
async fn item(world: &World, payment_id: i64) -> Attributes {
    let number = AttributeValue::N(payment_id.to_string());
    let of_it = world.items(PAYMENTS).await.into_iter().find(|item| item.get("payment_id") == Some(&number));
    of_it.expect("it is there")
}

/// Writes as another program does: a status and a version, or none, over whatever is there.
async fn write(world: &World, payment_id: i64, version: Option<AttributeValue>) {
    let key = TargetKey::of(&item(world, payment_id).await).expect("a key").to_attributes();
    let update = world.plain_target.client().update_item().table_name(PAYMENTS).set_key(Some(key));
    let update = update
        .expression_attribute_names("#s", "currency")
        .expression_attribute_names("#v", VERSION_ATTRIBUTE)
        .expression_attribute_values(":s", AttributeValue::S(ANOTHERS.to_owned()));
    let update = match version {
        Some(version) => {
            update.update_expression("SET #s = :s, #v = :v").expression_attribute_values(":v", version)
        }
        None => update.update_expression("SET #s = :s REMOVE #v"),
    };
    update.send().await.expect("nothing keeps it from writing");
}

fn number(version: Version) -> Option<AttributeValue> {
    Some(AttributeValue::N(version.0.to_string()))
}

fn never() -> Version {
    Version(Epoch(99).floor() + 1)
}

/// The exit code of a command, and everything that it says.
async fn said(world: &World, arguments: &[&str]) -> (Option<i32>, String) {
    let output = ended(command(world, arguments)).await;
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(!text.contains(ANOTHERS), "{arguments:?} prints what rows hold: {text}");
    (output.status.code(), text)
}

async fn set_aside(world: &World) -> i64 {
    world.count("lockstep.reverse_again WHERE foreign_version AND for_good").await
}

fn key_of(row: &Payment) -> PaymentKey {
    Payments::key(row)
}

/// 1. Another program gives items versions that no epoch handed out, changes their rows' contents, puts a
///    tombstone, writes without a version, or removes one again. 2. The feed, which had stopped for good at
///    the first of them, goes on; doctor names a command for each kind; it leaves contents as they are, and
///    applications can write the rows again. 3. The same while PostgreSQL is the truth: its rows win.
#[tokio::test]
async fn items_of_an_epoch_that_never_began_are_set_aside_and_given_a_version_of_ours() {
    let world = in_dynamo_only().await;
    let app = world.app_without_source(LEASE).await;
    let store = app.store::<Payments>();
    let update = async |id: i64, status: &str| {
        store.update(id, |row| status.clone_into(&mut row.payment_status)).await
    };
    // A tombstone is found by its key alone.
    let mut keys = Vec::new();
    for id in [1, 2, 3] {
        keys.push(TargetKey::of(&item(&world, id).await).expect("a key"));
    }
    update(1, "Before").await.expect("written");
    write(&world, 1, number(never())).await;
    write(&world, 2, number(Version::MAX)).await;
    let third = Payments::decode(&item(&world, 3).await).expect("a payment");
    world.delete_item(&Payments::default(), &key_of(&third), Epoch(99)).await;
    update(6, "After").await.expect("written");

    let refused = update(1, "Ours").await.expect_err("it has a version of a later epoch");
    assert_eq!(refused.kind, Kind::Fenced, "{refused}");
    let cancel = CancellationToken::new();
    let (fed, ()) = tokio::join!(world.feed(FeedUntil::Cancelled, &cancel), async {
        eventually("the feed goes on", || async {
            world.count("payments WHERE payment_id = 6 AND payment_status = 'After'").await == 1
        })
        .await;
        // They are read again, and are what they were.
        eventually("they are read again", || async {
            world.count("lockstep.reverse_again WHERE foreign_version AND tries > 0").await == 3
        })
        .await;
        cancel.cancel();
    });
    fed.expect("it ends well");
    let theirs = format!("payments WHERE currency = '{ANOTHERS}'");
    assert_eq!(
        (world.count(&theirs).await, world.count("payments WHERE payment_id IN (1, 2, 3)").await),
        (0, 3)
    );

    let (code, doctor) = said(&world, &["doctor"]).await;
    assert!(code == Some(1) && doctor.contains("dead-letters --retry"), "{code:?} {doctor}");
    let (_, status) = said(&world, &["status"]).await;
    assert!(status.contains("3 items have versions of an epoch that never began"), "{status}");
    let (code, verdict) = said(&world, &["validate", "--quiet"]).await;
    assert!(code != Some(0), "{verdict}");
    let mut migration = world.migration();
    migration.options.steps.catch_up_max = Duration::from_secs(3);
    let back = world.coordinator_of(migration).await;
    let refused = back.step(Phase::HybridRead, None, &()).await.expect_err("PostgreSQL lacks three items");
    back.close().await;
    assert!(refused.to_string().contains("never began"), "{refused}");

    // Its contents are what the other program wrote, and no one writes anything older over it.
    let (code, retried) = said(&world, &["dead-letters", "--table", "payments", "--retry"]).await;
    assert!(
        code == Some(0) && retried.contains("3 items were given a version of ours"),
        "{code:?} {retried}"
    );
    let epoch = world.control().record().await.expect("read").expect("a record").epoch;
    for (id, key) in std::iter::zip([1, 2, 3], &keys) {
        let item = world.plain_target.get(PAYMENTS, key).await.expect("read").expect("it is there");
        assert_eq!(version_of(&item).map(|version| version.epoch()), Some(epoch), "{id}");
        let status = item.get("currency").and_then(|status| status.as_s().ok());
        assert_eq!(status.map(String::as_str), (id != 3).then_some(ANOTHERS), "{id}");
    }
    // No feed ran: the rows are there all the same, and stay when the stream brings the records.
    assert_eq!(world.count(&theirs).await, 2);
    update(1, "Ours").await.expect("it can be written again");
    world.feed_until_drained().await;
    world.assert_fed().await;
    assert_eq!((set_aside(&world).await, world.count("payments WHERE payment_id = 3").await), (0, 0));

    // An item without a version, or with one that is no number, is not seen as one ahead: it is counted as
    // foreign.
    write(&world, 4, None).await;
    write(&world, 5, Some(AttributeValue::S("none".to_owned()))).await;
    write(&world, 7, number(never())).await;
    let seventh = TargetKey::of(&item(&world, 7).await).expect("a key").to_attributes();
    let client = world.plain_target.client();
    client.delete_item().table_name(PAYMENTS).set_key(Some(seventh)).send().await.expect("removed");
    update(6, "Later").await.expect("written");
    assert_eq!(update(4, "Ours").await.expect_err("it has no version").kind, Kind::Invalid);
    world.feed_until_drained().await;
    let (code, doctor) = said(&world, &["doctor"]).await;
    assert!(code == Some(1) && doctor.contains("reverse-feed --backfill"), "{code:?} {doctor}");
    let arguments = ["reverse-feed", "--backfill", "--delete-absent", "--until-empty", "--quiet"];
    let (code, read) = said(&world, &arguments).await;
    assert_eq!(code, Some(0), "{read}");
    for id in [4, 5] {
        assert_eq!(version_of(&item(&world, id).await).map(|version| version.epoch()), Some(epoch), "{id}");
        update(id, "Ours").await.expect("it can be written again");
    }
    world.feed_until_drained().await;
    world.assert_fed().await;
    assert_eq!(world.count("payments WHERE payment_id = 7").await, 0);
    let (_, doctor) = said(&world, &["doctor"]).await;
    assert!(!doctor.contains("another program") && !doctor.contains("went round"), "{doctor}");
    app.shutdown().await;

    world.stepped_to(Phase::HybridRead).await;
    set_aside_while_postgres_is_the_truth(&world).await;
}

/// PostgreSQL is the truth, and a feed runs still, as before the step and after the way back.
async fn set_aside_while_postgres_is_the_truth(world: &World) {
    write(world, 8, number(never())).await;
    let cancel = CancellationToken::new();
    let (fed, ()) = tokio::join!(world.feed(FeedUntil::Cancelled, &cancel), async {
        eventually("it is set aside", || async { set_aside(world).await == 1 }).await;
        cancel.cancel();
    });
    fed.expect("it ends well");
    let (code, doctor) = said(world, &["doctor"]).await;
    assert!(code == Some(1) && doctor.contains("dead-letters --retry"), "{code:?} {doctor}");
    let (code, retried) = said(world, &["dead-letters", "--table", "payments", "--retry"]).await;
    assert_eq!(code, Some(0), "{retried}");
    world.relay_until_empty().await;
    world.assert_converged().await;
    assert!(version_of(&item(world, 8).await).is_some_and(|version| version < never()));
    assert_eq!(set_aside(world).await, 0);
}

/// 1. A pause is given up, so applications write in an epoch of its own. 2. PostgreSQL is set back to before
///    it knew of that epoch, and no mark of history tells. 3. What is read of that epoch may not be taken for
///    another program's: the feed stands still, says so, and is led on by a repair.
#[tokio::test]
async fn an_epoch_that_postgres_has_forgotten_is_not_taken_for_another_programs() {
    let world = in_dynamo_only().await;
    let control = world.control();
    let before = control.record().await.expect("read").expect("a record").epoch;
    let epoch = control.pause_writes(before).await.expect("paused");
    control.open_writes(epoch).await.expect("given up");
    world.sql(&format!("DELETE FROM lockstep.target_epochs WHERE epoch >= {}", epoch.0)).await;
    world.put_item(&Payments::default(), &payment_row(1, 2, "acknowledged"), epoch).await;
    let cancel = CancellationToken::new();
    let (fed, ()) = tokio::join!(world.feed(FeedUntil::Cancelled, &cancel), async {
        eventually("it says that it stands still", || async {
            world.count("lockstep.reverse_tables WHERE stopped_why IS NOT NULL").await == 1
        })
        .await;
        cancel.cancel();
    });
    fed.expect("it ends well");
    assert_eq!(set_aside(&world).await, 0, "it may be ours");
    let (code, doctor) = said(&world, &["doctor"]).await;
    assert!(
        code == Some(1) && doctor.contains("stands still") && doctor.contains("repair --state --apply"),
        "{code:?} {doctor}"
    );
    let (_, status) = said(&world, &["status"]).await;
    assert!(status.contains("stands still"), "{status}");
    let (code, repaired) = said(&world, &["repair", "--state", "--apply", "--quiet"]).await;
    assert_eq!(code, Some(0), "{repaired}");
    world.feed_until_drained().await;
    world.assert_fed().await;
    assert_eq!(world.count("payments WHERE transaction_reference = 'acknowledged'").await, 1);
    assert_eq!(world.count("lockstep.reverse_tables WHERE stopped_why IS NOT NULL").await, 0);
    assert!(!is_tombstone(&item(&world, 1).await));
}
