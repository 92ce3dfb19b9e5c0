//! Part of YAML that stands within a line: scalars, and lists and mappings in brackets.

use serde_json::{Map, Value};

/// Beginnings of what is YAML and not known here: anchors, tags, folded text and the rest.
const UNKNOWN: [char; 9] = ['&', '*', '!', '|', '>', '%', '@', '`', '?'];
/// Words that are a truth value to one reader of YAML and text to another.
const AMBIGUOUS: [&str; 6] = ["yes", "no", "on", "off", "y", "n"];

/// The key that a line begins with, and what follows its colon; nothing where it begins with none.
pub(super) fn key(text: &str) -> Result<Option<(String, &str)>, String> {
    if text.starts_with(['[', '{']) {
        return Ok(None);
    }
    let mut flow = Flow { rest: text };
    let key = if text.starts_with(['"', '\'']) { flow.quoted()? } else { flow.plain("").to_owned() };
    match flow.rest.strip_prefix(':') {
        Some(_) if key.starts_with(UNKNOWN) => Err("has a key that is not known here".to_owned()),
        Some(rest) => Ok(Some((key, rest.trim()))),
        None => Ok(None),
    }
}

/// The one value that a text is, a comment after it left out.
pub(super) fn whole(text: &str) -> Result<Value, String> {
    let mut flow = Flow { rest: text };
    let value = flow.value(false)?;
    let rest = flow.rest.trim_start();
    let is_comment = rest.starts_with('#') && rest.len() < flow.rest.len();
    if rest.is_empty() || is_comment {
        Ok(value)
    } else {
        Err("has a mapping, or more, behind its value".to_owned())
    }
}

struct Flow<'a> {
    rest: &'a str,
}

impl<'a> Flow<'a> {
    fn value(&mut self, within: bool) -> Result<Value, String> {
        self.rest = self.rest.trim_start();
        match self.rest.chars().next() {
            Some('[') => self.list(),
            Some('{') => self.map(),
            Some('"' | '\'') => self.quoted().map(Value::String),
            Some(first) if UNKNOWN.contains(&first) => {
                Err(format!("begins with `{first}`, which is not known here"))
            }
            _ => resolved(self.plain(if within { ",]}" } else { "" })),
        }
    }

    /// Takes text without quotes: up to a comment, to a colon that ends a key, or to one of `ends`.
    fn plain(&mut self, ends: &str) -> &'a str {
        let text = self.rest;
        let end = text.char_indices().find(|(at, c)| {
            let after = text[at + c.len_utf8()..].chars().next();
            let is_key = *c == ':' && after.is_none_or(|c| " ,]}".contains(c));
            is_key || (*c == ' ' && after == Some('#')) || ends.contains(*c)
        });
        let (taken, rest) = text.split_at(end.map_or(text.len(), |(at, _)| at));
        self.rest = rest;
        taken.trim_end()
    }

    fn quoted(&mut self) -> Result<String, String> {
        let mut chars = self.rest.char_indices();
        let quote = chars.next().map(|(_, quote)| quote);
        let mut text = String::new();
        while let Some((at, c)) = chars.next() {
            let next = self.rest[at + c.len_utf8()..].chars().next();
            if Some(c) == quote && c == '\'' && next == quote {
                chars.next();
                text.push(c);
            } else if Some(c) == quote {
                self.rest = &self.rest[at + 1..];
                return Ok(text);
            } else if c == '\\' && quote == Some('"') {
                let escaped = [('n', '\n'), ('t', '\t'), ('"', '"'), ('\\', '\\'), ('/', '/')];
                let known = escaped.iter().find(|(letter, _)| Some(*letter) == next);
                text.push(known.ok_or("has an escape that is not known here")?.1);
                chars.next();
            } else {
                text.push(c);
            }
        }
        Err("begins a quotation that has no end in its line".to_owned())
    }

    fn list(&mut self) -> Result<Value, String> {
        let mut list = Vec::new();
        self.rest = &self.rest[1..];
        while !self.ends(']')? {
            list.push(self.value(true)?);
            self.comma(']')?;
        }
        Ok(Value::Array(list))
    }

    fn map(&mut self) -> Result<Value, String> {
        let mut map = Map::new();
        self.rest = &self.rest[1..];
        while !self.ends('}')? {
            let is_quoted = self.rest.starts_with(['"', '\'']);
            let key = if is_quoted { self.quoted()? } else { self.plain(",]}").to_owned() };
            self.rest = self.rest.strip_prefix(':').ok_or("has a key in braces without its value")?;
            let value = self.value(true)?;
            if map.insert(key, value).is_some() {
                return Err("has a key that is there twice".to_owned());
            }
            self.comma('}')?;
        }
        Ok(Value::Object(map))
    }

    /// Whether the collection ends here, which is taken then.
    fn ends(&mut self, with: char) -> Result<bool, String> {
        self.rest = self.rest.trim_start();
        let rest = self.rest.strip_prefix(with);
        self.rest = rest.unwrap_or(self.rest);
        if rest.is_none() && self.rest.is_empty() {
            Err("has brackets that have no end in its line".to_owned())
        } else {
            Ok(rest.is_some())
        }
    }

    fn comma(&mut self, end: char) -> Result<(), String> {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(',') {
            Some(rest) => self.rest = rest,
            None if self.rest.is_empty() || self.rest.starts_with(end) => {}
            None => return Err("has a mapping, or no comma, within brackets".to_owned()),
        }
        Ok(())
    }
}

/// A scalar without quotes as what it stands for.
fn resolved(text: &str) -> Result<Value, String> {
    let lower = text.to_ascii_lowercase();
    let digits = text.trim_start_matches(['+', '-']);
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit());
    let is_octal = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    let is_time = is_number && digits.chars().all(|c| c.is_ascii_digit() || c == ':') && digits.contains(':');
    let is_word = AMBIGUOUS.contains(&lower.as_str())
        || (text != lower && ["true", "false", "null"].contains(&lower.as_str()));
    if is_word
        || (is_number && is_octal && digits.parse::<f64>().is_ok())
        || is_time
        || digits.starts_with("0x")
        || lower.starts_with(".inf")
        || lower.starts_with(".nan")
    {
        return Err("is one thing to one reader and another to the next: put it in quotes".to_owned());
    }
    Ok(match text {
        "" | "~" | "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ if is_number => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(whole), _) => Value::from(whole),
            (_, Ok(number)) => Value::from(number),
            _ => Value::from(text),
        },
        _ => Value::from(text),
    })
}
