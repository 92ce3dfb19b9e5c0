//! Columns whose text is not their value, so that no item could hold it.

use lockstep_postgres::CatalogColumn;

/// Returns why a column cannot be moved, and what repairs it; `None` where it can.
pub(crate) fn unmovable(column: &CatalogColumn, is_in_key: bool) -> Option<String> {
    let CatalogColumn { name, base_type, .. } = column;
    if let Some(unstable) = &column.unstable {
        let of = if base_type == unstable { String::new() } else { format!(", made of {unstable}") };
        return Some(format!(
            "column `{name}` is {base_type}{of}: PostgreSQL prints it as a name, and another one once what it names is \
             renamed, which no trigger sees; make the column text, or oid, or do not declare this table"
        ));
    }
    if column.cast_from_text {
        return Some(format!(
            "column `{name}` is {base_type}, and a cast of this database makes that of text by a function, so that the way \
             back might write another value than it reads; drop the cast (text AS {base_type}), or make it WITH INOUT"
        ));
    }
    (is_in_key && column.cast_to_text).then(|| {
        format!(
            "column `{name}` is in the key and is {base_type}, which a cast of this database makes text of by a function, \
             so that two keys might be one; drop the cast ({base_type} AS text), or make it WITH INOUT"
        )
    })
}
