//! The rights of each role in PostgreSQL, as SQL.

use super::binding::{list, quote_literal};
use super::{Relation, quote_identifier};
use crate::sql;

/// The role that connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantedRole {
    /// Commands that move something.
    Operator,
    /// A program that embeds the stores.
    Application,
    /// `status` and `doctor`: commands that change nothing.
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
            let looks_up = read_referred(&name, tables);
            let connects = [format!("GRANT CONNECT, CREATE ON DATABASE {database} TO {name};")];
            let uses = schemas(tables)
                .into_iter()
                .map(|schema| format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {name};"));
            connects.into_iter().chain(uses).chain(owns).chain(looks_up).collect()
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

/// Lets role `name` read what the foreign keys of `tables` refer to: a comparison counts rows that refer to
/// nothing (R25), and is incomplete where it may not look. Only the database knows which tables these are.
fn read_referred(name: &str, tables: &[&Relation]) -> Option<String> {
    let relations = tables.iter().map(|table| quote_literal(&table.sql()));
    (!tables.is_empty()).then(|| {
        format!(
            "DO $grant$ DECLARE referred text; BEGIN
    FOR referred IN
        SELECT DISTINCT pg_catalog.format('%I.%I', n.nspname, c.relname)
        FROM pg_catalog.pg_constraint k
        JOIN pg_catalog.pg_class c ON c.oid = k.confrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE k.contype = 'f' AND k.conrelid::regclass = ANY (ARRAY[{}]::regclass[])
    LOOP
        EXECUTE 'GRANT SELECT ON ' || referred || {};
    END LOOP;
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
