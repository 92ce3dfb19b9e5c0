//! Partitions that were detached, and are another role's by the time an operator has their rows deleted.

use lockstep_core::Phase;
use lockstep_tests::world::run;
use sqlx::{Connection as _, PgConnection};

use super::partitions::Moved;
use crate::roles::role;

/// 1. A partition is detached, and goes to a role that archives. 2. That one changes the type of its key to
/// one of its own, with a cast to text by a function of its own. 3. `repair --state --apply` read its keys,
/// and ran the function as the operator. Or it keeps the partition locked, and no repair ends.
#[tokio::test]
async fn a_detached_partition_of_another_role_is_left_to_the_comparison() {
    for case in ["another type", "locked", "as it was"] {
        let moved = Moved::to(Phase::DualWrite).await;
        let world = &moved.world;
        let (archive, as_archive) = role(world, "archive").await;
        world
            .sql(&format!(
                "ALTER TABLE events DETACH PARTITION events_1; ALTER TABLE events_1 OWNER TO {archive};
                 CREATE SCHEMA m AUTHORIZATION {archive}"
            ))
            .await;
        let mut archives = PgConnection::connect(&as_archive.url).await.expect("connects");
        let planted = format!(
            "CREATE SEQUENCE m.caught;
             CREATE TYPE m.e AS ENUM ('one');
             CREATE FUNCTION m.evil(m.e) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
                 IF current_user <> '{archive}' THEN PERFORM pg_catalog.nextval('m.caught'); END IF;
                 RETURN 'one'; END $$;
             CREATE CAST (m.e AS text) WITH FUNCTION m.evil(m.e);
             GRANT USAGE ON SCHEMA m TO PUBLIC"
        );
        run(&mut archives, &planted).await;
        match case {
            "another type" => {
                run(&mut archives, "ALTER TABLE public.events_1 ALTER COLUMN id TYPE m.e USING 'one'::m.e")
                    .await;
                let proof = "SELECT pg_catalog.count(DISTINCT s.id::text) FROM public.events_1 AS s";
                run(&mut world.stranger().await, proof).await;
                assert!(
                    world.value::<bool>("SELECT is_called FROM m.caught").await,
                    "it is a cast of theirs"
                );
                world.sql("ALTER SEQUENCE m.caught RESTART").await;
            }
            "locked" => run(&mut archives, "BEGIN; LOCK TABLE public.events_1").await,
            _ => {}
        }
        let mended = moved.mended().await.expect("mended");
        assert!(mended.left.as_ref().is_some_and(|left| left.sound), "{case}: {mended:?}");
        assert!(!world.value::<bool>("SELECT is_called FROM m.caught").await, "{case}: code of theirs ran");
        moved.converges().await;
    }
}
