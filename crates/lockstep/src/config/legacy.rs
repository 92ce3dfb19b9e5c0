//! Names that the environment of a dual-writing application has already, read as other names of keys: what
//! runs beside the migration need not be configured twice.
//!
//! They give way to everything that names Lockstep's own key, the file included: the variable of another
//! program must not send a configured migration to another database.

use std::collections::BTreeMap;

use figment::{Metadata, Profile};

use super::ENVIRONMENT;
use crate::store::WriteOptions;

/// The address of the database that is left.
const DATABASE: (&str, &str) = ("LEGACY_DATABASE_URL", "source.url");
/// Prefix of what says how both stores are written: the rest is a key of `[writes]`, or one of [`WRITES`].
const PREFIX: &str = "DUAL_WRITE_";
/// Other words for keys of `[writes]`.
const WRITES: [(&str, &str); 3] = [
    ("mode", "dual_write"),
    ("continue_on_failure", "continue_on_write_failure"),
    ("timeout_ms", "inline_timeout_ms"),
];

/// Variables under their names of before: the key of each that is one, and those that set nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Legacy<'a> {
    /// Each key with its variable and text.
    pub(super) read: BTreeMap<String, (&'a str, &'a str)>,
    /// Variables with the prefix that are no key.
    pub(super) unread: Vec<&'a str>,
}

impl<'a> Legacy<'a> {
    /// Finds them in an environment.
    pub(super) fn of(environment: &'a [(String, String)]) -> Self {
        let known = serde_json::to_value(WriteOptions::default()).unwrap_or_default();
        let is_key = |name: &str| known.as_object().is_some_and(|keys| keys.contains_key(name));
        let mut found = Self::default();
        for (name, text) in environment.iter().filter(|(_, text)| !text.is_empty()) {
            let rest = name.strip_prefix(PREFIX).map(str::to_lowercase);
            let key = match &rest {
                _ if name == DATABASE.0 => Some(DATABASE.1.to_owned()),
                Some(rest) => {
                    let other = WRITES.iter().find(|(word, _)| word == rest).map(|(_, key)| *key);
                    other
                        .or(Some(rest.as_str()).filter(|rest| is_key(rest)))
                        .map(|key| format!("writes.{key}"))
                }
                None => None,
            };
            match key {
                Some(key) => drop(found.read.insert(key, (name, text))),
                None if rest.is_some() => found.unread.push(name),
                None => {}
            }
        }
        found
    }

    /// Tells of each what it is read as. No value is in it.
    pub(super) fn tell(&self) {
        for (key, (name, _)) in &self.read {
            tracing::info!("{name} is read as {key}, unless that is set by its own name");
        }
        for name in &self.unread {
            tracing::info!(
                "{name} sets nothing: what is written where is the phase of the migration, or a key of [writes]"
            );
        }
    }

    /// Returns where these values came from, for messages.
    pub(super) fn metadata(&self) -> Metadata {
        let names: BTreeMap<String, String> =
            self.read.iter().map(|(key, (name, _))| (key.clone(), (*name).to_owned())).collect();
        Metadata::named(ENVIRONMENT)
            .interpolater(move |_: &Profile, keys| names.get(&keys.join(".")).cloned().unwrap_or_default())
    }
}
