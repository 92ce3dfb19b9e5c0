//! `mutants`: small mistakes, one at a time, and whether a test notices.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, anyhow, ensure};
use serde_json::json;
use tokio::process::Command;

use lockstep_cli::exit::Exit;
use lockstep_cli::report::{print, print_json};
use lockstep_cli::{Context, help};

/// Folder of the mistakes, from the root of the checkout.
const FOLDER: &str = "tests/mutants";

/// Makes known mistakes in a copy of this checkout, one at a time, and says which a test notices
///
/// Each mistake is a patch in tests/mutants that names the test which must fail with it: one of `it`, or,
/// with a line `Package:`, a unit test of that package. The copy is what is committed, in a folder of its own
/// that goes afterwards. A mistake that its test does not notice is one that a change could make unseen.
/// Each takes minutes to build: for a night.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask mutants        all of them\n  \
       cargo xtask mutants m25    those whose name has this in it"
))]
pub struct Args {
    /// Only those whose name has this in it
    pub name: Option<String>,
}

/// A mistake.
#[derive(Debug)]
struct Mutant {
    name: String,
    patch: PathBuf,
    what: String,
    /// Package whose unit test it is; a test of `it` where none is named.
    package: Option<String>,
    /// Full name of the test.
    test: String,
}

/// Runs it.
///
/// # Errors
/// When git or cargo cannot be started, or a patch does not apply any more.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let wanted = |mutant: &Mutant| args.name.as_ref().is_none_or(|name| mutant.name.contains(name));
    let mutants: Vec<Mutant> = all(&root)?.into_iter().filter(wanted).collect();
    ensure!(!mutants.is_empty(), "no mistake in {FOLDER} has such a name");
    let copy = root.join("target/mutants");
    let _ = git(&root, ["worktree".as_ref(), "remove".as_ref(), "--force".as_ref(), copy.as_os_str()]).await;
    git(&root, ["worktree".as_ref(), "add".as_ref(), "--detach".as_ref(), copy.as_os_str()]).await?;
    let mut found = Vec::new();
    for mutant in &mutants {
        context.ui.say(&format!("{}: {}", mutant.name, mutant.what));
        let told = context.unless_cancelled(noticed(&copy, mutant)).await??;
        found.push((mutant, told));
    }
    git(&root, ["worktree".as_ref(), "remove".as_ref(), "--force".as_ref(), copy.as_os_str()]).await?;
    let survivors = found.iter().filter(|(_, failed)| failed.is_empty()).count();
    if context.json {
        let rows = found
            .iter()
            .map(|(mutant, failed)| json!({ "mutant": mutant.name, "what": mutant.what, "failed": failed }));
        print_json(&json!({ "mutants": rows.collect::<Vec<_>>(), "unnoticed": survivors }));
    } else {
        for (mutant, failed) in &found {
            let by = if failed.is_empty() { "UNNOTICED".to_owned() } else { failed.join(", ") };
            print(&format!("{}: {by}", mutant.name));
        }
    }
    Ok(if survivors == 0 { Exit::Done } else { Exit::NotConsistent })
}

/// The tests that fail with the mistake.
async fn noticed(copy: &Path, mutant: &Mutant) -> anyhow::Result<Vec<String>> {
    git(copy, ["checkout".as_ref(), "--quiet".as_ref(), "--".as_ref(), ".".as_ref()]).await?;
    git(copy, ["apply".as_ref(), mutant.patch.as_os_str()]).await?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let of: &[&str] = match &mutant.package {
        Some(package) => &["--package", package, "--lib"],
        None => &["--workspace", "--test", "it"],
    };
    let output = Command::new(cargo)
        .arg("test")
        .args(of)
        .args(["--", "--exact", &mutant.test])
        .current_dir(copy)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .context("starting cargo")?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(told.contains("test result:"), "{}: the tests did not build; see above", mutant.name);
    // 1. A test is renamed. 2. Its old name runs none, and none fails. 3. That is no word on the mistake.
    ensure!(!told.contains("running 0 tests"), "{}: there is no test {}", mutant.name, mutant.test);
    Ok(failed(&told))
}

fn failed(told: &str) -> Vec<String> {
    let of_line = |line: &str| Some(line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?.to_owned());
    told.lines().filter_map(of_line).collect()
}

async fn git<const N: usize>(at: &Path, args: [&OsStr; N]) -> anyhow::Result<()> {
    let output = Command::new("git").args(args).current_dir(at).output().await.context("starting git")?;
    ensure!(output.status.success(), "git: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Every mistake, by name.
fn all(root: &Path) -> anyhow::Result<Vec<Mutant>> {
    let folder = root.join(FOLDER);
    let entries = std::fs::read_dir(&folder).with_context(|| format!("reading {FOLDER}"))?;
    let mut mutants = entries.map(|entry| read(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    mutants.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(mutants)
}

fn read(patch: PathBuf) -> anyhow::Result<Mutant> {
    let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let text = std::fs::read_to_string(&patch).with_context(|| format!("reading {name}"))?;
    let said = |label: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(label));
        found.map(|rest| rest.trim().to_owned())
    };
    let line = |label: &str| said(label).ok_or_else(|| anyhow!("{name} has no line `{label}`"));
    Ok(Mutant { what: line("What:")?, test: line("Test:")?, package: said("Package:"), name, patch })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_mistake_can_still_be_made_and_names_a_test_that_is_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mutants = all(&root).expect("they can be read");
        assert!(!mutants.is_empty());
        for mutant in mutants {
            assert!(is_there(&root, &mutant), "{}: there is no test {}", mutant.name, mutant.test);
            let args = ["apply".as_ref(), "--check".as_ref(), mutant.patch.as_os_str()];
            git(&root, args).await.unwrap_or_else(|error| panic!("{}: {error}", mutant.name));
        }
    }

    /// Whether the file that a test's modules lead to has a function of its name. A unit test stands in the
    /// file of its module, or in `tests.rs` beside it.
    fn is_there(root: &Path, mutant: &Mutant) -> bool {
        let folder = mutant.package.as_ref().map_or("tests/tests/it".to_owned(), |package| {
            format!("crates/{}/src", package.trim_start_matches("lockstep-").replace("migrate", "lockstep"))
        });
        let mut modules: Vec<&str> = mutant.test.split("::").collect();
        let name = modules.pop().expect("a name");
        let last = modules.len() - usize::from(modules.last() == Some(&"tests"));
        [modules.join("/"), modules[..last].join("/")].iter().any(|path| {
            let text = std::fs::read_to_string(root.join(&folder).join(format!("{path}.rs")));
            text.is_ok_and(|text| text.contains(&format!("fn {name}()")))
        })
    }

    #[test]
    fn the_tests_that_failed_are_named() {
        let told = "test a::one ... ok\ntest a::two ... FAILED\ntest result: FAILED. 1 passed";
        assert_eq!(failed(told), ["a::two"]);
    }
}
