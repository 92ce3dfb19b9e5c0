//! A file and a function are read in one go. Those that are longer today are listed with their lines, and
//! only become shorter.

use std::collections::BTreeMap;

use lockstep_tidy::{files, lists, rust};

/// Most lines of a file.
const FILE_LINES_MAX: usize = 450;
/// Most lines of a function, from the line with its name to its last brace.
const FUNCTION_LINES_MAX: usize = 70;

#[test]
fn no_file_is_too_long_to_be_read_in_one_go() {
    let mut long = BTreeMap::new();
    for path in files::below("crates", "rs") {
        let lines = files::read(&path).lines().count();
        if lines > FILE_LINES_MAX {
            long.insert(path, lines);
        }
    }
    lists::at_most("long-files", &long, "A file has one reason to change: move what has another one.");
}

#[test]
fn no_function_is_too_long_to_be_read_in_one_go() {
    let mut long: BTreeMap<String, usize> = BTreeMap::new();
    let mut counted = 0;
    for path in files::below("crates", "rs") {
        for (name, lines) in functions(&rust::parts(&files::read(&path)).code) {
            counted += 1;
            if lines > FUNCTION_LINES_MAX {
                let longest = long.entry(format!("{path}: {name}")).or_default();
                *longest = lines.max(*longest);
            }
        }
    }
    assert!(counted > 1_000, "the functions were found: {counted}");
    lists::at_most("long-functions", &long, "A function does one thing: name its parts.");
}

/// Returns name and number of lines of each function that has a body, as rustfmt lays code out: a function
/// ends with a brace below the beginning of its first line.
fn functions(code: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = code.lines().map(str::trim_end).collect();
    let mut found = Vec::new();
    for (first, line) in lines.iter().enumerate() {
        let Some(name) = function_of(line) else { continue };
        // The end of its head: a declaration in a trait ends there, and so does a body without content.
        let Some(head) = lines[first..].iter().position(|line| line.ends_with(['{', '}', ';'])) else {
            continue;
        };
        let head = first + head;
        let last = if lines[head].ends_with('{') {
            let indent = line.len() - line.trim_start().len();
            let end = format!("{}}}", " ".repeat(indent));
            lines[head..].iter().position(|line| **line == *end).map(|below| head + below)
        } else {
            lines[head].ends_with('}').then_some(head)
        };
        found.extend(last.map(|last| (name.to_owned(), last - first + 1)));
    }
    found
}

/// Returns the name of the function that begins in this line.
fn function_of(line: &str) -> Option<&str> {
    let (before, after) = line.trim_start().split_once("fn ")?;
    let name = after.split(|c: char| !(c.is_alphanumeric() || c == '_')).next()?;
    ((before.is_empty() || before.ends_with(' ')) && !name.is_empty()).then_some(name)
}

#[test]
fn a_function_is_counted_from_its_name_to_its_brace_and_a_declaration_is_not() {
    let code = "\
pub(crate) async fn a(
    b: B,
) -> C
where
    B: D,
{
    let e = Box::new(|| {
    });
}

impl F for G {
    fn h(&self) {}
    const fn i() -> usize {
        fn j() {
            k();
        }
    }
}

trait L {
    fn m(
        &self,
    ) -> N;
    fn o();
}
type P = fn(Q) -> R;
";
    let expected = [("a", 9), ("h", 1), ("i", 5), ("j", 3)];
    assert_eq!(functions(code), expected.map(|(name, lines)| (name.to_owned(), lines)));
}
