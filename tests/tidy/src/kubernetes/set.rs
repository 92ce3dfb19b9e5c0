//! Objects that are applied together, and what each says of others.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::check::named;
use super::{Schema, pod};

/// Secrets that are made beside the set, as no repository has one in it: their names, and the keys of each.
pub type Secrets = BTreeMap<String, BTreeSet<String>>;

/// Returns what is wrong with a set of objects, each with the object and the path of the field. What they say
/// of each other is looked at once each by itself is what its kind may be.
pub fn findings(objects: &[Value], secrets: &Secrets) -> Vec<String> {
    let (schema, mut found) = (Schema::ours(), Vec::new());
    objects.iter().for_each(|object| schema.check(object, &mut found));
    if !found.is_empty() {
        return found;
    }
    let mut set = Set { objects, secrets, found };
    let mut seen = BTreeSet::new();
    for object in objects {
        let key = (
            object["kind"].to_string(),
            namespace(object).to_string(),
            object["metadata"]["name"].to_string(),
        );
        if !seen.insert(key) {
            set.say(object, "metadata.name", "is the name of another one of its kind");
        }
        match object["kind"].as_str().unwrap_or_default() {
            "Deployment" => set.deployment(object),
            "Job" => set.job(object),
            "Service" => set.service(object),
            "PodDisruptionBudget" => {
                drop(set.selected(object, "spec.selector", &object["spec"]["selector"]["matchLabels"]))
            }
            "NetworkPolicy" => set.policy(object),
            "HorizontalPodAutoscaler" => set.autoscaler(object, "minReplicas", "maxReplicas"),
            "ScaledObject" => set.autoscaler(object, "minReplicaCount", "maxReplicaCount"),
            _ => {}
        }
    }
    set.found
}

pub(super) struct Set<'a> {
    objects: &'a [Value],
    pub(super) secrets: &'a Secrets,
    found: Vec<String>,
}

impl<'a> Set<'a> {
    pub(super) fn say(&mut self, object: &Value, path: &str, what: &str) {
        self.found.push(format!("{}: {path}: {what}", named(object)));
    }

    /// The object of a kind and a name, in the namespace of another one.
    pub(super) fn beside(&self, object: &Value, kind: &str, name: &Value) -> Option<&'a Value> {
        self.objects.iter().find(|other| {
            other["kind"] == kind
                && other["metadata"]["name"] == *name
                && namespace(other) == namespace(object)
        })
    }

    fn deployment(&mut self, object: &Value) {
        let spec = &object["spec"];
        if !matches(&spec["selector"]["matchLabels"], &spec["template"]["metadata"]["labels"]) {
            self.say(object, "spec.selector.matchLabels", "does not match the labels of spec.template");
        }
        let template = &spec["template"]["spec"];
        if !["Always", ""].contains(&template["restartPolicy"].as_str().unwrap_or_default()) {
            self.say(object, "spec.template.spec.restartPolicy", "has to be Always in a Deployment");
        }
        let rolling = &spec["strategy"]["rollingUpdate"];
        let is_none = |value: &Value| *value == 0 || *value == "0%";
        if is_none(&rolling["maxSurge"]) && is_none(&rolling["maxUnavailable"]) {
            self.say(object, "spec.strategy.rollingUpdate", "lets no pod come before one goes, and none go");
        }
        if spec["strategy"]["type"] == "Recreate" && rolling.is_object() {
            self.say(object, "spec.strategy.rollingUpdate", "is not of the strategy Recreate");
        }
        pod::check(self, object);
    }

    fn job(&mut self, object: &Value) {
        let spec = &object["spec"];
        let restart = spec["template"]["spec"]["restartPolicy"].as_str().unwrap_or_default();
        let by_policy = spec["podFailurePolicy"].is_object();
        if !["Never", "OnFailure"].contains(&restart) || (by_policy && restart != "Never") {
            let most = if by_policy {
                "has to be Never beside a podFailurePolicy"
            } else {
                "has to be Never or OnFailure in a Job"
            };
            self.say(object, "spec.template.spec.restartPolicy", most);
        }
        let is_indexed = spec["completionMode"] == "Indexed";
        if is_indexed && !spec["completions"].is_number() {
            self.say(object, "spec.completions", "has to be there in an Indexed Job");
        }
        if !is_indexed && spec["backoffLimitPerIndex"].is_number() {
            self.say(object, "spec.backoffLimitPerIndex", "is of an Indexed Job alone");
        }
        let containers = spec["template"]["spec"]["containers"].as_array().into_iter().flatten();
        let names: Vec<&Value> = containers.map(|container| &container["name"]).collect();
        for (at, rule) in spec["podFailurePolicy"]["rules"].as_array().into_iter().flatten().enumerate() {
            let named = rule["onExitCodes"].get("containerName");
            if named.is_some_and(|name| !names.contains(&name)) {
                let path = format!("spec.podFailurePolicy.rules[{at}].onExitCodes.containerName");
                self.say(object, &path, "is the name of no container");
            }
        }
        pod::check(self, object);
    }

    fn service(&mut self, object: &Value) {
        let selected = self.selected(object, "spec.selector", &object["spec"]["selector"]);
        for (at, port) in object["spec"]["ports"].as_array().into_iter().flatten().enumerate() {
            let (path, target) = match port.get("targetPort") {
                Some(target) => (format!("spec.ports[{at}].targetPort"), target),
                None => (format!("spec.ports[{at}].port"), &port["port"]),
            };
            if selected.iter().any(|workload| !pod::has_port(workload, target)) {
                self.say(object, &path, &format!("no container of the pods has the port {target}"));
            }
        }
    }

    fn policy(&mut self, object: &Value) {
        let selected =
            self.selected(object, "spec.podSelector", &object["spec"]["podSelector"]["matchLabels"]);
        for (at, rule) in object["spec"]["ingress"].as_array().into_iter().flatten().enumerate() {
            for (of, port) in rule["ports"].as_array().into_iter().flatten().enumerate() {
                let there =
                    port.get("port").is_none_or(|port| selected.iter().any(|one| pod::has_port(one, port)));
                if !there {
                    let path = format!("spec.ingress[{at}].ports[{of}].port");
                    self.say(
                        object,
                        &path,
                        &format!("no container of the pods has the port {}", port["port"]),
                    );
                }
            }
        }
    }

    fn autoscaler(&mut self, object: &Value, least: &str, most: &str) {
        let (spec, target) = (&object["spec"], &object["spec"]["scaleTargetRef"]);
        let kind = target["kind"].as_str().unwrap_or("Deployment");
        let there = self.beside(object, kind, &target["name"]);
        let version = target.get("apiVersion");
        if there.is_none_or(|there| version.is_some_and(|version| *version != there["apiVersion"])) {
            self.say(object, "spec.scaleTargetRef", &format!("there is no {kind} of this name and version"));
        }
        if spec[least].as_i64() > spec[most].as_i64().or(Some(i64::MAX)) {
            self.say(object, &format!("spec.{least}"), &format!("is more than {most}"));
        }
    }

    /// The workloads whose pods a selector takes, of which there has to be one.
    fn selected(&mut self, object: &Value, path: &str, labels: &Value) -> Vec<&'a Value> {
        let is_taken = |other: &&Value| {
            let template = &other["spec"]["template"];
            template.is_object()
                && namespace(other) == namespace(object)
                && matches(labels, &template["metadata"]["labels"])
        };
        let found: Vec<&Value> = self.objects.iter().filter(is_taken).collect();
        if found.is_empty() {
            self.say(object, path, "takes the pods of no workload");
        }
        found
    }
}

fn namespace(object: &Value) -> &Value {
    &object["metadata"]["namespace"]
}

/// Whether labels have all that a selector asks for.
pub(super) fn matches(selector: &Value, labels: &Value) -> bool {
    selector.as_object().into_iter().flatten().all(|(key, value)| labels[key] == *value)
}
