//! Numbers that rows are given for their key, and those that are left out.
//!
//! 1. A row has the greatest number of its type, as one that stands for "none" has it. PostgreSQL does not
//! mind: its sequence stands at 10,000. 2. DynamoDB counts on above every number in use, and there is none.
//! 3. No row can be inserted there, and on the way back the sequence is set to its end.

/// Numbers at the end of a type that are given to no row: more than programs set aside for rows of their own.
const LEFT_OUT: i64 = 1 << 20;

/// Returns the least number that no row of a key of this type is given, and from which on a row that has one
/// raises no counter. `None` where rows of the type are not numbered.
pub fn ids_end(sql_type: &str) -> Option<i64> {
    let greatest = match sql_type {
        "smallint" => i64::from(i16::MAX),
        "integer" => i64::from(i32::MAX),
        "bigint" => i64::MAX,
        _ => return None,
    };
    // Of a small type a part, so that most of it is left.
    Some(greatest - LEFT_OUT.min(greatest / 16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_of_a_type_is_handed_out_and_its_end_is_not() {
        for (sql_type, greatest) in [("smallint", 32_767), ("integer", 2_147_483_647), ("bigint", i64::MAX)] {
            let end = ids_end(sql_type).expect("a number");
            assert!(end <= greatest - 1_000 && end > greatest - greatest / 15, "{sql_type}: {end}");
        }
        assert_eq!(ids_end("text"), None);
    }
}
