//! JSON documents as maps, lists and scalars of DynamoDB.
//!
//! What they cannot hold is refused, and so is what PostgreSQL could not be given back: more digits or levels
//! than they have, a member that comes twice or has no name. Blanks, the order of members and the zeros at
//! the end of a number mean nothing, and are given up.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;

use super::decimal;
use crate::unholdable::Unholdable;

/// Levels that an attribute may have, its scalars included (DynamoDB Developer Guide, "Constraints").
const LEVELS_MAX: usize = 32;
/// Longest name of a member (DynamoDB Developer Guide, "Naming rules": 64 KB).
const NAME_BYTES_MAX: usize = 65_535;

/// Returns the attribute of a document that PostgreSQL prints.
///
/// # Errors
/// For what is no document, and for one of which something would be lost.
pub fn attribute(text: &str) -> Result<AttributeValue, Unholdable> {
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(LEVELS_MAX)?;
    reader.blanks();
    if reader.at == text.len() { Ok(value) } else { Err(wrong()) }
}

/// Returns an attribute spelled as [`attribute`] spells it.
///
/// # Errors
/// For what no document of PostgreSQL is.
pub fn canonical(found: &AttributeValue) -> Result<AttributeValue, Unholdable> {
    within(found, LEVELS_MAX)
}

/// Returns the text of a document, for PostgreSQL to read.
pub fn printed(value: &AttributeValue) -> String {
    let mut text = String::new();
    print(value, &mut text);
    text
}

fn within(found: &AttributeValue, levels: usize) -> Result<AttributeValue, Unholdable> {
    Ok(match found {
        AttributeValue::M(members) => {
            let levels = deeper(levels)?;
            let one = |(name, value): (&String, &AttributeValue)| {
                Ok((checked_name(name.clone())?, within(value, levels)?))
            };
            AttributeValue::M(members.iter().map(one).collect::<Result<_, _>>()?)
        }
        AttributeValue::L(elements) => {
            let levels = deeper(levels)?;
            let elements = elements.iter().map(|element| within(element, levels));
            AttributeValue::L(elements.collect::<Result<_, _>>()?)
        }
        AttributeValue::S(text) => AttributeValue::S(checked(text.clone())?),
        AttributeValue::N(digits) => AttributeValue::N(decimal::number(digits)?),
        AttributeValue::Bool(is) => AttributeValue::Bool(*is),
        AttributeValue::Null(_) => AttributeValue::Null(true),
        _ => return Err(Unholdable::because("holds bytes or a set, which no document of PostgreSQL does")),
    })
}

fn print(value: &AttributeValue, out: &mut String) {
    match value {
        AttributeValue::M(members) => {
            // In one order, so that one document is one text.
            let members: BTreeMap<&String, &AttributeValue> = members.iter().collect();
            out.push('{');
            for (at, (name, value)) in members.into_iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                out.push_str(&quoted(name));
                out.push(':');
                print(value, out);
            }
            out.push('}');
        }
        AttributeValue::L(elements) => {
            out.push('[');
            for (at, element) in elements.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                print(element, out);
            }
            out.push(']');
        }
        AttributeValue::S(text) => out.push_str(&quoted(text)),
        AttributeValue::N(digits) => out.push_str(digits),
        AttributeValue::Bool(is) => out.push_str(if *is { "true" } else { "false" }),
        // No other is made here.
        _ => out.push_str("null"),
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn deeper(levels: usize) -> Result<usize, Unholdable> {
    match levels - 1 {
        0 => Err(Unholdable::because(format!(
            "has more than {LEVELS_MAX} levels, which an attribute of DynamoDB cannot hold"
        ))),
        levels => Ok(levels),
    }
}

fn checked(text: String) -> Result<String, Unholdable> {
    if text.contains('\0') {
        return Err(Unholdable::because("holds \\u0000, which no jsonb can hold (SQLSTATE 22P05)"));
    }
    Ok(text)
}

fn checked_name(name: String) -> Result<String, Unholdable> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(Unholdable::because(
            "has a member whose name is empty or longer than 64 KB, which a map of DynamoDB cannot hold",
        ));
    }
    checked(name)
}

fn wrong() -> Unholdable {
    Unholdable::because("does not read as a document")
}

/// Place in a text, up to which it is read.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self, levels: usize) -> Result<AttributeValue, Unholdable> {
        self.blanks();
        match self.text.as_bytes().get(self.at) {
            Some(b'{') => {
                let levels = deeper(levels)?;
                let mut members = HashMap::new();
                self.each(b'}', |reader| {
                    reader.blanks();
                    let name = checked_name(reader.string()?)?;
                    if !reader.takes(b':') {
                        return Err(wrong());
                    }
                    let value = reader.value(levels)?;
                    match members.insert(name, value) {
                        None => Ok(()),
                        Some(_) => Err(Unholdable::because(
                            "has a member twice, of which a map of DynamoDB holds one",
                        )),
                    }
                })?;
                Ok(AttributeValue::M(members))
            }
            Some(b'[') => {
                let levels = deeper(levels)?;
                let mut elements = Vec::new();
                self.each(b']', |reader| {
                    elements.push(reader.value(levels)?);
                    Ok(())
                })?;
                Ok(AttributeValue::L(elements))
            }
            Some(b'"') => self.string().and_then(checked).map(AttributeValue::S),
            _ => self.word(),
        }
    }

    /// Reads what stands between two brackets, with commas between.
    fn each(
        &mut self,
        close: u8,
        mut one: impl FnMut(&mut Self) -> Result<(), Unholdable>,
    ) -> Result<(), Unholdable> {
        self.at += 1;
        if self.takes(close) {
            return Ok(());
        }
        loop {
            one(self)?;
            if self.takes(close) {
                return Ok(());
            }
            if !self.takes(b',') {
                return Err(wrong());
            }
        }
    }

    fn string(&mut self) -> Result<String, Unholdable> {
        let bytes = self.text.as_bytes();
        let from = self.at;
        if bytes.get(from) != Some(&b'"') {
            return Err(wrong());
        }
        let mut at = from + 1;
        loop {
            match bytes.get(at).ok_or_else(wrong)? {
                b'"' => break,
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
        self.at = at + 1;
        // A `json` keeps escapes as they were written.
        serde_json::from_str(&self.text[from..self.at])
            .map_err(|_| Unholdable::because("holds a text that is no Unicode, as half of a surrogate pair"))
    }

    fn word(&mut self) -> Result<AttributeValue, Unholdable> {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c));
        let word = &rest[..end.unwrap_or(rest.len())];
        self.at += word.len();
        match word {
            "true" => Ok(AttributeValue::Bool(true)),
            "false" => Ok(AttributeValue::Bool(false)),
            "null" => Ok(AttributeValue::Null(true)),
            digits if digits.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
                decimal::number(digits).map(AttributeValue::N)
            }
            _ => Err(wrong()),
        }
    }

    fn blanks(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|byte| b" \t\n\r".contains(byte)).count();
    }

    fn takes(&mut self, byte: u8) -> bool {
        self.blanks();
        let is = self.text.as_bytes().get(self.at) == Some(&byte);
        self.at += usize::from(is);
        is
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::column::{Column as _, Json};

    fn documents() -> impl Strategy<Value = serde_json::Value> {
        let text = || "[a\"\\\\\u{1F600}\\n{}\\[\\],: ]{0,6}";
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            text().prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(5, 40, 5, move |inner| {
            let named = proptest::collection::vec(("[a\"\\\\ äN]{1,4}", inner.clone()), 0..5);
            prop_oneof![
                proptest::collection::vec(inner, 0..5).prop_map(serde_json::Value::from),
                named.prop_map(|members| members.into_iter().collect::<serde_json::Value>()),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_document_reads_back_as_it_was(document in documents()) {
            for text in [document.to_string(), format!(" {document:#}\n")] {
                let attribute = attribute(&text).expect("it can be held");
                let again = canonical(&attribute).expect("it is one");
                prop_assert_eq!(&again, &attribute);
                let read: serde_json::Value = serde_json::from_str(&printed(&attribute)).expect("JSON");
                prop_assert_eq!(&read, &document);
            }
        }
    }

    #[test]
    fn numbers_keep_every_digit_and_no_zero_at_their_end() {
        let digits = "12345678901234567890.123456789012345678";
        let text = format!("[{digits}, 1.50, 1e3, -0.0, 5e-130, -9.9E125]");
        let held = attribute(&text).expect("it can be held");
        let again = Json::parse(&printed(&held)).expect("JSON");
        assert!(again.same(&Json::parse(&text).expect("JSON")), "{}", again.as_str());
        let n = |digits: &str| AttributeValue::N(digits.to_owned());
        let AttributeValue::L(elements) = held else { panic!("a list") };
        assert_eq!(elements[..4], [n(digits), n("1.5"), n("1000"), n("0")]);
        assert_eq!(canonical(&n("1.5E+1")), Ok(n("15")), "as DynamoDB writes a number");
    }

    #[test]
    fn a_document_of_which_something_would_be_lost_is_refused_with_the_reason() {
        let deep = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        assert!(attribute(&deep(LEVELS_MAX - 1)).is_ok());
        for (text, why) in [
            ("123456789012345678901234567890123456789", "38 digits"),
            ("[1e126]", "1E-130"),
            ("{\"a\": {\"b\": 1, \"\\u0062\": 1}}", "twice"),
            ("{\"\": 1}", "empty"),
            ("\"\\ud800\"", "surrogate"),
            ("[\"\\u0000\"]", "\\u0000"),
            ("{\"\\u0000\": 1}", "\\u0000"),
            (&deep(LEVELS_MAX), "32 levels"),
            (&deep(100_000), "32 levels"),
            (&format!("{{\"{}\": 1}}", "n".repeat(NAME_BYTES_MAX + 1)), "64 KB"),
        ] {
            let refused = attribute(text).expect_err(&text[..text.len().min(40)]);
            assert!(refused.reason.contains(why), "{}", refused.reason);
        }
        for text in ["", "[", "[1,]", "{\"a\"}", "{\"a\":}", "1 2", "\"", "nul", "[1 2]", "{a:1}", "NaN"] {
            assert!(attribute(text).is_err(), "{text}");
        }
        for odd in [AttributeValue::Ss(vec!["a".to_owned()]), AttributeValue::B(vec![1].into())] {
            assert!(canonical(&AttributeValue::L(vec![odd])).is_err());
        }
    }
}
