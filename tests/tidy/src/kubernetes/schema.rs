//! Reader of `tests/tidy/schemas/kubernetes.txt`, whose first lines say the notation.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::formats::{self, Format};
use crate::files;

/// Objects of the API that are known here, and the types that they are made of.
#[derive(Debug, Default)]
pub struct Schema {
    /// Types by name; kinds are some of them.
    pub(super) types: BTreeMap<String, Record>,
    /// API version of each kind.
    pub(super) kinds: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) fields: BTreeMap<String, Field>,
    pub(super) rules: Vec<Rule>,
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) of: Type,
    pub(super) is_required: bool,
}

#[derive(Debug)]
pub(super) enum Type {
    Int { least: i64, most: i64 },
    Enum(Vec<String>),
    Format(&'static Format),
    List { of: Box<Type>, is_filled: bool },
    Map { key: &'static Format, of: Box<Type> },
    Named(String),
}

#[derive(Debug)]
pub(super) enum Rule {
    OneOf(Vec<String>),
    MostOneOf(Vec<String>),
    NamedBy(String),
}

impl Schema {
    /// The schema of this repository.
    ///
    /// # Panics
    /// Where the file does not read.
    pub fn ours() -> &'static Self {
        static OURS: LazyLock<Schema> = LazyLock::new(|| {
            let text = files::read("tests/tidy/schemas/kubernetes.txt");
            Schema::of(&text).unwrap_or_else(|error| panic!("{error}"))
        });
        &OURS
    }

    /// # Errors
    /// For a line that is not of the notation, and for a type that the text does not define.
    pub(super) fn of(text: &str) -> Result<Self, String> {
        let mut schema = Self::default();
        let mut name = String::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(said) = line.strip_prefix("  ") {
                let record =
                    schema.types.get_mut(&name).ok_or_else(|| format!("{line}: belongs to no type"))?;
                record.add(said).map_err(|why| format!("{name}: {said}: {why}"))?;
                continue;
            }
            let mut words = line.split(' ');
            words.next().unwrap_or_default().clone_into(&mut name);
            if let Some(version) = words.next() {
                schema.kinds.insert(name.clone(), version.to_owned());
            }
            if schema.types.insert(name.clone(), Record::default()).is_some() {
                return Err(format!("{name}: there are two types of this name"));
            }
        }
        for (name, record) in &schema.types {
            for (field, of) in &record.fields {
                let missing = of.of.named().filter(|named| !schema.types.contains_key(*named));
                if let Some(missing) = missing {
                    return Err(format!("{name}: {field}: there is no type or format {missing}"));
                }
            }
        }
        Ok(schema)
    }
}

impl Record {
    fn add(&mut self, said: &str) -> Result<(), String> {
        let (name, rest) = said.split_once(' ').ok_or("has no type")?;
        let words = || rest.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        match name {
            "one-of" => self.rules.push(Rule::OneOf(words())),
            "most-one-of" => self.rules.push(Rule::MostOneOf(words())),
            "named-by" => self.rules.push(Rule::NamedBy(rest.to_owned())),
            _ => {
                let field = Field { of: Type::of(rest.trim())?, is_required: name.ends_with('!') };
                self.fields.insert(name.trim_end_matches('!').to_owned(), field);
            }
        }
        Ok(())
    }
}

impl Type {
    fn of(text: &str) -> Result<Self, String> {
        if let Some(values) = text.strip_prefix("enum ") {
            return Ok(Self::Enum(values.split(' ').map(str::to_owned).collect()));
        }
        if let Some((least, most)) = text.strip_prefix("int ").and_then(|range| range.split_once("..")) {
            let bound = |text: &str| text.parse::<i64>().map_err(|_| format!("`{text}` is no number"));
            let most = if most.is_empty() { i64::MAX } else { bound(most)? };
            return Ok(Self::Int { least: bound(least)?, most });
        }
        if let Some(inner) =
            text.strip_prefix('[').and_then(|text| text.trim_end_matches('+').strip_suffix(']'))
        {
            return Ok(Self::List { of: Box::new(Self::of(inner)?), is_filled: text.ends_with('+') });
        }
        if let Some(inner) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
            let (key, of) = inner.split_once(": ").ok_or("a mapping names its keys and what they have")?;
            let key = formats::named(key).ok_or_else(|| format!("there is no format {key}"))?;
            return Ok(Self::Map { key, of: Box::new(Self::of(of)?) });
        }
        Ok(formats::named(text).map_or_else(|| Self::Named(text.to_owned()), Self::Format))
    }

    /// The type of the file that this one is, or is made of.
    fn named(&self) -> Option<&str> {
        match self {
            Self::Named(name) => Some(name),
            Self::List { of, .. } | Self::Map { of, .. } => of.named(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Schema;

    #[test]
    fn a_slip_in_the_notation_is_refused() {
        assert!(Schema::of("A v1\n  b!  [B]+\nB\n  c  {label-key: int 1..2}\n  one-of c\n").is_ok());
        for (text, why) in [
            ("A\n  b  Bool\n", "no type or format Bool"),
            ("A\n  b  [B]\n", "no type or format B"),
            ("  b  bool\n", "belongs to no type"),
            ("A\nA\n", "two types"),
            ("A\n  b\n", "has no type"),
            ("A\n  b  {keys: bool}\n", "no format keys"),
            ("A\n  b  int x..\n", "no number"),
        ] {
            let said = Schema::of(text).expect_err(text);
            assert!(said.contains(why), "{text:?}: {said}");
        }
    }
}
