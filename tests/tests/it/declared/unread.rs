//! A declared table that does not read any more, while reads go to DynamoDB: applications are sent back to
//! PostgreSQL all the same, for every table, and what is wrong is said.

use std::path::Path;

use lockstep_core::Phase;
use lockstep_tests::World;

use super::configured;
use crate::process::ended;

const SCHEMA: &str = "
    CREATE TABLE films (film_id bigint PRIMARY KEY, title text NOT NULL, length integer NOT NULL);
    CREATE TABLE shelves (shelf_id bigint PRIMARY KEY, film_id bigint NOT NULL, floor integer);
    INSERT INTO films SELECT n, 'film ' || n, n FROM generate_series(1, 40) AS n;
    INSERT INTO shelves SELECT n, n, n FROM generate_series(1, 40) AS n;";

const DECLARED: &str = "[tables.films]\n[tables.shelves]\n";

/// Runs a command; its code, and what it printed to both.
async fn ran(world: &World, file: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = ended(configured(world, file, arguments)).await;
    let text =
        format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), text)
}

/// Both tables in HybridRead, as the command brings them there.
async fn moved(world: &World, file: &Path) {
    world.sql(SCHEMA).await;
    std::fs::write(file, DECLARED).expect("written");
    let (code, text) = ran(world, file, &["migrate", "--to", "HybridRead", "--quiet"]).await;
    assert_eq!(code, Some(0), "{text}");
}

async fn phase(world: &World) -> Phase {
    world.source.control().await.expect("a phase").phase
}

/// 1. In HybridRead a table is dropped, or made another. 2. Each command needed its columns, and ended. 3. No
/// application, of whatever table, could be sent back to PostgreSQL.
#[tokio::test]
async fn reads_go_back_to_postgresql_whatever_became_of_a_table() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("lockstep.toml");
    for (change, says) in [
        ("DROP TABLE shelves", "there is no such table any more"),
        ("ALTER TABLE shelves RENAME TO racks", "there is no such table any more"),
        ("ALTER TABLE shelves DROP CONSTRAINT shelves_pkey", "tables.shelves"),
        ("ALTER TABLE shelves RENAME COLUMN shelf_id TO id", "tables.shelves"),
        ("ALTER TABLE shelves DROP COLUMN floor", ""),
        ("CREATE TABLE more () INHERITS (shelves)", ""),
    ] {
        let world = World::start().await;
        moved(&world, &file).await;
        world.sql(change).await;
        let (code, text) = ran(&world, &file, &["doctor"]).await;
        assert!(
            code == Some(1) && text.contains("BROKEN") && text.contains(says),
            "{change}: {code:?} {text}"
        );
        let (code, text) = ran(&world, &file, &["status"]).await;
        assert!(code.is_some_and(|code| code != 2) && text.contains("films"), "{change}: {code:?} {text}");
        if !says.is_empty() {
            assert!(text.contains(says) && text.contains("health: BROKEN"), "{change}: {text}");
            let (code, text) = ran(&world, &file, &["advance", "--dry-run"]).await;
            assert!(code == Some(2) && text.contains(says), "{change}: {code:?} {text}");
        }
        let (code, text) = ran(&world, &file, &["rollback", "--to", "DualWrite"]).await;
        assert_eq!(code, Some(0), "{change}: {text}");
        assert_eq!(phase(&world).await, Phase::DualWrite, "{change}: {text}");
        let (code, text) = ran(&world, &file, &["uninstall", "--yes"]).await;
        assert_eq!(code, Some(0), "{change}: {text}");
    }
}

/// 1. A table is left out of a configuration, and it is compared. 2. "Consistent: every row of both sides was
/// compared" was of the rest, and the doctor found nothing wrong.
#[tokio::test]
async fn no_verdict_is_of_a_part_of_the_migrations_tables() {
    let world = World::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("lockstep.toml");
    moved(&world, &file).await;
    std::fs::write(&file, "[tables.films]\n").expect("written");
    let (code, text) = ran(&world, &file, &["validate"]).await;
    assert!(code == Some(2) && text.contains("the migration has shelves too"), "{code:?} {text}");
    let (code, text) = ran(&world, &file, &["doctor"]).await;
    assert!(code == Some(1) && text.contains("the migration has shelves too"), "{code:?} {text}");
}
