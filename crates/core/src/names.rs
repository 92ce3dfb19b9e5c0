//! Names of Lockstep's own attributes in a target table.

use crate::attribute::{
    DELETED_ATTRIBUTE, MARK_ATTRIBUTE, MARKER_ATTRIBUTE, PK, PROBE_ATTRIBUTE, RESERVED_ATTRIBUTES, SK,
    TTL_ATTRIBUTE, VERSION_ATTRIBUTE, WRITERS_ATTRIBUTE,
};

/// Longest name of an attribute that is a key somewhere, in bytes (DynamoDB Developer Guide, "Quotas").
const NAME_BYTES_MAX: usize = 255;
/// Attributes that only a mark has where a key has the usual name of one.
const OF_A_MARK: [&str; 3] = ["mark_highest", "mark_server", "mark_at"];
/// Stands before an attribute of another program that is called as one of ours is called here, and not in
/// this table. No name of PostgreSQL's has it.
pub(crate) const ANOTHERS: char = '\0';

/// Names of Lockstep's own attributes in a target table.
///
/// ```
/// use lockstep_core::OwnNames;
///
/// const NAMES: OwnNames = OwnNames { partition: "id", sort: "created", ..OwnNames::DEFAULT };
/// assert_eq!(NAMES.expiry, "ttl");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnNames {
    /// The partition key; `PK` where nothing is said.
    pub partition: &'static str,
    /// The sort key; `SK` where nothing is said.
    pub sort: &'static str,
    /// Second since 1970 after which DynamoDB may remove the item; `ttl` where nothing is said.
    pub expiry: &'static str,
    /// Version of the state that an item holds; `_v` where nothing is said.
    pub version: &'static str,
    /// The last writers of an item; `_w` where nothing is said.
    pub writers: &'static str,
    /// Attribute that makes an item a tombstone; `_deleted` where nothing is said.
    pub deleted: &'static str,
    /// Number of the mark of history; `_mark` where nothing is said.
    pub mark: &'static str,
    /// Round of a marker of the reverse feed; `_marker` where nothing is said.
    pub marker: &'static str,
    /// Run of a probe; `_probe` where nothing is said.
    pub probe: &'static str,
}

impl OwnNames {
    /// The names that Lockstep gives where nothing is said.
    pub const DEFAULT: Self = Self {
        partition: PK,
        sort: SK,
        expiry: TTL_ATTRIBUTE,
        version: VERSION_ATTRIBUTE,
        writers: WRITERS_ATTRIBUTE,
        deleted: DELETED_ATTRIBUTE,
        mark: MARK_ATTRIBUTE,
        marker: MARKER_ATTRIBUTE,
        probe: PROBE_ATTRIBUTE,
    };

    /// Words by which a declaration says each, in the order of [`OwnNames::all`].
    pub const WORDS: [&'static str; 9] =
        ["partition", "sort", "expiry", "version", "writers", "deleted", "mark", "marker", "probe"];

    /// Returns the names in the order of [`RESERVED_ATTRIBUTES`], which they stand for.
    pub const fn all(&self) -> [&'static str; 9] {
        let Self { partition, sort, expiry, version, writers, deleted, mark, marker, probe } = *self;
        [partition, sort, expiry, version, writers, deleted, mark, marker, probe]
    }

    /// Returns what is wrong with them by themselves and beside the attributes that columns and indexes
    /// have, one sentence each, with the rename to write.
    pub fn problems(&self, has_sort: bool, columns: &[(&str, &str)], of_indexes: &[&str]) -> Vec<String> {
        let (all, mut wrong) = (self.all(), Vec::new());
        for (place, name) in all.into_iter().enumerate() {
            let (what, usual) = (Self::WORDS[place], RESERVED_ATTRIBUTES[place]);
            if name == usual {
                continue;
            }
            if what == "sort" && !has_sort {
                wrong.push(format!(
                    "names.sort = {name:?} names a sort key, and the table has none; leave it out"
                ));
                continue;
            }
            if name.is_empty() || name.len() > NAME_BYTES_MAX {
                wrong.push(format!(
                    "names.{what} has {} bytes, and the name of an attribute has 1 to {NAME_BYTES_MAX}",
                    name.len()
                ));
            }
            if name.contains(ANOTHERS) {
                wrong.push(format!("names.{what} holds a NUL; write one without"));
            }
            if OF_A_MARK.contains(&name) {
                wrong.push(format!(
                    "names.{what} = {name:?} is an attribute of the mark that Lockstep keeps in each table; \
                     write another one"
                ));
            }
            // Of two keys that are columns it is said where their templates are.
            let is_key = place < 2;
            if let Some((column, _)) = columns.iter().find(|(_, attribute)| *attribute == name && !is_key) {
                wrong.push(format!(
                    "names.{what} = {name:?} is the attribute of column `{column}`; write another one, or \
                     hold the column in another attribute (attributes = {{ {column} = \"{name}_column\" }})"
                ));
            }
            let is_column = columns.iter().any(|(_, attribute)| *attribute == name);
            if !is_column && of_indexes.contains(&name) {
                wrong.push(format!(
                    "names.{what} = {name:?} is the attribute of an index; write another one, or give the \
                     index one with partition_attribute or sort_attribute"
                ));
            }
        }
        for (place, name) in all.into_iter().enumerate() {
            if let Some(other) = all[..place].iter().position(|other| *other == name) {
                wrong.push(format!(
                    "names.{} and names.{} are both {name:?}; write another one for one of them",
                    Self::WORDS[other],
                    Self::WORDS[place]
                ));
            }
        }
        wrong
    }
}

impl Default for OwnNames {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Words that DynamoDB reserves, and names of ours in other roles.
    pub(crate) const NAMES: OwnNames = OwnNames {
        partition: "key",
        sort: "ttl",
        expiry: "value",
        version: "PK",
        writers: "name",
        deleted: "_v",
        mark: "SK",
        marker: "o'clock",
        probe: "\"quoted\"",
    };

    #[test]
    fn names_that_collide_are_refused_with_the_rename() {
        let columns = [("note", "note"), ("Price", "price")];
        let problems = |names: OwnNames| names.problems(true, &columns, &["by_pk"]);
        assert_eq!(problems(NAMES), Vec::<String>::new());
        assert_eq!(problems(OwnNames { partition: "note", ..OwnNames::DEFAULT }), Vec::<String>::new());
        for (names, says) in [
            (OwnNames { sort: "", ..NAMES }, "1 to 255"),
            (OwnNames { sort: &"x".repeat(256).leak()[..], ..NAMES }, "256 bytes"),
            (OwnNames { expiry: "key", ..NAMES }, "names.partition and names.expiry"),
            (OwnNames { partition: "_w", ..OwnNames::DEFAULT }, "names.partition and names.writers"),
            (OwnNames { version: "price", ..NAMES }, "column `Price`"),
            (OwnNames { partition: "by_pk", ..NAMES }, "of an index"),
            (OwnNames { partition: "mark_at", ..NAMES }, "the mark"),
            (OwnNames { probe: "a\0", ..NAMES }, "NUL"),
        ] {
            let problems = problems(names);
            assert!(matches!(&problems[..], [one] if one.contains(says)), "{says}: {problems:?}");
        }
        let of_no_sort = NAMES.problems(false, &columns, &[]);
        assert!(matches!(&of_no_sort[..], [one] if one.contains("has none")), "{of_no_sort:?}");
    }
}
