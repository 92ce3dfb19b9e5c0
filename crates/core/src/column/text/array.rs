//! Arrays of one dimension, as PostgreSQL prints them (`array_out` in its `arrayfuncs.c`).

use crate::unholdable::Unholdable;

/// Returns the text of an array with these elements; `None` is NULL.
pub fn printed<'a>(elements: impl Iterator<Item = Option<std::borrow::Cow<'a, str>>>) -> String {
    let mut text = String::from("{");
    for (at, element) in elements.enumerate() {
        if at > 0 {
            text.push(',');
        }
        match element {
            None => text.push_str("NULL"),
            Some(element) if is_plain(&element) => text.push_str(&element),
            Some(element) => {
                text.push('"');
                for c in element.chars() {
                    if matches!(c, '"' | '\\') {
                        text.push('\\');
                    }
                    text.push(c);
                }
                text.push('"');
            }
        }
    }
    text.push('}');
    text
}

/// Tells whether an element needs no quotes.
fn is_plain(element: &str) -> bool {
    let is_odd = |c: char| matches!(c, '"' | '\\' | '{' | '}' | ',') || is_space(c);
    !element.is_empty() && !element.eq_ignore_ascii_case("null") && !element.contains(is_odd)
}

/// Tells whether `array_isspace` of PostgreSQL takes the character for space.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

/// Returns the elements of a text that [`printed`] wrote.
///
/// # Errors
/// For any other text, also one that PostgreSQL would read, as of several dimensions.
pub fn elements(text: &str) -> Result<Vec<Option<String>>, Unholdable> {
    let wrong = || Unholdable::because("is not an array of one dimension, as PostgreSQL prints it");
    let inside = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or_else(wrong)?;
    let mut found = Vec::new();
    let mut rest = inside;
    while !inside.is_empty() {
        let (element, after) = if let Some(quoted) = rest.strip_prefix('"') {
            let (element, after) = unquoted(quoted).ok_or_else(wrong)?;
            (Some(element), after)
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            let (element, after) = rest.split_at(end);
            let is_null = element == "NULL";
            if !is_null && !is_plain(element) {
                return Err(wrong());
            }
            ((!is_null).then(|| element.to_owned()), after)
        };
        found.push(element);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => break,
            None => return Err(wrong()),
        }
    }
    Ok(found)
}

/// Returns the text before the closing quote, and the text that follows it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut element = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((element, &text[at + 1..])),
            '\\' => element.push(characters.next()?.1),
            _ => element.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn print(elements: &[Option<&str>]) -> String {
        printed(elements.iter().map(|element| element.map(Cow::Borrowed)))
    }

    /// Texts are as PostgreSQL 15 prints them.
    #[test]
    fn elements_are_quoted_where_postgresql_quotes_them() {
        let hostile = [
            Some("a,b"),
            None,
            Some("NULL"),
            Some("\""),
            Some("\\"),
            Some(""),
            Some(" "),
            Some("ä"),
            Some("{}"),
        ];
        let text = "{\"a,b\",NULL,\"NULL\",\"\\\"\",\"\\\\\",\"\",\" \",ä,\"{}\"}";
        assert_eq!(print(&hostile), text);
        let read = elements(text).expect("an array");
        assert_eq!(read.iter().map(Option::as_deref).collect::<Vec<_>>(), hostile);
        assert_eq!((print(&[]).as_str(), elements("{}")), ("{}", Ok(Vec::new())));
        assert_eq!(print(&[Some("nUlL"), Some("nulls")]), "{\"nUlL\",nulls}");
    }

    #[test]
    fn what_is_no_array_of_one_dimension_is_refused() {
        for text in [
            "",
            "{",
            "}",
            "a",
            "{a",
            "{\"a}",
            "{\"a\"b}",
            "{a,}",
            "{,}",
            "{{a}}",
            "[2:3]={x,y}",
            "{a b}",
            "{null}",
        ] {
            assert!(elements(text).is_err(), "{text}");
        }
    }
}
