//! figment's errors as sentences: which key, from where, what is wrong, what to do.

use figment::error::Kind;
use figment::{Figment, Metadata};

use super::layers::{DECLARED, ENVIRONMENT};
use super::secret::mask_passwords;

/// What is wrong with the configuration, one sentence each. No password is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.sentences())]
pub struct ConfigError {
    problems: Vec<String>,
}

impl ConfigError {
    /// One problem.
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

/// Where the value of `key` came from, for messages.
pub fn origin(figment: &Figment, key: &str) -> String {
    let path: Vec<&str> = key.split('.').collect();
    let declared = || figment.find_metadata(&key.replacen("tables", DECLARED, 1));
    match figment.find_metadata(key).or_else(declared) {
        Some(metadata) => place(metadata, &path),
        None => "default".to_owned(),
    }
}

fn place(metadata: &Metadata, path: &[&str]) -> String {
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
        Some(metadata) => place(metadata, &path),
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
            let nearest = known.iter().min_by_key(|candidate| distance(name, candidate));
            let hint = match nearest.filter(|candidate| distance(name, candidate) <= 3) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => format!("there are: {}", known.join(", ")),
            };
            format!("unknown key `{key}` ({from}); {hint}")
        }
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            let hint = if expected.contains("string") { " (put it in quotes)" } else { "" };
            format!("`{key}` ({from}) is {found}, it must be {}{hint}", plain(expected))
        }
        Kind::UnknownVariant(found, known) => {
            format!("`{key}` ({from}) is `{found}`, it must be one of: {}", known.join(", "))
        }
        Kind::MissingField(name) => format!("`{key}` lacks `{name}`"),
        other => format!("`{key}` ({from}): {other}"),
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

/// Edits that turn one name into the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
