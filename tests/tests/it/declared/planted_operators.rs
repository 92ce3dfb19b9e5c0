//! Keys of types that have no operators of their own: those of text, of any enum, any array and any range
//! stand for them, and one that is made for the very type, in the path of the application, is the better
//! match.

use lockstep_core::AttributeValue::N;
use lockstep_core::{Phase, TargetKey, VERSION_ATTRIBUTE, Version, tombstone};
use lockstep_tests::world::run;

use super::bound;
use super::naive::disagreements;
use super::partitions::Moved;
use crate::attack::path::{called, operated};

/// Table, type of its key, and three keys as they are written in SQL.
const TABLES: [(&str, &str, [&str; 3]); 4] = [
    ("by_varchar", "varchar(9)", ["a", "b", "c"]),
    ("by_enum", "public.mood", ["low", "high", "none"]),
    ("by_array", "text[]", ["{a}", "{b,c}", "{}"]),
    ("by_range", "int4range", ["[1,2)", "[2,5)", "[7,9)"]),
];
/// Types for which another role makes `=`.
const PLANTED: [&str; 4] = ["varchar", "public.mood", "text[]", "int4range"];

fn schema() -> String {
    let tables = TABLES.iter().map(|(name, kind, [a, b, c])| {
        format!(
            "CREATE TABLE {name} (code {kind} PRIMARY KEY, taken integer UNIQUE, note text);
             INSERT INTO {name} VALUES ('{a}', 1, 'a'), ('{b}', 2, 'b'), ('{c}', 3, 'c');"
        )
    });
    format!("CREATE TYPE public.mood AS ENUM ('low', 'high', 'none'); {}", tables.collect::<String>())
}

/// Makes them, each noting a call of a session of ours; what they answer is what an attacker may wish for.
fn planted() -> String {
    let decoy = |(n, kind): (usize, &&str)| {
        format!(
            "CREATE FUNCTION public.same_{n}({kind}, {kind}) RETURNS boolean LANGUAGE sql VOLATILE AS $$
                 INSERT INTO public.called SELECT '{kind}'
                 WHERE pg_catalog.current_setting('application_name') OPERATOR(pg_catalog.<>) '';
                 SELECT true $$;
             CREATE OPERATOR public.= (FUNCTION = public.same_{n}, LEFTARG = {kind}, RIGHTARG = {kind});"
        )
    };
    let decoys: String = PLANTED.iter().enumerate().map(decoy).collect();
    format!("CREATE TABLE public.called (what text); {decoys}")
}

/// 1. A role makes `=` of two varchars, or two values of an enum, an array or a range, in the path. 2. The
/// feed deletes a row, rows swap a unique value, or `repair --take-target` deletes one. 3. That ran as the
/// operator, and one that says yes had every row of the table deleted.
#[tokio::test]
async fn a_better_match_for_the_type_of_a_key_is_called_by_no_deletion_and_deletes_no_other_row() {
    let world = operated().await;
    world.sql(&schema()).await;
    world.sql(&planted()).await;
    let proof = TABLES.map(|(name, kind, [a, ..])| format!("SELECT FROM {name} WHERE code = '{a}'::{kind}"));
    run(&mut world.stranger().await, &format!("SET application_name = 'proof'; {}", proof.join("; "))).await;
    let of_proof = called(&world).await.unwrap_or_default();
    assert_eq!(of_proof.lines().count(), PLANTED.len(), "they are better matches: {of_proof}");
    world.sql("DELETE FROM public.called").await;

    let declared: String = TABLES.iter().map(|(name, ..)| format!("[tables.{name}]\n")).collect();
    let tables = bound(&world, &declared).await.expect("the tables are bound");
    let moved = Moved::begun(world, tables, Phase::DualWrite).await;
    let world = &moved.world;

    // As `repair --take-target` does it, with a table beside that a deletion would take rows of along.
    for (name, kind, [_, b, c]) in TABLES {
        let binding = moved.tables.iter().find(|binding| binding.name() == name).expect("it is moved");
        let child = format!(
            "CREATE TABLE child (code {kind} REFERENCES {name} ON DELETE CASCADE);
             INSERT INTO child VALUES ('{b}')"
        );
        world.sql(&child).await;
        let fed = world.source.fed_table(binding).await.expect("described");
        let delete = async |key: &str| {
            let key = [key.to_owned()];
            let put_back = world.source.begin_put_back(&fed, &key).await.expect("the barrier is closed");
            put_back.expect("everything is delivered").delete(&key).await
        };
        let refused = delete(b).await.expect_err("a row refers to it").to_string();
        assert!(refused.contains("child refer to it"), "{refused}");
        delete(c).await.expect("deleted");
        let left: String =
            world.value(&format!("SELECT string_agg(note, '' ORDER BY note) FROM {name}")).await;
        assert_eq!(left, "ab", "{name}");
        world.sql(&format!("DROP TABLE child; INSERT INTO {name} VALUES ('{c}', 3, 'c')")).await;
    }
    assert_eq!(called(world).await, None, "by a deletion as DynamoDB says");

    for to in [Phase::HybridRead, Phase::DynamoOnly] {
        moved.step(to).await.expect("nothing refuses");
    }
    let epoch = world.source.control().await.expect("a phase").epoch;
    for binding in &moved.tables {
        let target = &binding.target_name;
        for (n, mut item) in world.items(target).await.into_iter().enumerate() {
            let version = Version(epoch.floor() + 1 + n as i64);
            let note = item.get("note").and_then(|note| note.as_s().ok()).map_or("", String::as_str);
            let taken = match note {
                "a" => "2",
                "b" => "1",
                _ => {
                    let gone = tombstone(TargetKey::of(&item).expect("a key"), version);
                    world.plain_target.put_guarded(target, gone, version).await.expect("written");
                    continue;
                }
            };
            item.insert("taken".to_owned(), N(taken.to_owned()));
            item.insert(VERSION_ATTRIBUTE.to_owned(), N(version.0.to_string()));
            let put = world.plain_target.client().put_item().table_name(target).set_item(Some(item));
            put.send().await.expect("written");
        }
    }
    moved.feed().await;
    for (name, ..) in TABLES {
        let rows: String =
            world.value(&format!("SELECT string_agg(note || taken, ' ' ORDER BY note) FROM {name}")).await;
        assert_eq!(rows, "a2 b1", "{name}: two have swapped, and one is gone");
        assert_eq!(disagreements(world, name, name, &[]).await, [] as [String; 0], "{name}");
    }
    assert_eq!(world.count("lockstep.reverse_again").await, 0, "nothing was put off");
    assert_eq!(called(world).await, None, "called with the rights of the operator");
}
