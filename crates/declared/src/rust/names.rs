//! Names and texts as Rust takes them.

use lockstep_core::acts;

/// Words that are no names (Rust Reference, "Keywords"), those that `r#` does not make one as well.
const KEYWORDS: [&str; 53] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn",
    "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop",
    "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static",
    "struct", "super", "trait", "true", "try", "type", "typeof", "union", "unsafe", "unsized", "use",
    "virtual", "where", "while", "yield", "_",
];

/// Returns a name in capitals at the beginning of each word.
pub(super) fn camel(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let one = |word: &str| {
        let (first, rest) = word.split_at(1);
        format!("{}{rest}", first.to_ascii_uppercase())
    };
    let said: String = words.map(one).collect();
    match said.as_bytes().first() {
        None => "Row".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("T{said}"),
        Some(_) if said == "Self" => "Self_".to_owned(),
        Some(_) => said,
    }
}

/// Returns the field of a column, another one for each.
pub(super) fn field_of(column: &str, taken: &mut Vec<String>) -> String {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let small = column.chars().map(|c| c.to_ascii_lowercase());
    let mut name: String = small.map(|c| if is_plain(c) { c } else { '_' }).collect();
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, 'c');
    }
    if KEYWORDS.contains(&name.as_str()) {
        name.push('_');
    }
    free(&name, "_", taken)
}

/// Returns the variant of a label, another one for each.
pub(super) fn variant_of(label: &str, taken: &mut Vec<String>) -> String {
    let name =
        if label.chars().any(|c| c.is_ascii_alphanumeric()) { camel(label) } else { "Other".to_owned() };
    free(&name, "", taken)
}

fn free(name: &str, before: &str, taken: &mut Vec<String>) -> String {
    let mut other = name.to_owned();
    let mut n = 2;
    while taken.contains(&other) {
        other = format!("{name}{before}{n}");
        n += 1;
    }
    taken.push(other.clone());
    other
}

/// Returns one line of comment, with its end: what acts is told by its number.
pub fn rust_comment(line: &str) -> String {
    format!("// {}\n", told(line))
}

/// Returns a text as a comment may hold it. 1. A role makes a type whose name has a line end in it, and after
/// that code. 2. A comment names it. 3. A team compiles the file.
pub(super) fn told(text: &str) -> String {
    let mut said = String::new();
    for c in text.chars() {
        if acts(c) || c.is_control() { said.extend(c.escape_unicode()) } else { said.push(c) }
    }
    said
}

/// Returns a text as a literal on one line: what acts is written by its number, as in a file of TOML.
pub(super) fn literal(text: &str) -> String {
    let mut said = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => said.extend(['\\', c]),
            c if acts(c) || c.is_control() => said.extend(c.escape_unicode()),
            c => said.push(c),
        }
    }
    said.push('"');
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names_of_rust_and_each_another_one() {
        let mut taken = Vec::new();
        let names: Vec<String> =
            ["id", "Id", "type", "2nd", "", "A b", "a-b"].iter().map(|c| field_of(c, &mut taken)).collect();
        assert_eq!(names, ["id", "id_2", "type_", "c2nd", "c", "a_b", "a_b_2"]);
        assert_eq!(
            (camel("order_lines"), camel("2fa"), camel("é")),
            ("OrderLines".into(), "T2fa".into(), "Row".into())
        );
        let mut taken = Vec::new();
        let variants: Vec<String> =
            ["on hold", "On Hold", "|\"", "-"].iter().map(|label| variant_of(label, &mut taken)).collect();
        assert_eq!(variants, ["OnHold", "OnHold2", "Other", "Other2"]);
    }

    #[test]
    fn no_text_ends_its_literal_or_its_line() {
        assert_eq!(literal("a\"]\\\n\u{202e}é"), r#""a\"]\\\u{a}\u{202e}é""#);
        assert_eq!(rust_comment("a\nfn main() {}"), "// a\\u{a}fn main() {}\n");
    }
}
