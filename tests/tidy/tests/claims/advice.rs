//! Libraries name no command and no configuration key: advice is a value (`core/src/advice.rs`), and the
//! command line spells it (`cli/src/spelling.rs`).

use std::collections::BTreeSet;

use lockstep_tidy::{files, lists, rust};

/// Crates that an application may embed without our command line and our file.
const LIBRARIES: [&str; 9] =
    ["core", "template", "postgres", "dynamo", "lockstep", "validator", "coordinator", "report", "declared"];
/// Reads the file of an application, and says which key of it is wrong.
const READS_THE_FILE: &str = "crates/lockstep/src/config/";

#[test]
fn no_library_names_a_command_or_a_key() {
    let (commands, keys) = (commands(), keys());
    assert!(commands.len() > 20 && commands.contains("dead-letters"), "{commands:?}");
    assert!(keys.len() > 50 && keys.contains("source.url"), "{keys:?}");
    let mut found = BTreeSet::new();
    for library in LIBRARIES {
        for path in files::below(&format!("crates/{library}/src"), "rs") {
            if path.starts_with(READS_THE_FILE) || is_of_tests(&path) {
                continue;
            }
            let text = files::read(&path);
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let parts = rust::parts(text);
            for literal in &parts.literals {
                let named = named(&continued(&literal.text), &commands, &keys);
                found.extend(named.into_iter().map(|name| format!("{path}: {name}")));
            }
            let named = named_in_comments(&parts, &commands, &keys);
            found.extend(named.into_iter().map(|name| format!("{path} (comment): {name}")));
        }
    }
    let found: Vec<String> = found.into_iter().collect();
    lists::check(
        "advice",
        &found,
        "Use lockstep_core::Advice, and spell it in crates/cli/src/spelling.rs. A comment names the act.",
    );
}

/// Returns the names of both in comments. A word of the file's own code or literals is that: a module, a
/// field, a table in SQL.
fn named_in_comments(
    parts: &rust::Parts,
    commands: &BTreeSet<String>,
    keys: &BTreeSet<String>,
) -> Vec<String> {
    let texts = parts.literals.iter().map(|literal| literal.text.as_str()).chain([parts.code.as_str()]);
    let own: BTreeSet<&str> =
        texts.flat_map(|text| text.split(|c: char| !(c.is_alphanumeric() || c == '_'))).collect();
    let said = paragraphs(&parts.comments);
    let named = said.iter().flat_map(|said| named(said, commands, keys));
    named.filter(|name| !own.contains(name.trim_matches('`'))).collect()
}

/// Comments on neighbouring lines as one text, so that what is quoted across a break is whole.
fn paragraphs(comments: &[rust::Piece]) -> Vec<String> {
    let mut said: Vec<String> = Vec::new();
    let mut last = 0;
    for comment in comments {
        match said.last_mut().filter(|_| comment.line == last + 1) {
            Some(text) => {
                text.push(' ');
                text.push_str(&comment.text);
            }
            None => said.push(comment.text.clone()),
        }
        last = comment.line;
    }
    said
}

fn is_of_tests(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.ends_with("tests.rs") || name == "pairs.rs" || path.contains("/tests/")
}

/// A literal without the breaks that it is continued over.
fn continued(literal: &str) -> String {
    let mut lines = literal.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |all, line| all + line.trim_start())
}

/// Commands, as they are typed.
fn commands() -> BTreeSet<String> {
    let text = files::read("crates/cli/src/cli.rs");
    let (_, variants) = text.split_once("pub enum Command {").expect("the commands");
    let (variants, _) = variants.split_once("\n}").expect("their end");
    variants.lines().filter_map(|line| line.trim().split_once('(')).map(|(name, _)| kebab(name)).collect()
}

fn kebab(name: &str) -> String {
    let mut typed = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !typed.is_empty() {
            typed.push('-');
        }
        typed.push(c.to_ascii_lowercase());
    }
    typed
}

/// Keys of the configuration with their sections.
fn keys() -> BTreeSet<String> {
    let (mut section, mut keys) = (String::new(), BTreeSet::new());
    let example = files::read("config/lockstep.example.toml");
    for line in example.lines().map(|line| line.trim_start_matches(['#', ' '])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            name.0.clone_into(&mut section);
        } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| is_key(key)) {
            keys.insert(format!("{section}.{key}"));
        }
    }
    keys
}

fn is_key(key: &str) -> bool {
    key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// Returns the names of both in `text`.
fn named(text: &str, commands: &BTreeSet<String>, keys: &BTreeSet<String>) -> Vec<String> {
    let mut named = Vec::new();
    if text.contains("cargo xtask") {
        named.push("cargo xtask".to_owned());
    }
    let quoted = text.split('`').skip(1).step_by(2);
    let typed = quoted.map(|quoted| quoted.strip_prefix("lockstep ").unwrap_or(quoted));
    let first = typed.filter_map(|typed| typed.split(' ').next());
    named.extend(first.filter(|first| commands.contains(*first)).map(|first| format!("`{first}`")));
    // Flags of AWS's own program are not ours to spell.
    if !text.contains("aws ") {
        let flag =
            |word: &&str| word.starts_with("--") && word.chars().nth(2).is_some_and(char::is_alphabetic);
        named.extend(text.split([' ', '`', '(']).filter(flag).map(str::to_owned));
    }
    let words = text.split(|c: char| !(c.is_alphanumeric() || "._*{}".contains(c)));
    for word in words.map(|word| word.trim_end_matches('.')) {
        let of_table = ["tables.{", "tables.*", "[tables."].iter().any(|start| word.starts_with(start));
        let of_environment = word.starts_with("LOCKSTEP_") && word.contains("__");
        if keys.contains(word) || of_table || of_environment || word == "lockstep.toml" {
            named.push(word.to_owned());
        }
    }
    named
}

#[test]
fn a_command_a_flag_and_a_key_are_found_in_a_sentence_and_other_words_are_not() {
    let (commands, keys) = (commands(), keys());
    let of = |text: &str| named(text, &commands, &keys);
    assert_eq!(of("run `repair --state`, or cargo xtask doctor"), ["cargo xtask", "`repair`", "--state"]);
    assert_eq!(of("check source.url. Or set tables.{name}.target"), ["source.url", "tables.{name}.target"]);
    assert_eq!(
        of("set LOCKSTEP_SOURCE__URL, see `lockstep.toml`"),
        ["LOCKSTEP_SOURCE__URL", "lockstep.toml"]
    );
    assert!(
        of("SELECT lockstep.tables.name FROM t -- as `pg_settings` says; aws s3 rm --recursive").is_empty()
    );
    assert!(of("a relay, the source url and -- nothing").is_empty());
    assert_eq!(of("as `lockstep worker` does"), ["`worker`"]);
}

#[test]
fn a_comment_may_name_what_its_own_file_has_and_is_read_across_lines() {
    let (commands, keys) = (commands(), keys());
    let of = |text: &str| named_in_comments(&rust::parts(text), &commands, &keys);
    assert_eq!(
        of("//! What `repair\n//! --state` does, and `status`.\n"),
        ["`repair`", "`status`", "--state"]
    );
    assert!(of("//! In reading order: `status`.\n\nmod status;\n").is_empty());
    assert!(of("/// Rows of `tables`.\nconst ALL: &str = \"SELECT * FROM lockstep.tables\";\n").is_empty());
    assert_eq!(of("// See source.url.\nlet (source, url) = at();\n"), ["source.url"]);
    assert_eq!(of("let a = 1; // A `plan`.\nlet plan = 2;\n\n// And `doctor`.\n"), ["`doctor`"]);
}
