//! Takes a file of Rust apart into code, string literals and comments. It is no parser: it knows where texts
//! and comments begin and end, which is all that the claims need.

/// One literal or comment, and the line it begins in, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Line of its first character.
    pub line: usize,
    /// Text in it, without quotes or slashes.
    pub text: String,
}

/// A file taken apart.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// The code. Literals are left as `""`, comments are gone, line breaks stay.
    pub code: String,
    /// String literals of every kind, escapes as they are written.
    pub literals: Vec<Piece>,
    /// Comments of every kind, documentation included.
    pub comments: Vec<Piece>,
}

/// Takes `text` apart. A text or comment that does not end is taken to end with the file.
pub fn parts(text: &str) -> Parts {
    let chars: Vec<char> = text.chars().collect();
    let mut parts = Parts::default();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let rest = &chars[at..];
        let (taken, kind) = match rest {
            ['/', '/', ..] => (rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()), Taken::Comment),
            ['/', '*', ..] => (block_comment(rest), Taken::Comment),
            ['"', ..] => (plain(rest), Taken::Literal),
            ['r', '"' | '#', ..] if !continues_a_name(&chars, at) => match raw(rest) {
                Some(taken) => (taken, Taken::Literal),
                None => (1, Taken::Code),
            },
            ['\'', '\\', ..] => (character(rest), Taken::Code),
            ['\'', _, '\'', ..] => (3, Taken::Character),
            _ => (1, Taken::Code),
        };
        let piece: String = rest[..taken].iter().collect();
        let breaks = piece.matches('\n').count();
        match kind {
            Taken::Code => parts.code += &piece,
            Taken::Character => parts.code += "' '",
            Taken::Literal => {
                parts.code += "\"\"";
                parts.code += &"\n".repeat(breaks);
                let inner = piece.trim_start_matches('r').trim_matches('#');
                let inner = inner.strip_prefix('"').unwrap_or(inner);
                parts
                    .literals
                    .push(Piece { line, text: inner.strip_suffix('"').unwrap_or(inner).to_owned() });
            }
            Taken::Comment => {
                parts.code += &"\n".repeat(breaks);
                let inner = piece.trim_start_matches(['/', '*', '!']).trim_end_matches("*/");
                parts.comments.push(Piece { line, text: inner.trim().to_owned() });
            }
        }
        line += breaks;
        at += taken;
    }
    parts
}

#[derive(Clone, Copy)]
enum Taken {
    Code,
    Character,
    Literal,
    Comment,
}

/// Whether the character before `at` belongs to a name, so that an `r` here is its end and no prefix.
fn continues_a_name(chars: &[char], at: usize) -> bool {
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_') && chars[at - 1] != 'b'
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => {
                depth += 1;
                at += 2;
            }
            ['*', '/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    rest.len()
}

fn plain(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of a raw literal, or `None` where this is a raw name (`r#type`).
fn raw(rest: &[char]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return None;
    }
    let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let from = hashes + 2;
    let found = rest[from..].windows(end.len()).position(|window| window == end);
    Some(found.map_or(rest.len(), |at| from + at + end.len()))
}

/// The length of a character that is written with an escape, such as `'\n'` or `'\u{7f}'`.
fn character(rest: &[char]) -> usize {
    rest[3.min(rest.len())..].iter().position(|c| *c == '\'').map_or(rest.len(), |at| at + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_literals_and_comments_are_told_apart() {
        let text = "let a = \"x // y\"; // z \"q\"\nlet b = r#\"SELECT \"1\"\"#; /* u */ let c = '\"'; let r#type = '\\'';\n";
        let parts = parts(text);
        let literals: Vec<&str> = parts.literals.iter().map(|piece| piece.text.as_str()).collect();
        assert_eq!(literals, ["x // y", "SELECT \"1\""]);
        let comments: Vec<(usize, &str)> =
            parts.comments.iter().map(|piece| (piece.line, piece.text.as_str())).collect();
        assert_eq!(comments, [(1, "z \"q\""), (2, "u")]);
        assert!(parts.code.contains("let r#type = '\\''"), "{}", parts.code);
        assert_eq!(parts.code.lines().count(), text.lines().count());
    }

    #[test]
    fn a_literal_over_several_lines_keeps_the_count_of_lines() {
        let parts = parts("a(\"1\n2\n3\");\n// here\n");
        assert_eq!(parts.comments, [Piece { line: 4, text: "here".to_owned() }]);
    }
}
