//! Every test that docs/holes.md names is there: a name that no test has any more is a hole of which nobody
//! knows whether it is closed.

use std::collections::BTreeSet;

use lockstep_tidy::files;

const DOCUMENT: &str = "docs/holes.md";
/// Mistakes of the model, which a row may name beside its tests.
const MUTATIONS: &str = "tests/model/src/mutation.rs";
/// Words by which a cell says that no test plays its row, or that another row's does.
const WITHOUT: [&str; 6] = ["the same", "as ", "not played", "none: ", "-", "—"];
/// Fewest words of a name: `a_b_c_d` is one, and `as_of` a word of a sentence.
const WORDS_OF_A_NAME: usize = 4;

/// Names of functions in a text of Rust.
fn functions(code: &str) -> impl Iterator<Item = String> + '_ {
    code.match_indices("fn ").filter_map(|(at, _)| {
        let rest = &code[at + 3..];
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        rest[name.len()..].trim_start().starts_with(['(', '<']).then_some(name)
    })
}

/// Variants of an enum, each on a line of its own.
fn variants(code: &str) -> impl Iterator<Item = String> + '_ {
    let names = code.lines().filter_map(|line| line.trim().strip_suffix(','));
    names.filter(|name| name.chars().all(char::is_alphanumeric)).map(str::to_owned)
}

/// Names that there are.
struct Known {
    functions: BTreeSet<String>,
    files: Vec<String>,
}

impl Known {
    fn read() -> Known {
        let rust: Vec<String> = files::rust().iter().map(|path| files::read(path)).collect();
        let mutations = files::read(MUTATIONS);
        let names = rust.iter().flat_map(|code| functions(code)).chain(variants(&mutations));
        Known { functions: names.collect(), files: files::all() }
    }

    /// Whether it is a test, a file, or a module with tests in it: `a_claim`, `steps::a_claim`, `ci.yml`,
    /// `history::control`, `adopted::*`, `ids::tests`.
    fn has(&self, name: &str) -> bool {
        let word = name.split(' ').next().unwrap_or_default();
        if word.contains(['/', '.']) && !word.contains("::") {
            let within = format!("/{word}");
            let below = format!("{word}/");
            let is_it = |file: &String| file == word || file.ends_with(&within) || file.starts_with(&below);
            return self.files.iter().any(is_it);
        }
        let modules: Vec<&str> = word.split("::").filter(|part| !matches!(*part, "*" | "tests")).collect();
        let last = modules.last().copied().unwrap_or_default();
        let path = format!("/{}", modules.join("/"));
        self.functions.contains(last)
            || self
                .files
                .iter()
                .any(|file| file.ends_with(&format!("{path}.rs")) || file.contains(&format!("{path}/")))
    }
}

/// Names between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// A name of a test that stands without backticks, where nothing looks for it.
fn bare(text: &str) -> Option<String> {
    let outside: String = text.split('`').step_by(2).collect::<Vec<_>>().join(" ");
    let mut words = outside.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    words.find(|word| word.split('_').count() >= WORDS_OF_A_NAME).map(str::to_owned)
}

/// The last cell of each row of each table but its head, with its line.
fn cells(text: &str) -> Vec<(usize, &str)> {
    let lines: Vec<&str> = text.lines().collect();
    let is_row = |at: &usize| lines[*at].starts_with("| ");
    let is_head = |at: &usize| lines.get(at + 1).is_some_and(|next| next.starts_with("|--"));
    let cell = |at: usize| {
        let row = lines[at].trim_end().trim_end_matches('|');
        row.rsplit(" | ").next().unwrap_or_default()
    };
    (0..lines.len()).filter(is_row).filter(|at| !is_head(at)).map(|at| (at + 1, cell(at).trim())).collect()
}

/// Sentences behind `Test:`, `Tests:` or `tests:`, up to the end of the sentence or the brackets.
fn said(text: &str) -> Vec<String> {
    let text: String = text.lines().filter(|line| !line.starts_with('|')).collect::<Vec<_>>().join(" ");
    let after = |label: &str| -> Vec<String> {
        let pieces = text.split(label).skip(1);
        pieces.map(|rest| rest.split(['.', ')', ';']).next().unwrap_or_default().to_owned()).collect()
    };
    [after("est: "), after("ests: ")].concat()
}

#[test]
fn every_test_that_the_table_of_holes_names_is_there() {
    let (known, text) = (Known::read(), files::read(DOCUMENT));
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (line, cell) in cells(&text) {
        let names = quoted(cell);
        seen += names.len();
        let says = cell.to_lowercase();
        let has_none = says.contains("by reading") || WITHOUT.iter().any(|word| says.starts_with(word));
        if names.is_empty() && !has_none {
            wrong.push(format!("{DOCUMENT}:{line}: neither a test nor a word on why there is none: {cell}"));
        }
        wrong.extend(bare(cell).map(|name| format!("{DOCUMENT}:{line}: {name} stands without backticks")));
        let absent = names.into_iter().filter(|name| !known.has(name));
        wrong.extend(absent.map(|name| format!("{DOCUMENT}:{line}: there is no {name}")));
    }
    for piece in said(&text) {
        let names = quoted(&piece);
        seen += names.len();
        let absent = names.into_iter().filter(|name| !known.has(name));
        wrong.extend(absent.map(|name| format!("{DOCUMENT}: a test is said to be {name}: there is none")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 500, "the names were found: {seen}");
}

#[test]
fn a_name_is_known_by_its_function_its_module_or_its_file_and_by_nothing_else() {
    let known = Known {
        functions: functions("async fn a_claim() {}\nfn of<T>(t: T) {}\n// fn no: x").collect(),
        files: vec!["tests/tests/it/history/control.rs".to_owned(), "ops/x.yml".to_owned()],
    };
    for name in ["a_claim", "steps::a_claim", "history::control", "control::*", "control::tests", "x.yml"] {
        assert!(known.has(name), "{name}");
    }
    for name in ["a_claim_that_went", "steps", "history::contro", "y.yml", "no"] {
        assert!(!known.has(name), "{name}");
    }
}

#[test]
fn the_last_cells_and_the_sentences_are_read_and_bare_names_found() {
    let text = "- **H1** It is. Test: `one`, `two`. More.\n| a | test |\n|---|---|\n| `x` | `y`, a_b_c_d |\n";
    assert_eq!(cells(text), [(4, "`y`, a_b_c_d")]);
    assert_eq!(quoted(&said(text)[0]), ["one", "two"]);
    assert_eq!((bare("`a_b_c_d` or so"), bare("a_b_c_d").as_deref()), (None, Some("a_b_c_d")));
}
