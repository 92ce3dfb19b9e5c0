//! Links and headings of a document.

use std::collections::BTreeMap;

/// The targets of the links in `text`, each with its line, code left out.
pub fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        let line = without_code(line);
        for (at, _) in line.match_indices("](") {
            let rest = &line[at + 2..];
            if let Some(end) = rest.find(')') {
                found.push((number, rest[..end].split(' ').next().unwrap_or_default().to_owned()));
            }
        }
    }
    found
}

/// The anchors of a document's headings, as GitHub and mdbook make them.
pub fn anchors(text: &str) -> Vec<String> {
    let (mut seen, mut found) = (BTreeMap::<String, usize>::new(), Vec::new());
    for (_, line) in prose(text) {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let slug = slug(title.trim());
        let times = seen.entry(slug.clone()).or_default();
        found.push(if *times == 0 { slug } else { format!("{slug}-{times}") });
        *times += 1;
    }
    found
}

/// The commands of `text` that begin with `program`: from lines of code and from code within a sentence.
pub fn commands(text: &str, program: &str) -> Vec<String> {
    let (mut found, mut code) = (Vec::new(), false);
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
        } else if code {
            found.push(line.split(" #").next().unwrap_or(line).trim().to_owned());
        } else {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found.retain(|command| command.starts_with(program));
    found
}

/// The words after the opening of each fence, with its line.
pub fn fences(text: &str) -> Vec<(usize, &str)> {
    let (mut found, mut code) = (Vec::new(), false);
    for (at, line) in text.lines().enumerate() {
        if let Some(words) = line.trim_start().strip_prefix("```") {
            code = !code;
            found.extend(code.then_some((at + 1, words.trim())));
        }
    }
    found
}

fn slug(title: &str) -> String {
    let kept = title.to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' '));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Lines outside fences, with their numbers from 1.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let (mut found, mut code) = (Vec::new(), false);
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            code = !code;
        } else if !code {
            found.push((at + 1, line));
        }
    }
    found
}

fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("code")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_in_code_are_none_and_a_heading_that_comes_twice_is_counted() {
        let text = "# A b, `c`!\n[x](y.md#z) `[n](o.md)`\n```\n[p](q.md)\n```\n## A b, c\n#not one\n";
        assert_eq!(links(text), [(2, "y.md#z".to_owned())]);
        assert_eq!(anchors(text), ["a-b-c", "a-b-c-1"]);
    }

    #[test]
    fn a_fence_is_told_by_its_opening() {
        assert_eq!(fences("a\n```rust,no_run\nx\n```\n  ```\ny\n```\n"), [(2, "rust,no_run"), (5, "")]);
    }

    #[test]
    fn commands_are_found_in_fences_and_in_sentences() {
        let text = "Run `cargo xtask status` or\n```\ncargo xtask migrate --keep   # leaves them\nls\n```\n";
        assert_eq!(commands(text, "cargo xtask "), ["cargo xtask status", "cargo xtask migrate --keep"]);
    }
}
