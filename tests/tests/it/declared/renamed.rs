//! Columns that are held in attributes of other names: what goes by an attribute goes by that name, also
//! where another column has it.

use lockstep_core::{Index, Phase, Projected, TargetSchema, Window};
use lockstep_dynamo::TableStanding;
use lockstep_validator::{ValidateOptions, count};

use super::partitions::Moved;

const SCHEMA: &str = "
    CREATE TABLE calls (call_id bigint PRIMARY KEY, line integer NOT NULL, began timestamptz NOT NULL,
        ended timestamptz NOT NULL);
    INSERT INTO calls SELECT i, i % 5, timestamptz '2026-01-01 12:00+00' + i * interval '1 day',
        timestamptz '2026-06-01 12:00+00' + i * interval '1 day' FROM generate_series(0, 29) AS i";

/// The identity and a time are called otherwise.
const DECLARED: &str = r#"
    [tables.calls]
    partition = "LINE#{line}"
    sort = "{began}#{call_id:019}"
    day_column = "began"
    attributes = { ended = "finished", call_id = "ident" }

    [tables.calls.indexes.by_id]
    partition = "{call_id}""#;

fn window(from: &str, before: &str) -> Window {
    let at = |text: &str| Some(text.parse().expect("a time"));
    Window { start: at(from), end: at(before) }
}

/// 1. A table has an index by its identity, which is held in another attribute. 2. A gate looked for an
/// index by the name of the column. 3. It refused DynamoOnly, and no command led on.
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

    moved.step(Phase::DynamoOnly).await.expect("nothing refuses");
    moved.step(Phase::HybridRead).await.expect("nor back");
    moved.relayed().await.expect("relayed");
    let report = moved.compared(false).await;
    assert!(report.verdict.is_consistent(), "{report:#?}");
}

/// An index carries the attributes of the columns that it lists, and one that was made with fewer is named.
#[tokio::test]
async fn an_index_carries_what_it_lists_and_one_that_lacks_some_of_it_is_refused() {
    let index = |listed: &str| {
        format!(
            "{DECLARED}\n[tables.calls.indexes.by_line]\npartition = \"L#{{line}}\"\nprojection = {listed}"
        )
    };
    let moved = Moved::of(SCHEMA, &index("[\"line\", \"ended\"]"), Phase::DualWrite).await;
    let found = async |schema: &TargetSchema| match moved.world.plain_target.describe("calls", schema).await {
        Ok(TableStanding::There(there)) => there.mismatches,
        other => panic!("it was made: {other:?}"),
    };
    let schema = moved.tables[0].table.target();
    assert_eq!(found(&schema).await, [] as [String; 0]);
    let by_line = *schema.indexes.iter().find(|index| index.name == "by_line").expect("declared");
    // As the attribute is called.
    assert_eq!(by_line.projection, Projected::List(&["line", "finished"]));
    let more: &'static [Index] = Box::leak(Box::new([Index {
        projection: Projected::List(&["line", "finished", "began"]),
        ..by_line
    }]));
    let wrong = found(&TargetSchema { indexes: more, ..schema }).await;
    let said = "index by_line has a projection of INCLUDE without began";
    assert!(wrong.len() == 1 && wrong[0].contains(said), "{wrong:?}");
}
