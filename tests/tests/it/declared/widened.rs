//! `ALTER TABLE … ADD COLUMN` while a migration is under way: everything stops until a build that knows the
//! column takes it, and from then on no build goes on that does not.

use std::sync::Arc;
use std::time::Duration;

use lockstep::instance::InstanceOptions;
use lockstep::migration::{Migration as App, MigrationOptions};
use lockstep::store::{WriteMode, WriteOptions};
use lockstep_coordinator::{GateResult, Observer, Remedy};
use lockstep_core::{
    AttributeValue, Attributes, Kind, MigratableTable, Phase, VERSION_ATTRIBUTE, Version, version_of,
};
use lockstep_postgres::TableBinding;
use lockstep_tests::World;
use lockstep_tests::world::sweeping_never;
use lockstep_validator::CancellationToken;

use super::bound;
use super::naive::disagreements;
use super::partitions::Moved;

/// The table before the column came.
mod before {
    #[derive(Clone, Debug, PartialEq, lockstep::Table)]
    #[lockstep(name = "calls", table = "Calls", partition = "{call_id}")]
    pub(super) struct Call {
        #[lockstep(primary_key)]
        pub(super) call_id: i64,
        pub(super) title: String,
    }
}

/// The table since.
mod since {
    #[derive(Clone, Debug, PartialEq, lockstep::Table)]
    #[lockstep(name = "calls", table = "Calls", partition = "{call_id}")]
    pub(super) struct Call {
        #[lockstep(primary_key)]
        pub(super) call_id: i64,
        pub(super) title: String,
        pub(super) region: Option<String>,
        pub(super) tier: i32,
    }
}

/// The table before the column came, with a template of text.
mod lettered {
    #[derive(Clone, Debug, PartialEq, lockstep::Table)]
    #[lockstep(name = "calls", table = "Calls", partition = "C#{call_id}")]
    pub(super) struct Call {
        #[lockstep(primary_key)]
        pub(super) call_id: i64,
        pub(super) title: String,
    }
}

/// The table with a column, and at other places.
mod elsewhere {
    #[derive(Clone, Debug, PartialEq, lockstep::Table)]
    #[lockstep(name = "calls", table = "Calls", partition = "D#{call_id}")]
    pub(super) struct Call {
        #[lockstep(primary_key)]
        pub(super) call_id: i64,
        pub(super) title: String,
        pub(super) region: Option<String>,
    }
}

/// The table with a column that its items have under another name.
mod named {
    #[derive(Clone, Debug, PartialEq, lockstep::Table)]
    #[lockstep(name = "calls", table = "Calls", partition = "C#{call_id}")]
    pub(super) struct Call {
        #[lockstep(primary_key)]
        pub(super) call_id: i64,
        pub(super) title: String,
        #[lockstep(attribute = "area")]
        pub(super) region: Option<String>,
    }
}

const SCHEMA: &str = "CREATE TABLE calls (call_id bigint PRIMARY KEY, title text NOT NULL);
    INSERT INTO calls SELECT i, 'call ' || i FROM generate_series(1, 50) AS i";
const DECLARED: &str = "[tables.calls]";
const ADDED: &str = "ALTER TABLE calls ADD COLUMN region text, ADD COLUMN tier integer NOT NULL DEFAULT 3";

fn bound_to(table: impl MigratableTable) -> Vec<TableBinding> {
    let relation = "public.calls".parse().expect("a name");
    vec![TableBinding { table: Arc::new(table), relation, target_name: "calls".to_owned() }]
}

async fn app<T: MigratableTable>(world: &World, table: T, mode: WriteMode) -> App {
    let options = MigrationOptions::new(world.source_options(), world.target_options())
        .table(table, "public.calls", "calls")
        .expect("plain names")
        .instance(InstanceOptions { name: "of one build".to_owned(), lease: Duration::from_secs(10) })
        .writes(WriteOptions { dual_write: mode, ..WriteOptions::default() })
        .sweeper(sweeping_never());
    App::connect(options).await.expect("both stores are there")
}

async fn item(world: &World, id: i64) -> Attributes {
    let id = AttributeValue::N(id.to_string());
    let items = world.items("calls").await;
    items.into_iter().find(|item| item.get("call_id") == Some(&id)).expect("it is there")
}

/// Has DynamoDB alone hold a state of a call, which is undecided.
async fn only_copy(world: &World, id: i64) -> AttributeValue {
    let kept = AttributeValue::S("the only copy, which is longer than forty characters".to_owned());
    let mut only = item(world, id).await;
    let version = Version(version_of(&only).expect("of Lockstep").0 + 1);
    only.insert("title".to_owned(), kept.clone());
    only.insert(VERSION_ATTRIBUTE.to_owned(), AttributeValue::N(version.0.to_string()));
    let put = world.plain_target.client().put_item().table_name("calls").set_item(Some(only));
    put.send().await.expect("put");
    world.sql("UPDATE lockstep.history SET lost_before = (SELECT epoch + 1 FROM lockstep.control)").await;
    kept
}

/// A relay refuses in these words, and no verdict is consistent.
async fn stopped(moved: &Moved, words: &str) {
    moved.world.sql("UPDATE calls SET call_id = call_id WHERE call_id = 9").await;
    let relayed = moved.relayed().await.expect_err("the relay stands still");
    assert!(relayed.contains(words), "{relayed}");
    let report = moved.compared(false).await;
    assert!(!report.verdict.is_consistent(), "{report:#?}");
}

async fn agreed(moved: &Moved) {
    moved.relayed().await.expect("the relay ends well");
    assert_eq!(disagreements(&moved.world, "calls", "calls", &[]).await, [] as [String; 0]);
    let report = moved.compared(false).await;
    assert!(report.verdict.is_consistent(), "{report:#?}");
}

/// 1. A column is added in HybridRead. 2. The build before it puts a row that has a value there, at once, and
/// without it; its mark goes. 3. Nothing that reads stores notices, until someone compares.
#[tokio::test]
async fn a_column_that_came_is_taken_with_what_older_builds_left_out_and_they_write_no_more() {
    let world = World::start().await;
    world.sql(SCHEMA).await;
    let moved = Moved::begun(world, bound_to(before::Calls), Phase::HybridRead).await;
    let older = app(&moved.world, before::Calls, WriteMode::Strict).await;
    moved.world.sql(ADDED).await;
    let newer = app(&moved.world, since::Calls, WriteMode::Strict).await;
    let (old, new) = (older.store::<before::Calls>(), newer.store::<since::Calls>());
    for call_id in [1, 2] {
        let region = Some("EU".to_owned());
        let row = since::Call { call_id, title: "new".to_owned(), region, tier: 5 };
        new.put(&row).await.expect("written");
    }
    old.put(&before::Call { call_id: 1, title: "old".to_owned() }).await.expect("written");
    assert_eq!(moved.world.pending("calls").await.len(), 0, "no mark tells of it");
    assert_eq!(item(&moved.world, 1).await.get("region"), None, "it is in PostgreSQL alone");

    // Everything else stands still, whichever build it is of, and only the newer one can take the column.
    stopped(&moved, "a column was added since capture was installed").await;
    let found = moved.diagnosis().await;
    assert!(!found.sound && format!("{found:?}").contains("This build does not know it"), "{found:?}");
    let mended = moved.mended().await.expect("nothing is done");
    assert_eq!(mended.done, [], "{mended:?}");
    let moved = moved.known_as(bound_to(since::Calls));
    stopped(&moved, "a column was added since capture was installed").await;
    // A build that knows the column finds items without it, until they are brought. Reads can go back first.
    moved.step(Phase::DualWrite).await.expect("the way back is open");
    assert_eq!(
        new.get(&since::CallKey { call_id: 3 }).await.expect("it is read").map(|call| call.tier),
        Some(3)
    );
    let mended = moved.mended().await.expect("repaired");
    let (table, columns) = ("calls".to_owned(), vec!["region".to_owned(), "tier".to_owned()]);
    let taken = Remedy::TakeColumns { table, columns, whole: false };
    assert_eq!(mended.done[0], taken, "{mended:?}");
    assert!(mended.left.as_ref().is_some_and(|left| left.sound), "{mended:?}");
    assert_eq!(moved.world.source.control().await.expect("a phase").phase, Phase::DualWrite);
    agreed(&moved).await;
    assert_eq!(item(&moved.world, 1).await.get("region"), Some(&AttributeValue::S("EU".to_owned())));
    assert_eq!(item(&moved.world, 50).await.get("tier"), Some(&AttributeValue::N("3".to_owned())));

    // A released build compares the layout alone, and stops at another one.
    let layout: String = moved.world.value("SELECT layout FROM lockstep.tables").await;
    assert_ne!(layout, MigratableTable::layout(&since::Calls), "nothing tells it");

    // The older build writes no more, delivers no more, and is not started any more.
    let refused = old.put(&before::Call { call_id: 2, title: "late".to_owned() }).await.expect_err("refused");
    assert!(
        refused.kind == Kind::Misconfigured && refused.to_string().contains("column region and column tier"),
        "{refused}"
    );
    assert_eq!(moved.world.value::<String>("SELECT title FROM calls WHERE call_id = 2").await, "new");
    moved.world.sql("UPDATE calls SET region = 'US' WHERE call_id = 3").await;
    let moved = moved.known_as(bound_to(before::Calls));
    let relayed = moved.relayed().await.expect_err("refused");
    assert!(relayed.contains("does not know"), "{relayed}");
    assert!(!moved.compared(false).await.verdict.is_consistent());
    let moved = moved.known_as(bound_to(since::Calls));
    new.put(&since::Call { call_id: 4, title: "new".to_owned(), region: None, tier: 1 })
        .await
        .expect("written");
    agreed(&moved).await;
    for to in [Phase::HybridRead, Phase::DynamoOnly, Phase::HybridRead] {
        moved.step(to).await.unwrap_or_else(|error| panic!("to {to}: {error}"));
    }
    agreed(&moved).await;
    older.shutdown().await;
    newer.shutdown().await;
}

/// 1. An update that PostgreSQL refused in DynamoOnly is accepted, and DynamoDB has the only copy of it. 2. A
/// column is added and taken, and each row has a value of it. 3. Marked with the others, the row of before
/// would be put over that copy, unasked.
#[tokio::test]
async fn a_column_that_came_is_brought_over_no_state_that_is_undecided() {
    let moved = Moved::of(SCHEMA, DECLARED, Phase::DualWrite).await;
    let kept = only_copy(&moved.world, 5).await;
    moved.world.sql(ADDED).await;
    moved.world.sql("UPDATE calls SET region = 'EU' WHERE call_id IN (5, 6)").await;
    moved.world.sql("DELETE FROM lockstep.pending WHERE key::text LIKE '%5%'").await;
    let moved = moved.started_again(DECLARED).await;
    let mended = moved.mended().await.expect("taken");
    assert!(mended.done.iter().any(|done| matches!(done, Remedy::BringColumns { .. })), "{mended:?}");
    moved.relayed().await.expect("the relay ends well");
    assert_eq!(item(&moved.world, 5).await.get("title"), Some(&kept), "it was not decided about");
    assert_eq!(item(&moved.world, 50).await.get("tier"), Some(&AttributeValue::N("3".to_owned())));
    assert_eq!(item(&moved.world, 6).await.get("region"), Some(&AttributeValue::S("EU".to_owned())));
    let listed = mended.findings.expect("compared").repairable;
    assert!(listed.len() == 1 && listed[0].key[0] == "5", "it is listed: {listed:?}");
}

/// 1. An item has a text that PostgreSQL had no room for. 2. The column is given room, which is a column of
/// another type that came. 3. The short text was put over the only copy of the long one.
#[tokio::test]
async fn a_column_that_is_given_room_is_brought_over_no_state_that_is_undecided() {
    let moved = Moved::of(SCHEMA, DECLARED, Phase::DualWrite).await;
    moved.world.sql("ALTER TABLE calls ALTER COLUMN title TYPE varchar(40)").await;
    let moved = moved.started_again(DECLARED).await;
    moved.mended().await.expect("taken");
    moved.relayed().await.expect("the relay ends well");
    let kept = only_copy(&moved.world, 5).await;
    moved.world.sql("ALTER TABLE calls ALTER COLUMN title TYPE text").await;
    let moved = moved.started_again(DECLARED).await;
    let mended = moved.mended().await.expect("taken");
    assert!(mended.done.iter().any(|done| matches!(done, Remedy::BringColumns { .. })), "{mended:?}");
    moved.relayed().await.expect("the relay ends well");
    assert_eq!(item(&moved.world, 5).await.get("title"), Some(&kept), "it was not decided about");
    let listed = mended.findings.expect("compared").repairable;
    assert!(listed.len() == 1 && listed[0].key[0] == "5", "it is listed: {listed:?}");
}

/// 1. A build comes with the column, and with another key template. 2. Taken with the column, the template
/// was the migration's: rows went to other places, and their items of before stayed.
#[tokio::test]
async fn a_key_template_is_not_changed_together_with_a_column() {
    let world = World::start().await;
    world.sql(SCHEMA).await;
    let moved = Moved::begun(world, bound_to(lettered::Calls), Phase::DualWrite).await;
    moved.world.sql("ALTER TABLE calls ADD COLUMN region text").await;
    moved.world.sql("UPDATE calls SET region = 'EU' WHERE call_id > 45").await;
    let moved = moved.known_as(bound_to(elsewhere::Calls));
    let found = moved.diagnosis().await;
    let offered =
        found.findings.iter().any(|finding| matches!(finding.remedy, Some(Remedy::TakeColumns { .. })));
    assert!(!found.sound && !offered && format!("{found:?}").contains("put the settings"), "{found:#?}");
    let refused = moved.mended().await.expect_err("another place for each row");
    assert!(refused.contains("put the setting back"), "{refused}");
    let moved = moved.known_as(bound_to(named::Calls));
    let mended = moved.mended().await.expect("the name of its attribute comes with the column");
    assert!(mended.left.as_ref().is_some_and(|left| left.sound), "{mended:?}");
    moved.relayed().await.expect("the relay ends well");
    let report = moved.compared(false).await;
    assert!(report.verdict.is_consistent(), "{report:#?}");
    assert_eq!(item(&moved.world, 50).await.get("area"), Some(&AttributeValue::S("EU".to_owned())));
}

/// Cancels once a remedy was announced, which is then carried out.
struct Killed(CancellationToken);

impl Observer for Killed {
    fn gate(&self, _gate: &GateResult) {}

    fn note(&self, text: &str) {
        if text.starts_with("take calls with column") {
            self.0.cancel();
        }
    }
}

/// 1. A repair takes the column, and is killed before the epoch is another. 2. Nothing shows any more that it
/// was added. 3. The next one has to begin the epoch and bring the values all the same.
#[tokio::test]
async fn a_declared_table_takes_a_column_also_where_the_repair_is_broken_off() {
    for phase in [Phase::DualWrite, Phase::HybridRead] {
        let moved = Moved::of(SCHEMA, DECLARED, phase).await;
        moved.world.sql(ADDED).await;
        moved.world.sql("UPDATE calls SET region = 'EU' WHERE call_id > 45").await;
        stopped(&moved, "a column was added since capture was installed").await;
        let moved = moved.started_again(DECLARED).await;
        let epoch = moved.world.source.control().await.expect("a phase").epoch;
        let cancel = CancellationToken::new();
        let killed = moved.mended_until(&Killed(cancel.clone()), &cancel).await.expect_err("broken off");
        assert!(killed.contains("interrupted"), "{killed}");
        assert_eq!(moved.world.source.control().await.expect("a phase").epoch, epoch);
        let mended = moved.mended().await.expect("it goes on");
        assert!(
            mended.done.contains(&Remedy::RaiseEpoch)
                && mended.done.iter().any(|remedy| matches!(remedy, Remedy::BringColumns { .. })),
            "{mended:?}"
        );
        assert!(moved.world.source.control().await.expect("a phase").epoch > epoch);
        agreed(&moved).await;
        assert_eq!(item(&moved.world, 50).await.get("tier"), Some(&AttributeValue::N("3".to_owned())));
        moved.step(Phase::HybridRead).await.expect("nothing refuses");
    }
}

/// 1. A repair takes a column, and is killed. 2. The column is dropped again. 3. What the plan says of it
/// names
/// what is not there any more.
#[tokio::test]
async fn a_column_that_goes_again_before_its_values_were_brought_holds_up_no_repair() {
    let moved = Moved::of(SCHEMA, DECLARED, Phase::DualWrite).await;
    moved.world.sql(ADDED).await;
    let moved = moved.started_again(DECLARED).await;
    let cancel = CancellationToken::new();
    moved.mended_until(&Killed(cancel.clone()), &cancel).await.expect_err("broken off");
    moved.world.sql("ALTER TABLE calls DROP COLUMN region").await;
    let moved = moved.started_again(DECLARED).await;
    let mended = moved.mended().await.expect("it goes on");
    assert!(mended.left.as_ref().is_some_and(|left| left.sound), "{mended:?}");
    agreed(&moved).await;
    assert_eq!(item(&moved.world, 50).await.get("tier"), Some(&AttributeValue::N("3".to_owned())));
}

/// 1. A column is called as an attribute of Lockstep's, and another one is computed. 2. No declaration can be
/// read that does not say another name, and one that leaves out what is computed is another one as well. 3.
/// Told to put the settings back, an operator has no way on.
#[tokio::test]
async fn what_a_declaration_says_of_a_column_that_came_is_taken_with_it_and_nothing_else_is() {
    let moved = Moved::of(SCHEMA, DECLARED, Phase::DualWrite).await;
    let added = "ALTER TABLE calls ADD COLUMN ttl integer NOT NULL DEFAULT 7,
        ADD COLUMN loud text GENERATED ALWAYS AS (upper(title)) STORED, ADD COLUMN ratio real";
    moved.world.sql(added).await;
    // What no item can hold is set aside, as in every column.
    moved.world.sql("UPDATE calls SET ratio = 'NaN' WHERE call_id = 9").await;
    let declared = "[tables.calls]\nomit = [\"loud\"]\nattributes = { ttl = \"lasts\" }";
    let refused = bound(&moved.world, DECLARED).await.expect_err("`ttl` is Lockstep's own");
    assert!(refused.contains("attributes = { ttl"), "{refused}");
    let other = format!("{declared}\npartition = \"C#{{call_id}}\"");
    let refused = bound(&moved.world, &other).await.expect_err("it is another key");
    assert!(refused.contains("calls.partition") && !refused.contains("calls.attributes"), "{refused}");
    let moved = moved.started_again(declared).await;
    assert!(!format!("{:?}", moved.diagnosis().await).contains("put the setting"), "it is none");
    let mended = moved.mended().await.expect("repaired");
    assert!(mended.left.as_ref().is_some_and(|left| left.sound), "{mended:?}");
    moved.relayed().await.expect("the relay ends well");
    assert_eq!(item(&moved.world, 50).await.get("lasts"), Some(&AttributeValue::N("7".to_owned())));
    let letters = moved.world.source.dead_letters("calls", 10).await.expect("lists");
    assert_eq!(letters.len(), 1, "{letters:?}");
    moved.world.sql("UPDATE calls SET ratio = 0.5 WHERE call_id = 9").await;
    moved.relayed().await.expect("the relay ends well");
    let report = moved.compared(false).await;
    assert!(report.verdict.is_consistent(), "{report:#?}");
    moved.step(Phase::HybridRead).await.expect("nothing refuses");
}
