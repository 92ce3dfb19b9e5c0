//! Every number that the repository cites is defined in `docs/`.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_tidy::files;

/// Letters of numbers, and the document that defines the numbers of each.
const DEFINED_IN: [(char, &str); 3] =
    [('R', "docs/requirements.md"), ('I', "docs/protocol.md"), ('H', "docs/holes.md")];

#[test]
fn every_number_that_is_cited_is_defined_in_docs() {
    let mut defined = BTreeSet::new();
    for (letter, document) in DEFINED_IN {
        let text = files::read(document);
        let numbers: BTreeSet<String> = bold_numbers(&text, letter).into_iter().collect();
        assert!(numbers.len() > 10, "{document} defines its numbers as **{letter}1 Name.**");
        defined.extend(numbers);
    }
    let mut missing: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in cited_in() {
        for number in numbers(&files::read(&path)).into_iter().filter(|number| !defined.contains(number)) {
            missing.entry(number).or_default().insert(path.clone());
        }
    }
    assert!(missing.is_empty(), "cited and nowhere defined: {missing:#?}");
}

fn cited_in() -> Vec<String> {
    let mut paths = files::rust();
    for folder in ["crates", "config", "ops"] {
        paths.extend(["sql", "toml"].iter().flat_map(|extension| files::below(folder, extension)));
    }
    paths.extend(files::documents());
    paths
}

/// Numbers at the beginning of something bold: `**I4 Watermark.**`.
fn bold_numbers(text: &str, letter: char) -> Vec<String> {
    let bold = text.match_indices("**").map(|(at, _)| &text[at + 2..]);
    bold.filter(|rest| rest.starts_with(letter))
        .filter_map(|rest| numbers(&rest[..rest.len().min(4)]).pop())
        .collect()
}

/// The numbers that a text cites: `R7`, `I11`, `H14`, `hole 14`. Keys such as `GSI1PK` are words of their
/// own.
fn numbers(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let mut found: Vec<String> = words.filter(|word| is_number(word)).map(str::to_owned).collect();
    for (at, _) in text.match_indices("hole ") {
        let digits: String = text[at + 5..].chars().take_while(char::is_ascii_digit).collect();
        if !digits.is_empty() {
            found.push(format!("H{digits}"));
        }
    }
    found
}

fn is_number(word: &str) -> bool {
    let digits = word.strip_prefix(['R', 'I', 'H']).unwrap_or_default();
    (1..=3).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[test]
fn numbers_are_told_from_names() {
    assert_eq!(numbers("(R19, I2) as GSI1PK and R2D2; hole 14, H3"), ["R19", "I2", "H3", "H14"]);
    assert_eq!(bold_numbers("- **I4 Watermark.** A\n**R12 Catch-up** I9", 'I'), ["I4"]);
}
