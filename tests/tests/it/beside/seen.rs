//! The state of each of two migrations in PostgreSQL, read past the product.

use lockstep_tests::World;
use sqlx::{AssertSqlSafe, Executor as _};

async fn texts(world: &World, sql: &str) -> Vec<String> {
    let found = sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(world.strangers()).await;
    found.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// Returns what PostgreSQL keeps of a migration: each trigger, where it calls, and the transactions that
/// touched both; phase, epoch and identity; what its tables hold.
pub(super) async fn kept(world: &World, schema: &str) -> String {
    let sql = format!(
        "SELECT pg_catalog.concat_ws(E'\\n',
             (SELECT string_agg(concat_ws(' ', t.tgrelid::regclass, t.tgname, t.tgenabled, t.xmin,
                     p.oid::regprocedure, p.xmin), E'\\n' ORDER BY t.tgrelid, t.tgname)
                 FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
                 WHERE p.pronamespace = '{schema}'::regnamespace),
             (SELECT concat_ws(' ', phase, epoch, migration_id) FROM {schema}.control),
             (SELECT string_agg(t::text, E'\\n' ORDER BY t.name) FROM {schema}.tables t),
             (SELECT count(*) FROM {schema}.journal))"
    );
    world.value(&sql).await
}

/// Checks what holds of every schema of ours: no role but a granted one calls a function with its owner's
/// rights, and each of these has PostgreSQL's own path. Returns what application `app` may do.
pub(super) async fn rights(world: &World, schema: &str, app: &str) -> Vec<String> {
    let sql = format!(
        "SELECT p.oid::regprocedure::text FROM pg_proc p
         WHERE p.pronamespace = '{schema}'::regnamespace AND (p.prosecdef AND NOT EXISTS (
                 SELECT FROM unnest(p.proconfig) AS c WHERE c LIKE 'search_path=pg_catalog%')
             OR (p.prosecdef OR p.prorettype = 'trigger'::regtype) AND EXISTS (
                 SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
                 WHERE a.grantee = 0))"
    );
    assert_eq!(texts(world, &sql).await, Vec::<String>::new(), "{schema}");
    let sql = format!(
        "SELECT c.relname || ' ' || p FROM pg_class c
         CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER']) AS p
         WHERE c.relnamespace = '{schema}'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p')
             AND has_table_privilege('{app}', c.oid, p)
         UNION ALL SELECT c.relname || ' ' || p FROM pg_class c
         CROSS JOIN unnest(ARRAY['USAGE', 'SELECT', 'UPDATE']) AS p
         WHERE c.relnamespace = '{schema}'::regnamespace AND c.relkind = 'S'
             AND has_sequence_privilege('{app}', c.oid, p)
         ORDER BY 1"
    );
    texts(world, &sql).await
}

/// Returns everything of a schema that has a text, without the schema's name: columns, defaults, checks,
/// functions, triggers on its own tables.
pub(super) async fn shape(world: &World, schema: &str) -> Vec<String> {
    let sql = format!(
        "SELECT 'column ' || c.relname || ' ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
                 || ' ' || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
             FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
             LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
             WHERE c.relnamespace = '{schema}'::regnamespace AND c.relkind = 'r' AND a.attnum > 0
                 AND NOT a.attisdropped
         UNION ALL SELECT 'constraint ' || conrelid::regclass || ' ' || pg_get_constraintdef(oid)
             FROM pg_constraint WHERE connamespace = '{schema}'::regnamespace
         UNION ALL SELECT 'trigger ' || pg_get_triggerdef(t.oid)
             FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
             WHERE c.relnamespace = '{schema}'::regnamespace AND NOT t.tgisinternal
         UNION ALL SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = '{schema}'
         UNION ALL SELECT 'function ' || pg_get_functiondef(oid) FROM pg_proc
             WHERE pronamespace = '{schema}'::regnamespace
                 AND proname !~ '^(capture|upsert|insert|delete)_'"
    );
    let mut shape: Vec<String> =
        texts(world, &sql).await.into_iter().map(|text| text.replace(schema, "lockstep")).collect();
    shape.sort();
    shape
}

/// Returns the first numbers of the locks that `write` enters.
pub(super) async fn locks(world: &World, write: &str) -> Vec<i32> {
    let mut writer = world.stranger().await;
    writer.execute(AssertSqlSafe(format!("BEGIN; {write}"))).await.expect("written");
    let locks: Vec<i32> = sqlx::query_scalar(
        "SELECT DISTINCT classid::int FROM pg_locks
         WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND objid = 1",
    )
    .fetch_all(&mut writer)
    .await
    .expect("locks");
    writer.execute("ROLLBACK").await.expect("rolled back");
    locks
}
