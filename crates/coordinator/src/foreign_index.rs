//! Names the index that a row was refused for, where it is none of the table's design.

use lockstep_core::Advice::RetryDeadLetters;
use lockstep_core::TargetSchema;

const ANNOUNCED: &str = "IndexName: ";

/// `reason`, for which DynamoDB refused an item; where it is about an index that the table's design does
/// not have, that is said, and what to do. 1. Another program adds an index by `note`. 2. A row with an
/// empty `note` is refused. 3. The message speaks of a key attribute, and the row has good keys.
pub(crate) fn explained(reason: &str, schema: &TargetSchema) -> String {
    let name = reason.split(ANNOUNCED).nth(1).map(|rest| {
        let ends = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
        rest.split(ends).next().unwrap_or_default().trim_end_matches('.')
    });
    match name.filter(|name| !name.is_empty() && schema.indexes.iter().all(|index| index.name != *name)) {
        Some(name) => format!(
            "{reason}; index {name} is none of this table's design, another program added it: delete it, \
             then {RetryDeadLetters}"
        ),
        None => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use lockstep_core::{Index, KeyAttribute, KeyType, Projected};

    use super::*;

    #[test]
    fn an_index_of_another_program_is_named_and_one_of_ours_is_not() {
        const SCHEMA: TargetSchema = TargetSchema {
            partition: KeyType::S,
            sort: None,
            indexes: &[Index {
                name: "by_status",
                partition: KeyAttribute { name: "status", key_type: KeyType::S },
                sort: None,
                projection: Projected::Keys,
            }],
        };
        let said = |index: &str| {
            format!("ValidationException: … an empty string value. IndexName: {index}, IndexKey: note")
        };
        assert!(explained(&said("by_note"), &SCHEMA).contains("index by_note is none"));
        for of_ours in [said("by_status"), "Item size has exceeded".to_owned()] {
            assert_eq!(explained(&of_ours, &SCHEMA), of_ours);
        }
    }
}
