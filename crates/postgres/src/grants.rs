//! The rights of each role in PostgreSQL, as SQL.

use super::binding::{list, quote_literal};
use super::foreign_code::TYPES;
use super::{Relation, quote_identifier};
use crate::sql;

/// The role that connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantedRole {
    /// Commands that move something.
    Operator,
    /// A program that embeds the stores.
    Application,
    /// Status and diagnosis, which change nothing.
    ReadOnly,
}

/// Rights that an application needs, beside those on its own tables. docs/runbook.md shows the same, and a
/// test compares.
const APPLICATION: [&str; 5] = [
    "GRANT USAGE ON SCHEMA lockstep TO",
    "GRANT SELECT ON lockstep.control TO",
    "GRANT USAGE ON SEQUENCE lockstep.version_seq TO",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON lockstep.pending, lockstep.intents, lockstep.instances TO",
    "GRANT SELECT, DELETE ON lockstep.dead_letters TO",
];

/// Rights that a reading role needs.
const READ_ONLY: [&str; 3] = [
    "GRANT USAGE ON SCHEMA lockstep TO",
    "GRANT SELECT ON ALL TABLES IN SCHEMA lockstep TO",
    "GRANT SELECT ON ALL SEQUENCES IN SCHEMA lockstep TO",
];

/// Begins the body of a block that who owns the database runs, in a session that is none of ours: 1. A role
/// that may create in `public` makes `=` for an oid and a regclass there. 2. The block compares the two, and
/// has the path of that session. 3. The operator runs with the rights of who owns the database. Declarations
/// that are worked out come after it.
const OUR_PATH: &str = "path pg_catalog.text := pg_catalog.current_setting('search_path');
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);";
/// Ends it: the transaction may be one of more statements.
const PATH_AS_BEFORE: &str = "PERFORM pg_catalog.set_config('search_path', path, true);";

/// Returns the statements that make role `to` one that may do what `role` does with `tables`, and no more.
/// Those of an application and of who only reads are run by the operator, once schema `lockstep` is there;
/// those of the operator by who owns the database.
pub fn grants(role: GrantedRole, to: &str, database: &str, tables: &[&Relation]) -> Vec<String> {
    let name = quote_identifier(to);
    let each = |statements: &[&str]| {
        statements
            .iter()
            .map(|statement| format!("{} {name};", sql::of_this_schema(statement)))
            .collect::<Vec<_>>()
    };
    match role {
        GrantedRole::Operator => {
            let database = quote_identifier(database);
            // Only an owner can make a trigger fire always.
            let owns = tables.iter().map(|table| format!("ALTER TABLE {} OWNER TO {name};", table.sql()));
            let owns_besides = own_besides(&name, tables);
            let looks_up = read_referred(&name, tables);
            let connects = [format!("GRANT CONNECT, CREATE ON DATABASE {database} TO {name};")];
            let uses = schemas(tables)
                .into_iter()
                .map(|schema| format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {name};"));
            connects.into_iter().chain(uses).chain(owns).chain(owns_besides).chain(looks_up).collect()
        }
        GrantedRole::Application => each(&APPLICATION),
        GrantedRole::ReadOnly => {
            let uses = schemas(tables)
                .into_iter()
                .map(|schema| format!("GRANT USAGE ON SCHEMA {schema} TO {name};"));
            let reads = tables.iter().map(|table| format!("GRANT SELECT ON {} TO {name};", table.sql()));
            each(&READ_ONLY).into_iter().chain(uses).chain(reads).collect()
        }
    }
}

/// Gives role `name` the partitions of `tables`, and the types of their columns: whose owner another role is,
/// that one has code of its own run with the rights of `name`, by a trigger or a cast. Those of superusers
/// and of extensions stay theirs. Only the database knows which these are.
fn own_besides(name: &str, tables: &[&Relation]) -> Option<String> {
    let relations = tables.iter().map(|table| quote_literal(&table.sql()));
    (!tables.is_empty()).then(|| {
        format!(
            "DO $grant$ DECLARE
    moved pg_catalog.oid[];
    besides record;
    {OUR_PATH}
    moved := ARRAY(SELECT l.relid::oid FROM pg_catalog.unnest(ARRAY[{}]::regclass[]) AS t (relation),
        pg_catalog.pg_partition_tree(t.relation) AS l
        UNION SELECT pg_catalog.unnest(ARRAY[{}]::regclass[])::oid);
    FOR besides IN
        SELECT 'TABLE' AS kind, n.nspname, c.relname AS name
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = ANY (moved) AND c.relispartition
        UNION ALL
        SELECT 'TYPE', n.nspname, p.typname
        FROM pg_catalog.pg_type p JOIN pg_catalog.pg_namespace n ON n.oid = p.typnamespace
        JOIN pg_catalog.pg_roles r ON r.oid = p.typowner LEFT JOIN pg_catalog.pg_class c ON c.oid = p.typrelid
        WHERE p.oid IN ({types}) AND NOT r.rolsuper AND p.typtype <> 'm' AND coalesce(c.relkind = 'c', true)
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_type e WHERE e.typarray = p.oid)
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.deptype = 'e'
                AND d.classid = 'pg_catalog.pg_type'::regclass::oid AND d.objid = p.oid)
    LOOP
        EXECUTE pg_catalog.format('GRANT USAGE, CREATE ON SCHEMA %I TO ', besides.nspname) || {to};
        EXECUTE pg_catalog.format('ALTER ' || besides.kind || ' %I.%I OWNER TO ',
            besides.nspname, besides.name) || {to};
    END LOOP;
    {PATH_AS_BEFORE}
END $grant$;",
            list(relations.clone()),
            list(relations),
            types = TYPES.replace("$1", "moved"),
            to = quote_literal(name),
        )
    })
}

/// Lets role `name` read what the foreign keys of `tables` refer to: a comparison counts rows that refer to
/// nothing (R25), and is incomplete where it may not look. Only the database knows which tables these are.
fn read_referred(name: &str, tables: &[&Relation]) -> Option<String> {
    let relations = tables.iter().map(|table| quote_literal(&table.sql()));
    (!tables.is_empty()).then(|| {
        format!(
            "DO $grant$ DECLARE
    referred pg_catalog.text;
    {OUR_PATH}
    FOR referred IN
        SELECT DISTINCT pg_catalog.format('%I.%I', n.nspname, c.relname)
        FROM pg_catalog.pg_constraint k
        JOIN pg_catalog.pg_class c ON c.oid = k.confrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE k.contype = 'f' AND k.conrelid = ANY (ARRAY[{}]::regclass[]::oid[])
    LOOP
        EXECUTE 'GRANT SELECT ON ' || referred || {};
    END LOOP;
    {PATH_AS_BEFORE}
END $grant$;",
            list(relations),
            quote_literal(&format!(" TO {name}")),
        )
    })
}

fn schemas(tables: &[&Relation]) -> Vec<String> {
    let mut found: Vec<String> = tables.iter().map(|table| quote_identifier(&table.schema)).collect();
    found.sort();
    found.dedup();
    found
}
