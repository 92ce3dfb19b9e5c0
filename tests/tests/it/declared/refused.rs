//! Refusals before anything begins, with the sentence that says how to repair it.

use lockstep_tests::World;

use super::{bound, configured, migration};
use crate::process::ended;

const SCHEMA: &str = r#"
    CREATE TABLE pairs (a text, b text, n integer, at timestamptz NOT NULL DEFAULT now(), ttl integer, maybe text, PRIMARY KEY (a, b));
    CREATE TABLE keyless (x integer NOT NULL, y integer);
    CREATE UNIQUE INDEX keyless_x ON keyless (x);
    CREATE TABLE computed (id integer PRIMARY KEY, twice integer GENERATED ALWAYS AS (id * 2) STORED, free integer, day date);
    CREATE VIEW seen AS SELECT * FROM pairs;
    CREATE TABLE parted (id integer PRIMARY KEY) PARTITION BY RANGE (id);
    CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (10);
    CREATE TABLE parent (id integer PRIMARY KEY);
    CREATE TABLE child () INHERITS (parent);
    CREATE TABLE tagged (tags text[] PRIMARY KEY, more integer[]);
    CREATE TABLE fleeting (id integer PRIMARY KEY);
    ALTER TABLE fleeting SET UNLOGGED;
    CREATE TYPE mood AS ENUM ('ok'); CREATE TYPE color AS ENUM ('red'); CREATE TYPE held AS (tab regclass, n integer);
    CREATE FUNCTION said(mood) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT 'said' $$;
    CREATE FUNCTION meant(text) RETURNS color IMMUTABLE LANGUAGE sql AS $$ SELECT 'red'::color $$;
    CREATE CAST (mood AS text) WITH FUNCTION said(mood);
    CREATE CAST (text AS color) WITH FUNCTION meant(text) AS ASSIGNMENT;
    CREATE CAST (varchar AS mood) WITH INOUT AS IMPLICIT;
    CREATE TABLE audit (id integer PRIMARY KEY, tab regclass NOT NULL);
    CREATE TABLE audits (id integer PRIMARY KEY, tabs held[]);
    CREATE TABLE owned (id integer PRIMARY KEY, by regrole);
    CREATE TABLE felt (how mood PRIMARY KEY);
    CREATE TABLE feels (id integer PRIMARY KEY, how mood);
    CREATE TABLE painted (id integer PRIMARY KEY, as_ color)"#;

#[tokio::test]
async fn what_cannot_be_moved_as_declared_is_refused_with_what_mends_it() {
    let world = World::start().await;
    world.sql(SCHEMA).await;
    let renamed = "attributes = { ttl = \"ttl_\" }";
    for (declared, part) in [
        ("[tables.pairs]\npartition = \"{a}#{b}\"", "{a:esc}#{b}"),
        ("[tables.pairs]\npartition = \"{a}\"", "column `b` of the primary key is in no template"),
        ("[tables.pairs]\npartition = \"{A}\"\nsort = \"{b}\"", "did you mean `a`"),
        ("[tables.pairs]\npartition = \"{maybe}\"\nsort = \"{a:esc}#{b}\"", "`maybe`, which may be NULL"),
        ("[tables.pairs]", "attributes = { ttl = \"ttl_\" }"),
        ("[tables.pairs]\nattributes = { ttl = \"a\" }", "share the attribute `a`"),
        ("[tables.pairs]\nattributes = { ttl = \"x\", gone = \"y\" }", "names `gone`"),
        ("[tables.pairs]\nomit = [\"maybe\"]", "GENERATED ALWAYS"),
        ("[tables.pairs]\nexpires = \"maybe + 3d\"", "no date or time"),
        ("[tables.pairs]\nday_column = \"n\"", "must be timestamptz"),
        ("[tables.pairs]\nkey = [\"a\"]", "no unique index"),
        ("[tables.pairs.indexes.by_n]\npartition = \"{n}\"\nsort = \"{none}\"", "names `none`"),
        ("[tables.pairs.indexes.n]\npartition = \"{n}\"", "3 to 255"),
        ("[tables.pairs]\npartition = \"{a\"", "never closed"),
        (
            "[tables.computed]\nomit = [\"twice\"]\npartition = \"{id:date}\"",
            "`id` is integer, which has no date",
        ),
        (
            "[tables.computed]\nomit = [\"twice\"]\n[tables.computed.indexes.by_free]\n\
             partition = \"{free:date}\"",
            "indexes.by_free.partition: `free` is integer, which has no date",
        ),
        (
            "[tables.computed]\nomit = [\"twice\"]\n[tables.computed.indexes.by_day]\n\
             partition = \"{day:010}\"",
            "`day` is date, which is no whole number",
        ),
        ("[tables.pairs]\nlists = [\"maybe\"]", "lists names `maybe`, which is text and no array"),
        ("[tables.pairs]\nlists = [\"gone\"]", "lists names `gone`"),
        ("[tables.tagged]\nlists = [\"tags\"]", "lists names `tags`, which is in the key"),
        (
            "[tables.tagged]\nlists = [\"more\"]\n[tables.tagged.indexes.by_more]\n\
             partition = \"M#{hash(more) % 4}\"",
            "`more` is integer[], which is held as a list",
        ),
        ("[tables.pairs]\nheld_as = { gone = \"set\" }", "held_as names `gone`"),
        (
            "[tables.pairs]\nheld_as = { maybe = \"set\" }",
            "held_as says \"set\" of `maybe`, which is text, and none is held so: leave it out",
        ),
        (
            "[tables.tagged]\nheld_as = { more = \"number\" }",
            "`more`, which is integer[], and none is held so: write \"set\" or \"unordered_set\"",
        ),
        (
            "[tables.tagged]\nheld_as = { tags = \"set\" }",
            "held_as says \"set\" of `tags`, which is in the key",
        ),
        (
            "[tables.tagged]\nlists = [\"more\"]\nheld_as = { more = \"set\" }",
            "lists and held_as both name `more`",
        ),
        (
            "[tables.tagged]\nheld_as = { more = \"bag\" }",
            "must be one of: binary, number, text, document, set, unordered_set",
        ),
        (
            "[tables.tagged]\nheld_as = { more = \"set\" }\n[tables.tagged.indexes.by_more]\n\
             partition = \"M#{more}\"",
            "`more` is integer[], which is held as a document or a set",
        ),
        (
            "[tables.tagged]\nheld_as = { more = \"set\" }\n[tables.tagged.sums.n]\nby = [\"more\"]",
            "sums.n goes by `more`, of which groups have no name",
        ),
        (
            "[tables.computed]\nomit = [\"twice\"]\n[tables.computed.indexes.by_free]\n\
             partition = \"{free}\"\nprojection = [\"none\"]",
            "indexes.by_free.projection names `none`",
        ),
        (
            "[tables.computed]\nomit = [\"twice\"]\n[tables.computed.indexes.by_free]\n\
             partition = \"{free}\"\nprojection = []",
            "indexes.by_free.projection lists nothing",
        ),
        ("[tables.pairs.rules]\nfew = \"n above 3\"", "rules.few: `above 3` is no condition"),
        ("[tables.pairs.sums.n]\nvalue = \"at\"", "sums.n adds up `at`, which is timestamp with time zone"),
        ("[tables.pairs.sums.n]\nby = [\"n:day\"]", "sums.n goes by the day of `n`"),
        ("[tables.pairs.sums.n]\nby = [\"none\"]", "sums.n names `none`"),
        ("[tables.pairs.references]\nn = \"others\"", "references.n: write the table and its column"),
        ("[tables.pairs.references]\nnone = \"others.n\"", "references names `none`"),
        ("[tables.keyless]", "write key = [\"x\"]"),
        ("[tables.nowhere]", "there is no table public.nowhere"),
        ("[tables.seen]", "it is a view"),
        ("[tables.part]", "it is a partition"),
        ("[tables.parent]", "inherit"),
        ("[tables.child]", "inherits"),
        ("[tables.fleeting]", "UNLOGGED"),
        ("[tables.audit]", "column `tab` is regclass: PostgreSQL prints it as a name"),
        ("[tables.audits]", "column `tabs` is held[], made of regclass: PostgreSQL prints it as a name"),
        ("[tables.owned]", "column `by` is regrole"),
        ("[tables.felt]", "drop the cast (mood AS text)"),
        ("[tables.painted]", "drop the cast (text AS color)"),
        ("[tables.pairs]\nsort_key = \"x\"", "unknown key `tables.pairs.sort_key`"),
    ] {
        let refused = bound(&world, declared).await.err();
        let refused = refused.unwrap_or_else(|| panic!("accepted: {declared}"));
        assert!(refused.contains(part), "{declared}: {refused}");
    }
    for accepted in [
        &format!("[tables.pairs]\n{renamed}"),
        "[tables.keyless]\nkey = [\"x\"]",
        "[tables.parted]",
        "[tables.feels]",
        "[tables.computed]\nomit = [\"twice\"]",
        &format!("[tables.pairs]\npartition = \"{{a:esc}}#{{b}}\"\n{renamed}"),
    ] {
        if let Err(problem) = bound(&world, accepted).await {
            panic!("{accepted}: {problem}");
        }
    }
}

#[tokio::test]
async fn a_declaration_that_changes_under_way_is_refused() {
    let world = World::start().await;
    world.sql(SCHEMA).await;
    let tables = bound(&world, "[tables.computed]\nomit = [\"twice\"]").await.expect("binds");
    let coordinator = world.coordinator_of(migration(&world, &tables)).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    coordinator.close().await;
    for (other, differing, alike) in [
        ("partition = \"C#{id}\"\nomit = [\"twice\"]", "partition: the migration has ", "omit"),
        ("", "omit: the migration has [\"twice\"], and [] is configured", "partition"),
        (
            "omit = [\"twice\"]\nexpires = \"day\"",
            "expires: the migration has nothing, and \"day\" is configured",
            "partition",
        ),
    ] {
        let refused =
            bound(&world, &format!("[tables.computed]\n{other}")).await.expect_err("another layout");
        assert!(refused.contains("put the declaration back"), "{refused}");
        // What differs, and nothing else.
        assert!(refused.contains(differing) && !refused.contains(alike), "{refused}");
    }
    assert!(
        bound(&world, "[tables.computed]\nomit = [\"twice\"]\nreveals = [\"free\"]").await.is_ok(),
        "it decides no key"
    );
}

/// Every choice that decides an item is part of what was adopted.
#[tokio::test]
async fn what_a_column_is_held_as_does_not_change_under_way() {
    let world = World::start().await;
    world.sql(SCHEMA).await;
    let declared = |held: &str| format!("[tables.tagged]\n{held}");
    let tables = bound(&world, &declared("held_as = { more = \"set\" }")).await.expect("binds");
    let coordinator = world.coordinator_of(migration(&world, &tables)).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    coordinator.close().await;
    for other in ["", "held_as = { more = \"unordered_set\" }", "lists = [\"more\"]"] {
        let refused = bound(&world, &declared(other)).await.expect_err("another way to hold it");
        assert!(refused.contains("held_as") && refused.contains("put the declaration back"), "{refused}");
    }
    bound(&world, &declared("held_as = { more = \"set\" }")).await.expect("the same");
}

#[tokio::test]
async fn the_command_names_what_to_mend_and_changes_nothing() {
    let world = World::start().await;
    world.sql(SCHEMA).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("own.toml");
    std::fs::write(&file, "[tables.pairs]\npartition = \"{a}#{b}\"\nattributes = { ttl = \"t\" }\n")
        .expect("written");
    for arguments in
        [&["migrate", "--quiet"][..], &["validate", "--quiet"], &["status"], &["tables", "--format", "cli"]]
    {
        let output = ended(configured(&world, &file, arguments)).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() != Some(0) && error.contains("not injective"), "{arguments:?}: {error}");
    }
    assert!(!world.try_value("SELECT to_regnamespace('lockstep') IS NOT NULL").await.expect("it answers"));
}
