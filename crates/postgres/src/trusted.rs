//! Trust in the owner of a relation that a statement of ours reads beside the moved tables.
//!
//! Who owns a relation has each role that reads it run code: a cast of the type of a column, which no search
//! path keeps away, or a function in the predicate of an index, which PostgreSQL calls while it plans, before
//! it asks for a right. So a read that meets no gate asks first whose the relation is.

/// Returns the condition that role `owner`, an oid, may have code run with our rights anyway: it is ours, the
/// owner of the moved table that the text `relation` names, or a superuser.
pub(crate) fn is_trusted_sql(owner: &str, relation: &str) -> String {
    format!(
        "({owner} IN (SELECT c.relowner FROM pg_catalog.pg_class c
                      WHERE c.oid = pg_catalog.to_regclass({relation})::oid)
          OR {owner} IN (SELECT r.oid FROM pg_catalog.pg_roles r
                         WHERE r.rolname = current_user OR r.rolsuper))"
    )
}

/// Returns the condition that no cast of a role's own is between types `a` and `b`, oids: they are one type,
/// or both are PostgreSQL's.
pub(crate) fn is_alike_sql(a: &str, b: &str) -> String {
    format!(
        "({a} = {b} OR 2 = (SELECT pg_catalog.count(*) FROM pg_catalog.pg_type p
                            WHERE p.oid IN ({a}, {b})
                                AND p.typnamespace = 'pg_catalog'::pg_catalog.regnamespace::oid))"
    )
}
