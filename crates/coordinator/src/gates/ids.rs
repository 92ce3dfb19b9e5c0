//! Whether writers of DynamoOnly can find the row of an id, and number new ones.
//!
//! What shows only after the flip is an outage: 1. A table is keyed by customer and id, and has no index by
//! id. 2. The step goes through. 3. Each update in DynamoOnly fails, as its row cannot be found by its id.

use lockstep_core::{Doing, Index, Result as StoreResult, ids_end};
use lockstep_postgres::sequences::{
    NumberedColumn, highest_ids, identity_of, increment_of, numbered_columns,
};
use lockstep_postgres::{TableBinding, column_types};

use crate::gate::{GateResult, Observer};
use crate::options::MigrationContext;

/// Checks whether the row of a primary key can be found.
pub(super) fn can_be_found(binding: &TableBinding) -> GateResult {
    let columns: Vec<&str> = binding.table.key_columns().iter().map(|column| column.attribute).collect();
    let found = finder(&columns, binding.table.primary_key_columns(), binding.table.target().indexes);
    let next = "declare an index whose partition is the primary key, like `by_id` in \
                docs/add-your-own-table.md, or a key of the primary key's columns, and copy the table again";
    let (passed, detail) = match found {
        Ok(by) => (true, by),
        Err(why) => (false, why.to_owned()),
    };
    GateResult::check("rows can be found by primary key", passed, detail, next)
}

/// Tells of keys of which PostgreSQL takes several texts for one value, by which DynamoDB tells items apart.
/// 1. A table is keyed by an interval. 2. In DynamoOnly one service writes `1 mon`, another one `30 days`. 3.
/// They are two items, and one row, which holds what the item under its own text says. It refuses nothing:
/// who writes such a key as PostgreSQL prints it has one item a row, and of two a comparison tells, so that
/// no way back goes through over them.
pub(super) async fn tell_of_several_texts(
    migration: &MigrationContext,
    binding: &TableBinding,
    observer: &dyn Observer,
) -> StoreResult<()> {
    for (column, sql_type) in migration.source.keys_of_several_texts(binding).await? {
        observer.note(&format!(
            "{}: `{column}` of the key is or holds {sql_type}, of which PostgreSQL takes several texts for one \
             value. Write it in DynamoDB as PostgreSQL prints it: two items of one value are one row, and the \
             way back is refused until one of them is deleted",
            binding.name()
        ));
    }
    Ok(())
}

/// Returns the index that finds a row by its primary key, the first `primary` entries of `columns`.
fn finder(columns: &[&str], primary: usize, indexes: &[Index]) -> Result<String, &'static str> {
    if columns.len() == primary {
        return Ok("it is the whole key".to_owned());
    }
    let [by_id, ..] = columns else { return Err("it has no key") };
    if primary != 1 {
        return Err(
            "the primary key has several columns and the key has more: no index finds a row by all of them",
        );
    }
    match indexes.iter().find(|index| index.partition.name == *by_id) {
        Some(index) => Ok(format!("by index {}", index.name)),
        None => Err("the key has more columns than the primary key, and no index has that as its partition"),
    }
}

/// Checks whether new rows can be numbered, where PostgreSQL numbers them.
pub(super) async fn can_be_made(
    migration: &MigrationContext,
    binding: &TableBinding,
    observer: &dyn Observer,
) -> StoreResult<GateResult> {
    let doing = "looking at the sequences of keys";
    let mut connection = migration.source.pool().acquire().await.doing(doing)?;
    let name = "new rows can be numbered";
    let numbered = numbered_columns(&mut connection, binding).await?;
    let others: Vec<&NumberedColumn> =
        numbered.iter().filter(|found| !is_whole_key(binding, found)).collect();
    if let Some((why, next)) = cannot_be_kept_clear_of(&numbered, &others) {
        return Ok(GateResult::check(name, false, why, next));
    }
    for other in &others {
        observer.note(&format!(
            "WARNING: PostgreSQL numbers column {} of {} by {}, and DynamoDB does not: in DynamoOnly the \
             application chooses the number of each row. The reverse feed sets the sequence above each that \
             it reads, so that none is given once more after the way back",
            other.column,
            binding.name(),
            other.sequence
        ));
    }
    let Some(sequence) = identity_of(&mut connection, binding).await? else {
        if !others.is_empty() {
            let columns: Vec<&str> = others.iter().map(|other| other.column).collect();
            let detail = format!("the application chooses {} there", columns.join(", "));
            return Ok(GateResult::pass(name, detail));
        }
        let types = column_types(&mut connection, binding).await?;
        let mut primary = binding.primary_key();
        let is_number = match (primary.next(), primary.next()) {
            (Some(column), None) => types.iter().any(|(name, sql_type)| {
                name == column && ["bigint", "integer", "smallint"].contains(&sql_type)
            }),
            _ => false,
        };
        if is_number {
            observer.note(&format!(
                "WARNING: no sequence numbers the rows of {}: in DynamoOnly an insert without an id is \
                 refused. \
                 Where a program takes ids from a sequence by itself, make it the default of the column \
                 before this step, so that both count on from it",
                binding.name()
            ));
        }
        return Ok(GateResult::pass(name, "no sequence does, so the application chooses their ids"));
    };
    let increment = increment_of(&mut connection, &sequence).await?;
    if increment <= 0 {
        let next = "let the sequence count upwards (ALTER SEQUENCE … INCREMENT BY 1, above every id), or \
                    choose ids in the application";
        let detail = format!("by {sequence}, which goes on by {increment}; DynamoDB counts upwards");
        return Ok(GateResult::check(name, false, detail, next));
    }
    let highest = highest_ids(&mut connection, &[(binding, sequence.clone())]).await?;
    let highest = highest.into_iter().next().unwrap_or_default();
    let sql_type = binding.table.key_columns().first().map_or("", |column| column.sql_type);
    // The counter begins above all of them, and ends before the end of the type.
    let has_room = ids_end(sql_type).is_none_or(|end| highest.saturating_add(1) < end);
    let detail = match has_room {
        true => format!("by {sequence}, which goes on by {increment}; DynamoDB counts upwards"),
        false => format!("by {sequence}, and its ids or those of rows have come to the end of {sql_type}"),
    };
    let next = "give the column a wider type (ALTER COLUMN … TYPE bigint); where a row with so high an id \
                stands for something else, give it the greatest id of the type, which does not count";
    Ok(GateResult::check(name, has_room, detail, next))
}

/// Tells whether a column is all of the primary key: DynamoDB has a counter for such a one.
fn is_whole_key(binding: &TableBinding, found: &NumberedColumn) -> bool {
    binding.table.primary_key_columns() == 1 && binding.primary_key().next() == Some(found.column)
}

/// Returns why a number that was given in DynamoOnly could be given once more after the way back, and what to
/// do. Of a sequence that numbers the whole key, and counts down, its own gate speaks.
///
/// 1. A table is keyed by shop and number, of which PostgreSQL gives the number. 2. In DynamoOnly the
/// application does. 3. The feed cannot set the sequence. 4. After the way back PostgreSQL gives a number
/// that another row has.
fn cannot_be_kept_clear_of(
    numbered: &[NumberedColumn],
    others: &[&NumberedColumn],
) -> Option<(String, String)> {
    if let Some(found) = numbered.iter().find(|found| !found.may_set) {
        let (column, sequence) = (found.column, &found.sequence);
        let why = format!("{column} is numbered by {sequence}, which this role may not read or set");
        return Some((why, found.right()));
    }
    let found = others.iter().find(|found| found.increment <= 0)?;
    let (column, sequence, increment) = (found.column, &found.sequence, found.increment);
    let why = format!("{column} is numbered by {sequence}, which goes on by {increment}");
    let next = "let the sequence count upwards (ALTER SEQUENCE … INCREMENT BY 1, above every number), or \
                take the column's default or identity away and choose the numbers in the application";
    Some((why, next.to_owned()))
}

#[cfg(test)]
mod tests {
    use lockstep_core::{KeyAttribute, KeyType, Projected};

    use super::*;

    const BY_ID: Index = Index {
        name: "by_id",
        partition: KeyAttribute { name: "payment_id", key_type: KeyType::N },
        sort: None,
        projection: Projected::Keys,
    };

    #[test]
    fn a_sequence_that_cannot_be_set_above_what_dynamo_only_gave_is_refused() {
        let found = |increment, may_set| NumberedColumn {
            column: "number",
            sequence: "shop.orders_number_seq".to_owned(),
            increment,
            may_set,
        };
        let asked = |found: NumberedColumn| cannot_be_kept_clear_of(std::slice::from_ref(&found), &[&found]);
        assert_eq!(asked(found(1, true)), None);
        let (why, next) = asked(found(1, false)).expect("refused");
        assert!(why.contains("number is numbered by shop.orders_number_seq"), "{why}");
        assert!(next.contains("shop.orders_number_seq"), "{next}");
        assert!(asked(found(-1, true)).expect("refused").0.contains("goes on by -1"));
        // The whole key has a gate of its own for that.
        assert_eq!(cannot_be_kept_clear_of(&[found(-1, true)], &[]), None);
    }

    #[test]
    fn a_row_whose_place_no_id_leads_to_is_not_found() {
        assert!(finder(&["payment_id"], 1, &[]).is_ok(), "the key is the id");
        assert!(finder(&["tenant", "number"], 2, &[]).is_ok(), "the key is both");
        assert!(finder(&["payment_id", "customer_id"], 1, &[BY_ID]).is_ok());
        assert!(finder(&["payment_id", "customer_id"], 1, &[]).is_err());
        assert!(finder(&["tenant", "payment_id", "customer_id"], 2, &[BY_ID]).is_err());
    }
}
