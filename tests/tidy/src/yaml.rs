//! Reader of the YAML that our manifests are written in, and `kubectl kustomize` prints: mappings and
//! sequences, in blocks and within a line, scalars, literal blocks, comments, several documents.
//!
//! It refuses what it does not know (anchors, tags, folded text, a scalar over two lines), and what two
//! readers of YAML take for two things: `yes`, `010`, a key that is there twice.

mod flow;

use serde_json::{Map, Value};

/// Returns the documents of a file, empty ones left out.
///
/// # Errors
/// With the line and the reason, for what this reader does not know, and for what is no YAML.
pub fn documents(text: &str) -> Result<Vec<Value>, String> {
    let mut parts = vec![Vec::new()];
    for (at, raw) in text.lines().enumerate() {
        let text = raw.trim_start_matches(' ');
        let line = Line { number: at + 1, indent: raw.len() - text.len(), text: text.trim_end(), raw };
        match raw.trim_end() {
            "---" => parts.push(Vec::new()),
            _ if text.starts_with('\t') => return Err(line.wrong("begins with a tab")),
            _ => parts.last_mut().expect("one at least").push(line),
        }
    }
    let mut found = Vec::new();
    for lines in parts {
        let mut reader = Reader { lines, at: 0 };
        if reader.peek().is_some() {
            found.push(reader.block()?);
        }
        if let Some(line) = reader.peek() {
            return Err(line.wrong("is indented otherwise than what it stands among"));
        }
    }
    Ok(found)
}

#[derive(Clone, Copy)]
struct Line<'a> {
    number: usize,
    indent: usize,
    /// Text without its indent.
    text: &'a str,
    raw: &'a str,
}

impl Line<'_> {
    fn wrong(&self, why: &str) -> String {
        format!("line {}: `{}` {why}", self.number, self.text)
    }

    fn is_item(&self) -> bool {
        is_item(self.text)
    }
}

fn is_item(text: &str) -> bool {
    text == "-" || text.starts_with("- ")
}

struct Reader<'a> {
    lines: Vec<Line<'a>>,
    at: usize,
}

impl<'a> Reader<'a> {
    /// The next line that says something; those before it are passed.
    fn peek(&mut self) -> Option<Line<'a>> {
        while let Some(line) = self.lines.get(self.at) {
            if !line.text.is_empty() && !line.text.starts_with('#') {
                return Some(*line);
            }
            self.at += 1;
        }
        None
    }

    /// Returns the value that begins at the next line.
    fn block(&mut self) -> Result<Value, String> {
        let Some(line) = self.peek() else { return Ok(Value::Null) };
        let key = flow::key(line.text).map_err(|why| line.wrong(&why))?;
        if line.is_item() {
            self.sequence(line.indent)
        } else if key.is_some() {
            self.mapping(line.indent)
        } else {
            self.at += 1;
            flow::whole(line.text).map_err(|why| line.wrong(&why))
        }
    }

    fn mapping(&mut self, indent: usize) -> Result<Value, String> {
        let mut map = Map::new();
        while let Some(line) = self.peek().filter(|line| line.indent >= indent) {
            let key = flow::key(line.text).map_err(|why| line.wrong(&why))?;
            let Some((key, rest)) = key.filter(|_| line.indent == indent && !line.is_item()) else {
                return Err(line.wrong("belongs to nothing above it"));
            };
            self.at += 1;
            // A sequence may stand as far to the left as its key. (Nothing is passed before a literal block,
            // as a comment in it is text.)
            let is_open = rest.is_empty() || rest.starts_with('#');
            let value = if is_open && self.peek().is_some_and(|next| next.indent == indent && next.is_item())
            {
                self.sequence(indent)?
            } else {
                self.value(line, indent, rest)?
            };
            if map.insert(key, value).is_some() {
                return Err(line.wrong("has a key that is there twice"));
            }
        }
        Ok(Value::Object(map))
    }

    fn sequence(&mut self, indent: usize) -> Result<Value, String> {
        let mut list = Vec::new();
        while let Some(line) = self.peek().filter(|line| line.indent == indent && line.is_item()) {
            let rest = line.text[1..].trim_start();
            let has_key = flow::key(rest).map_err(|why| line.wrong(&why))?.is_some();
            list.push(if is_item(rest) || has_key {
                // It begins in the middle of this line: as if it stood on one of its own.
                let indent = indent + line.text.len() - rest.len();
                self.lines[self.at] = Line { indent, text: rest, ..line };
                self.block()?
            } else {
                self.at += 1;
                self.value(line, indent, rest)?
            });
        }
        match self.peek().filter(|line| line.indent > indent) {
            Some(line) => Err(line.wrong("belongs to nothing above it")),
            None => Ok(Value::Array(list)),
        }
    }

    /// Returns what follows a key or a dash: in its line, or deeper below it.
    fn value(&mut self, line: Line<'a>, indent: usize, rest: &str) -> Result<Value, String> {
        if rest.is_empty() || rest.starts_with('#') {
            return match self.peek().filter(|next| next.indent > indent) {
                Some(_) => self.block(),
                None => Ok(Value::Null),
            };
        }
        if rest.starts_with('|') {
            return self.literal(line, indent, rest);
        }
        flow::whole(rest).map_err(|why| line.wrong(&why))
    }

    fn literal(&mut self, line: Line<'a>, indent: usize, header: &str) -> Result<Value, String> {
        let mut content = Vec::new();
        while let Some(next) =
            self.lines.get(self.at).filter(|next| next.text.is_empty() || next.indent > indent)
        {
            content.push(*next);
            self.at += 1;
        }
        while content.last().is_some_and(|last| last.text.is_empty()) {
            content.pop();
        }
        let depth = content.iter().find(|line| !line.text.is_empty()).map_or(0, |line| line.indent);
        if let Some(left) = content.iter().find(|line| !line.text.is_empty() && line.indent < depth) {
            return Err(left.wrong("is indented less than the text that it is of"));
        }
        let text =
            content.iter().map(|line| line.raw.get(depth..).unwrap_or("")).collect::<Vec<_>>().join("\n");
        match header {
            "|" if !text.is_empty() => Ok(Value::String(text + "\n")),
            "|" | "|-" => Ok(Value::String(text)),
            _ => Err(line.wrong("begins a text in a way that is not known here")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::documents;
    use serde_json::json;

    #[test]
    fn what_manifests_are_written_in_is_read() {
        let text =
            "# A comment.\na: 1 # one\nb:\n- x: \"7420\"\n  y: [A, 'it''s', {k: v}]\n-\n  - 50%\nc: |\n";
        let text = text.to_owned() + "  # no comment\n\n    deeper: 1\n\nd: {}\n---\n---\n";
        let text = text + "- \"a: b\": http://x:9/y#z\n- true\n-\n";
        let first = json!({
            "a": 1,
            "b": [{ "x": "7420", "y": ["A", "it's", { "k": "v" }] }, ["50%"]],
            "c": "# no comment\n\n  deeper: 1\n",
            "d": {},
        });
        let second = json!([{ "a: b": "http://x:9/y#z" }, true, null]);
        assert_eq!(documents(&text), Ok(vec![first, second]));
    }

    #[test]
    fn what_is_not_known_or_may_be_read_in_two_ways_is_refused_with_its_line() {
        for (text, why) in [
            ("a: yes", "quotes"),
            ("a: 010", "quotes"),
            ("a: 12:30", "quotes"),
            ("a: &x 1", "not known"),
            ("a: >\n  b", "not known"),
            ("a: |+\n  b", "not known"),
            ("a: b: c", "mapping"),
            ("a: [1, 2", "no end"),
            ("a: \"b", "no end"),
            ("a: 1\n  b: 2", "belongs to nothing"),
            ("a: one\n  two", "belongs to nothing"),
            ("- 1\n   - 2", "belongs to nothing"),
            ("a:\n\t b: 1", "tab"),
            ("a: 1\na: 2", "twice"),
            ("a: {b: 1, b: 2}", "twice"),
            ("  a: 1\nb: 1", "otherwise"),
            ("a: 1\n- b", "belongs to nothing"),
        ] {
            let said = documents(text).expect_err(text);
            assert!(said.starts_with("line ") && said.contains(why), "{text:?}: {said}");
        }
    }
}
