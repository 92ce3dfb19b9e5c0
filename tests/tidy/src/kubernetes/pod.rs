//! The template of a pod: its own parts, and what has to be there for it to start.

use std::collections::BTreeSet;

use serde_json::Value;

use super::formats::quantity;
use super::set::{Set, matches};

const POD: &str = "spec.template.spec";

/// Whether a container of a workload's pods has a port, by its number or its name.
pub(super) fn has_port(workload: &Value, port: &Value) -> bool {
    let of = |(_, container): (String, &Value)| list(container, "ports").any(|(_, one)| is_port(one, port));
    containers(workload).any(of)
}

fn is_port(declared: &Value, port: &Value) -> bool {
    declared["containerPort"] == *port || declared.get("name") == Some(port)
}

/// Adds what is wrong with the template of a workload.
pub(super) fn check(set: &mut Set<'_>, workload: &Value) {
    let spec = &workload["spec"]["template"]["spec"];
    let account = spec.get("serviceAccountName");
    if account.is_some_and(|account| set.beside(workload, "ServiceAccount", account).is_none()) {
        set.say(workload, &format!("{POD}.serviceAccountName"), "there is no ServiceAccount of this name");
    }
    for (at, spread) in list(spec, "topologySpreadConstraints") {
        let selector = &spread["labelSelector"]["matchLabels"];
        if !matches(selector, &workload["spec"]["template"]["metadata"]["labels"]) {
            let path = format!("{POD}.topologySpreadConstraints[{at}].labelSelector");
            set.say(workload, &path, "does not match the labels of spec.template");
        }
    }
    let parts: Vec<(String, &Value)> = containers(workload).collect();
    twice(set, workload, parts.iter().map(|(path, one)| (format!("{path}.name"), &one["name"])));
    for (path, container) in &parts {
        within(set, workload, path, container);
    }
    let volumes = || list(spec, "volumes").map(|(at, one)| (format!("{POD}.volumes[{at}]"), one));
    twice(set, workload, volumes().map(|(path, one)| (format!("{path}.name"), &one["name"])));
    for (path, volume) in volumes() {
        let is_mounted = |(_, container): &(String, &Value)| {
            list(container, "volumeMounts").any(|(_, mount)| mount["name"] == volume["name"])
        };
        if !parts.iter().any(is_mounted) {
            set.say(workload, &format!("{path}.name"), "is mounted by no container");
        }
        for (kind, name) in [("configMap", "name"), ("secret", "secretName")] {
            let Some(source) = volume.get(kind) else { continue };
            let keys = list(source, "items")
                .map(|(at, item)| (format!("{path}.{kind}.items[{at}].key"), &item["key"]));
            let of = Reference { kind, name: &source[name], is_optional: source["optional"] == true };
            of.check(set, workload, &format!("{path}.{kind}.{name}"), &keys.collect::<Vec<_>>());
        }
    }
}

/// Adds what is wrong with a container: its ports and limits, volumes of the pod, secrets and configuration.
fn within(set: &mut Set<'_>, workload: &Value, path: &str, container: &Value) {
    let spec = &workload["spec"]["template"]["spec"];
    for (what, key) in
        [("env", "name"), ("ports", "name"), ("ports", "containerPort"), ("volumeMounts", "mountPath")]
    {
        let named = list(container, what).filter(|(_, one)| one.get(key).is_some());
        twice(set, workload, named.map(|(at, one)| (format!("{path}.{what}[{at}].{key}"), &one[key])));
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        for how in ["httpGet", "tcpSocket"] {
            let Some(port) = container[probe][how].get("port") else { continue };
            // A number need not be declared; a name that is not leads nowhere.
            if port.is_string() && !list(container, "ports").any(|(_, one)| is_port(one, port)) {
                set.say(
                    workload,
                    &format!("{path}.{probe}.{how}.port"),
                    "is a port that the container has not",
                );
            }
        }
    }
    for (at, mount) in list(container, "volumeMounts") {
        if !list(spec, "volumes").any(|(_, volume)| volume["name"] == mount["name"]) {
            set.say(workload, &format!("{path}.volumeMounts[{at}].name"), "is the name of no volume");
        }
    }
    for (key, most) in container["resources"]["limits"].as_object().into_iter().flatten() {
        if quantity(&container["resources"]["requests"][key]) > quantity(most) {
            set.say(workload, &format!("{path}.resources.requests.{key}"), "is more than the limit");
        }
    }
    for (at, variable) in list(container, "env") {
        for (kind, from) in [("configMap", "configMapKeyRef"), ("secret", "secretKeyRef")] {
            let Some(source) = variable["valueFrom"].get(from) else { continue };
            let path = format!("{path}.env[{at}].valueFrom.{from}");
            let of = Reference { kind, name: &source["name"], is_optional: source["optional"] == true };
            of.check(set, workload, &format!("{path}.name"), &[(format!("{path}.key"), &source["key"])]);
        }
    }
    for (at, all) in list(container, "envFrom") {
        for (kind, from) in [("configMap", "configMapRef"), ("secret", "secretRef")] {
            let Some(source) = all.get(from) else { continue };
            let of = Reference { kind, name: &source["name"], is_optional: source["optional"] == true };
            of.check(set, workload, &format!("{path}.envFrom[{at}].{from}.name"), &[]);
        }
    }
}

/// A pod's word for a ConfigMap of the set, or for a secret that is made beside it.
struct Reference<'a> {
    kind: &'a str,
    name: &'a Value,
    is_optional: bool,
}

impl Reference<'_> {
    fn check(&self, set: &mut Set<'_>, workload: &Value, path: &str, keys: &[(String, &Value)]) {
        if self.is_optional {
            return;
        }
        let there: Option<BTreeSet<String>> = if self.kind == "secret" {
            self.name.as_str().and_then(|name| set.secrets.get(name)).cloned()
        } else {
            let map = set.beside(workload, "ConfigMap", self.name);
            map.map(|map| map["data"].as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect())
        };
        let Some(there) = there else {
            set.say(workload, path, &format!("there is no {} of the name {}", self.kind, self.name));
            return;
        };
        for (path, key) in keys {
            if key.as_str().is_none_or(|key| !there.contains(key)) {
                set.say(workload, path, &format!("{} has no key {key}", self.name));
            }
        }
    }
}

/// Says of each value that was there before.
fn twice<'a>(set: &mut Set<'_>, workload: &Value, values: impl Iterator<Item = (String, &'a Value)>) {
    let mut seen = BTreeSet::new();
    for (path, value) in values {
        if !seen.insert(value.to_string()) {
            set.say(workload, &path, &format!("{value} is there twice"));
        }
    }
}

/// Every container of a workload's pods, with its path.
fn containers(workload: &Value) -> impl Iterator<Item = (String, &Value)> {
    let spec = &workload["spec"]["template"]["spec"];
    let of =
        move |part: &'static str| list(spec, part).map(move |(at, one)| (format!("{POD}.{part}[{at}]"), one));
    of("initContainers").chain(of("containers"))
}

/// The items of a list that is a field, numbered.
fn list<'a>(of: &'a Value, field: &str) -> impl Iterator<Item = (usize, &'a Value)> + use<'a> {
    of[field].as_array().into_iter().flatten().enumerate()
}
