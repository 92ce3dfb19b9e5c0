//! Settings that are laid over others, which count again when a time is over or something is taken back.

use std::time::Duration;

use lockstep::store::ReadOptions;
use lockstep_core::Phase;
use lockstep_core::settings::CANARY_PERCENT;
use lockstep_postgres::Turn;
use lockstep_tests::World;
use lockstep_tests::world::eventually;
use serde_json::{Value, json};

use super::turned;

const RATE: &str = "write_units_per_s_max";

/// Ends the time of what holds for a while.
async fn over(world: &World) {
    let sql = "UPDATE lockstep.settings SET until = clock_timestamp() - interval '1 second'
               WHERE until IS NOT NULL";
    world.sql(sql).await;
}

async fn of(world: &World, name: &str) -> Option<(Value, String)> {
    let settings = world.source.settings().await.expect("read");
    settings.into_iter().find(|row| row.name == name).map(|row| (row.value, row.actor))
}

/// 1. A share is held for good. 2. Another one is set for an hour, and once more. 3. The hour is over.
#[tokio::test]
async fn what_held_for_good_counts_again_when_what_was_set_for_a_while_is_over() {
    let world = turned::world(Phase::HybridRead).await;
    let app = turned::application(&world, "falls_back", ReadOptions::default()).await;
    let (source, hour) = (&world.source, Some(Duration::from_secs(3_600)));
    let set = async |name: &str, value: Value, actor: &str, during| {
        source.set(name, &value, actor, None, during).await.expect("set");
    };
    set(CANARY_PERCENT, json!(5.0), "ann", None).await;
    set(RATE, json!(70), "ann", None).await;
    set(CANARY_PERCENT, json!(50.0), "ben", hour).await;
    set(CANARY_PERCENT, json!(60.0), "cay", hour).await;
    set(RATE, json!(7), "ben", hour).await;
    eventually("an application follows", || async { turned::canary(&app) == 60.0 }).await;
    assert_eq!(source.tuning().await.expect("read").write_units_per_s_max, Some(7));
    over(&world).await;
    assert_eq!(of(&world, CANARY_PERCENT).await, Some((json!(5.0), "ann".to_owned())));
    assert_eq!(source.tuning().await.expect("read").write_units_per_s_max, Some(70));
    eventually("an application follows again", || async { turned::canary(&app) == 5.0 }).await;
    let expect = source.settings().await.expect("read");
    let row = expect.iter().find(|row| row.name == CANARY_PERCENT);
    let four = json!(4.0);
    let turn = Turn { name: CANARY_PERCENT, value: Some(&four), expect: Some(row), ..Turn::default() };
    assert!(source.turn(&[turn], "dan", None, &json!({})).await.expect("asked"), "it was what was read");

    // For good over something for a while, and taken back: nothing of before is left.
    set(CANARY_PERCENT, json!(50.0), "ben", hour).await;
    set(CANARY_PERCENT, json!(9.0), "cay", None).await;
    over(&world).await;
    assert_eq!(of(&world, CANARY_PERCENT).await, Some((json!(9.0), "cay".to_owned())));
    set(CANARY_PERCENT, json!(50.0), "ben", hour).await;
    let back = Turn { name: CANARY_PERCENT, ..Turn::default() };
    assert!(source.turn(&[back], "cay", None, &json!({})).await.expect("asked"));
    assert_eq!(of(&world, CANARY_PERCENT).await, None);
    app.shutdown().await;
}

/// A setting that a daemon lays over another one gives back all of it, until when it holds as well.
#[tokio::test]
async fn what_is_laid_over_a_setting_gives_it_back_as_it_was() {
    let world = World::start().await;
    world.source.migrate_schema().await.expect("made");
    let source = &world.source;
    let (none, more) = (json!(0.0), json!({}));
    let lay = Turn { name: CANARY_PERCENT, value: Some(&none), lays_over: true, ..Turn::default() };
    let take = Turn { value: None, ..lay };
    source.set(CANARY_PERCENT, &json!(5.0), "ann", Some("held"), None).await.expect("set");
    for during in [None, Some(Duration::from_secs(3_600))] {
        source.set(CANARY_PERCENT, &json!(50.0), "ben", Some("tried"), during).await.expect("set");
        let before = source.settings().await.expect("read");
        assert!(source.turn(&[lay], "monitor", None, &more).await.expect("asked"));
        assert_eq!(of(&world, CANARY_PERCENT).await, Some((json!(0.0), "monitor".to_owned())));
        assert!(source.turn(&[take], "monitor", None, &more).await.expect("asked"));
        assert_eq!(source.settings().await.expect("read"), before);
    }
    over(&world).await;
    assert_eq!(of(&world, CANARY_PERCENT).await, Some((json!(50.0), "ben".to_owned())));
    // Over nothing it leaves nothing.
    source.unset(CANARY_PERCENT).await.expect("unset");
    assert!(source.turn(&[lay], "monitor", None, &more).await.expect("asked"));
    assert!(source.turn(&[take], "monitor", None, &more).await.expect("asked"));
    assert_eq!(of(&world, CANARY_PERCENT).await, None);
}
