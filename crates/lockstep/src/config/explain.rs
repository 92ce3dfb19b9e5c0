//! figment's errors as sentences: which key, from where, what is wrong, what to do.

use figment::error::{Actual, Kind};
use figment::value::Value;
use figment::{Figment, Metadata};
use strsim::levenshtein;

use super::secret::mask_passwords;
use super::{DECLARED, ENVIRONMENT};

/// Faults of the configuration, one sentence each. No value is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.sentences())]
pub struct ConfigError {
    problems: Vec<String>,
}

impl ConfigError {
    /// Makes the error of one problem.
    #[doc(hidden)]
    pub fn one(problem: impl Into<String>) -> Self {
        Self::all(vec![problem.into()])
    }

    /// Several.
    #[doc(hidden)]
    pub fn all(problems: Vec<String>) -> Self {
        Self { problems: problems.iter().map(|problem| mask_passwords(problem)).collect() }
    }

    /// Several errors as one; `None` for none.
    #[doc(hidden)]
    pub fn joined(errors: Vec<Self>) -> Option<Self> {
        let problems: Vec<String> = errors.into_iter().flat_map(|error| error.problems).collect();
        (!problems.is_empty()).then_some(Self { problems })
    }

    fn sentences(&self) -> String {
        match self.problems.as_slice() {
            [one] => format!("configuration: {one}"),
            many => format!("configuration:\n  - {}", many.join("\n  - ")),
        }
    }
}

/// Explains an error of extracting `figment`.
pub fn explain(figment: &Figment, error: figment::Error) -> ConfigError {
    ConfigError::all(error.into_iter().map(|error| sentence(figment, &error)).collect())
}

/// Returns where the value of `key` came from, for messages.
pub fn origin(figment: &Figment, key: &str) -> String {
    let path: Vec<&str> = key.split('.').collect();
    let declared = || figment.find_metadata(&key.replacen("tables", DECLARED, 1));
    match figment.find_metadata(key).or_else(declared) {
        Some(metadata) => layer(metadata, &path),
        None => "default".to_owned(),
    }
}

fn layer(metadata: &Metadata, path: &[&str]) -> String {
    if metadata.name == ENVIRONMENT {
        return format!("environment variable {}", metadata.interpolate(&figment::Profile::Default, path));
    }
    // The defaults come from code, under the name of a type.
    if metadata.name.contains("::") { "default".to_owned() } else { metadata.name.to_string() }
}

fn sentence(figment: &Figment, error: &figment::Error) -> String {
    let mut path: Vec<&str> = error.path.iter().map(String::as_str).collect();
    if path.first() == Some(&DECLARED) {
        // As it was written.
        path[0] = "tables";
    }
    let key = path.join(".");
    let from = match &error.metadata {
        Some(metadata) => layer(metadata, &path),
        None => origin(figment, &key),
    };
    match &error.kind {
        Kind::UnknownField(name, known) => {
            let is_table = path.first() == Some(&"tables") && path.len() <= 3;
            let key = if path.last() == Some(&name.as_str()) { key } else { [key.as_str(), name].join(".") };
            let from = if error.metadata.is_some() { from } else { origin(figment, &key) };
            let mut known = known.to_vec();
            // Every table has them; the rest is for its own options to know.
            known.extend(["source", "target"].iter().filter(|_| is_table));
            known.sort_unstable();
            known.dedup();
            let nearest = known.iter().min_by_key(|candidate| levenshtein(name, candidate));
            let hint = match nearest.filter(|candidate| levenshtein(name, candidate) <= 3) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => format!("there are: {}", known.join(", ")),
            };
            format!("unknown key `{key}` ({from}); {hint}")
        }
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            let hint = if expected.contains("string") { " (put it in quotes)" } else { "" };
            format!("`{key}` ({from}) is {}, it must be {}{hint}", kind_of(found), plain(expected))
        }
        Kind::UnknownVariant(_, known) => {
            format!("`{key}` ({from}) must be one of: {}", known.join(", "))
        }
        Kind::MissingField(name) => format!("`{key}` lacks `{name}`"),
        Kind::Message(message) => {
            let value = figment.find_value(&error.path.join(".")).ok();
            match value.map(|value| without(message, &value)) {
                Some(message) => format!("`{key}` ({from}): {message}"),
                None => format!("`{key}` ({from}) is not as it must be"),
            }
        }
        Kind::DuplicateField(name) => format!("`{key}` ({from}) has `{name}` twice"),
        Kind::InvalidLength(_, expected) => format!("`{key}` ({from}) must be {expected}"),
        _ => format!("`{key}` ({from}) is out of range, or of a kind that it cannot be"),
    }
}

/// Returns the kind of a value, and not the value: 1. An operator mixes up two variables. 2. The password is
/// one's value. 3. "is string `s3cret`, it must be a whole number" is in a log.
fn kind_of(found: &Actual) -> &'static str {
    match found {
        Actual::Bool(_) => "true or false",
        Actual::Unsigned(_) | Actual::Signed(_) | Actual::Float(_) => "a number",
        Actual::Char(_) | Actual::Str(_) | Actual::Bytes(_) => "a text",
        Actual::Seq => "a list",
        Actual::Map => "a table",
        _ => "something else",
    }
}

/// Returns a sentence of ours on a value, without the value.
fn without(sentence: &str, value: &Value) -> String {
    match value {
        Value::Dict(_, values) => {
            values.values().fold(sentence.to_owned(), |told, value| without(&told, value))
        }
        Value::Array(_, values) => {
            values.iter().fold(sentence.to_owned(), |told, value| without(&told, value))
        }
        other => match other.clone().into_string() {
            // A short one is in every sentence.
            Some(text) if text.len() < 3 => sentence.replace(&format!("`{text}`"), "`…`"),
            Some(text) => sentence.replace(&text, "…"),
            None => sentence.to_owned(),
        },
    }
}

/// serde names Rust's types; operators know numbers.
fn plain(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a nonzero u32" => "a whole number, 1 or more",
        other => other,
    }
}
