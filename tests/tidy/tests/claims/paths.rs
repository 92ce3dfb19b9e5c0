//! A file that a document or a comment names in backquotes is there: one that was moved or renamed leads its
//! reader nowhere, and no compiler says so.

use std::collections::BTreeSet;

use lockstep_tidy::{files, rust};

/// Endings of names that are taken for files of this repository.
const ENDINGS: [&str; 10] = [".rs", ".sql", ".md", ".toml", ".yml", ".yaml", ".sh", ".html", ".js", ".css"];
/// Folders that a path may leave out: a reader finds `postgres/calls.rs` without them.
const LEFT_OUT: [&str; 3] = ["crates", "src", "tests"];
/// Names that stand for any file of their kind, or for one that an operator or another program makes.
const NO_FILES: [&str; 1] = ["cli/src/commands/NAME.rs"];

#[test]
fn every_file_that_is_named_in_backquotes_is_there() {
    let there = endings_of_paths();
    let (mut gone, mut seen) = (Vec::new(), 0);
    for (path, text) in documents_and_comments() {
        for name in named(&text) {
            seen += 1;
            if !there.contains(short(&name).as_str()) {
                gone.push(format!("{path}: {name}"));
            }
        }
    }
    assert!(seen > 500, "the names were found: {seen}");
    assert!(gone.is_empty(), "no file or folder ends so; say where it is now:\n{gone:#?}");
}

/// Documents whole; of code and SQL the comments.
fn documents_and_comments() -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> =
        files::documents().into_iter().map(|path| (path.clone(), files::read(&path))).collect();
    found.extend(files::below("ops", "md").into_iter().map(|path| (path.clone(), files::read(&path))));
    for path in files::rust().into_iter().filter(|path| !path.starts_with("tests/tidy/")) {
        let comments = rust::parts(&files::read(&path)).comments;
        found.push((path, comments.into_iter().map(|piece| piece.text + "\n").collect()));
    }
    for path in files::below("crates", "sql") {
        let text = files::read(&path);
        let comments = text.lines().filter_map(|line| line.split_once("--")).map(|(_, comment)| comment);
        found.push((path.clone(), comments.map(|comment| format!("{comment}\n")).collect()));
    }
    found
}

/// The files and folders that `text` names in backquotes, braces spread out.
fn named(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines() {
        let quoted = line.split('`').skip(1).step_by(2);
        for path in quoted.filter(|path| is_plain(path)).flat_map(spread) {
            if (is_file(&path) || is_folder(&path)) && !NO_FILES.contains(&path.as_str()) {
                found.push(path);
            }
        }
    }
    found
}

/// Whether it has nothing but what a path of ours has: a place of a key, a pattern or a URL is none.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_./{},-".contains(c))
}

fn is_file(path: &str) -> bool {
    // A name in the folder of its reader (`lockstep.toml`) is looked up like the rest.
    ENDINGS.iter().any(|ending| path.len() > ending.len() && path.ends_with(ending))
}

/// `crates/x/src/y`, `it/history/`: what begins with a folder of the root, or ends with a stroke.
fn is_folder(path: &str) -> bool {
    const ROOTS: [&str; 7] = ["crates/", "tests/", "docs/", "ops/", "examples/", "xtask/", "it/"];
    path.contains("/src/") || ROOTS.iter().any(|root| path.starts_with(root))
}

/// `a/{b,c}.rs` as `a/b.rs` and `a/c.rs`.
fn spread(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else { return vec![path.to_owned()] };
    let Some((middle, after)) = rest.split_once('}') else { return vec![path.to_owned()] };
    middle.split(',').flat_map(|one| spread(&format!("{before}{one}{after}"))).collect()
}

/// A path without the folders that may be left out.
fn short(path: &str) -> String {
    let parts = path.split('/').filter(|part| !part.is_empty() && !LEFT_OUT.contains(part));
    parts.collect::<Vec<_>>().join("/")
}

/// Each ending of each path of a file or folder: `coordinator/src/step.rs` may be called `step.rs`.
fn endings_of_paths() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for path in files::all() {
        let mut whole = short(&path);
        loop {
            let mut rest = whole.as_str();
            while found.insert(rest.to_owned()) {
                let Some((_, shorter)) = rest.split_once('/') else { break };
                rest = shorter;
            }
            let Some((folder, _)) = whole.rsplit_once('/') else { break };
            whole = folder.to_owned();
        }
    }
    // A path of nothing but folders that may be left out.
    found.insert(String::new());
    found
}

#[test]
fn names_are_told_from_other_words_and_a_file_that_moved_is_missed() {
    let text = "See `a/{b,c}.rs`, `https://x.y/z.rs`, `lockstep.pending`, `crates/x/src/y` and `{id}.rs of`.";
    assert_eq!(named(text), ["a/b.rs", "a/c.rs", "crates/x/src/y"]);
    let there = endings_of_paths();
    for path in ["crates/coordinator/src/step.rs", "coordinator/step.rs", "step.rs", "tests/tests/it/history"]
    {
        assert!(there.contains(&short(path)), "{path}");
    }
    for path in ["source/calls.rs", "mend/remedies.rs", "crates/core/src/target/streams"] {
        assert!(!there.contains(&short(path)), "{path}");
    }
}
