//! What docs/failure-modes.md says is backed by a test that is there.

use std::fs;
use std::path::Path;

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
        let test = cell.trim_matches('`');
        assert!(code.contains(&format!("fn {test}()")), "no test is called {test}: {row}");
    }
}
