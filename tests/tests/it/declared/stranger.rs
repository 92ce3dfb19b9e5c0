//! Findings from schemas that are published for everyone: what `init` proposes for their indexes and keys,
//! what a role that only looks may give, and what a feed says that cannot go on.

use std::time::Duration;

use lockstep_core::Phase;
use lockstep_payments::Payments;
use lockstep_postgres::GrantedRole;
use lockstep_tests::World;
use lockstep_tests::world::rows::payment_row;
use lockstep_tests::world::within;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{configured, init};
use crate::process::{command, ended};
use crate::roles::role;

const SCHEMA: &str = "
    CREATE SCHEMA strange;
    CREATE TABLE strange.posts (
        id integer PRIMARY KEY, tags text[], labels text[], at timestamptz, owner integer, live boolean,
        body text,
        words tsvector GENERATED ALWAYS AS (to_tsvector('simple', coalesce(body, ''))) STORED);
    CREATE INDEX a_tags ON strange.posts USING gin (tags);
    CREATE INDEX b_tags ON strange.posts (tags);
    CREATE INDEX labels_gin ON strange.posts USING gin (labels);
    CREATE INDEX at_brin ON strange.posts USING brin (at);
    CREATE INDEX a_owner ON strange.posts (owner) WHERE live;
    CREATE INDEX b_owner ON strange.posts (owner, id);
    INSERT INTO strange.posts
        SELECT i, ARRAY['a'], ARRAY[repeat('long', 1000)], now(), i, true, 'some words'
        FROM generate_series(1, 30) AS i;
    CREATE TABLE strange.places (country text, name text, PRIMARY KEY (country, name));
    INSERT INTO strange.places VALUES ('DE', ''), ('DE', 'Berlin');
    CREATE TABLE strange.words (word text PRIMARY KEY);
    INSERT INTO strange.words VALUES ('one')";

/// Pagila and Danbooru search by GIN and GiST, MusicBrainz by BRIN: an index of DynamoDB finds nothing of the
/// kind, and a long list as its key set rows aside. The countries of iso-3166 have parts without a name.
#[tokio::test]
async fn what_init_proposes_for_indexes_of_other_kinds_and_for_empty_keys_can_be_moved() {
    let world = World::start().await;
    world.sql(SCHEMA).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = init(&world, folder.path(), &["strange.posts", "strange.places", "strange.words"]).await;
    let text = std::fs::read_to_string(&file).expect("written");
    for part in [
        "# a_tags in PostgreSQL is a gin index",
        "# labels_gin in PostgreSQL is a gin index",
        "# at_brin in PostgreSQL is a brin index",
        "# As b_tags in PostgreSQL; keys only",
        "# As b_owner in PostgreSQL; keys only",
        "\n[tables.posts.indexes.by_owner]\npartition = \"{owner}\"\nsort = \"{id}\"\n",
        "# `words` is computed by PostgreSQL",
        "partition = \"country#{country}\"\nsort = \"name#{name}\"\n",
        "partition = \"{word}\"\n",
        "put a text before it: \"word#{word}\"",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    for part in ["by_labels", "by_at", "by_words", "DECIDE:", "As a_"] {
        assert!(!text.contains(part), "{part}\n{text}");
    }
    let moved = ended(configured(&world, &file, &["migrate", "--to", "DualWrite", "--quiet"])).await;
    assert_eq!(moved.status.code(), Some(0), "{}\n{text}", String::from_utf8_lossy(&moved.stdout));
}

/// `grants --role read-only` is for `status`, `doctor` and `report`, and the commands refused that role:
/// schema `lockstep` is not its own.
#[tokio::test]
async fn a_role_that_only_looks_may_give_the_commands_that_its_grants_are_for() {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let validated = ended(command(&world, &["validate", "--quiet"])).await;
    assert_eq!(validated.status.code(), Some(0));
    let (reader, options) = role(&world, "looker").await;
    let tables = world.tables();
    let relations: Vec<_> = tables.iter().map(|binding| &binding.relation).collect();
    for statement in lockstep_postgres::grants(GrantedRole::ReadOnly, &reader, "", &relations) {
        world.sql(&statement).await;
    }
    let looks = async |arguments: &[&str]| {
        let mut command = command(&world, arguments);
        command.env("LOCKSTEP_SOURCE__URL", &options.url);
        let output = ended(command).await;
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for arguments in [&["status"][..], &["doctor"], &["report"], &["dead-letters"], &["settings"], &["cost"]]
    {
        let (code, said) = looks(arguments).await;
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
    }
    let (code, said) = looks(&["advance"]).await;
    assert!(
        code == Some(2) && said.contains("could run with your rights"),
        "it moves nothing: {code:?} {said}"
    );

    // A role that has a table that moves could be harmed by what another one put there.
    let owner: String = world.value("SELECT current_user::text").await;
    for (sql, undone) in [
        (format!("ALTER TABLE payments OWNER TO {reader}"), format!("ALTER TABLE payments OWNER TO {owner}")),
        (
            format!("ALTER TABLE lockstep.control OWNER TO {reader}_other"),
            format!("ALTER TABLE lockstep.control OWNER TO {owner}"),
        ),
    ] {
        world.sql(&format!("DROP ROLE IF EXISTS {reader}_other")).await;
        world.sql(&format!("CREATE ROLE {reader}_other")).await;
        world.sql(&sql).await;
        let (code, said) = looks(&["status"]).await;
        assert!(code == Some(2) && said.contains("could run with your rights"), "{sql}: {code:?} {said}");
        world.sql(&undone).await;
    }
}

/// 1. A page cannot be taken, here as its version is of an epoch that PostgreSQL has forgotten. 2. The feed's
/// own tries
///    are used up; it opens every stream again, and that counted as the end of the outage. So it never said
///    anything.
#[tokio::test]
async fn a_feed_that_opens_its_streams_and_cannot_go_on_says_so() {
    let world = World::start().await;
    world.migrated_to(Phase::DynamoOnly).await.close().await;
    let control = world.control();
    let before = control.record().await.expect("read").expect("a record").epoch;
    let epoch = control.pause_writes(before).await.expect("paused");
    control.open_writes(epoch).await.expect("given up");
    world.sql(&format!("DELETE FROM lockstep.target_epochs WHERE epoch >= {}", epoch.0)).await;
    world.put_item(&Payments::default(), &payment_row(1, 1, "r"), epoch).await;
    let mut feed = command(&world, &["reverse-feed", "--quiet"]).spawn().expect("the command starts");
    let mut lines = BufReader::new(feed.stderr.take().expect("piped")).lines();
    let told = async {
        while let Some(line) = lines.next_line().await.expect("text") {
            if line.contains("waits and tries again") {
                return line;
            }
        }
        panic!("the feed ended");
    };
    let told = within(Duration::from_mins(2), told).await;
    assert!(told.contains("an epoch that PostgreSQL's control record has never begun"), "{told}");
    feed.kill().await.expect("ended");
}
