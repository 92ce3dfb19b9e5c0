//! The pages that a stranger reads first stay short, and what documents show in Rust compiles.

use lockstep_tidy::{files, markdown};

/// Lines of the pages in the root, and the bound of each: the one fits on a screen beside its pictures.
const LINES_MAX: [(&str, usize); 2] = [("ARCHITECTURE.md", 119), ("README.md", 72)];
/// Longest line of these pages, in characters. Rows of tables are wider.
const WIDTH: usize = 110;
/// Pictures of the readme: where they lie, and their names: the page in both colours, and the report.
const PICTURES: [&str; 3] =
    ["docs/images/page-light.png", "docs/images/page-dark.png", "docs/images/report.png"];

#[test]
fn the_first_pages_are_short_and_narrow() {
    for (page, lines_max) in LINES_MAX {
        let text = files::read(page);
        let lines = text.lines().count();
        assert!(lines <= lines_max, "{page} has {lines} lines, and may have {lines_max}: shorten it");
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('|')) {
            assert!(line.chars().count() <= WIDTH, "{page}:{}: wider than {WIDTH}", at + 1);
        }
    }
}

#[test]
fn the_readme_shows_the_page_in_both_colours_and_the_report() {
    let text = files::read("README.md");
    for picture in PICTURES {
        let shown = text.match_indices("![").any(|(at, _)| {
            text[at..].split_once("](").is_some_and(|(_, rest)| rest.starts_with(&format!("{picture})")))
        });
        assert!(shown, "README.md does not show {picture}");
    }
}

#[test]
fn what_a_document_shows_in_rust_is_compiled() {
    // A doc test compiles a document that a library includes.
    let including: String = files::rust()
        .iter()
        .map(|path| files::read(path))
        .filter(|text| text.contains("#[cfg(doctest)]"))
        .collect();
    let mut seen = 0;
    for document in files::documents() {
        let text = files::read(&document);
        for (line, words) in markdown::fences(&text).into_iter().filter(|(_, words)| is_rust(words)) {
            seen += 1;
            assert!(!is_passed_over(words), "{document}:{line}: `{words}` is not compiled");
            let suffix = format!("../{document}\")]\n#[cfg(doctest)]");
            assert!(
                including.contains(&suffix),
                "{document}:{line}: no doc test compiles this; include the document in a library, as \
                 tests/src/lib.rs does"
            );
        }
    }
    assert!(seen > 8, "the examples were found: {seen}");
}

fn is_rust(words: &str) -> bool {
    words.split(',').any(|word| word.trim() == "rust")
}

/// Whether rustdoc leaves the block alone.
fn is_passed_over(words: &str) -> bool {
    words.split(',').any(|word| matches!(word.trim(), "ignore" | "text" | "compile_fail"))
}

#[test]
fn a_block_that_rustdoc_ignores_is_told_from_one_that_it_compiles() {
    assert!(is_rust("rust,no_run") && is_rust("rust") && !is_rust("toml") && !is_rust(""));
    assert!(is_passed_over("rust,ignore") && !is_passed_over("rust,no_run"));
}
