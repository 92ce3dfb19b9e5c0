//! Text as a TOML file takes it.

use std::fmt::Write as _;

use lockstep_core::acts;

/// Returns one line of comment, with its end. What acts is told by its number: 1. A role makes a table whose
/// name has a line end in it, and after that a section. 2. `# name` would be a comment, and then a section of
/// the operator's file. 3. Commands are named in such a file, and are run.
pub fn comment(line: &str) -> String {
    let mut said = String::from("# ");
    for c in line.chars() {
        if acts(c) { said.extend(c.escape_default()) } else { said.push(c) }
    }
    said.push('\n');
    said
}

/// Returns a key as a TOML file takes it.
pub(crate) fn toml_key(name: &str) -> String {
    let bare =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if bare { name.to_owned() } else { toml_text(name) }
}

/// Returns a string as a TOML file takes it: without the characters that JSON leaves and TOML does not take,
/// and those that change how a reader sees the line.
pub(crate) fn toml_text(text: &str) -> String {
    let mut said = String::new();
    for c in serde_json::Value::from(text).to_string().chars() {
        let code = u32::from(c);
        let _ = match acts(c) {
            false => said.write_char(c),
            true if code <= 0xffff => write!(said, "\\u{code:04X}"),
            true => write!(said, "\\U{code:08X}"),
        };
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_with_characters_that_act_reads_as_it_was() {
        let text = "x\n[cleanup]\r\u{7f}\u{85}\u{202e}\u{feff}\u{e0041}\"\\é";
        let said = toml_text(text);
        assert!(!said.chars().any(acts), "{said}");
        assert_eq!(said, r#""x\n[cleanup]\r\u007F\u0085\u202E\uFEFF\U000E0041\"\\é""#,);
        let line = comment(text);
        assert_eq!(line.lines().count(), 1);
        assert!(!line.trim_end().chars().any(acts), "{line}");
    }
}
