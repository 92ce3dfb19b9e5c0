//! Columns that are dropped, renamed or change their type while a migration is under way: taken as one that
//! is added, with every row; refused by name where the key is made of them.

use lockstep_coordinator::Remedy;
use lockstep_core::{AttributeValue, Attributes, Phase};

use sqlx::Executor as _;

use super::bound;
use super::naive::disagreements;
use super::partitions::Moved;

const SCHEMA: &str = "
    CREATE TABLE trips (trip_id integer, leg integer, title text NOT NULL, km integer, old text DEFAULT 'x',
        started timestamp NOT NULL DEFAULT '2026-01-01', PRIMARY KEY (trip_id, leg));
    CREATE TABLE others (id uuid PRIMARY KEY, note text);
    INSERT INTO trips SELECT i, i % 3, 'trip ' || i, i * 2 FROM generate_series(1, 60) AS i;
    INSERT INTO others SELECT md5(i::text)::uuid, NULL FROM generate_series(1, 20) AS i";
const DECLARED: &str = "[tables.trips]
partition = \"{trip_id}\"
sort = \"{leg}\"
[tables.others]";

async fn item(moved: &Moved, id: i64) -> Attributes {
    let id = AttributeValue::N(id.to_string());
    let items = moved.world.items("trips").await;
    items.into_iter().find(|item| item.get("trip_id") == Some(&id)).expect("it is there")
}

/// Nothing goes on, for whichever reason, and no verdict is consistent.
async fn stands(moved: &Moved, words: &str) {
    // PostgreSQL keeps the plans of a trigger in a session, and one of before has another type in them.
    let mut session = moved.world.stranger().await;
    session.execute("UPDATE trips SET title = title WHERE trip_id = 9").await.expect("written");
    let relayed = moved.relayed().await.expect_err("the relay stands still");
    assert!(relayed.contains(words), "{relayed}");
    let report = moved.compared(false).await;
    assert!(!report.verdict.is_consistent(), "{report:#?}");
}

async fn agreed(moved: &Moved) {
    moved.relayed().await.expect("the relay ends well");
    for table in ["trips", "others"] {
        assert_eq!(disagreements(&moved.world, table, table, &[]).await, [] as [String; 0], "{table}");
    }
    let report = moved.compared(false).await;
    assert!(report.verdict.is_consistent(), "{report:#?}");
}

/// Whether a process that has read the table as it is knows all that was taken of it before.
fn is_known(change: &str) -> bool {
    change.contains("DROP NOT NULL")
}

/// Each change stops everything, is taken by a process that read the table again, reaches every item, and
/// shuts
/// out who has not read it again.
#[tokio::test]
async fn columns_that_go_or_are_others_are_taken_and_each_item_has_them_as_they_are() {
    let mut moved = Moved::of(SCHEMA, DECLARED, Phase::HybridRead).await;
    let before = moved.tables.clone();
    for (change, words) in [
        ("ALTER TABLE trips DROP COLUMN old", "old text went"),
        ("ALTER TABLE trips RENAME km TO distance", "km integer went, and there is distance integer"),
        ("ALTER TABLE trips ALTER distance TYPE numeric(9,2) USING distance * 1.5", "distance integer went"),
        ("ALTER TABLE trips ALTER title DROP NOT NULL", "title text not null went"),
        (
            "ALTER TABLE trips ALTER started TYPE timestamptz USING started AT TIME ZONE 'Asia/Tokyo'",
            "started",
        ),
        // The numbers are the same ones, and so are their texts in the key.
        ("ALTER TABLE trips ALTER trip_id TYPE bigint", "trip_id integer not null went"),
        ("ALTER TABLE trips ADD COLUMN more text DEFAULT 'm', DROP COLUMN started", "started"),
    ] {
        let epoch = moved.world.source.control().await.expect("a phase").epoch;
        moved.world.sql(change).await;
        stands(&moved, words).await;
        let behind = moved.tables.clone();
        moved = moved.started_again(DECLARED).await;
        stands(&moved, if is_known(change) { words } else { "does not know" }).await;
        let mended = moved.mended().await.unwrap_or_else(|error| panic!("{change}: {error}"));
        assert!(mended.left.as_ref().is_some_and(|left| left.sound), "{change}: {mended:?}");
        let whole = |remedy: &Remedy| matches!(remedy, Remedy::BringColumns { whole: true, .. });
        assert!(mended.done.iter().any(whole), "{change}: {mended:?}");
        assert!(moved.world.source.control().await.expect("a phase").epoch > epoch, "{change}");
        agreed(&moved).await;
        // 1. A relay of before is still there. 2. To it the table is the one that is recorded.
        let gone = change.contains("DROP COLUMN old");
        if !gone {
            let late = moved.known_as(behind);
            stands(&late, "does not know").await;
            moved = late.started_again(DECLARED).await;
        }
    }
    let trip = item(&moved, 10).await;
    assert_eq!(trip.get("distance"), Some(&AttributeValue::N("30".to_owned())), "{trip:?}");
    assert_eq!(trip.get("more"), Some(&AttributeValue::S("m".to_owned())), "{trip:?}");
    assert!(!["old", "km", "started"].iter().any(|gone| trip.contains_key(*gone)), "{trip:?}");
    for to in [Phase::HybridRead, Phase::DynamoOnly, Phase::HybridRead] {
        moved.step(to).await.unwrap_or_else(|error| panic!("to {to}: {error}"));
    }
    agreed(&moved).await;
    let late = moved.known_as(before);
    stands(&late, "does not know").await;
}

/// Items lie by their key, and marks are made of it: another one is refused by its name, before anything is
/// taken, and undoing it leads on.
#[tokio::test]
async fn a_column_of_the_key_that_is_another_is_refused_by_name_and_in_dynamo_only_each_is() {
    let mut moved = Moved::of(SCHEMA, DECLARED, Phase::DualWrite).await;
    for (change, undo, words) in [
        (
            "ALTER TABLE trips ALTER leg TYPE text",
            "ALTER TABLE trips ALTER leg TYPE integer USING leg::integer",
            "leg was integer and is text",
        ),
        (
            "ALTER TABLE others ALTER id TYPE text",
            "ALTER TABLE others ALTER id TYPE uuid USING id::uuid",
            "id was uuid and is text",
        ),
        (
            "ALTER TABLE others RENAME id TO other_id",
            "ALTER TABLE others RENAME other_id TO id",
            "the key of public.others has changed",
        ),
    ] {
        moved.world.sql(change).await;
        // A process that reads the table now is told at once: it would ask DynamoDB by keys that it has not.
        let refused = bound(&moved.world, DECLARED).await.expect_err("it does not begin");
        let at_once =
            words.replace("the key of public.others has changed", "rows are captured under another");
        assert!(refused.contains(&at_once), "{change}: {refused}");
        let found = moved.diagnosis().await;
        let told = format!("{found:?}");
        assert!(!found.sound && told.contains(words) && told.contains("undo the change"), "{change}: {told}");
        let mended = moved.mended().await.expect("nothing is done");
        assert_eq!(mended.done, [], "{change}: {mended:?}");
        let report = moved.compared(false).await;
        assert!(!report.verdict.is_consistent(), "{change}: {report:#?}");
        moved.world.sql(undo).await;
        moved = moved.started_again(DECLARED).await;
        let mended = moved.mended().await.expect("a rewrite is taken");
        assert!(mended.left.is_some_and(|left| left.sound), "{change}");
    }
    agreed(&moved).await;
    for to in [Phase::HybridRead, Phase::DynamoOnly] {
        moved.step(to).await.expect("nothing refuses");
    }
    let changes = [
        ("ALTER TABLE trips DROP COLUMN old", "ALTER TABLE trips ADD COLUMN old text DEFAULT 'y'"),
        ("ALTER TABLE trips ALTER title TYPE varchar(99)", "ALTER TABLE trips ALTER title TYPE text"),
        ("ALTER TABLE trips ADD COLUMN more text", "ALTER TABLE trips DROP COLUMN more"),
    ];
    for (change, undo) in changes {
        moved.world.sql(change).await;
        moved = moved.started_again(DECLARED).await;
        let told = format!("{:?}", moved.diagnosis().await);
        assert!(told.contains("taken after the way back"), "{change}: {told}");
        assert_eq!(moved.mended().await.expect("nothing is done").done, [], "{change}");
        let back = moved.step(Phase::HybridRead).await.expect_err("the way back is closed for as long");
        assert!(back.contains("repeat it after the way back"), "{change}: {back}");
        moved.world.sql(undo).await;
        moved = moved.started_again(DECLARED).await;
        let mended = moved.mended().await.unwrap_or_else(|error| panic!("{undo}: {error}"));
        assert!(mended.left.as_ref().is_some_and(|left| left.sound), "{undo}: {mended:?}");
    }
    moved.feed().await;
    moved.step(Phase::HybridRead).await.expect("the way back is open");
    // What PostgreSQL lost with the column came back from DynamoDB.
    agreed(&moved).await;
    assert_eq!(moved.world.value::<i64>("SELECT count(*) FROM trips WHERE old = 'x'").await, 60);
}
