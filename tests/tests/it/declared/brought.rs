//! Rows that are marked page by page while applications move them.

use lockstep_core::Phase;
use lockstep_tests::World;
use lockstep_tests::world::{eventually, run};

use super::partitions::Moved;

const ROWS: i64 = 3_000;

async fn is_waited_for(world: &World) {
    let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock')";
    eventually("the page waits for the row", || world.value::<bool>(waits)).await;
}

/// 1. The last row of a page is locked by an application, which gives it a higher key. 2. The page waits for
/// it. 3. Read again then, its key is the higher one. 4. The next page would begin after that, and the rows
/// between would never be marked.
#[tokio::test]
async fn a_page_of_marks_ends_at_the_key_that_its_last_row_had_when_it_began() {
    let schema = format!(
        "CREATE TABLE calls (call_id bigint PRIMARY KEY, title text NOT NULL);
        INSERT INTO calls SELECT i, 'call ' || i FROM generate_series(1, {ROWS}) AS i"
    );
    let moved = Moved::of(&schema, "[tables.calls]", Phase::DualWrite).await;
    let (world, binding) = (&moved.world, &moved.tables[0]);
    let next =
        async |after: Option<&_>| world.source.mark_rows_after(binding, None, after).await.expect("marked");
    let first = next(None).await;
    assert!((1..ROWS).contains(&(first.len() as i64)), "{} rows are one page", first.len());
    let last: i64 = first.len() as i64;
    let mut writer = world.stranger().await;
    run(&mut writer, "BEGIN").await;
    run(&mut writer, &format!("UPDATE calls SET call_id = {} WHERE call_id = {last}", 10 * ROWS)).await;
    let (again, ()) = tokio::join!(next(None), async {
        is_waited_for(world).await;
        run(&mut writer, "COMMIT").await;
    });
    let mut after = again.last().cloned();
    while let Some(bound) = after {
        after = next(Some(&bound)).await.last().cloned();
    }
    // Each key that is there, and the one that went.
    assert_eq!(world.pending("calls").await.len() as i64, ROWS + 1);
}
