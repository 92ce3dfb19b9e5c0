//! The key of a table rests on a unique index, or on its primary key. Without it two rows of one key are one
//! item, and one of them is lost: everything stops for as long.

use std::time::Duration;

use lockstep_core::Phase;
use lockstep_validator::{CancellationToken, FindingClass, ValidateOptions, ValidateSettings, validate_keys};

use super::naive::disagreements;
use super::partitions::Moved;

const SCHEMA: &str = "
    CREATE TABLE logins (tenant integer NOT NULL, login text NOT NULL, note text);
    CREATE UNIQUE INDEX logins_key ON logins (tenant, login);
    INSERT INTO logins SELECT i % 3, 'u' || i, 'first' FROM generate_series(1, 30) AS i";
const DECLARED: &str = "[tables.logins]\nkey = [\"tenant\", \"login\"]";
const AGAIN: &str = "CREATE UNIQUE INDEX logins_key ON logins (tenant, login)";

async fn goes_on(moved: &Moved) {
    moved.relayed().await.expect("the relay ends well");
    assert_eq!(disagreements(&moved.world, "logins", "logins", &[]).await, [] as [String; 0]);
    let report = moved.compared(false).await;
    assert!(report.verdict.is_consistent(), "{report:#?}");
}

/// 1. Two stores agree. 2. The unique index of the key is dropped while a relay runs. 3. A second row of one
/// key comes. 4. Both are one item.
#[tokio::test]
async fn a_key_that_loses_its_unique_index_stops_everything_until_it_is_there_again() {
    let moved = Moved::of(SCHEMA, DECLARED, Phase::DualWrite).await;
    let world = &moved.world;
    goes_on(&moved).await;
    world.sql("DROP INDEX logins_key; INSERT INTO logins SELECT * FROM logins WHERE login = 'u7'").await;
    moved.stands_still("no unique index that is valid").await;
    let found = moved.diagnosis().await;
    assert!(
        !found.sound && format!("{found:?}").contains("two rows of public.logins may have one key"),
        "{found:?}"
    );

    // Where keys are compared by name, the two rows are a difference also before an item is read, and the
    // keys beside them are held against their own rows.
    let key = |login: &str| vec!["1".to_owned(), login.to_owned()];
    let options = ValidateOptions::from(ValidateSettings {
        settle_timeout: Duration::from_secs(1),
        ..ValidateSettings::default()
    });
    let keys = [key("u4"), key("u7"), key("u10")];
    let report = validate_keys(
        &world.source,
        &world.plain_target,
        &moved.tables[0],
        &keys,
        &options,
        &CancellationToken::new(),
    )
    .await;
    assert_eq!((report.equal, report.different), (2, 1), "{report:#?}");
    let finding = &report.findings[0];
    assert_eq!((finding.class, finding.source_key()), (FindingClass::Different, Some(key("u7"))));
    assert_eq!(finding.columns, ["tenant", "login"]);

    world.sql("DELETE FROM logins WHERE ctid = (SELECT max(ctid) FROM logins WHERE login = 'u7')").await;
    world.sql(AGAIN).await;
    goes_on(&moved).await;

    // Made in place of the old one, as REINDEX and a change without a stop do it, it disturbs nothing.
    world.sql("CREATE UNIQUE INDEX logins_other ON logins (login, tenant) INCLUDE (note)").await;
    world.sql("DROP INDEX logins_key").await;
    world.sql("UPDATE logins SET note = 'second' WHERE tenant = 2").await;
    goes_on(&moved).await;
    world.sql("DROP INDEX logins_other").await;
    for (nth, (weaker, undo)) in [
        (
            "CREATE UNIQUE INDEX logins_key ON logins (tenant, login) WHERE note IS NOT NULL",
            "DROP INDEX logins_key",
        ),
        ("CREATE UNIQUE INDEX logins_key ON logins (tenant, lower(login))", "DROP INDEX logins_key"),
        ("CREATE UNIQUE INDEX logins_key ON logins (tenant, login, note)", "DROP INDEX logins_key"),
        ("CREATE INDEX logins_key ON logins (tenant, login)", "DROP INDEX logins_key"),
        (
            "ALTER TABLE logins ADD CONSTRAINT logins_key UNIQUE (tenant, login) DEFERRABLE",
            "ALTER TABLE logins DROP CONSTRAINT logins_key",
        ),
        (
            "CREATE UNIQUE INDEX logins_key ON logins (tenant, login);
             UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'logins_key'::regclass",
            "DROP INDEX logins_key",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        world.sql(weaker).await;
        world.sql(&format!("UPDATE logins SET note = 'n{nth}' WHERE tenant = 0")).await;
        let relayed = moved.relayed().await.expect_err(weaker);
        assert!(relayed.contains("no unique index that is valid"), "{weaker}: {relayed}");
        let report = moved.compared(nth % 2 == 0).await;
        assert!(!report.verdict.is_consistent(), "{weaker}: {report:#?}");
        world.sql(undo).await;
    }
    world.sql(AGAIN).await;
    goes_on(&moved).await;
    world
        .sql("ALTER TABLE logins ALTER login DROP NOT NULL; UPDATE logins SET note = NULL WHERE tenant = 1")
        .await;
    moved.stands_still("ndo the change").await;
    world.sql("ALTER TABLE logins ALTER login SET NOT NULL").await;
    goes_on(&moved).await;
}

/// A primary key is dropped, or made one that is checked too late: a migration of a plain table.
#[tokio::test]
async fn a_primary_key_that_is_dropped_or_deferrable_stops_everything() {
    let schema = "CREATE TABLE notes (id integer PRIMARY KEY, note text);
        INSERT INTO notes SELECT i, 'x' FROM generate_series(1, 9) AS i";
    let moved = Moved::of(schema, "[tables.notes]", Phase::DualWrite).await;
    assert!(moved.compared(false).await.verdict.is_consistent());
    for (weaker, undo) in [
        ("DROP CONSTRAINT notes_pkey", "ADD PRIMARY KEY (id)"),
        (
            "DROP CONSTRAINT notes_pkey, ADD PRIMARY KEY (id) DEFERRABLE",
            "DROP CONSTRAINT notes_pkey, ADD PRIMARY KEY (id)",
        ),
    ] {
        moved
            .world
            .sql(&format!("ALTER TABLE notes {weaker}; UPDATE notes SET note = note || 'y' WHERE id < 4"))
            .await;
        moved.stands_still("ndo the change").await;
        moved.world.sql(&format!("ALTER TABLE notes {undo}")).await;
        moved.relayed().await.expect("the relay ends well");
        assert!(moved.compared(false).await.verdict.is_consistent(), "{weaker}");
    }
}
