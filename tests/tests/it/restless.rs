//! A key of DynamoOnly that is written faster than the reverse feed follows.

use std::time::Duration;

use lockstep_coordinator::FeedUntil;
use lockstep_payments::Payments;
use lockstep_tests::World;
use lockstep_tests::world::within;
use lockstep_validator::{
    CancellationToken, Report, ValidateOptions, ValidateSettings, ValidationProgress, Verdict, validate,
};

use crate::reverse_feed::{dynamo_only, payment_row};

async fn compared(world: &World, settle_timeout: Duration) -> Report {
    let tables = world.tables();
    let options = ValidateOptions {
        settings: ValidateSettings { settle_timeout, ..ValidateSettings::default() },
        wait_for_pending: false,
        ..ValidateOptions::default()
    };
    let (progress, cancel) = (ValidationProgress::new(&tables), CancellationToken::new());
    let comparing = validate(&world.source, &world.target, &tables, &options, &progress, &cancel);
    within(Duration::from_mins(3), comparing).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_never_rests_agrees_while_the_feed_follows_it_and_not_while_none_does() {
    let (world, epoch) = dynamo_only(World::start().await).await;
    let (of_payments, stop) = (Payments::default(), CancellationToken::new());
    // Of no row that was there, so that it has one place only; and known to the source.
    world.put_item(&of_payments, &payment_row(77, 1, 0), epoch).await;
    world.feed_until_drained().await;
    let writing = async {
        for cents in 1.. {
            if stop.is_cancelled() {
                break;
            }
            world.put_item(&of_payments, &payment_row(77, 1, cents), epoch).await;
        }
    };
    let comparing = async {
        // The row is of before the first of these writes, and stays so.
        let stale = compared(&world, Duration::from_secs(1)).await;
        let Verdict::Incomplete { reasons } = &stale.verdict else { panic!("{:?}", stale.verdict) };
        assert!(reasons.iter().any(|reason| reason.contains("1 key is still on the way")), "{reasons:?}");
        let feeding = CancellationToken::new();
        let followed = async {
            let followed = compared(&world, Duration::from_secs(30)).await;
            feeding.cancel();
            followed
        };
        let (fed, followed) = tokio::join!(world.feed(FeedUntil::Cancelled, &feeding), followed);
        fed.expect("the feed ends well");
        assert_eq!(followed.verdict, Verdict::Consistent);
        stop.cancel();
    };
    tokio::join!(writing, comparing);
    world.feed_until_drained().await;
    world.assert_fed().await;
}
