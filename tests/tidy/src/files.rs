//! Files of the repository, by their path from its root.

use std::fs;
use std::path::{Path, PathBuf};

/// The folder that holds the workspace's `Cargo.toml`.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The text of a file.
///
/// # Panics
/// When there is no such file: each caller has just listed it, or names one that must be there.
pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file below `folder` whose name ends with `.extension`, sorted, as paths from the root with `/`
/// between. Build output and hidden folders are left out. An absent folder has no files.
pub fn below(folder: &str, extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    walk(folder, extension, &mut found);
    found.sort();
    found
}

/// Every file of the repository, sorted, build output and hidden folders left out. A hidden file in the root
/// is one, and so is each of `.ci` and `.github`.
pub fn all() -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root()).expect("the root of the repository") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        if !entry.file_type().expect("a kind of file").is_dir() {
            found.push(name);
        } else if name != "target" && name != ".git" {
            walk(&name, "", &mut found);
        }
    }
    found.sort();
    found
}

/// Every file of Rust in the workspace.
pub fn rust() -> Vec<String> {
    ["crates", "examples", "tests", "xtask"].iter().flat_map(|folder| below(folder, "rs")).collect()
}

/// Every document that people read.
pub fn documents() -> Vec<String> {
    let mut found: Vec<String> = top("md");
    found.extend(below("docs", "md"));
    found.extend(below("examples", "md"));
    found
}

/// Files in the root itself.
fn top(extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root()).expect("the root of the repository") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        if name.ends_with(&format!(".{extension}")) {
            found.push(name);
        }
    }
    found.sort();
    found
}

fn walk(folder: &str, extension: &str, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(root().join(folder)) else { return };
    for entry in entries {
        let entry = entry.expect("an entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{folder}/{name}");
        if entry.file_type().expect("a kind of file").is_dir() {
            if name != "target" && !name.starts_with('.') {
                walk(&path, extension, found);
            }
        } else if extension.is_empty() || name.ends_with(&format!(".{extension}")) {
            found.push(path);
        }
    }
}
