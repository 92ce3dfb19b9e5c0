//! Things that documents say are there: tests that docs/failure-modes.md names, and commands that any
//! document shows.
//!
//! Each command can be typed (this file), and each is: `page` reads what a page shows, `reader` types it at a
//! shell, `elsewhere` lists what is not typed, with reasons, and `walks` has a test for each page.

mod elsewhere;
mod gates;
mod metrics;
mod page;
mod reader;
mod walks;

use std::fs;
use std::path::Path;

use clap::Parser;
use lockstep_tidy::{files, markdown};

/// Every file of Rust below a folder, in one text.
fn code(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            text += &code(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(&path).expect("text");
        }
    }
    text
}

#[test]
fn every_line_about_a_failure_names_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let code = code(&root.join("tests/tests")) + &code(&root.join("crates"));
    let text = fs::read_to_string(root.join("docs/failure-modes.md")).expect("the document");
    let lines: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("|---")).skip(1).collect();
    let rows: Vec<&str> = lines.into_iter().take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 40, "the first table was found");
    for row in rows {
        let cell = row.trim_end_matches('|').rsplit('|').next().expect("a cell").trim();
        for test in cell.split(", ").map(|test| test.trim_matches('`')) {
            assert!(code.contains(&format!("fn {test}()")), "no test is called {test}: {row}");
        }
    }
}

/// The commands of a document, without `cargo xtask` or `lockstep`: those that begin with one of them, and
/// `NAME --flag` of a command called NAME.
fn shown(text: &str, names: &[String]) -> Vec<String> {
    let is_name = |name: &str| names.iter().any(|known| known == name);
    let is_short = |span: &String| span.split_once(" --").is_some_and(|(name, _)| is_name(name));
    let mut found: Vec<String> = markdown::commands(text, "").into_iter().filter(is_short).collect();
    let whole = markdown::commands(text, "cargo xtask ");
    found.extend(whole.iter().map(|command| command.trim_start_matches("cargo xtask ").to_owned()));
    let whole = markdown::commands(text, "lockstep ");
    let whole = whole.iter().map(|command| command.trim_start_matches("lockstep ").to_owned());
    // A line of a manifest begins with the same word.
    found.extend(whole.filter(|command| command.split(' ').next().is_some_and(is_name)));
    found
}

/// The words of a command, as a shell splits them: what stands between quotes is of one word.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut quote, mut within) = (vec![String::new()], None, false);
    for c in command.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, ' ') => {
                if within {
                    words.push(String::new());
                }
                within = false;
                continue;
            }
            _ => words.last_mut().expect("one at least").push(c),
        }
        within = true;
    }
    words.retain(|word| !word.is_empty());
    words
}

/// A word in capitals stands for a value, as KEY does.
fn filled_in(word: &str) -> &str {
    if word.chars().all(|c| c.is_ascii_uppercase()) { "7" } else { word }
}

#[test]
fn every_command_that_a_document_shows_can_be_typed() {
    let program = <xtask::Xtask as clap::CommandFactory>::command();
    let names: Vec<String> = program.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let mut seen = 0;
    // The changelog names commands of earlier days, too.
    for document in files::documents().into_iter().filter(|document| document != "CHANGELOG.md") {
        for command in shown(&files::read(&document), &names) {
            seen += 1;
            let words = words(&command);
            let words = std::iter::once("xtask").chain(words.iter().map(|word| filled_in(word)));
            if let Err(error) = xtask::Xtask::try_parse_from(words) {
                panic!("{document}: `{command}` cannot be typed: {error}");
            }
        }
    }
    assert!(seen > 50, "the commands were found: {seen}");
}
