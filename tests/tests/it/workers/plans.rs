//! A range is split while its plan is forgotten: nothing of the plan is left, and the next one can be stored.

use std::time::Duration;

use lockstep_core::Window;
use lockstep_postgres::{KeyBound, RangePlan, Registering};
use lockstep_tests::World;
use lockstep_tests::world::rows::logs;
use lockstep_tests::world::{LOGS, eventually, run, within};

/// The advisory lock at which a split waits, with its new range in and not committed.
const HOLD: i64 = 7_401;

/// Call that forgets a plan.
#[derive(Clone, Copy, Debug)]
enum Forgets {
    Ranges,
    Import,
}

fn plan(ranges: i64) -> RangePlan {
    let bound = |n: i64| -> KeyBound { vec![(n * 100).to_string()] };
    let of = |n: i64| ((n > 0).then(|| bound(n)), Some(bound(n + 1)));
    RangePlan::Keys((0..ranges).map(of).collect())
}

async fn forgotten_beside_a_split(forgets: Forgets) {
    let world = World::start().await;
    world.sql(&logs(1, 300)).await;
    world.prepared().await.close().await;
    let (source, whole) = (&world.source, Window::default());
    source.plan_ranges(LOGS, &whole, &plan(3)).await.expect("planned");
    let who = Registering { id: 7, name: "w", coordinator: false, lease: Duration::from_secs(60) };
    source.register_worker(&who).await.expect("registered");
    let held = source.claim_range(7, &[LOGS], &whole).await.expect("asked").expect("there is one");
    let number: i64 = held.range.upper.as_ref().expect("it ends")[0].parse().expect("a number");
    world
        .sql(&format!(
            "CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_advisory_xact_lock_shared({HOLD}); RETURN NULL; END $$;
             CREATE TRIGGER hold AFTER INSERT ON lockstep.ranges FOR EACH ROW EXECUTE FUNCTION public.hold()"
        ))
        .await;
    let mut holder = world.stranger().await;
    run(&mut holder, &format!("SELECT pg_advisory_lock({HOLD})")).await;
    let waiting = async |sessions: i64| {
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
        eventually("they wait", || async { world.value::<i64>(waiting).await == sessions }).await;
    };
    let other = world.another_source().await;
    let at: KeyBound = vec![(number - 50).to_string()];
    let split = source.split_range(&held, &at);
    let beside = async {
        waiting(1).await;
        let forgetting = async {
            match forgets {
                Forgets::Ranges => other.forget_ranges(LOGS).await,
                Forgets::Import => other.abandon_import(LOGS).await,
            }
        };
        let released = async {
            waiting(2).await;
            run(&mut holder, &format!("SELECT pg_advisory_unlock({HOLD})")).await;
        };
        tokio::join!(forgetting, released).0
    };
    let (split, forgotten) = within(Duration::from_secs(60), async { tokio::join!(split, beside) }).await;
    assert!(split.expect("asked"), "{forgets:?}: it was there first");
    forgotten.expect("forgotten");
    let left: i64 = world.value("SELECT count(*) FROM lockstep.ranges").await;
    assert_eq!(left, 0, "{forgets:?}: the new range is the plan's too");

    // A worker of an earlier version holds no plan, and leaves one.
    world.sql(&format!("INSERT INTO lockstep.ranges (table_name, number) VALUES ('{LOGS}', 3)")).await;
    source.plan_ranges(LOGS, &whole, &plan(5)).await.expect("it can be stored");
    let stored = source.ranges(LOGS).await.expect("asked");
    assert!(stored.len() == 5 && stored.iter().all(|range| range.upper.is_some()), "{stored:?}");
    assert!(source.look_at_plan(&[LOGS], &whole).await.expect("asked").free);
    assert!(!source.split_range(&held, &at).await.expect("asked"), "what was held is lost");
}

#[tokio::test]
async fn a_plan_that_is_forgotten_beside_a_split_leaves_no_range_behind() {
    forgotten_beside_a_split(Forgets::Ranges).await;
    forgotten_beside_a_split(Forgets::Import).await;
}
