use lockstep_tests::world::run;

use super::{DENIED, attacker, refused, world};

/// S1: the trigger function ran a view of the attacker's with the rights of the operator.
#[tokio::test]
async fn a_trigger_function_of_ours_is_attached_to_no_table_of_another_role() {
    let world = world().await;
    let mut app = attacker(&world, "mallory").await;
    run(&mut app, "CREATE TEMP TABLE bait (x int)").await;
    run(&mut app, "CREATE TEMP VIEW gone AS SELECT 'x'::text AS table_name, '[]'::jsonb AS key").await;
    let attach = |name: &str| {
        format!("CREATE TRIGGER t AFTER DELETE ON bait FOR EACH STATEMENT EXECUTE FUNCTION lockstep.{name}()")
    };
    for name in [
        "note_delivered",
        "note_cured",
        "take_report",
        "refuse_truncate",
        "journal_is_append_only",
        "guard_pending",
    ] {
        assert_eq!(refused(&mut app, &attach(name)).await, DENIED, "{name}");
    }
}

/// Even a role that was given EXECUTE by mistake notes nothing but what leaves the pending set (S24).
#[tokio::test]
async fn only_the_pending_set_notes_what_was_delivered() {
    let world = world().await;
    world.sql("CREATE TABLE public.bait (table_name text, key jsonb)").await;
    world.sql("INSERT INTO public.bait VALUES ('payments', '[1]')").await;
    world
        .sql(
            "CREATE TRIGGER t AFTER DELETE ON public.bait REFERENCING OLD TABLE AS gone
             FOR EACH STATEMENT EXECUTE FUNCTION lockstep.note_delivered()",
        )
        .await;
    let tried = world.try_sql("DELETE FROM public.bait").await.expect_err("it is of another table");
    assert_eq!(tried.into_database_error().expect("PostgreSQL's").code().as_deref(), Some(DENIED));
}

#[tokio::test]
async fn no_definer_function_is_executable_by_public_and_each_has_a_fixed_search_path() {
    let world = world().await;
    let open: Vec<String> = sqlx::query_scalar(
        "SELECT p.oid::regprocedure::text FROM pg_proc p
         WHERE p.pronamespace = 'lockstep'::regnamespace AND p.prosecdef
             AND (NOT EXISTS (SELECT FROM unnest(p.proconfig) AS c WHERE c LIKE 'search_path=pg_catalog%')
                  OR EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0))",
    )
    .fetch_all(world.source.pool())
    .await
    .expect("the catalogue is read");
    assert_eq!(open, Vec::<String>::new());
    let definers: i64 = world
        .value("SELECT count(*) FROM pg_proc WHERE pronamespace = 'lockstep'::regnamespace AND prosecdef")
        .await;
    assert!(definers >= 3, "note_delivered, refuse_truncate and capture are looked at");
}
