//! How the repository is written: width, and words that do not name who acts.

use std::collections::BTreeMap;

use lockstep_tidy::{files, lists, rust};

/// Longest line, in characters.
const WIDTH: usize = 110;
/// Words that leave open who acts, or that a reader has to translate back.
const PHRASES: [&str; 6] = ["whoever", "anew", "so many", "to be had", "is told so", "nobody"];

#[test]
fn lines_are_no_wider_than_110_characters() {
    let mut counts = BTreeMap::new();
    for path in files::rust() {
        let wide = files::read(&path).lines().filter(|line| line.chars().count() > WIDTH).count();
        *counts.entry(part_of(&path)).or_default() += wide;
    }
    lists::at_most("width", &counts, "Break the lines that you changed at 110 characters.");
}

#[test]
fn no_phrase_that_hides_who_acts_is_added() {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for path in files::rust() {
        if path.starts_with("tests/tidy/") {
            continue;
        }
        let parts = rust::parts(&files::read(&path));
        for piece in parts.comments.iter().chain(&parts.literals) {
            count(&piece.text, "code", &mut counts);
        }
    }
    for path in files::documents().iter().filter(|path| *path != "CONTRIBUTING.md") {
        count(&files::read(path), "documents", &mut counts);
    }
    lists::at_most(
        "phrases",
        &counts,
        "Name who acts: caller, coordinator, relay, feed, application instance, operator.",
    );
}

fn count(text: &str, place: &str, counts: &mut BTreeMap<String, usize>) {
    let plain = text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    for phrase in PHRASES {
        let hits =
            plain.match_indices(phrase).filter(|(at, _)| stands_alone(&plain, *at, phrase.len())).count();
        *counts.entry(format!("{place}: {phrase}")).or_default() += hits;
    }
}

fn stands_alone(text: &str, at: usize, length: usize) -> bool {
    let letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    !letter(text[..at].chars().next_back()) && !letter(text[at + length..].chars().next())
}

/// `crates/NAME`, or the first folder.
fn part_of(path: &str) -> String {
    let take = if path.starts_with("crates/") { 2 } else { 1 };
    path.split('/').take(take).collect::<Vec<_>>().join("/")
}

#[test]
fn a_phrase_is_counted_across_a_line_break_and_not_within_a_word() {
    let mut counts = BTreeMap::new();
    count("It is told\n so. Begin anew, canewood.", "x", &mut counts);
    assert_eq!((counts["x: is told so"], counts["x: anew"]), (1, 1));
}
