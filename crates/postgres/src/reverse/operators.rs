//! Operators of the catalogue, spelled so that no other one can be taken for them.
//!
//! With its schema alone an operator is not said: 1. A column is of a domain over citext, which is in
//! schema `public`. 2. A role that may create there makes `=` for that domain. 3. `OPERATOR(public.=)` is
//! the one that fits better. So both sides are cast to what the operator is made for, as PostgreSQL does
//! it by itself; where that is any enum, array or range, the operator is PostgreSQL's own, and no role
//! makes another one in its schema.

/// Returns an expression of SQL for the text between two operands, and after the second: `operator` is an
/// oid.
pub(super) fn operator_sql(operator: &str) -> [String; 2] {
    let cast = |side: &str| {
        format!(
            "(SELECT CASE WHEN ty.typtype = 'p' THEN ''
                     ELSE pg_catalog.format('::%I.%I', ns.nspname, ty.typname) END
              FROM pg_catalog.pg_operator op JOIN pg_catalog.pg_type ty ON ty.oid = op.{side}
              JOIN pg_catalog.pg_namespace ns ON ns.oid = ty.typnamespace WHERE op.oid = {operator})"
        )
    };
    let between = format!(
        "(SELECT pg_catalog.format('%s OPERATOR(%I.%s) ', {}, ns.nspname, op.oprname)
          FROM pg_catalog.pg_operator op JOIN pg_catalog.pg_namespace ns ON ns.oid = op.oprnamespace
          WHERE op.oid = {operator})",
        cast("oprleft"),
    );
    [between, cast("oprright")]
}
