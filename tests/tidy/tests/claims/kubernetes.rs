//! `ops/kubernetes` builds, and says the same as the container image and the daemon.

use std::path::Path;
use std::process::Command;

use lockstep_tidy::files::root;

/// Returns what `kubectl kustomize` makes of a folder; nothing where kubectl is missing, and then it is said.
fn built(folder: &str) -> Option<String> {
    let path = root().join("ops/kubernetes").join(folder);
    let output = match Command::new("kubectl").arg("kustomize").arg(&path).output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("SKIPPED: {} is not checked, as kubectl cannot be started: {error}", path.display());
            return None;
        }
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kubectl kustomize {}: {said}", path.display());
    Some(String::from_utf8(output.stdout).expect("YAML is text"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The documents of a kind.
fn of_kind<'a>(built: &'a str, kind: &str) -> Vec<&'a str> {
    let line = format!("kind: {kind}");
    built.split("\n---\n").filter(|document| document.lines().any(|l| l == line)).collect()
}

#[test]
fn every_kustomization_builds_and_its_pods_run_as_the_image_does() {
    let image = read("ops/Dockerfile");
    let user = image.lines().find_map(|line| line.strip_prefix("USER ")).expect("the image has a user");
    // Where a task of ECS, or `docker run --read-only`, gives it no place of its own, this is one.
    assert!(image.lines().any(|line| line == "VOLUME /tmp"), "a comparison has no place in the image");
    let as_user = format!("runAsUser: {user}");
    for (folder, kind) in [("base", "Deployment"), ("backfill", "Job"), ("workers", "Deployment")] {
        let Some(built) = built(folder) else { return };
        let pods = of_kind(&built, kind);
        assert_eq!(pods.len(), 1, "{folder} has one {kind}");
        for needed in [
            as_user.as_str(),
            "runAsNonRoot: true",
            "readOnlyRootFilesystem: true",
            "allowPrivilegeEscalation: false",
            "automountServiceAccountToken: false",
        ] {
            assert!(pods[0].contains(needed), "{folder} lacks `{needed}`");
        }
        // 1. A comparison has read some 60,000 rows, and puts them into temporary files. 2. The root is
        //    read-only. 3. No comparison ends, and no step is ever taken.
        let words = pods[0].split_whitespace().collect::<Vec<_>>().join(" ");
        for needed in ["- mountPath: /tmp name: temporary", "- emptyDir: {} name: temporary"] {
            assert!(words.contains(needed), "{folder} lacks `{needed}`");
        }
        // The image's entry point is the program, so that `args` begin with a command of it.
        assert!(image.contains(r#"ENTRYPOINT ["/usr/local/bin/lockstep"]"#) && !pods[0].contains("command:"));
        assert!(
            of_kind(&built, "Secret").is_empty(),
            "{folder} has a secret in it, which belongs in no repository"
        );
    }
}

#[test]
fn the_daemon_is_probed_spread_and_reached_at_one_port() {
    let Some(built) = built("base") else { return };
    let one = |kind| *of_kind(&built, kind).first().unwrap_or_else(|| panic!("the base has no {kind}"));
    let serve = one("Deployment");
    for needed in [
        "replicas: 2",
        "path: /healthz",
        "path: /readyz",
        "terminationGracePeriodSeconds: 45",
        "containerPort: 7420",
    ] {
        assert!(serve.contains(needed), "the deployment lacks `{needed}`");
    }
    assert!(one("PodDisruptionBudget").contains("minAvailable: 1"));
    assert!(one("Service").contains("port: 7420") && one("NetworkPolicy").contains("port: 7420"));
    let accounts = of_kind(&built, "ServiceAccount");
    assert!(accounts.iter().any(|account| account.contains("name: lockstep-serve")), "{accounts:?}");
}

#[test]
fn workers_are_an_indexed_job_or_a_deployment_that_scales_on_what_the_daemon_serves() {
    let (Some(job), Some(workers)) = (built("backfill"), built("workers")) else { return };
    let one = |built, kind| *of_kind(built, kind).first().unwrap_or_else(|| panic!("there is no {kind}"));
    let job = one(&job, "Job");
    for needed in ["completionMode: Indexed", "- worker", "fieldPath: metadata.name", "restartPolicy: Never"]
    {
        assert!(job.contains(needed), "the job lacks `{needed}`");
    }
    // As many as are to end are there at once: one that waits for its turn finds nothing left.
    let number = |key: &str| job.lines().find_map(|line| line.trim().strip_prefix(key)).map(str::to_owned);
    assert!(number("parallelism: ").is_some() && number("parallelism: ") == number("completions: "));
    let (deployment, scales) = (one(&workers, "Deployment"), one(&workers, "HorizontalPodAutoscaler"));
    assert!(deployment.contains("- worker\n") && deployment.contains("- --stay"));
    assert!(!deployment.contains("replicas:"), "the autoscaler says how many there are");
    assert!(scales.contains("name: lockstep-workers"));
    let (gauges, document) = (read("crates/daemon/src/gauges.rs"), read("docs/kubernetes.md"));
    // 1. No range is open, and workers hold what they have read of a comparison. 2. They are taken away. 3.
    //    All of it is read again, by as few as are left.
    for metric in ["lockstep_ranges_open", "lockstep_comparison_pieces"] {
        assert!(scales.contains(&format!("name: {metric}\n")), "it does not scale on {metric}");
        assert!(gauges.contains(&format!("\"{metric}\"")), "the daemon serves no {metric}");
        let query = format!("query: sum(max by (table) ({metric}))");
        assert!(document.contains(&query), "the object for KEDA has not `{query}`");
    }
}

/// 1. A store is away, so no replica is ready. 2. A service of ready ones leads nowhere, and people do not
/// see why.
#[test]
fn the_service_leads_to_the_page_while_no_replica_is_ready() {
    let service = read("ops/kubernetes/base/service.yaml");
    assert!(service.lines().any(|line| line == "  publishNotReadyAddresses: true"), "{service}");
    let document = read("docs/kubernetes.md");
    for needed in ["publishNotReadyAddresses", "/readyz", "port-forward"] {
        assert!(document.contains(needed), "the document says nothing of {needed}");
    }
}
