//! Reasons why a value cannot be held.

/// Reason why a value cannot be carried from one form to another. A row with such a value is dead-lettered
/// (R13), never altered.
///
/// The text never holds the value itself: reasons are logged, values are not (R36).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[error("{}{reason}", of_column(.column))]
pub struct Unholdable {
    /// The column or attribute; empty until the row codec fills it in.
    pub column: String,
    /// Reason why it cannot be held, without the value.
    pub reason: String,
}

/// Names the column at the front of a message; a reason that concerns the row as a whole has no column.
fn of_column(column: &str) -> String {
    if column.is_empty() { String::new() } else { format!("column `{column}`: ") }
}

impl Unholdable {
    /// Makes a reason whose column is not known yet.
    pub fn because(reason: impl Into<String>) -> Self {
        Self { column: String::new(), reason: reason.into() }
    }

    /// Returns the same reason, of the named column.
    pub fn of(mut self, column: &str) -> Self {
        if self.column.is_empty() {
            column.clone_into(&mut self.column);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_whole_item_names_no_column() {
        assert_eq!(Unholdable::because("the item has 1 byte").to_string(), "the item has 1 byte");
        assert_eq!(Unholdable::because("it is empty").of("id").to_string(), "column `id`: it is empty");
    }
}
