//! A partition that has a trigger of its own.

use lockstep_core::AttributeValue::{N, S};
use lockstep_core::{Phase, VERSION_ATTRIBUTE, Version};

use super::naive::disagreements;
use super::partitions::{Moved, SCHEMA};

/// Sets a column of the primary key, and another, on one partition of three.
const SETS: &str = "
    CREATE FUNCTION public.stamp() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN NEW.at := NEW.at + interval '1 second'; NEW.note := 'stamped'; RETURN NEW; END $$;
    CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON events_1 FOR EACH ROW EXECUTE FUNCTION public.stamp()";

#[tokio::test]
async fn a_before_trigger_of_one_partition_closes_no_way_back_and_leaves_no_row_behind() {
    let moved = Moved::of(&format!("{SCHEMA}; {SETS}"), "[tables.events]", Phase::DynamoOnly).await;
    let world = &moved.world;
    let target = &moved.tables[0].target_name;
    let epoch = world.source.control().await.expect("a phase").epoch;
    for mut item in world.items(target).await {
        item.insert("note".to_owned(), S("of an application".to_owned()));
        item.insert(VERSION_ATTRIBUTE.to_owned(), N(Version(epoch.floor() + 1).0.to_string()));
        let put = world.plain_target.client().put_item().table_name(target).set_item(Some(item));
        put.send().await.expect("put");
    }
    moved.feed().await;
    assert_eq!(world.count("events WHERE note = 'of an application'").await, 100);
    assert_eq!(world.count("events").await, 100, "no row that only a trigger knows");
    assert_eq!(disagreements(world, "events", "events", &[]).await, [] as [String; 0]);
    moved.step(Phase::HybridRead).await.expect("rows are as their items say");
}
