//! Language of the repository: width, and words that do not name who acts.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_tidy::{files, lists, rust};

/// Longest line, in characters.
const WIDTH: usize = 110;
/// Words that leave open who acts, or that a reader has to translate back.
const PHRASES: [&str; 9] =
    ["whoever", "anew", "so many", "to be had", "is told so", "nobody", "somebody", "everybody", "anybody"];
/// Pages that name the words: the rule itself, and what earlier releases said.
const UNCHECKED: [&str; 2] = ["CONTRIBUTING.md", "CHANGELOG.md"];
/// Files that no person wrote, or none of ours.
const FOREIGN: [&str; 3] = ["Cargo.lock", "LICENSE-APACHE", "LICENSE-MIT"];
/// The account that Unix calls so. It may be named in backquotes, or be a literal of its own.
const ACCOUNT: &str = "nobody";

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
fn no_phrase_hides_who_acts() {
    let mut found = Vec::new();
    for path in files::rust().into_iter().filter(|path| !path.starts_with("tests/tidy/")) {
        let parts = rust::parts(&files::read(&path));
        // Joined, so that a phrase is found where a comment breaks its line in the middle of it.
        let comments = parts.comments.iter().map(|piece| piece.text.as_str()).collect::<Vec<_>>().join("\n");
        let literals = parts.literals.iter().map(|piece| piece.text.as_str()).filter(|text| *text != ACCOUNT);
        for text in std::iter::once(comments.as_str()).chain(literals) {
            found.extend(phrases_in(text).into_iter().map(|phrase| format!("{path}: {phrase}")));
        }
    }
    for path in files::documents().iter().filter(|path| !UNCHECKED.contains(&path.as_str())) {
        found.extend(phrases_in(&files::read(path)).into_iter().map(|phrase| format!("{path}: {phrase}")));
    }
    found.extend(elsewhere());
    lists::check(
        "phrases",
        &found,
        "Name who acts: caller, coordinator, relay, feed, application instance, operator.",
    );
}

/// Reads what SQL, configuration, `ops`, the workflows and the page say, comments included.
fn elsewhere() -> Vec<String> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let code = [".rs", ".md", ".png"];
    for path in files::all() {
        let is_other = code.iter().any(|ending| path.ends_with(ending)) || FOREIGN.contains(&path.as_str());
        if is_other || path.starts_with("tests/tidy/lists/") {
            continue;
        }
        // A folder of a tool may hold what is no text.
        let Ok(text) = std::fs::read_to_string(files::root().join(&path)) else { continue };
        found.extend(phrases_in(&text).into_iter().map(|phrase| format!("{path}: {phrase}")));
        seen.insert(path);
    }
    for known in ["crates/postgres/src/control.sql", "crates/daemon/assets/index.html", ".ci/run"] {
        assert!(seen.contains(known), "{known} is not looked at");
    }
    for folder in ["ops/", ".github/", "config/"] {
        assert!(seen.iter().any(|path| path.starts_with(folder)), "{folder} is not looked at");
    }
    found
}

/// A comment that is read beside its field alone, as in a list of what completes, has to say what that is.
#[test]
fn no_comment_is_the_fragment_of_a_question() {
    let mut found = Vec::new();
    for path in files::rust().into_iter().filter(|path| !path.starts_with("tests/tidy/")) {
        let text = files::read(&path);
        let comments =
            text.lines().enumerate().filter_map(|(at, line)| Some((at, line.trim().strip_prefix("/// ")?)));
        found.extend(
            comments
                .filter(|(_, said)| is_fragment(said))
                .map(|(at, said)| format!("{path}:{}: {said}", at + 1)),
        );
    }
    assert!(found.is_empty(), "Begin with the noun: name, number, time, reason.\n{}", found.join("\n"));
}

/// Whether a whole line is one question word, with at most one word more.
fn is_fragment(said: &str) -> bool {
    const QUESTIONS: [&str; 8] = ["What", "Which", "Who", "When", "Where", "Why", "How", "Since"];
    const TWICE: [&str; 2] = ["As it was.", "As it is."];
    let mut words = said.split(' ');
    let asks = words.next().is_some_and(|first| QUESTIONS.contains(&first.trim_end_matches('.')));
    TWICE.contains(&said) || (asks && said.ends_with('.') && words.count() <= 1)
}

#[test]
fn a_fragment_is_told_from_a_sentence() {
    assert!(is_fragment("Which.") && is_fragment("How often.") && is_fragment("As it was."));
    assert!(!is_fragment("Why it failed.") && !is_fragment("Whether it holds.") && !is_fragment("When it"));
}

/// First words of a documentation comment that leave a reader to find the noun or the verb.
const HEADLESS: [&str; 14] = [
    "What",
    "Whatever",
    "Who",
    "Whoever",
    "Which",
    "Whichever",
    "How",
    "Where",
    "When",
    "Why",
    "Its",
    "Of",
    "By",
    "Since",
];

/// A list shows a field without its neighbours: "What it is of" says nothing there.
#[test]
fn documentation_begins_with_a_noun_or_a_verb() {
    let mut counts = BTreeMap::new();
    let mut found = Vec::new();
    for path in files::rust() {
        let text = files::read(&path);
        found.extend(headless(&text).into_iter().map(|said| format!("{path}: {said}")));
        *counts.entry(part_of(&path)).or_default() += headless(&text).len();
    }
    let advice = "Begin with a noun (a field, a type) or with a verb in the third person (a function).";
    lists::at_most("headless", &counts, &format!("{advice}\n{}", found.join("\n")));
}

/// The first lines of documentation comments that begin so.
fn headless(text: &str) -> Vec<&str> {
    let said = |line: &str| {
        let line = line.trim_start();
        ["/// ", "//! "].into_iter().find(|marker| line.starts_with(marker))
    };
    let mut found = Vec::new();
    let mut before = None;
    for line in text.lines() {
        let marker = said(line);
        let words = line.trim_start().get(4..).unwrap_or_default();
        let first = words.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        if marker.is_some() && marker != before && HEADLESS.contains(&first) {
            found.push(words);
        }
        // A blank line of the comment ends a paragraph, and not the comment.
        before = marker.or(before.filter(|marker| line.trim() == marker.trim_end()));
    }
    found
}

#[test]
fn the_beginning_of_a_comment_is_told_from_its_other_lines() {
    assert_eq!(headless("    /// What it is.\n    /// Who reads it.\n"), ["What it is."]);
    assert_eq!(headless("//! The file.\n//!\n//! What else.\n/// Its name.\nlet a = 1;\n"), ["Its name."]);
    assert!(
        headless("// What an inner comment says.\n/// Whether it holds.\n/// However long.\n").is_empty()
    );
}

/// A name is read like a sentence, and a test's name is one.
#[test]
fn no_name_hides_who_acts() {
    let mut found = BTreeSet::new();
    for path in files::rust().into_iter().filter(|path| !path.starts_with("tests/tidy/")) {
        let code = rust::parts(&files::read(&path)).code;
        let names = code.split(|c: char| !c.is_alphanumeric() && c != '_');
        found.extend(names.filter(|name| !phrases_in(&spelled(name)).is_empty()).map(str::to_owned));
    }
    let found: Vec<String> = found.into_iter().collect();
    lists::check("names", &found, "Name who acts: caller, relay, feed, application, instance, operator.");
}

/// The words of a name: `made_anew` and `MadeAnew` are two.
fn spelled(name: &str) -> String {
    let mut words = String::new();
    for c in name.chars() {
        if c == '_' || c.is_uppercase() && !words.ends_with(char::is_uppercase) {
            words.push(' ');
        }
        words.extend((c != '_').then_some(c));
    }
    words
}

/// The phrases that `text` has, once for each place, also over a line break.
fn phrases_in(text: &str) -> Vec<&'static str> {
    let text = text.replace(&format!("`{ACCOUNT}`"), "");
    let plain = text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    let times = |phrase: &str| {
        plain.match_indices(phrase).filter(|(at, _)| stands_alone(&plain, *at, phrase.len())).count()
    };
    PHRASES.iter().flat_map(|phrase| std::iter::repeat_n(*phrase, times(phrase))).collect()
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
fn a_phrase_is_found_across_a_line_break_and_not_within_a_word() {
    assert_eq!(phrases_in("It is told\n so. Begin anew, canewood."), ["anew", "is told so"]);
    assert_eq!(phrases_in(&spelled("it_is_told_so")), ["is told so"]);
    assert_eq!(phrases_in(&spelled("NobodyWaits")), phrases_in(&spelled("NOBODY_WAITS")));
    assert_eq!(phrases_in("`nobody` is an account, Nobody and somebody_else are not"), ["nobody"]);
    assert_eq!(phrases_in("Somebody waits, and everybody\n knows."), ["somebody", "everybody"]);
}
