//! One object against the schema.

use serde_json::{Map, Value};

use super::schema::{Record, Rule, Schema, Type};

impl Schema {
    /// Adds to `found` what of an object is not of its kind, each with the path of the field.
    pub fn check(&self, object: &Value, found: &mut Vec<String>) {
        let text = |key: &str| object[key].as_str().unwrap_or_default();
        let (version, kind) = (text("apiVersion"), text("kind"));
        let mut check = Check { schema: self, name: named(object), found };
        match (self.kinds.get(kind), self.types.get(kind), object.as_object()) {
            (Some(known), Some(record), Some(fields)) if known == version => {
                let mut fields = fields.clone();
                fields.retain(|key, _| key != "apiVersion" && key != "kind");
                check.record(record, &fields, "");
            }
            (Some(known), ..) => {
                check.say("apiVersion", &format!("is `{version}`, and of {kind} it is `{known}`"))
            }
            _ => check.say("kind", &format!("is `{kind}`, which the schema does not know")),
        }
    }
}

/// Kind and name of an object, for what is said of it.
pub(super) fn named(object: &Value) -> String {
    let name = object["metadata"]["name"].as_str().unwrap_or("?");
    format!("{}/{name}", object["kind"].as_str().unwrap_or("?"))
}

struct Check<'a> {
    schema: &'a Schema,
    name: String,
    found: &'a mut Vec<String>,
}

impl Check<'_> {
    fn say(&mut self, path: &str, what: &str) {
        self.found.push(format!("{}: {path}: {what}", self.name));
    }

    fn record(&mut self, record: &Record, fields: &Map<String, Value>, path: &str) {
        for (key, value) in fields {
            let path = joined(path, key);
            match record.fields.get(key) {
                Some(field) => self.value(&field.of, value, &path),
                None => self.say(&path, "is no field that the schema knows"),
            }
        }
        for (key, _) in
            record.fields.iter().filter(|(key, field)| field.is_required && !fields.contains_key(*key))
        {
            self.say(&joined(path, key), "is required, and is not there");
        }
        for rule in &record.rules {
            let there = |names: &[String]| names.iter().filter(|name| fields.contains_key(*name)).count();
            let broken = match rule {
                Rule::OneOf(names) if there(names) != 1 => {
                    format!("exactly one of {names:?} has to be there")
                }
                Rule::MostOneOf(names) if there(names) > 1 => {
                    format!("at most one of {names:?} may be there")
                }
                Rule::NamedBy(by) => match fields.get(by).and_then(Value::as_str).map(in_small) {
                    Some(name) if !fields.contains_key(&name) => {
                        format!("{by} asks for `{name}`, which is not there")
                    }
                    _ => continue,
                },
                _ => continue,
            };
            self.say(path, &broken);
        }
    }

    fn value(&mut self, of: &Type, value: &Value, path: &str) {
        match of {
            Type::Int { least, most } => {
                if value.as_i64().is_none_or(|number| number < *least || number > *most) {
                    let most = if *most == i64::MAX { String::new() } else { most.to_string() };
                    self.say(path, &format!("is {value}, and has to be a whole number of {least}..{most}"));
                }
            }
            Type::Enum(values) => {
                if value.as_str().is_none_or(|text| !values.iter().any(|one| one == text)) {
                    self.say(path, &format!("is {value}, and has to be one of {values:?}"));
                }
            }
            Type::Format(format) => {
                if !(format.fits)(value) {
                    self.say(path, &format!("is {value}, and has to be {}", format.words));
                }
            }
            Type::List { of, is_filled } => match value.as_array() {
                Some(list) if list.is_empty() && *is_filled => self.say(path, "has to have something in it"),
                Some(list) => {
                    for (at, value) in list.iter().enumerate() {
                        self.value(of, value, &format!("{path}[{at}]"));
                    }
                }
                None => self.say(path, "has to be a list"),
            },
            Type::Map { key: format, of } => match value.as_object() {
                Some(map) => {
                    for (key, value) in map {
                        let path = format!("{path}[{key}]");
                        if !(format.fits)(&Value::from(key.as_str())) {
                            self.say(&path, &format!("has to have {} as its key", format.words));
                        }
                        self.value(of, value, &path);
                    }
                }
                None => self.say(path, "has to be a mapping"),
            },
            Type::Named(name) => match value.as_object() {
                Some(fields) => self.record(&self.schema.types[name], fields, path),
                None => self.say(path, &format!("has to be a mapping, a {name}")),
            },
        }
    }
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// `AverageValue` as `averageValue`.
fn in_small(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(chars).collect()
}
