//! `ops/kubernetes` says the same as the container image, the daemon and docs/kubernetes.md. That it is what
//! the API takes, `manifests` holds.

use lockstep_tidy::files;
use serde_json::{Value, json};

use super::manifests::{DOCUMENT, built, one, secrets, shown};

#[test]
fn every_kustomization_builds_and_its_pods_run_as_the_image_does() {
    let image = files::read("ops/Dockerfile");
    let user = image.lines().find_map(|line| line.strip_prefix("USER ")).expect("the image has a user");
    // Where a task of ECS, or `docker run --read-only`, gives it no place of its own, this is one.
    assert!(image.lines().any(|line| line == "VOLUME /tmp"), "a comparison has no place in the image");
    for (folder, kind) in [("base", "Deployment"), ("backfill", "Job"), ("workers", "Deployment")] {
        let built = built(folder);
        let spec = &one(&built, kind)["spec"]["template"]["spec"];
        let container = &spec["containers"][0];
        assert_eq!(spec["securityContext"]["runAsUser"].to_string(), user, "{folder}");
        assert_eq!(spec["securityContext"]["runAsNonRoot"], true, "{folder}");
        assert_eq!(spec["automountServiceAccountToken"], false, "{folder}");
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true, "{folder}");
        assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false, "{folder}");
        // 1. A comparison has read some 60,000 rows, and puts them into temporary files. 2. The root is
        //    read-only. 3. No comparison ends, and no step is ever taken.
        let has = |list: &Value, one: Value| list.as_array().is_some_and(|list| list.contains(&one));
        assert!(
            has(&container["volumeMounts"], json!({ "mountPath": "/tmp", "name": "temporary" })),
            "{folder}"
        );
        assert!(has(&spec["volumes"], json!({ "emptyDir": {}, "name": "temporary" })), "{folder}");
        // The image's entry point is the program, so that `args` begin with a command of it.
        assert!(
            image.contains(r#"ENTRYPOINT ["/usr/local/bin/lockstep"]"#) && container["command"].is_null()
        );
        let is_secret = built.iter().any(|object| object["kind"] == "Secret");
        assert!(!is_secret, "{folder} has a secret in it, which belongs in no repository");
    }
}

/// 1. The configuration names a file of a secret. 2. The secret has it by another name, or is mounted
/// elsewhere. 3. All objects are what the API takes, and no pod of them gets ready.
#[test]
fn every_file_of_a_secret_that_a_configuration_names_is_mounted_where_it_says() {
    for (folder, kind, named) in
        [("base", "Deployment", 3), ("backfill", "Job", 1), ("workers", "Deployment", 1)]
    {
        let built = built(folder);
        let spec = &one(&built, kind)["spec"]["template"]["spec"];
        let list = |list: &Value| list.as_array().cloned().unwrap_or_default();
        let mounts = list(&spec["containers"][0]["volumeMounts"]);
        let volumes = list(&spec["volumes"]);
        let text =
            one(&built, "ConfigMap")["data"]["lockstep.toml"].as_str().expect("a configuration").to_owned();
        let files = text.lines().filter_map(|line| line.split_once("_file = \""));
        let files: Vec<&str> = files.map(|(_, path)| path.trim_end_matches('"')).collect();
        assert_eq!(files.len(), named, "{folder} names files: {files:?}");
        for path in files {
            let (place, file) = path.rsplit_once('/').expect("a path");
            let mount = mounts.iter().find(|mount| mount["mountPath"] == place).expect(path);
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).expect(path);
            let items = list(&volume["secret"]["items"]);
            let is_item = items.iter().any(|item| item["path"] == file);
            let name = volume["secret"]["secretName"].as_str().expect(path);
            let is_key = items.is_empty() && secrets()[name].contains(file);
            assert!(is_item || is_key, "{folder}: {path} is in no secret that is mounted there");
        }
    }
}

#[test]
fn the_daemon_is_probed_spread_and_reached_at_one_port() {
    let built = built("base");
    let serve = &one(&built, "Deployment")["spec"];
    let pod = &serve["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(serve["replicas"], 2);
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/healthz");
    assert_eq!(container["startupProbe"]["httpGet"]["path"], "/healthz");
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
    assert_eq!(pod["terminationGracePeriodSeconds"], 45);
    assert_eq!(container["ports"][0]["containerPort"], 7420);
    assert_eq!(one(&built, "PodDisruptionBudget")["spec"]["minAvailable"], 1);
    assert_eq!(one(&built, "Service")["spec"]["ports"][0]["port"], 7420);
    assert_eq!(one(&built, "NetworkPolicy")["spec"]["ingress"][0]["ports"][0]["port"], 7420);
}

/// 1. A pod has its role by EKS Pod Identity, or by the instance. 2. Both are asked on port 80 of the node.
/// 3. The policy allows neither, no request is signed, and nothing is delivered.
#[test]
fn on_port_80_pods_reach_what_hands_out_credentials_and_nothing_else() {
    let built = built("base");
    let rules = one(&built, "NetworkPolicy")["spec"]["egress"].as_array().expect("rules").clone();
    let of = |port: i64| {
        let has = |rule: &&Value| {
            rule["ports"].as_array().is_some_and(|ports| ports.iter().any(|one| one["port"] == port))
        };
        rules.iter().filter(has).map(|rule| rule["to"].clone()).collect::<Vec<_>>()
    };
    let address = |cidr: &str| json!({ "ipBlock": { "cidr": cidr } });
    assert_eq!(of(80), [json!([address("169.254.170.23/32"), address("169.254.169.254/32")])]);
    assert_eq!((of(443), of(5432), of(53).len()), (vec![Value::Null], vec![Value::Null], 1));
    let ports = rules.iter().flat_map(|rule| rule["ports"].as_array().cloned().unwrap_or_default());
    let mut ports: Vec<i64> = ports.filter_map(|port| port["port"].as_i64()).collect();
    ports.sort_unstable();
    assert_eq!(ports, [53, 53, 80, 443, 5432], "a rule without ports would be one for all of them");
    assert!(rules.iter().all(|rule| rule["ports"].is_array()));
}

#[test]
fn workers_are_an_indexed_job_or_a_deployment_that_scales_on_what_the_daemon_serves() {
    let (job, workers) = (built("backfill"), built("workers"));
    let job = &one(&job, "Job")["spec"];
    let container = &job["template"]["spec"]["containers"][0];
    assert_eq!(job["completionMode"], "Indexed");
    assert_eq!(job["template"]["spec"]["restartPolicy"], "Never");
    assert_eq!(container["args"][0], "worker");
    assert_eq!(container["env"][0]["valueFrom"]["fieldRef"]["fieldPath"], "metadata.name");
    // As many as are to end are there at once: one that waits for its turn finds nothing left.
    assert!(job["parallelism"].is_number() && job["parallelism"] == job["completions"]);
    let (deployment, scales) = (one(&workers, "Deployment"), one(&workers, "HorizontalPodAutoscaler"));
    let args = &deployment["spec"]["template"]["spec"]["containers"][0]["args"];
    assert_eq!((&args[0], &args[1]), (&json!("worker"), &json!("--stay")));
    assert!(deployment["spec"]["replicas"].is_null(), "the autoscaler says how many there are");
    let metrics = scales["spec"]["metrics"].as_array().expect("metrics");
    let metrics: Vec<&str> =
        metrics.iter().filter_map(|metric| metric["external"]["metric"]["name"].as_str()).collect();
    // 1. No range is open, and workers hold what they have read of a comparison. 2. They are taken away. 3.
    //    All of it is read again, by as few as are left.
    assert_eq!(metrics, ["lockstep_ranges_open", "lockstep_comparison_pieces"]);
    let gauges = files::read("crates/daemon/src/gauges.rs");
    let scaled =
        shown().into_iter().find(|object| object["kind"] == "ScaledObject").expect("the object of KEDA");
    let triggers = scaled["spec"]["triggers"].as_array().expect("triggers").clone();
    for metric in metrics {
        assert!(gauges.contains(&format!("\"{metric}\"")), "the daemon serves no {metric}");
        let query = json!(format!("sum(max by (table) ({metric}))"));
        let has = triggers.iter().any(|trigger| trigger["metadata"]["query"] == query);
        assert!(has, "the object for KEDA has not {query}");
    }
}

/// 1. A store is away, so no replica is ready. 2. A service of ready ones leads nowhere, and people do not
/// see why.
#[test]
fn the_service_leads_to_the_page_while_no_replica_is_ready() {
    assert_eq!(one(&built("base"), "Service")["spec"]["publishNotReadyAddresses"], true);
    let document = files::read(DOCUMENT);
    for needed in ["publishNotReadyAddresses", "/readyz", "port-forward"] {
        assert!(document.contains(needed), "the document says nothing of {needed}");
    }
}
