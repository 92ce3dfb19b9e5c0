//! Attributes that are taken: no two things of an item may be called the same.

use std::collections::BTreeMap;

use lockstep_template::RESERVED_ATTRIBUTES;

use super::Problems;
use crate::shape::Column;

/// Attributes that are taken already.
pub(super) struct AttributeNames(BTreeMap<String, String>);

impl AttributeNames {
    pub(super) fn of(columns: &[Column], problems: &mut Problems) -> Self {
        let mut names = Self(BTreeMap::new());
        for column in columns {
            names.take(column.attribute, &format!("column `{}`", column.name), problems);
        }
        names
    }

    pub(super) fn take(&mut self, attribute: &str, whose: &str, problems: &mut Problems) {
        // Of a column it was said already, with the rename to write.
        if !whose.starts_with("column") && RESERVED_ATTRIBUTES.contains(&attribute) {
            problems.push(format!(
                "{whose} names the attribute `{attribute}`, which is Lockstep's own; choose another name"
            ));
        }
        if attribute.is_empty() || attribute.len() > 255 {
            problems.push(format!("{whose}: an attribute's name has 1 to 255 bytes"));
        }
        if let Some(other) = self.0.insert(attribute.to_owned(), whose.to_owned()) {
            problems.push(format!(
                "{whose} and {other} would share the attribute `{attribute}`; rename one of them"
            ));
        }
    }
}
