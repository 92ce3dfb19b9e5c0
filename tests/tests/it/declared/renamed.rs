//! Columns that are held in attributes of other names: what goes by an attribute goes by that name, also where
//! another column has it.

use lockstep_core::{Phase, Window};
use lockstep_validator::{ValidateOptions, count};

use super::partitions::Moved;

const SCHEMA: &str = "
    CREATE TABLE calls (call_id bigint PRIMARY KEY, line integer NOT NULL, began timestamptz NOT NULL, ended timestamptz NOT NULL);
    INSERT INTO calls SELECT i, i % 5, timestamptz '2026-01-01 12:00+00' + i * interval '1 day',
        timestamptz '2026-06-01 12:00+00' + i * interval '1 day' FROM generate_series(0, 29) AS i";

/// The names of two times are changed for each other, and the identity has another one.
const DECLARED: &str = r#"
    [tables.calls]
    partition = "LINE#{line}"
    sort = "{began}#{call_id:019}"
    day_column = "began"
    attributes = { began = "ended", ended = "began", call_id = "ident" }

    [tables.calls.indexes.by_id]
    partition = "{call_id}""#;

fn window(from: &str, before: &str) -> Window {
    let at = |text: &str| Some(text.parse().expect("a time"));
    Window { start: at(from), end: at(before) }
}

/// 1. A table is counted by its day. 2. Items were asked for an attribute with the name of the column, which
/// another column is held in. 3. The days of the one store were told beside those of another.
#[tokio::test]
async fn days_windows_and_identities_go_by_the_attribute_that_holds_them() {
    let moved = Moved::of(SCHEMA, DECLARED, Phase::HybridRead).await;
    let world = &moved.world;
    let (source, target) = (&world.source, &world.target);
    let whole = ValidateOptions::default();
    let counted = count(source, target, &moved.tables, &whole, true).await.expect("both stores answer");
    assert_eq!(counted.tables[0].days.len(), 30, "{counted:#?}");
    assert!(counted.tables[0].agrees, "{counted:#?}");
    let january = ValidateOptions { window: window("2026-01-05T00:00:00Z", "2026-01-10T00:00:00Z"), ..whole };
    let counted = count(source, target, &moved.tables, &january, false).await.expect("both stores answer");
    assert_eq!((counted.tables[0].source_count, counted.tables[0].target_count), (5, 5), "{counted:#?}");

    // In DynamoOnly a row is found by its identity: an index by the attribute of that is one.
    moved.step(Phase::DynamoOnly).await.expect("nothing refuses");
    moved.step(Phase::HybridRead).await.expect("nor back");
    moved.relayed().await.expect("relayed");
    let report = moved.compared(false).await;
    assert!(report.verdict.is_consistent(), "{report:#?}");
}
