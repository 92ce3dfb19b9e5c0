//! Dependencies: where they come from and under which licences, what `cargo deny` checks by `deny.toml`, for
//! machines without it.

use std::process::Command;

use lockstep_tidy::files;
use serde_json::Value;

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The licences that `deny.toml` allows.
fn allowed() -> Vec<String> {
    let text = files::read("deny.toml");
    let list =
        text.split("allow = [").nth(1).and_then(|rest| rest.split(']').next()).expect("`allow` of deny.toml");
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_dependency_comes_from_crates_io_with_a_checksum() {
    let lock = files::read("Cargo.lock");
    let mut seen = 0;
    for package in lock.split("[[package]]").skip(1) {
        let value = |key: &str| {
            package.lines().find_map(|line| line.strip_prefix(key)).map(|rest| rest.trim_matches('"'))
        };
        let Some(source) = value("source = ") else { continue };
        seen += 1;
        let name = value("name = ").unwrap_or_default();
        assert_eq!(source, CRATES_IO, "{name} comes from elsewhere");
        assert!(value("checksum = ").is_some(), "{name} has no checksum");
    }
    assert!(seen > 100, "the packages were found: {seen}");
}

#[test]
fn every_dependency_has_a_licence_that_deny_toml_allows() {
    let allowed = allowed();
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 100, "the packages were found");
    let mut refused = Vec::new();
    for package in packages {
        let licence = package["license"].as_str().unwrap_or_default();
        if !permits(licence, &allowed) {
            refused.push(format!("{} {}: {licence}", package["name"], package["version"]));
        }
    }
    assert!(refused.is_empty(), "add the licence to deny.toml, if it may be used: {refused:#?}");
}

#[test]
fn no_crate_that_deny_toml_bans_is_in_the_lock_file() {
    let (lock, rules) = (files::read("Cargo.lock"), files::read("deny.toml"));
    let banned: Vec<&str> =
        rules.split("{ crate = \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(!banned.is_empty(), "the bans were found");
    for name in banned {
        assert!(!lock.contains(&format!("name = \"{name}\"")), "{name} is banned by deny.toml");
    }
}

/// 1. A library comes to need another crate. 2. Only a step that is run apart builds the workspace of the
/// example, with `--locked`. 3. Its lock file does not have that crate, and nothing tells for weeks.
#[test]
fn the_lock_file_of_the_example_has_what_each_library_needs() {
    let lock = files::read("examples/own-tables/Cargo.lock");
    let (metadata, mut seen) = (metadata(), 0);
    for package in lock.split("[[package]]").skip(1) {
        let name = package.lines().find_map(|line| line.strip_prefix("name = ")).unwrap_or_default();
        let is_it = |other: &&Value| other["name"].as_str() == Some(name.trim_matches('"'));
        let packages = metadata["packages"].as_array().expect("packages").iter();
        let mut libraries =
            packages.filter(|of| of["name"].as_str().is_some_and(|name| name.starts_with("lockstep")));
        let Some(ours) = libraries.find(is_it) else { continue };
        seen += 1;
        let has = |needed: &str| {
            package.lines().any(|line| {
                line.split('"').nth(1) == Some(needed) || line.starts_with(&format!(" \"{needed} "))
            })
        };
        let needed = ours["dependencies"].as_array().expect("dependencies").iter();
        let always = needed.filter(|of| of["kind"].is_null() && of["optional"] == false);
        for needed in always.filter_map(|of| of["name"].as_str()) {
            assert!(has(needed), "{name} needs {needed}: build examples/own-tables without --locked once");
        }
    }
    assert!(seen > 8, "the libraries were found: {seen}");
}

/// The packages of this machine's platform: those of others need not have been downloaded.
fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let rustc = Command::new("rustc").arg("-vV").output().expect("rustc");
    let version = String::from_utf8_lossy(&rustc.stdout).into_owned();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("the host of rustc");
    let mut command = Command::new(cargo);
    command.current_dir(files::root()).args([
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--filter-platform",
        host,
    ]);
    let output = command.output().expect("cargo metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Whether an SPDX expression can be met with the licences that are allowed.
fn permits(expression: &str, allowed: &[String]) -> bool {
    let words = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words: Vec<&str> = words.split_whitespace().rev().collect();
    !words.is_empty() && either(&mut words, allowed)
}

fn either(words: &mut Vec<&str>, allowed: &[String]) -> bool {
    let mut result = both(words, allowed);
    while words.last() == Some(&"OR") {
        words.pop();
        result |= both(words, allowed);
    }
    result
}

fn both(words: &mut Vec<&str>, allowed: &[String]) -> bool {
    let mut result = one(words, allowed);
    while words.last() == Some(&"AND") {
        words.pop();
        result &= one(words, allowed);
    }
    result
}

fn one(words: &mut Vec<&str>, allowed: &[String]) -> bool {
    match words.pop() {
        Some("(") => {
            let result = either(words, allowed);
            words.pop();
            result
        }
        Some(name) if words.last() == Some(&"WITH") => {
            words.pop();
            let exception = words.pop().unwrap_or_default();
            allowed.contains(&format!("{name} WITH {exception}"))
        }
        Some(name) => allowed.iter().any(|one| one == name),
        None => false,
    }
}

#[test]
fn licence_expressions_are_read_as_spdx_says() {
    let allowed = ["MIT".to_owned(), "ISC".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned()];
    for good in
        ["MIT", "MIT OR GPL-3.0", "GPL-3.0/MIT", "(MIT OR GPL-3.0) AND ISC", "Apache-2.0 WITH LLVM-exception"]
    {
        assert!(permits(good, &allowed), "{good}");
    }
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0", "Apache-2.0"] {
        assert!(!permits(bad, &allowed), "{bad}");
    }
}
