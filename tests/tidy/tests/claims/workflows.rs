//! The workflows are well formed: what can be seen of it without a parser of YAML. `.ci/run workflows` asks
//! actionlint where it is installed.

use lockstep_tidy::files;

/// Workflows, by path.
fn workflows() -> Vec<String> {
    let found = files::below(".github/workflows", "yml");
    assert!(!found.is_empty(), "the workflows were found");
    found
}

/// Returns how far a line is indented.
fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Lines that are neither empty nor a comment.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
}

#[test]
fn a_workflow_is_indented_evenly_and_names_when_it_runs_and_what_it_may_do() {
    for path in workflows() {
        let text = files::read(&path);
        for line in lines(&text) {
            assert!(
                !line.contains('\t') && indent(line).is_multiple_of(2),
                "{path}: `{line}` is not indented by twos"
            );
        }
        for key in ["name:", "on:", "permissions:", "jobs:"] {
            assert!(lines(&text).any(|line| line.starts_with(key)), "{path} has no `{key}`");
        }
    }
}

#[test]
fn a_job_has_a_machine_a_bound_in_time_and_steps() {
    for path in workflows() {
        let text = files::read(&path);
        let jobs: Vec<&str> = lines(&text).skip_while(|line| !line.starts_with("jobs:")).skip(1).collect();
        let starts: Vec<usize> = (0..jobs.len()).filter(|at| indent(jobs[*at]) == 2).collect();
        assert!(!starts.is_empty(), "{path} has no job");
        for (number, start) in starts.iter().enumerate() {
            let end = starts.get(number + 1).copied().unwrap_or(jobs.len());
            for key in ["runs-on:", "timeout-minutes:", "steps:"] {
                let there = jobs[*start..end]
                    .iter()
                    .any(|line| indent(line) == 4 && line.trim_start().starts_with(key));
                assert!(there, "{path}: the job `{}` has no `{key}`", jobs[*start].trim());
            }
        }
    }
}

#[test]
fn an_action_is_used_at_a_version() {
    for path in workflows() {
        let text = files::read(&path);
        for line in lines(&text) {
            if let Some((_, action)) = line.split_once("uses: ") {
                let version = action.split_once('@').map(|(_, version)| version.trim()).unwrap_or_default();
                let fixed = version.starts_with('v') || version.len() >= 40;
                assert!(fixed, "{path}: `{action}` names no version");
            }
        }
    }
}

#[test]
fn what_the_workflow_runs_is_what_a_person_runs() {
    let text = files::read(".github/workflows/ci.yml");
    let steps = files::read(".ci/run");
    assert!(text.contains(".ci/run"), "ci.yml calls .ci/run");
    for line in lines(&text).filter(|line| line.contains(".ci/run ")) {
        let names = line.split(".ci/run ").nth(1).unwrap_or_default();
        for name in names.split_whitespace() {
            assert!(steps.contains(&format!("\n{name}() {{")), "{line}: .ci/run has no step {name}");
        }
    }
}

/// 1. The workflow's tests run as a user who may make no network namespace. 2. The test of workers in such
/// networks says that it is left out, and passes. 3. It is never played.
#[test]
fn the_workflow_plays_workers_in_networks_of_their_own_and_leaves_them_out_nowhere() {
    let workflow = files::read(".github/workflows/ci.yml");
    assert!(workflow.contains("run: .ci/run namespaces"), "ci.yml has no step of it");
    let steps = files::read(".ci/run");
    let tests = files::read("tests/tests/it/workers/namespaces.rs");
    for (text, what) in [(&steps, ".ci/run"), (&tests, "the test")] {
        assert!(text.contains("NAMESPACES_REQUIRED"), "{what} does not require it");
    }
    let filter = "in_networks_of_their_own";
    assert!(steps.contains(&format!("-- {filter}")) && tests.contains(&format!("async fn {filter}")));
}
