//! Characters that act on what shows them.

/// Tells whether a terminal, an editor or a parser of lines acts on a character instead of showing it, or
/// shows others otherwise for it: controls of ASCII and of Latin-1 (line ends and tabs among them),
/// separators of lines and paragraphs, marks, embeddings, overrides and isolates of direction, and what is as
/// wide as nothing. Names of tables and values of rows may hold each of them.
pub fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{2069}' | '\u{feff}')
        || matches!(c, '\u{e0000}'..='\u{e007f}')
}
