//! Two migrations whose control table has one name: neither takes the other's record for its own, nor touches
//! it.

use std::time::Duration;

use lockstep::instance::{Instance, InstanceOptions};
use lockstep_coordinator::{
    Archive, Coordinator, MigrationContext, Remedy, UninstallOptions, complete, uninstall,
};
use lockstep_core::{Attributes, Epoch, Kind, PK, Phase, SK, Writes};
use lockstep_dynamo::{Target, TargetControl};
use lockstep_postgres::{Entry, TableBinding};
use lockstep_tests::World;
use lockstep_tests::world::rows::{logs, payments};
use lockstep_validator::{CancellationToken, ValidateOptions};

use crate::history::{diagnosis, mended};

const FOREIGN: &str = "belongs to another migration";

/// Keeps nothing: nothing may be completed here.
struct Kept;

impl Archive for Kept {
    fn keep(&self, _epoch: Epoch, _journal: &[Entry]) -> std::io::Result<String> {
        Err(std::io::Error::other("nothing may be completed"))
    }
}

/// Keeps nothing, and says that it did.
struct Thrown;

impl Archive for Thrown {
    fn keep(&self, _epoch: Epoch, _journal: &[Entry]) -> std::io::Result<String> {
        Ok("nowhere".to_owned())
    }
}

/// The handle of a migration that is not the one of this world, on the same table.
async fn of_another(world: &World) -> TargetControl {
    let target = Target::connect(world.target_options()).await;
    target.belongs_to("another").expect("told for the first time");
    target.control()
}

/// Another migration moves its truth to a control table of the same name, and may complete: ours was begun by
/// a version that claimed none. What its item is then.
async fn taken_by_another(world: &World, completes: bool) -> Attributes {
    let other = of_another(world).await;
    let delete = world.plain_target.client().delete_item().table_name(world.control().table());
    delete.set_key(Some(place("CLAIM"))).send().await.expect("deleted");
    other.create().await.expect("a control table");
    other.enter(Epoch(4)).await.expect("told");
    other.open_writes(Epoch(4)).await.expect("opened");
    if completes {
        other.complete(Epoch(4)).await.expect("completed");
    }
    other.seed_ids("payments", 9_000, None).await.expect("seeded");
    item(world).await
}

async fn item(world: &World) -> Attributes {
    item_at(world, "CONTROL").await.expect("a record")
}

async fn item_at(world: &World, at: &str) -> Option<Attributes> {
    let request =
        world.plain_target.client().get_item().table_name(world.control().table()).consistent_read(true);
    request.set_key(Some(place(at))).send().await.expect("read").item
}

fn place(at: &str) -> Attributes {
    Attributes::from([(PK.to_owned(), string(at)), (SK.to_owned(), string(at))])
}

fn string(text: &str) -> aws_sdk_dynamodb::types::AttributeValue {
    aws_sdk_dynamodb::types::AttributeValue::S(text.to_owned())
}

/// A world in `phase` with rows, and with changes that no relay has delivered.
async fn moving(phase: Phase) -> World {
    let world = World::start().await;
    world.sql(&format!("{}; {}", logs(1, 10), payments(1, 10))).await;
    world.migrated_to(phase).await.close().await;
    world.sql("UPDATE payments SET loan_id = 3 WHERE payment_id <= 5").await;
    world
}

/// Nothing of the source was changed by what was refused.
async fn is_as_it_was(world: &World, phase: Phase) {
    assert_eq!(world.source.control().await.expect("a phase").phase, phase);
    let pending: i64 = world.value("SELECT count(*) FROM lockstep.pending").await;
    assert_eq!(pending, 5, "what was to be delivered still is");
    world.sql("UPDATE payments SET loan_id = 3 WHERE payment_id <= 5").await;
}

#[tokio::test]
async fn the_doctor_names_a_foreign_control_table_and_proposes_nothing() {
    let world = moving(Phase::DualWrite).await;
    let theirs = taken_by_another(&world, false).await;
    let before = world.source.control().await.expect("a phase");
    let seen = diagnosis(&world).await;
    let found = seen.findings.iter().find(|finding| finding.what.contains(FOREIGN)).expect("it is named");
    assert!(found.next.contains("target.control_table") && !seen.sound, "{found:?}");
    assert!(seen.findings.iter().all(|finding| finding.remedy.is_none()), "{:#?}", seen.findings);
    assert!(seen.state.starts_with("DualWrite"), "{}", seen.state);
    assert!(mended(&world).await.done.is_empty());
    assert_eq!(world.source.control().await.expect("a phase"), before);
    is_as_it_was(&world, Phase::DualWrite).await;
    assert_eq!(item(&world).await, theirs);
}

#[tokio::test]
async fn an_instance_beside_a_foreign_control_table_stays_with_its_own_postgresql() {
    let world = moving(Phase::DualWrite).await;
    let theirs = taken_by_another(&world, false).await;
    let options = InstanceOptions { name: "ours".to_owned(), lease: Duration::from_secs(5) };
    let instance = Instance::start_with(&world.source, &world.target, options).await.expect("it starts");
    let now = world.source.control().await.expect("a phase");
    assert_eq!(
        instance.control().map(|known| (known.phase, known.epoch)),
        Some((Phase::DualWrite, now.epoch))
    );
    assert!(world.control().instances().await.expect("read").is_empty(), "no lease in the table of another");
    instance.shutdown().await;
    assert_eq!(item(&world).await, theirs);
}

/// 1. Before the cut-over there is no record in the control table. 2. Another program puts one there that
/// names no migration and says DynamoOnly in a far epoch.
#[tokio::test]
async fn a_record_that_names_no_migration_is_not_believed_against_postgresql() {
    let world = moving(Phase::DualWrite).await;
    let id = world.source.migration_id().await.expect("read").expect("the schema has one");
    let options = |name: &str| InstanceOptions { name: name.to_owned(), lease: Duration::from_secs(5) };
    let before = Instance::start_with(&world.source, &world.target, options("before")).await.expect("starts");
    // Of a program that knows no owner.
    let planted = Target::connect(world.target_options()).await.control();
    planted.create().await.expect("a control table");
    planted.enter(Epoch(99)).await.expect("told");
    planted.open_writes(Epoch(99)).await.expect("opened");
    let theirs = item(&world).await;
    assert!(!theirs.contains_key("owner"));

    let refused = Instance::start_with(&world.source, &world.target, options("after")).await;
    let refused = refused.expect_err("it does not begin").to_string();
    assert!(refused.contains("`doctor`"), "{refused}");
    let known = before.control().expect("it goes on").phase;
    assert_eq!(known, Phase::DualWrite);
    assert!(world.control().instances().await.expect("read").is_empty(), "no lease there");

    let seen = diagnosis(&world).await;
    let found = seen.findings.iter().find(|finding| finding.what.contains("names no migration"));
    assert!(found.is_some_and(|found| found.next.contains("delete item CONTROL")), "{seen:#?}");
    assert!(seen.findings.iter().all(|finding| finding.remedy.is_none()), "{:#?}", seen.findings);
    assert!(mended(&world).await.done.is_empty(), "PostgreSQL is not made to follow it");
    is_as_it_was(&world, Phase::DualWrite).await;
    assert_eq!(item(&world).await, theirs);

    // The doctor names this for a record that is this migration's own after all: it is believed then.
    let mut ours = theirs.clone();
    ours.insert("owner".to_owned(), string(&id));
    let put = world.plain_target.client().put_item().table_name(world.control().table());
    put.set_item(Some(ours)).send().await.expect("put");
    let seen = diagnosis(&world).await;
    assert!(seen.findings.iter().any(|finding| finding.remedy == Some(Remedy::FollowTarget)), "{seen:#?}");
    // And for one that is not.
    let delete = world.plain_target.client().delete_item().table_name(world.control().table());
    delete.set_key(Some(place("CONTROL"))).send().await.expect("deleted");
    let after =
        Instance::start_with(&world.source, &world.target, options("after")).await.expect("it begins");
    after.shutdown().await;
    before.shutdown().await;
}

#[tokio::test]
async fn the_completion_of_another_migration_completes_nothing_here() {
    let world = moving(Phase::DualWrite).await;
    let refusal = async || {
        let (migration, cancel) = (world.migration(), CancellationToken::new());
        complete(&migration, &ValidateOptions::default(), &Kept, &(), &cancel)
            .await
            .expect_err("not ours")
            .to_string()
    };
    let theirs = taken_by_another(&world, true).await;
    let refused = refusal().await;
    assert!(refused.contains(FOREIGN), "{refused}");
    is_as_it_was(&world, Phase::DualWrite).await;
    assert_eq!(item(&world).await, theirs);

    // One that an earlier version made says not whose it is: then it counts what the source itself says.
    let mut unnamed = theirs;
    unnamed.remove("owner");
    let put = world
        .plain_target
        .client()
        .put_item()
        .table_name(world.control().table())
        .set_item(Some(unnamed.clone()));
    put.send().await.expect("put");
    let refused = refusal().await;
    assert!(
        refused.contains("PostgreSQL says DualWrite") && refused.contains("target.control_table"),
        "{refused}"
    );
    is_as_it_was(&world, Phase::DualWrite).await;
    assert_eq!(item(&world).await, unnamed);
}

#[tokio::test]
async fn the_step_to_dynamo_only_is_refused_over_a_foreign_control_table_before_anything_is_changed() {
    let world = World::start().await;
    world.sql(&format!("{}; {}", logs(1, 10), payments(1, 10))).await;
    let coordinator = world.migrated_to(Phase::HybridRead).await;
    world.relay_until_empty().await;
    world.record_verdict().await;
    let theirs = taken_by_another(&world, false).await;
    let before = world.source.control().await.expect("a phase");
    let refused = coordinator.step(Phase::DynamoOnly, None, &()).await.expect_err("not ours").to_string();
    assert!(refused.contains(FOREIGN) && refused.contains("target.control_table"), "{refused}");
    assert_eq!(world.source.control().await.expect("a phase"), before);
    assert!(world.source.open_intents().await.expect("read").is_empty(), "no step was begun");
    coordinator.close().await;
    let refused = Coordinator::open(world.migration()).await.err().expect("nor is it opened").to_string();
    assert!(refused.contains(FOREIGN), "{refused}");
    assert_eq!(item(&world).await, theirs);
    assert_eq!(world.control().next_id("payments").await.expect("read"), Some(9_000));
}

#[tokio::test]
async fn a_record_without_an_owner_is_adopted_by_its_next_change_and_then_refused_to_others() {
    let world = World::start().await;
    world.source.migrate_schema().await.expect("a schema");
    let id = world.source.migration_id().await.expect("read").expect("the schema has one");
    world.source.migrate_schema().await.expect("again");
    assert_eq!(world.source.migration_id().await.expect("read").as_deref(), Some(id.as_str()), "it stays");
    // As a version that knew no owners made it.
    let unknowing = world.control();
    unknowing.create().await.expect("a control table");
    unknowing.enter(Epoch(4)).await.expect("told");
    assert!(!item(&world).await.contains_key("owner"));

    world.target.belongs_to(&id).expect("told for the first time");
    assert_eq!(world.target.belongs_to("another").expect_err("it is one").kind, Kind::Misconfigured);
    let ours = world.target.control();
    assert_eq!(ours.record().await.expect("taken as ours").expect("a record").epoch, Epoch(4));
    ours.open_writes(Epoch(4)).await.expect("opened");
    assert_eq!(item(&world).await.get("owner"), Some(&string(&id)));

    let (other, before) = (of_another(&world).await, item(&world).await);
    let refusals = [
        other.record().await.err(),
        other.create().await.err(),
        other.enter(Epoch(9)).await.err(),
        other.pause_writes(Epoch(4)).await.err(),
        other.complete(Epoch(4)).await.err(),
        other.seed_ids("payments", 7, None).await.err(),
        other.take_ids("payments", 7, i64::MAX).await.err(),
    ];
    for refused in refusals {
        let refused = refused.expect("it is not its own");
        assert!(refused.kind == Kind::Misconfigured && refused.message.contains(FOREIGN), "{refused}");
    }
    assert_eq!(item(&world).await, before);
    assert_eq!(ours.next_id("payments").await.expect("read"), None);

    // A process that does not know its own leaves the owner as it is.
    let paused = unknowing.pause_writes(Epoch(4)).await.expect("paused");
    let now = ours.record().await.expect("still ours").expect("a record");
    assert_eq!((now.epoch, now.writes), (paused, Writes::Paused));
    assert_eq!(item(&world).await.get("owner"), Some(&string(&id)));
}

#[tokio::test]
async fn a_configuration_of_other_tables_is_refused_while_a_migration_is_under_way_and_both_are_named() {
    let world = World::start().await;
    world.prepared().await.close().await;
    // The tables of another configuration that came first.
    world.sql("UPDATE lockstep.tables SET name = 'their_' || name").await;
    let refused = Coordinator::open(world.migration()).await.err().expect("refused").to_string();
    for name in world.tables().iter().map(|table| table.name()) {
        assert!(refused.contains(&format!("their_{name}")), "{refused}");
        assert!(refused.matches(name).count() > 1, "its own name as well: {refused}");
    }
    world.sql("UPDATE lockstep.tables SET name = replace(name, 'their_', '')").await;
    world.coordinator().await.close().await;
}

/// 1. Two migrations of one account begin, and the control table of both has the default name. 2. The second
/// one is told before anything of its tables is touched, and not on the day of its cut-over.
#[tokio::test]
async fn the_control_table_is_made_and_claimed_before_anything_is_captured() {
    let (first, second) = (World::start().await, World::start().await);
    // Of the same account: the second has a source and target tables of its own.
    let beside = async || MigrationContext {
        target: Target::connect(first.target_options()).await,
        tables: vec![TableBinding { target_name: "payments_2".to_owned(), ..second.payments_table() }],
        ..second.migration()
    };
    let coordinator = first.prepared().await;
    let id = first.source.migration_id().await.expect("read").expect("the schema has one");
    let claim = item_at(&first, "CLAIM").await.expect("it is claimed");
    assert_eq!(claim.get("owner"), Some(&string(&id)));
    assert_eq!(first.control().record().await.expect("read"), None, "and says nothing of the truth");
    coordinator.prepare(&()).await.expect("again");
    assert_eq!(item_at(&first, "CLAIM").await, Some(claim.clone()), "it stays as it is");

    second.sql(&payments(1, 3)).await;
    let refused = async || {
        let context = beside().await;
        let opened = Coordinator::open(context).await.expect("there is nothing yet that it may not read");
        let refused = opened.prepare(&()).await.map(drop);
        opened.close().await;
        refused
    };
    let told = refused().await.expect_err("it is another one's").to_string();
    assert!(told.contains(FOREIGN) && told.contains("target.control_table"), "{told}");
    let captured: i64 = second.value("SELECT count(*) FROM lockstep.tables").await;
    let triggers: i64 =
        second.value("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'zz%lockstep%'").await;
    assert_eq!((captured, triggers), (0, 0), "nothing of it is touched");
    assert_eq!(item_at(&first, "CLAIM").await, Some(claim));
    // The first is taken out before it has moved anything, and leaves its tables: the name is free again.
    coordinator.close().await;
    let out = UninstallOptions::default();
    uninstall(&first.migration(), &out, &Thrown, &()).await.expect("taken out");
    assert_eq!(item_at(&first, "CLAIM").await, None);
    refused().await.expect("it is its own now");
    let theirs = second.source.migration_id().await.expect("read").expect("the schema has one");
    let claim = item_at(&first, "CLAIM").await.expect("it is claimed");
    assert_eq!(claim.get("owner"), Some(&string(&theirs)));
}
